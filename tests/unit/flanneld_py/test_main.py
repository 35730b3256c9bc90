from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flanneld_py import __version__
from flanneld_py.__main__ import main
from flanneld_py.flagtable import COMMANDS

CHECKOUT = Path(__file__).resolve().parents[3]
HEAVY = ("grpc", "google.protobuf", "pyroute2", "etcd3", "netaddr", "asyncio", "ssl")


def test_version_goes_to_stderr_as_flannels_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr() == ("", f"{__version__}\n")


def test_the_version_command_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr() == (f"flanneld-py {__version__}\n", "")


@pytest.mark.parametrize("argv", [["--help"], ["run", "-h"], ["help"]])
def test_help_is_help_wherever_it_is_asked_for(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert "Usage:" in out
    assert "--etcd-endpoints=URL" in out
    assert err == ""


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["statsu"], "flanneld-py: 'statsu' is no command: did you mean status?\n"),
        (["--ifcae=eth0"], "flanneld-py: unknown flag --ifcae: did you mean --iface?\n"),
        (["run", "--ifcae=eth0"], "flanneld-py: unknown flag --ifcae: did you mean --iface?\n"),
    ],
)
def test_what_was_typed_wrongly_is_one_line_and_status_2(
    argv: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert capsys.readouterr() == ("", line)


def test_a_strange_word_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["qqq\x1b[31m"]) == 2
    err = capsys.readouterr().err
    assert all(name in err for name in COMMANDS)
    assert "\x1b" not in err


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=CHECKOUT
    )


@pytest.mark.parametrize(
    ("command", "result"),
    [("status", 3), ("version", 0), ("help", 0), ("--version", 0), ("--ifcae=eth0", 2)],
)
def test_small_commands_import_nothing_heavy(command: str, result: int, tmp_path: Path) -> None:
    flags = [f"--run-dir={tmp_path}"] if command == "status" else []
    done = run("-X", "importtime", "-m", "flanneld_py", command, *flags)
    assert done.returncode == result
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "flanneld_py.flagtable" in imported
    assert not imported.intersection(HEAVY)


def test_a_reader_that_has_seen_enough_is_no_fault() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "flanneld_py", "help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=CHECKOUT,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == 1
