from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flanneld_py.cli.cni_install import main
from flanneld_py.cni.direct import DirectConflist, render
from flanneld_py.subnetfile import SubnetEnv

NAME = "10-flannel.conflist"
FLANNELS_PLUGIN = b"\x7fELF\x02\x01\x01\0 flannel's own, which may say flanneld-py somewhere"


class Host:
    """Folders as a runtime has them."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.conf = folder / "net.d"
        self.bin.mkdir()
        self.conf.mkdir()
        for name in ("bridge", "host-local", "portmap"):
            (self.bin / name).touch()
        self.plugin = self.bin / "flannel"
        self.conflist = self.conf / NAME

    def run(self, *more: str, environ: dict[str, str] | None = None) -> int:
        folders = (f"--cni-bin-dir={self.bin}", f"--cni-conf-dir={self.conf}")
        python = () if any("--python" in one for one in more) else (f"--python={sys.executable}",)
        return main([*folders, *python, *more], environ=environ or {})

    def seen(self) -> dict[str, tuple[bytes, int]]:
        """All files with content and inode."""
        files = [*self.bin.iterdir(), *self.conf.iterdir()]
        return {path.name: (path.read_bytes(), path.stat().st_ino) for path in files}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_plugin_and_conflist_are_in_place(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    before = os.umask(0o077)
    try:
        assert host.run() == 0
    finally:
        os.umask(before)
    assert host.plugin.read_text().splitlines()[0] == f"#!{sys.executable} -IS"
    assert stat.S_IMODE(host.plugin.stat().st_mode) == 0o755
    assert stat.S_IMODE(host.conflist.stat().st_mode) == 0o644
    assert {path.name for path in host.conf.iterdir()} == {NAME}
    assert len(list(host.bin.iterdir())) == 4
    conflist = json.loads(host.conflist.read_text())
    assert conflist["plugins"] == [
        {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    answer = subprocess.check_output([host.plugin], env={"CNI_COMMAND": "VERSION"})
    assert json.loads(answer)["cniVersion"] == "1.1.0"
    out, err = capsys.readouterr()
    assert str(host.plugin) in out
    assert str(host.conflist) in out
    assert "note:" not in out + err


def test_a_second_time_nothing_differs_and_nothing_is_saved(host: Host) -> None:
    host.run()
    before = {name: content for name, (content, _) in host.seen().items()}
    assert host.run() == 0
    assert {name: content for name, (content, _) in host.seen().items()} == before


def test_what_others_put_there_is_saved_and_can_be_put_back(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.plugin.write_bytes(FLANNELS_PLUGIN)
    host.plugin.chmod(0o755)
    host.conflist.write_text('{"name": "theirs"}')
    before = host.seen()
    assert host.run() == 0
    assert f"saved {host.plugin}.orig" in capsys.readouterr().out
    assert host.run() == 0
    assert (host.bin / "flannel.orig").read_bytes() == FLANNELS_PLUGIN
    assert host.run("--restore") == 0
    assert host.seen() == before
    assert "put back" in capsys.readouterr().out
    assert host.run("--restore") == 0
    assert host.seen() == before, "what is not ours is left alone"


def test_restore_on_a_host_where_nothing_was_before(host: Host) -> None:
    before = host.seen()
    host.run()
    assert host.run("--restore") == 0
    assert host.seen() == before


def test_folders_of_the_agent_are_told_to_the_plugin(host: Host, tmp_path: Path) -> None:
    assert host.run(f"--run-dir={tmp_path}", environ={"FLANNELD_SUBNET_FILE": "/x/subnet.env"}) == 0
    entry = json.loads(host.conflist.read_text())["plugins"][0]
    assert (entry["runDir"], entry["subnetFile"]) == (str(tmp_path), "/x/subnet.env")


def test_a_cni_conf_of_the_operator(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "cni-conf.json"
    conf = {"name": "pods", "cniVersion": "0.3.1", "plugins": [{"type": "flannel"}]}
    file.write_text(json.dumps(conf))
    assert host.run(f"--cni-conf={file}") == 0
    assert json.loads(host.conflist.read_text()).items() >= conf.items()
    file.write_text("{}")
    assert host.run(f"--cni-conf={file}") == 2


def test_the_link_of_direct_mode_is_replaced_and_named(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    direct = DirectConflist(text=render(SubnetEnv()), run_dir=tmp_path / "run", conf_dir=host.conf)
    direct.ensure()
    assert host.run() == 0
    assert not host.conflist.is_symlink()
    assert "--cni-mode=off" in capsys.readouterr().out
    assert (tmp_path / "run" / NAME).exists()


def test_missing_plugins_are_named(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    (host.bin / "bridge").unlink()
    (host.bin / "portmap").unlink()
    assert host.run() == 0
    assert f"{host.bin} lacks bridge, portmap" in capsys.readouterr().out


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flanneld-py cni-install: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("which", ["bin", "conf"])
def test_a_folder_that_is_not_there(
    host: Host, which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = host.seen()
    assert host.run(f"--cni-{which}-dir={tmp_path / 'none'}") == 1
    assert f"--cni-{which}-dir" in error_of(capsys)
    assert host.seen() == before


@pytest.mark.parametrize("which", ["plugin", "conflist"])
def test_a_folder_that_stands_there(
    host: Host, which: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place: Path = getattr(host, which)
    place.mkdir()
    assert host.run() == 1
    assert str(place) in error_of(capsys)
    place.rmdir()
    assert len(host.seen()) == 3


def fake_python(folder: Path, body: str) -> Path:
    program = folder / "python3"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("echo 3.5", "it is Python 3.5"),
        ("echo 2.7", "it is Python 2.7"),
        ("echo hello", "no Python that works"),
        ("echo no module named os >&2; exit 1", "no module named os"),
    ],
)
def test_a_python_that_does_not_serve(
    host: Host, tmp_path: Path, body: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = host.seen()
    assert host.run(f"--python={fake_python(tmp_path, body)}") == 1
    assert named in error_of(capsys)
    assert host.seen() == before


def test_a_plugin_that_does_not_run_is_not_installed(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = fake_python(tmp_path, 'case "$*" in *-c*) echo 3.9;; *) exit 1;; esac')
    before = host.seen()
    assert host.run(f"--python={python}") == 1
    assert "does not answer as a CNI plugin" in error_of(capsys)
    assert host.seen() == before


@pytest.mark.parametrize(
    "flag",
    [
        "--python=python3",
        "--cni-bin-dir=",
        "--cni-conf=/none",
        "--nonsense",
        "surplus",
        "--run-dir=",
    ],
)
def test_what_was_typed_wrong(host: Host, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = host.seen()
    assert host.run(flag) == 2
    error_of(capsys)
    assert host.seen() == before


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"], environ={}) == 0
    out = capsys.readouterr().out
    for word in ("--restore", "--python", "10-flannel.conflist", "Exit status"):
        assert word in out
