from __future__ import annotations

import asyncio
import logging
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import pytest

from flanneld_py.figures import Figures
from flanneld_py.health import Front, HealthPort, listen
from flanneld_py.metrics import Metrics
from flanneld_py.settings import HealthSettings
from flanneld_py.status import Status


class Agent:
    """Says what it was told to say."""

    reasons: tuple[str, ...] = ()

    def warnings(self) -> tuple[str, ...]:
        return ()

    def ready(self) -> tuple[str, ...]:
        return self.reasons

    def status(self) -> Status:
        return Status(version="1.2.3", ready=not self.reasons, warnings=("w",))

    def figures(self) -> Figures:
        return Figures(leases=7)


def free_port() -> int:
    with closing(listen("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def serving(front: Front, ip: str, port: int) -> AsyncIterator[HealthPort]:
    health = HealthPort(front, Metrics(front), HealthSettings(ip=ip, port=port), retry=0.02)
    task = asyncio.create_task(health.run())
    try:
        yield health
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_served(health: HealthPort) -> None:
    async with asyncio.timeout(5):
        while health.address is None:
            await asyncio.sleep(0.01)


async def get(host: str, port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split(" ")[1]), body


async def test_it_speaks_before_there_is_an_agent() -> None:
    front, port = Front(), free_port()
    async with serving(front, "127.0.0.1", port) as health:
        await until_served(health)
        assert await get("127.0.0.1", port, "/healthz") == (
            200,
            "flanneld is running\nnot ready: the agent is starting\n",
        )
        front.reason = "another agent runs pid=7"
        assert await get("127.0.0.1", port, "/readyz") == (
            503,
            "flanneld is not ready yet\nanother agent runs pid=7\n",
        )
        assert "\nflanneld_py_ready 0.0\n" in (await get("127.0.0.1", port, "/metrics"))[1]
        assert front.status().reasons == ("another agent runs pid=7",)
        agent = Agent()
        front.use(agent, agent)
        assert await get("127.0.0.1", port, "/readyz") == (200, "flanneld is ready\n")
        assert "\nflanneld_py_leases 7.0\n" in (await get("127.0.0.1", port, "/metrics"))[1]
        assert (await get("127.0.0.1", port, "/status"))[0] == 404


@pytest.mark.parametrize("ip", ["", "0.0.0.0", "::"])
async def test_an_unspecified_address_means_both_families(ip: str) -> None:
    port = free_port()
    async with serving(Front(), ip, port) as health:
        await until_served(health)
        for host in ("127.0.0.1", "::1"):
            assert (await get(host, port, "/healthz"))[0] == 200


async def test_one_address_means_no_other() -> None:
    port = free_port()
    async with serving(Front(), "localhost", port) as health:
        await until_served(health)
        with pytest.raises(OSError, match=r"refused|Connect"):
            await get("::1", port, "/healthz")


async def test_a_port_in_use_is_named_once_and_taken_when_it_is_free(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    front, agent = Front(), Agent()
    front.use(agent, agent)
    holder = listen("127.0.0.1", 0)
    port = holder.getsockname()[1]
    async with serving(front, "127.0.0.1", port) as health:
        async with asyncio.timeout(5):
            while not front.warning:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert health.address is None
        # Pods have their network: a port that probes lack makes no node useless.
        assert front.status().ready
        assert front.status().warnings == ("w", front.warning)
        holder.close()
        await until_served(health)
        assert (await get("127.0.0.1", port, "/readyz"))[0] == 200
        assert front.status().warnings == ("w",)
    (error,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"127.0.0.1 port {port}: Address already in use" in error.getMessage()
    assert "--healthz-port" in error.getMessage()


async def test_an_address_that_is_not_ours_is_named() -> None:
    front = Front()
    async with serving(front, "192.0.2.77", 8):
        async with asyncio.timeout(5):
            while not front.warning:
                await asyncio.sleep(0.01)
        assert "give an address of this host as --healthz-ip" in front.warning


async def test_without_a_port_nothing_is_served() -> None:
    health = HealthPort(Front(), Metrics(Front()), HealthSettings())
    await asyncio.wait_for(health.run(), 1)
    assert health.address is None


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
async def test_a_thousand_idle_and_slow_connections_hold_up_nobody() -> None:
    """S4. Every second one sends a part of a request and then one more byte at a time."""
    port = free_port()
    async with serving(Front(), "127.0.0.1", port) as health:
        await until_served(health)
        clients: list[socket.socket] = []
        try:
            for number in range(1000):
                client = socket.socket()
                clients.append(client)
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
                if number % 50 == 0:
                    await asyncio.sleep(0)
            took = []
            for turn in range(20):
                for number, client in enumerate(clients):
                    if number % 2:
                        try:
                            client.send(b"GET /healthz HTTP/1.1\r\nX: " if turn == 0 else b"y")
                        except OSError:
                            # It was dropped, and comes again.
                            client.close()
                            clients[number] = client = socket.socket()
                            client.setblocking(False)
                            client.connect_ex(("127.0.0.1", port))
                started = time.monotonic()
                assert (await get("127.0.0.1", port, "/healthz"))[0] == 200
                took.append(time.monotonic() - started)
        finally:
            for client in clients:
                client.close()
    assert sorted(took)[len(took) // 2] <= 0.1, took
    assert max(took) <= 0.5, took
    print("health answered within ms:", [round(seconds * 1000) for seconds in took])
