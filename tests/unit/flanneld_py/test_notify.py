from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from flanneld_py.notify import Notifier


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket as systemd's, and the text of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.setblocking(False)
        if request.param == "file":
            name = str(tmp_path / "notify")
            receiving.bind(name)
        else:
            name = f"@flanneld-py-test-{os.getpid()}"
            receiving.bind("\0" + name[1:])
        yield receiving, name


def test_states_arrive_as_datagrams(manager: tuple[socket.socket, str]) -> None:
    receiving, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.status("waiting for\netcd")
    notifier.status("waiting for etcd")
    notifier.ready()
    notifier.stopping()
    notifier.close()
    notifier.ready()
    assert [receiving.recv(100) for _ in range(3)] == [
        b"STATUS=waiting for etcd",
        b"READY=1",
        b"STOPPING=1",
    ]
    with pytest.raises(BlockingIOError):
        receiving.recv(100)


async def test_signs_of_life_come_twice_within_the_managers_patience(
    manager: tuple[socket.socket, str],
) -> None:
    receiving, name = manager
    environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier(environ)
    assert notifier.watchdog_seconds == 0.1
    loop = asyncio.get_running_loop()
    alive = asyncio.create_task(notifier.keep_alive())
    times = []
    for _ in range(5):
        assert await loop.sock_recv(receiving, 100) == b"WATCHDOG=1"
        times.append(loop.time())
    assert times[-1] - times[0] >= 0.18
    assert all(after - before < 0.1 for before, after in pairwise(times))
    alive.cancel()
    notifier.close()


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "1000000",
     "WATCHDOG_PID": str(os.getpid() + 1)}],
)  # fmt: skip
async def test_without_a_watchdog_no_sign_of_life_is_given(
    manager: tuple[socket.socket, str], environ: dict[str, str]
) -> None:
    receiving, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name, **environ})
    await asyncio.wait_for(notifier.keep_alive(), 1)
    with pytest.raises(BlockingIOError):
        receiving.recv(100)
    notifier.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/x"}])
def test_without_anyone_who_listens_nothing_happens(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    notifier.ready()
    notifier.status("x")
    notifier.close()
    notifier.close()


def test_a_full_socket_does_not_make_us_wait(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for number in range(5000):
            notifier.status(f"state {number}")
        notifier.close()
        assert receiving.recv(100) == b"STATUS=state 0"
