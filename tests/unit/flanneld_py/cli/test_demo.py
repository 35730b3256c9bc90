from __future__ import annotations

from pathlib import Path

import pytest

from flanneld_py.cli.demo import main
from flanneld_py.cli.demo_isolation import IsolationRefused, enter


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "--keep" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["--hold"], ["now"], ["--keep=perhaps"]])
def test_wrong_flags_are_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("flanneld-py demo: ")
    assert argv[0].strip("-").partition("=")[0] in line


def test_missing_tools_are_one_line_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLANNELD_PY_TOOLS", str(tmp_path))
    assert main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "make setup" in line
    assert str(tmp_path) in line


def test_refused_namespaces_are_one_line_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that refuses is played by another `unshare`."""
    unshare = tmp_path / "unshare"
    unshare.write_text("#!/bin/sh\necho 'unshare: Operation not permitted' >&2\nexit 1\n")
    unshare.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(IsolationRefused) as refused:
        enter(["true"])
    (line,) = str(refused.value).splitlines()
    assert "Operation not permitted" in line
    assert "root" in line or "--privileged" in line
