"""The demo is true, ends within a minute, and leaves nothing behind, however it ends."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from flanneld_py.cli.demo_isolation import MARK
from flanneld_py.testing.lab.agent import COMMAND
from flanneld_py.testing.lab.namespace import NETNS_FOLDER, PREFIX
from flanneld_py.testing.lab.waiting import wait_until
from flanneld_py.testing.tools import CHECKOUT, search_path

DEMO = (*COMMAND, "demo")
AT_MOST = 60.0
GONE_WITHIN = 10.0
STEPS = 6

Traces = tuple[set[str], set[str], set[int]]


def _traces() -> Traces:
    """Return what a demo could leave: namespaces, links and processes."""
    names = {path.name for path in NETNS_FOLDER.iterdir()} if NETNS_FOLDER.exists() else set()
    links = {path.name for path in Path("/sys/class/net").iterdir()}
    # Labs of other tests may come and go meanwhile.
    return {name for name in names if not name.startswith(PREFIX)}, links, set(_inside())


def _inside() -> Iterator[int]:
    """Find the processes that descend from the inside of a demo."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if MARK.encode() in (folder / "environ").read_bytes():
                yield int(folder.name)


@pytest.fixture
def untouched() -> Iterator[None]:
    """Nothing is left behind, whatever the test does."""
    before = _traces()
    yield
    wait_until(
        lambda: _traces() == before, within=GONE_WITHIN, what="nothing is left", seen=_traces
    )


@pytest.mark.usefixtures("untouched")
def test_it_is_true_without_a_terminal() -> None:
    began = time.monotonic()
    done = subprocess.run(
        DEMO, capture_output=True, text=True, check=False, timeout=AT_MOST, cwd=CHECKOUT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < AT_MOST
    assert done.stderr == ""
    assert len(re.findall(r"^ *[0-9.]+s ok  ", done.stdout, re.MULTILINE)) == STEPS
    assert "FAIL" not in done.stdout
    assert "\x1b" not in done.stdout
    assert re.search(r"healed in \d+ ms", done.stdout)
    assert len(re.findall(r": nothing happens$", done.stdout, re.MULTILINE)) == 3
    assert len(re.findall(r"(\d+) pings sent, \1 arrived, 0 lost", done.stdout)) == 3


@pytest.mark.usefixtures("untouched")
def test_ctrl_c_and_hints() -> None:
    """On a terminal, with `--keep`: the hints work as they are printed, and Ctrl-C ends it all."""
    with _Terminal("--keep") as demo:
        text = demo.read_until("agent.log")
        inside = re.search(r"(nsenter [^\r\n]*?) bash", text)
        status = re.search(r"(\S+ (?:-m \S+ )?status --run-dir \S+)", text)
        routes = re.search(r"(\S+ netns exec n1 \S+ route)", text)
        assert inside is not None
        assert status is not None
        assert routes is not None
        for command, words in ((status[1], "ready"), (routes[1], "flannel.1")):
            done = subprocess.run(
                [*inside[1].split(), *command.split()],
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "PATH": search_path()},
            )
            assert done.returncode == 0, done.stderr
            assert words in done.stdout
        demo.type("\x03")
        assert demo.wait() == 0


@pytest.mark.usefixtures("untouched")
def test_ctrl_c_in_the_middle() -> None:
    with _Terminal() as demo:
        demo.read_until("leases taken")
        demo.type("\x03")
        assert demo.wait() == 130
        assert "\x1b[?25h" in demo.text  # the cursor is shown again


@pytest.mark.usefixtures("untouched")
def test_killed() -> None:
    """Even SIGKILL leaves nothing: all of it lives in namespaces of the process that dies."""
    with _Terminal() as demo:
        demo.read_until("leases taken")
        os.kill(demo.process.pid, signal.SIGKILL)
        assert demo.wait() == -signal.SIGKILL


class _Terminal:
    """A demo that has a terminal of its own. A context manager."""

    def __init__(self, *flags: str) -> None:
        self._master, slave = pty.openpty()
        self.text = ""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *DEMO, *flags],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=CHECKOUT,
            env={**os.environ, "COLUMNS": "160", "LINES": "60", "TERM": "xterm-256color"},
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def read_until(self, words: str) -> str:
        """Read what is drawn until `words` were; return all of it."""
        wait_until(
            lambda: self._read() and (words in self.text or self.process.poll() is not None),
            within=AT_MOST,
            what=words,
        )
        assert words in self.text
        return self.text

    def wait(self) -> int:
        """Read until the demo has ended; return its exit status."""
        wait_until(
            lambda: self._read() and self.process.poll() is not None,
            within=GONE_WITHIN,
            what="the demo has ended",
        )
        self._read()
        return self.process.wait()

    def _read(self) -> bool:
        """Take what is there; true, so that it can stand before a condition."""
        while select.select([self._master], [], [], 0)[0]:
            try:
                self.text += os.read(self._master, 65536).decode(errors="replace")
            except OSError:  # nobody is at the other end any more
                break
        return True
