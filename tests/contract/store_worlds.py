"""The two worlds in which the store contract is tried: memory, and a real etcd on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from typing import Protocol

from flanneld_py.testing.clock import FakeClock
from flanneld_py.testing.etcd_server import EtcdServer
from flanneld_py.testing.store import MemoryBackend, MemoryStore
from subnet.model import LeaseAttrs, LeaseEvent, Snapshot
from subnet.store import SubnetStore

CONFIG = '{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}'
_number = count()


class World(Protocol):
    """A datastore, seen from outside of the stores under test."""

    prefix: str

    def store(self) -> SubnetStore: ...
    async def put(self, name: str, value: str) -> None: ...
    async def delete(self, name: str) -> None: ...
    async def fill(self, leases: int) -> None: ...
    async def leases_granted(self) -> int: ...
    async def pass_time(self, seconds: float) -> None: ...
    async def compact(self) -> None: ...
    async def interrupt(self) -> None: ...
    async def restore(self) -> None: ...
    def unseen(self) -> AbstractAsyncContextManager[None]: ...
    async def wipe_unseen(self, puts: int) -> None: ...
    async def aclose(self) -> None: ...


class MemoryWorld:
    """Everything in this process, time included."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.backend = MemoryBackend(self.clock)
        self.prefix = self.backend.prefix
        self._stores: list[MemoryStore] = []

    def store(self) -> SubnetStore:
        store = MemoryStore(self.backend)
        self._stores.append(store)
        return store

    async def put(self, name: str, value: str) -> None:
        self.backend.put(f"{self.prefix}/{name}".encode(), value.encode())

    async def delete(self, name: str) -> None:
        self.backend.delete(f"{self.prefix}/{name}".encode())

    async def fill(self, leases: int) -> None:
        for name, value in many_leases(leases):
            await self.put(name, value)

    async def leases_granted(self) -> int:
        self.backend.expire_due()
        return len(self.backend.leases)

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    async def compact(self) -> None:
        self.backend.compact()

    async def interrupt(self) -> None:
        for store in self._stores:
            store.cut()

    async def restore(self) -> None:
        for store in self._stores:
            store.restore()

    @asynccontextmanager
    async def unseen(self) -> AsyncIterator[None]:
        yield

    async def wipe_unseen(self, puts: int) -> None:
        self.backend.wipe(revision=puts)
        self.backend.put_config(CONFIG)

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()


class EtcdWorld:
    """A real etcd; each world has a prefix of its own in it."""

    def __init__(self, server: EtcdServer) -> None:
        from subnet.etcd import EtcdSettings, EtcdStore  # loads gRPC

        self.prefix = f"/test-{next(_number)}/network"
        self._server = server
        self._settings = EtcdSettings(endpoints=(server.endpoint,), prefix=self.prefix)
        self._make = EtcdStore
        self._stores: list[EtcdStore] = []
        if not server.running:
            server.start()

    def store(self) -> SubnetStore:
        store = self._make(self._settings)
        self._stores.append(store)
        return store

    async def put(self, name: str, value: str) -> None:
        await asyncio.to_thread(self._server.put, f"{self.prefix}/{name}", value)

    async def delete(self, name: str) -> None:
        await asyncio.to_thread(self._server.delete, f"{self.prefix}/{name}")

    async def fill(self, leases: int) -> None:
        pairs = [(f"{self.prefix}/{name}", value) for name, value in many_leases(leases)]
        await asyncio.to_thread(self._server.put_many, pairs)

    async def leases_granted(self) -> int:
        listed = await asyncio.to_thread(self._server.ctl, "lease", "list")
        return int(listed.split()[1])

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def compact(self) -> None:
        await asyncio.to_thread(self._server.compact)

    async def interrupt(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def restore(self) -> None:
        await asyncio.to_thread(self._server.start)

    @asynccontextmanager
    async def unseen(self) -> AsyncIterator[None]:
        with self._server.hidden():
            yield

    async def wipe_unseen(self, puts: int) -> None:
        await asyncio.to_thread(self._server.wipe)
        async with self.unseen():
            pairs = [(f"/other/{n}", "x") for n in range(puts)]
            await asyncio.to_thread(self._server.put_many, pairs, each=True)
            await self.put("config", CONFIG)

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()
        if self._server.running:
            await asyncio.to_thread(
                self._server.ctl, "del", "--prefix=true", self.prefix.removesuffix("network")
            )


def many_leases(number: int) -> list[tuple[str, str]]:
    """Names and values of valid leases."""
    return [(f"subnets/10.{n // 256}.{n % 256}.0-24", value_of(n)) for n in range(number)]


def value_of(number: int) -> str:
    """The value of a lease that is told apart by a number."""
    high, low = number // 256, number % 256
    backend = f'{{"VNI":1,"VtepMAC":"02:00:00:00:{high:02x}:{low:02x}"}}'
    return (
        f'{{"PublicIP":"192.168.{high}.{low}","PublicIPv6":null,'
        f'"BackendType":"vxlan","BackendData":{backend}}}'
    )


def net(text: str) -> IPv4Network:
    return IPv4Network(text)


def attrs(address: str = "192.0.2.1", mac: str = "02:00:00:00:00:01") -> LeaseAttrs:
    return LeaseAttrs(
        public_ip=IPv4Address(address),
        backend_type="vxlan",
        backend_data=f'{{"VNI":1,"VtepMAC":"{mac}"}}',
    )


class Heard:
    """What a store's events said so far."""

    def __init__(self) -> None:
        self.events: list[LeaseEvent] = []
        self._news = asyncio.Event()
        self._read = 0

    def add(self, event: LeaseEvent) -> None:
        self.events.append(event)
        self._news.set()

    async def until(
        self, condition: Callable[[list[LeaseEvent]], object], *, within: float = 15
    ) -> float:
        """Wait for a condition on the events so far; return the seconds it took."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(within):
                while not condition(self.events):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not within {within:g} s; heard: {self.events}") from None
        return time.monotonic() - began

    async def one_more(self, *, within: float = 15) -> LeaseEvent:
        """Wait for the event after those that `begun` and earlier calls returned."""
        await self.until(lambda events: len(events) > self._read, within=within)
        self._read += 1
        return self.events[self._read - 1]

    async def begun(self) -> Snapshot:
        """Wait for the first event."""
        await self.until(bool)
        self._read = 1
        first = self.events[0]
        assert isinstance(first, Snapshot)
        return first


@asynccontextmanager
async def listening(store: SubnetStore) -> AsyncIterator[Heard]:
    """Collect a store's events in the background."""
    heard = Heard()

    async def listen() -> None:
        async for event in store.events():
            heard.add(event)

    task = asyncio.create_task(listen(), name="listener")
    try:
        yield heard
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(ended, asyncio.CancelledError):
            raise AssertionError(f"the events ended by themselves: {ended!r}")


async def eventually(
    condition: Callable[[], Awaitable[bool]], what: str, *, within: float = 10
) -> None:
    """Ask again and again until a condition is true."""
    deadline = time.monotonic() + within
    while not await condition():
        assert time.monotonic() < deadline, f"{what}: not within {within:g} s"
        await asyncio.sleep(0.02)
