from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from flanneld_py.cli import status as command
from flanneld_py.figures import Figures
from flanneld_py.metrics import Metrics
from flanneld_py.status import PeersStatus, PeerState, PeerStatus, Status
from flanneld_py.statusserver import StatusServer


class Source:
    """Says what it was told to say."""

    def __init__(self, answer: Status) -> None:
        self.answer = answer

    def status(self) -> Status:
        return self.answer

    def warnings(self) -> tuple[str, ...]:
        return ()

    def ready(self) -> tuple[str, ...]:
        return self.answer.reasons

    def figures(self) -> Figures:
        return Figures()


async def ask(answer: Status, run_dir: Path, *flags: str) -> int:
    source = Source(answer)
    server = StatusServer(source, Metrics(source), run_dir=run_dir)
    await server.start()
    try:
        argv = [f"--run-dir={run_dir}", *flags]
        return await asyncio.to_thread(command.main, argv, environ={})
    finally:
        await server.aclose()


@pytest.mark.parametrize(("ready", "result"), [(True, 0), (False, 1)])
async def test_the_exit_status_says_whether_it_is_ready(
    ready: bool, result: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = Status(version="1.2.3", ready=ready, reasons=() if ready else ("no lease yet",))
    assert await ask(answer, tmp_path) == result
    out, err = capsys.readouterr()
    assert "flanneld-py 1.2.3" in out
    assert ("no: no lease yet" in out) is not ready
    assert err == ""


async def test_json_is_what_the_agent_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await ask(Status(version="1.2.3"), tmp_path, "--json") == 1
    assert json.loads(capsys.readouterr().out)["version"] == "1.2.3"


async def test_peers_lists_them_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peers = [
        PeerStatus(key=f"/{n}", state=PeerState.HELD, subnets=(f"10.244.{n}.0/24",))
        for n in range(1, 31)
    ]
    answer = Status(ready=True, peers=PeersStatus.of(peers))
    assert await ask(answer, tmp_path) == 0
    few = capsys.readouterr().out
    assert await ask(answer, tmp_path, "--peers") == 0
    everyone = capsys.readouterr().out
    assert few.count(": held") == 10
    assert "and 20 more: --peers lists them" in few
    assert everyone.count(": held") == 30


def test_no_agent_is_one_line_and_status_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([], environ={"FLANNELD_RUN_DIR": str(tmp_path), "FLANNELD_V": "x"}) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"flanneld-py status: {tmp_path}/agent.sock: no agent listens there")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--jsno"], "did you mean --json?"),
        (["now"], "'now' is too much"),
        (["--run-dir="], "is no path"),
    ],
)
def test_wrong_flags_are_one_line_and_status_2(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(argv, environ={}) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["-h"], environ={}) == 0
    assert "--peers" in capsys.readouterr().out


async def test_an_agent_of_another_version_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await ask(Status(api=2), tmp_path) == 3
    assert "the agent speaks version 2" in capsys.readouterr().err
