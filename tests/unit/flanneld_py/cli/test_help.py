from __future__ import annotations

import pytest

from flanneld_py.__main__ import main
from flanneld_py.cli import help as help_command
from flanneld_py.cli.help import render_agent, terminal_width
from flanneld_py.flags import Flag, Kind
from flanneld_py.flagtable import AGENT_FLAGS, COMMANDS


def test_every_flag_command_and_section_is_in_it() -> None:
    text = render_agent(90)
    lines = text.splitlines()
    for flag in AGENT_FLAGS:
        assert sum(line.startswith(f"  --{flag.name}") for line in lines) >= 1
        assert f"{flag.section}:" in lines
    for command in COMMANDS:
        assert any(line.startswith(f"  {command} ") for line in lines)


@pytest.mark.parametrize("width", [40, 60, 96])
def test_what_can_be_folded_fits_the_terminal(width: int) -> None:
    text = "".join(help_command.render_flags(AGENT_FLAGS, width))
    explanations = [line for line in text.splitlines() if line.startswith("      ")]
    assert len(explanations) >= len(AGENT_FLAGS)
    long_lines = [line for line in explanations if len(line) > width]
    assert all(" " not in line.strip() for line in long_lines)


def test_defaults_are_shown_as_they_are_typed() -> None:
    text = " ".join(render_agent(96).split())
    assert "Default: 24h." in text
    assert "Default: /coreos.com/network." in text
    assert "--nexthops=auto|off" in text


def test_status_has_a_help_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert help_command.main(["status"]) == 0
    out = capsys.readouterr().out
    assert "--json" in out
    assert "Exit status: 0 ready" in out
    assert "--etcd-endpoints" not in out


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    taught = capsys.readouterr().out
    assert "flanneld-py" in taught
    assert help_command.main([command]) == 0
    assert capsys.readouterr().out == taught


def test_help_for_no_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert help_command.main(["statu"]) == 2
    assert "did you mean status?" in capsys.readouterr().err


def test_the_width_follows_the_terminal_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, width in (("10", 40), ("70", 70), ("300", 96)):
        monkeypatch.setenv("COLUMNS", columns)
        assert terminal_width() == width


def test_a_flag_is_rendered_with_value_and_default() -> None:
    flag = Flag(
        name="x", kind=Kind.INTEGER, default=3, help="What it is.", section="S", metavar="N"
    )
    assert help_command.render_flags([flag], 60) == ["S:\n  --x=N\n      What it is. Default: 3.\n"]
