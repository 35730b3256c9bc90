from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flanneld_py.figures import Figures
from flanneld_py.http import Request
from flanneld_py.metrics import Metrics
from flanneld_py.status import Status, decode
from flanneld_py.statusclient import AgentUnreachable, fetch_status
from flanneld_py.statusserver import HealthPages, StatusPages, StatusServer
from flanneld_py.unixsocket import SocketInUse


class Source:
    """Says what it was told to say."""

    def __init__(self) -> None:
        self.answer = Status(version="1.2.3", ready=True)

    def status(self) -> Status:
        return self.answer

    def warnings(self) -> tuple[str, ...]:
        return self.answer.warnings

    def ready(self) -> tuple[str, ...]:
        return self.answer.reasons

    def figures(self) -> Figures:
        return Figures(ready=self.answer.ready)


def serving(source: Source, run_dir: Path) -> StatusServer:
    return StatusServer(source, Metrics(source), run_dir=run_dir)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def server(source: Source, tmp_path: Path) -> AsyncIterator[StatusServer]:
    made = serving(source, tmp_path / "run")
    await made.start()
    yield made
    await made.aclose()


async def fetch(run_dir: Path) -> Status:
    return decode(await asyncio.to_thread(fetch_status, run_dir))


def page(source: Source, path: str, method: str = "GET") -> tuple[int, bytes]:
    response = StatusPages(source, Metrics(source))(Request(method=method, path=path))
    return response.status.value, response.body


def test_readiness_says_why_not(source: Source) -> None:
    assert page(source, "/readyz") == (200, b"flanneld is ready\n")
    source.answer = Status(reasons=("no lease yet", "store silent"))
    assert page(source, "/readyz") == (
        503,
        b"flanneld is not ready yet\nno lease yet\nstore silent\n",
    )
    assert page(source, "/healthz") == (
        200,
        b"flanneld is running\nnot ready: no lease yet\nnot ready: store silent\n",
    )
    source.answer = Status(ready=True)
    assert page(source, "/healthz") == (200, b"flanneld is running\n")


def test_status_is_json_and_other_paths_and_methods_are_named(source: Source) -> None:
    status, body = page(source, "/status")
    assert (status, json.loads(body)["version"]) == (200, "1.2.3")
    assert page(source, "/") == (404, b"no such page: try /status, /healthz, /readyz, /metrics\n")
    assert page(source, "/status", "POST")[0] == 405


def test_whoever_asks_over_the_network_gets_no_status(source: Source) -> None:
    pages = HealthPages(source, Metrics(source))
    assert pages(Request(method="GET", path="/status")).status.value == 404
    metrics = pages(Request(method="GET", path="/metrics"))
    assert metrics.content_type.startswith("text/plain; version=0.0.4")
    assert b"\nflanneld_py_ready 1.0\n" in metrics.body


async def test_the_socket_is_private_and_answers(
    server: StatusServer, source: Source, tmp_path: Path
) -> None:
    mode = os.stat(tmp_path / "run/agent.sock").st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert os.listdir(tmp_path / "run") == ["agent.sock"]
    assert await fetch(tmp_path / "run") == source.answer


async def test_a_large_answer_arrives_whole(
    server: StatusServer, source: Source, tmp_path: Path
) -> None:
    source.answer = Status(warnings=tuple(f"{number} " + "x" * 1000 for number in range(2000)))
    assert await fetch(tmp_path / "run") == source.answer


async def test_a_second_agent_does_not_steal_the_socket(
    server: StatusServer, source: Source, tmp_path: Path
) -> None:
    other = Source()
    second = serving(other, tmp_path / "run")
    with pytest.raises(SocketInUse, match="another agent listens there"):
        await second.start()
    await second.aclose()
    assert await fetch(tmp_path / "run") == source.answer


async def test_the_socket_of_a_dead_agent_is_replaced(source: Source, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "agent.sock"))
        dead.listen()
    server = serving(source, tmp_path)
    await server.start()
    assert await fetch(tmp_path) == source.answer
    await server.aclose()
    assert os.listdir(tmp_path) == []


async def test_closing_leaves_a_successors_socket_alone(source: Source, tmp_path: Path) -> None:
    first = serving(source, tmp_path)
    await first.start()
    os.unlink(tmp_path / "agent.sock")
    second = serving(source, tmp_path)
    await second.start()
    await first.aclose()
    assert await fetch(tmp_path) == source.answer
    await second.aclose()


async def test_something_else_under_the_name_is_not_removed(source: Source, tmp_path: Path) -> None:
    (tmp_path / "agent.sock").write_text("mine")
    with pytest.raises(SocketInUse, match="no socket"):
        await serving(source, tmp_path).start()
    assert (tmp_path / "agent.sock").read_text() == "mine"


async def test_a_folder_that_cannot_be_made_is_named(source: Source, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SocketInUse, match="--run-dir"):
        await serving(source, tmp_path / "file").start()


def test_without_an_agent_the_client_names_the_socket(tmp_path: Path) -> None:
    with pytest.raises(AgentUnreachable, match=r"agent\.sock: no agent listens there: is it runn"):
        fetch_status(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "agent.sock"))
    with pytest.raises(AgentUnreachable, match="a dead one left its socket"):
        fetch_status(tmp_path)


def test_a_silent_agent_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "agent.sock"))
        silent.listen()
        with pytest.raises(AgentUnreachable, match=r"did not answer within 0\.1 s"):
            fetch_status(tmp_path, timeout=0.1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed the connection"),
        (b"nonsense", "not an agent's"),
        (b"HTTP/1.1 500 Oh No\r\n\r\n", "answered 500 Oh No"),
    ],
)
async def test_other_answers_are_named(tmp_path: Path, answer: bytes, words: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "agent.sock")
    with pytest.raises(AgentUnreachable, match=words):
        await asyncio.to_thread(fetch_status, tmp_path)
    server.close()


def test_being_ready_comes_with_what_looks_wrong() -> None:
    source = Source()
    source.answer = Status(version="1", ready=True, warnings=("05-other.conflist comes first",))
    page = HealthPages(source, Metrics(source)).pages["/readyz"]()
    assert page.status == 200
    assert page.body == b"flanneld is ready\n05-other.conflist comes first\n"
