from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from flanneld_py.processargs import blacken, hide_from_ps
from flanneld_py.secret import Secret

HIDE = """
import os, sys
from pathlib import Path
from flanneld_py.processargs import hide_from_ps
from flanneld_py.secret import Secret
assert hide_from_ps(Secret("hunter2"))
sys.stdout.buffer.write(Path("/proc/self/cmdline").read_bytes() + bytes([255]))
sys.stdout.buffer.write(Path("/proc/self/environ").read_bytes())
assert sys.argv[1] == "--etcd-password=hunter2"
assert os.environ["FLANNELD_ETCD_PASSWORD"] == "hunter2"
"""


def test_only_whole_values_are_overwritten_and_no_length_changes() -> None:
    data = b"prog\0--etcd-password=abc\0--etcd-password\0abc\0--iface=abcd\0xabc\0"
    assert blacken(data, b"abc") == (
        b"prog\0--etcd-password=***\0--etcd-password\0***\0--iface=abcd\0xabc\0"
    )


def test_ps_no_longer_shows_it_but_the_process_still_has_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDE, "--etcd-password=hunter2", "--etcd-password", "hunter2"],
        capture_output=True,
        check=True,
        env={"FLANNELD_ETCD_PASSWORD": "hunter2", "OTHER": "kept"},
    )
    cmdline, _, environ = done.stdout.partition(b"\xff")
    assert cmdline.split(b"\0")[-4:] == [
        b"--etcd-password=*******",
        b"--etcd-password",
        b"*******",
        b"",
    ]
    assert b"FLANNELD_ETCD_PASSWORD=*******\0" in environ
    assert b"OTHER=kept\0" in environ


def test_where_it_is_refused_it_says_so(tmp_path: Path) -> None:
    assert not hide_from_ps(Secret("hunter2"), process=tmp_path)
    (tmp_path / "stat").write_text("1 (x) nonsense")
    (tmp_path / "mem").write_text("")
    assert not hide_from_ps(Secret("hunter2"), process=tmp_path)


def test_no_secret_needs_nothing(tmp_path: Path) -> None:
    assert hide_from_ps(Secret(), process=tmp_path)
