"""The switches of MemoryStore; what it shares with real stores is in tests/contract."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from flanneld_py.testing.clock import FakeClock
from flanneld_py.testing.store import MemoryBackend, MemoryStore
from subnet.errors import StoreDenied, StoreUnavailable
from subnet.model import Delete, Lease, LeaseAttrs, Put, Snapshot, StoreState

SUBNET = IPv4Network("10.1.2.0/24")
ATTRS = LeaseAttrs(public_ip=IPv4Address("192.0.2.1"))


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend(FakeClock())


async def create(store: MemoryStore, ttl: float = 60) -> Lease:
    made = await store.create(
        subnet=SUBNET, subnet6=None, attrs=ATTRS, ttl=ttl, not_after=store.backend.revision
    )
    assert isinstance(made, Lease)
    return made


async def test_a_planned_failure_comes_as_often_as_planned(backend: MemoryBackend) -> None:
    store = MemoryStore(backend)
    store.fail_next("snapshot", times=2)
    store.fail_next("snapshot", StoreDenied(source="memory", reason="no rights"))
    for error in (StoreUnavailable, StoreUnavailable, StoreDenied):
        with pytest.raises(error):
            await store.snapshot()
    assert (await store.snapshot()).leases == ()


@pytest.mark.parametrize("done", [False, True])
async def test_a_failed_write_was_done_or_not(backend: MemoryBackend, done: bool) -> None:
    store = MemoryStore(backend)
    store.fail_next("create", done=done)
    with pytest.raises(StoreUnavailable):
        await create(store)
    assert len((await store.snapshot()).leases) == int(done)


async def test_one_client_is_cut_off_and_the_others_are_not(backend: MemoryBackend) -> None:
    cut, other = MemoryStore(backend), MemoryStore(backend)
    events = cut.events()
    assert isinstance(await anext(events), Snapshot)
    cut.cut()
    lost = await anext(events)
    assert isinstance(lost, StoreState)
    assert not lost.connected
    made = await create(other)
    with pytest.raises(StoreUnavailable):
        await cut.snapshot()
    cut.restore()
    assert await anext(events) == StoreState(connected=True, reason=f"connected to {cut.source}")
    assert await anext(events) == Put(lease=made)


async def test_leases_expire_by_the_given_clock_and_wake_who_watches() -> None:
    clock = FakeClock()
    store = MemoryStore(MemoryBackend(clock))
    made = await create(store, ttl=86_400)
    events = store.events()
    assert isinstance(await anext(events), Snapshot)
    await clock.advance(86_399)
    assert len((await store.snapshot()).leases) == 1
    await clock.advance(1)
    assert await anext(events) == Delete(key=made.key, revision=store.backend.revision)


async def test_a_backend_that_went_back_is_listed_anew(backend: MemoryBackend) -> None:
    store = MemoryStore(backend)
    await create(store)
    events = store.events()
    assert isinstance(await anext(events), Snapshot)
    backend.wipe(revision=100)
    again = await anext(events)
    assert isinstance(again, Snapshot)
    assert again.leases == ()
    assert again.identity.revision == 100


async def test_a_peers_lease_is_put_by_hand(backend: MemoryBackend) -> None:
    store = MemoryStore(backend)
    key = backend.put_lease(ATTRS, subnet=SUBNET)
    backend.put_config("{}")
    snapshot = await store.snapshot()
    assert [(lease.key, lease.attrs, lease.lease_id) for lease in snapshot.leases] == [
        (key, ATTRS, 0)
    ]
    assert snapshot.config is not None
    assert snapshot.config.text == "{}"


async def test_what_was_noted_of_peers_can_be_asked(backend: MemoryBackend) -> None:
    store = MemoryStore(backend)
    store.note_peers(7)
    assert store.peers == 7
