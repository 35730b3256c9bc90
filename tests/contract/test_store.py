"""What every SubnetStore does: one suite, run on the one in memory and on a real etcd."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from flanneld_py.testing.etcd_server import EtcdServer
from subnet.errors import StoreUnavailable
from subnet.model import (
    ConfigChanged,
    Delete,
    Lease,
    LeaseAttrs,
    LeaseEvent,
    Put,
    PutMalformed,
    Snapshot,
    StoreState,
)
from subnet.store import Conflict, SubnetStore
from tests.contract.store_worlds import (
    CONFIG,
    EtcdWorld,
    MemoryWorld,
    World,
    attrs,
    eventually,
    listening,
    net,
    value_of,
)

DUAL = IPv6Network("fd00:12:13::/56")


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """One etcd for all tests of this module; a test that kills it starts it again."""
    server = EtcdServer()
    yield server
    server.close()


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.tools("etcd", "etcdctl"))])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    made: World
    if request.param == "memory":
        made = MemoryWorld()
    else:
        made = EtcdWorld(request.getfixturevalue("server"))
    await made.put("config", CONFIG)
    yield made
    await made.aclose()


async def create(store: SubnetStore, subnet: str, *, ttl: float = 3600) -> Lease:
    """Create a lease as the only one who does."""
    revision = (await store.snapshot()).identity.revision
    made = await store.create(
        subnet=net(subnet), subnet6=None, attrs=attrs(), ttl=ttl, not_after=revision
    )
    assert isinstance(made, Lease)
    return made


def states(events: list[LeaseEvent]) -> list[bool]:
    return [event.connected for event in events if isinstance(event, StoreState)]


# --- reading ---------------------------------------------------------------------------------


async def test_events_begin_with_a_snapshot_of_leases_refused_records_and_config(
    world: World,
) -> None:
    await world.put("subnets/10.1.2.0-24", value_of(1))
    await world.put("subnets/nonsense", value_of(2))
    await world.put("subnets/10.1.3.0-24", "{broken")
    async with listening(world.store()) as heard:
        snapshot = await heard.begun()
    assert [lease.subnet for lease in snapshot.leases] == [net("10.1.2.0/24")]
    assert snapshot.leases[0].key == f"{world.prefix}/subnets/10.1.2.0-24"
    assert snapshot.leases[0].lease_id == 0
    assert {bad.key for bad in snapshot.malformed} == {
        f"{world.prefix}/subnets/nonsense",
        f"{world.prefix}/subnets/10.1.3.0-24",
    }
    assert all(bad.reason and bad.mod_revision for bad in snapshot.malformed)
    assert snapshot.config is not None
    assert snapshot.config.text == CONFIG
    assert snapshot.identity.config_create_revision == snapshot.config.create_revision
    assert snapshot.identity.cluster_id
    assert snapshot == await world.store().snapshot()


async def test_a_store_without_config_and_leases_is_an_empty_snapshot(world: World) -> None:
    await world.delete("config")
    snapshot = await world.store().snapshot()
    assert snapshot.config is None
    assert snapshot.identity.config_create_revision == 0
    assert snapshot.leases == ()
    assert snapshot.malformed == ()


async def test_names_beside_the_leases_do_not_count(world: World) -> None:
    for name in ("subnets_old/10.1.2.0-24", "subnets", "subnetsx/10.1.2.0-24", "config/x"):
        await world.put(name, value_of(1))
    async with listening(world.store()) as heard:
        snapshot = await heard.begun()
        await world.put("subnets_old/10.1.9.0-24", value_of(2))
        await world.put("subnets/10.1.4.0-24", value_of(3))
        event = await heard.one_more()
    assert snapshot.leases == ()
    assert snapshot.malformed == ()
    assert isinstance(event, Put)
    assert event.lease.subnet == net("10.1.4.0/24")


async def test_events_follow_in_the_order_of_revisions(world: World) -> None:
    async with listening(world.store()) as heard:
        await heard.begun()
        await world.put("subnets/10.1.2.0-24", value_of(1))
        await world.put("subnets/10.1.2.0-24", value_of(2))
        await world.put("subnets/10.1.2.0-24", "{broken")
        await world.delete("subnets/10.1.2.0-24")
        await world.put("config", '{"Network":"10.0.0.0/7"}')
        await world.delete("config")
        await heard.until(lambda events: len(events) == 7)
    first, second, broken, gone, changed, removed = heard.events[1:]
    assert isinstance(first, Put)
    assert isinstance(second, Put)
    assert second.lease.create_revision == first.lease.mod_revision
    assert second.lease.attrs.public_ip == IPv4Address("192.168.0.2")
    assert isinstance(broken, PutMalformed)
    assert isinstance(gone, Delete)
    assert {first.lease.key, second.lease.key, broken.record.key} == {gone.key}
    assert isinstance(changed, ConfigChanged)
    assert changed.config is not None
    assert changed.config.text == '{"Network":"10.0.0.0/7"}'
    assert isinstance(removed, ConfigChanged)
    assert removed.config is None
    revisions = [
        first.lease.mod_revision,
        second.lease.mod_revision,
        broken.record.mod_revision,
        gone.revision,
        changed.revision,
        removed.revision,
    ]
    assert revisions == sorted(set(revisions))


async def test_a_value_above_the_limit_is_refused_unread(world: World) -> None:
    padding = " " * (64 * 1024)
    await world.put("subnets/10.1.2.0-24", value_of(1) + padding)
    async with listening(world.store()) as heard:
        snapshot = await heard.begun()
        await world.put("subnets/10.1.3.0-24", value_of(1) + padding)
        event = await heard.one_more()
    assert snapshot.leases == ()
    assert "65536" in snapshot.malformed[0].reason
    assert isinstance(event, PutMalformed)
    assert event.record.key == f"{world.prefix}/subnets/10.1.3.0-24"


async def test_a_list_of_many_pages_is_of_one_revision(world: World) -> None:
    await world.fill(2500)
    store, stop = world.store(), asyncio.Event()

    async def write() -> None:
        # The last key is always written before the first: at any revision it is not older.
        number = 0
        while not stop.is_set():
            number += 1
            await world.put("subnets/99.0.0.0-24", value_of(number))
            await world.put("subnets/1.0.0.0-24", value_of(number))
            await asyncio.sleep(0)

    value_seen = int(IPv4Address("192.168.0.1"))
    writer = asyncio.create_task(write())
    try:
        for _ in range(10):
            snapshot = await store.snapshot()
            numbers = {
                lease.subnet: int(lease.attrs.public_ip or 0)
                for lease in snapshot.leases
                if lease.subnet in (net("1.0.0.0/24"), net("99.0.0.0/24"))
            }
            first, last = (numbers.get(net(text), 0) for text in ("1.0.0.0/24", "99.0.0.0/24"))
            assert first <= last <= first + 1 or not first
            assert len(snapshot.leases) - len(numbers) == 2500
            assert all(
                lease.mod_revision <= snapshot.identity.revision for lease in snapshot.leases
            )
        assert first > value_seen  # it did write meanwhile
    finally:
        stop.set()
        await writer


# --- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subnet", "subnet6", "name"),
    [
        (net("10.5.52.0/24"), None, "10.5.52.0-24"),
        (net("10.12.13.0/24"), DUAL, "10.12.13.0-24&fd00:12:13::-56"),
        (None, DUAL, "0.0.0.0-0&fd00:12:13::-56"),
    ],
)
async def test_a_lease_is_created_and_others_see_it(
    world: World, subnet: IPv4Network | None, subnet6: IPv6Network | None, name: str
) -> None:
    mine, other = world.store(), world.store()
    published = LeaseAttrs(
        public_ip=IPv4Address("192.0.2.7") if subnet else None,
        public_ipv6=IPv6Address("2001:db8::7") if subnet6 else None,
        backend_type="vxlan",
        backend_data='{"VNI":1,"VtepMAC":"02:00:00:00:00:07"}' if subnet else None,
        backend_v6_data='{"VNI":1,"VtepMAC":"02:00:00:00:00:08"}' if subnet6 else None,
    )
    async with listening(other) as heard:
        snapshot = await heard.begun()
        made = await mine.create(
            subnet=subnet,
            subnet6=subnet6,
            attrs=published,
            ttl=60,
            not_after=snapshot.identity.revision,
        )
        event = await heard.one_more()
    assert isinstance(made, Lease)
    assert made.key == mine.key_of(subnet, subnet6) == f"{world.prefix}/subnets/{name}"
    assert made.create_revision == made.mod_revision > snapshot.identity.revision
    assert made.lease_id
    assert event == Put(lease=made)
    assert (await other.snapshot()).leases == (made,)


async def test_a_taken_key_is_not_created_and_nothing_is_left_behind(world: World) -> None:
    store, granted = world.store(), await world.leases_granted()
    standing = await create(store, "10.1.2.0/24")
    refused = await store.create(
        subnet=net("10.1.2.0/24"),
        subnet6=None,
        attrs=attrs("192.0.2.99"),
        ttl=60,
        not_after=standing.mod_revision,
    )
    assert isinstance(refused, Conflict)
    assert refused.current == standing
    assert refused.reason

    async def only_one_is_granted() -> bool:
        return await world.leases_granted() == granted + 1

    await eventually(only_one_is_granted, "the losing grant is revoked")
    assert (await store.snapshot()).leases == (standing,)


async def test_a_lease_written_after_the_list_prevents_the_creation(world: World) -> None:
    store = world.store()
    revision = (await store.snapshot()).identity.revision
    await world.put("subnets/10.1.2.0-24&fd00:12:13::-56", value_of(1))
    refused = await store.create(
        subnet=net("10.1.3.0/24"), subnet6=DUAL, attrs=attrs(), ttl=60, not_after=revision
    )
    assert isinstance(refused, Conflict)
    assert refused.current is None
    assert str(revision) in refused.reason
    assert len((await store.snapshot()).leases) == 1


async def test_the_config_and_other_keys_do_not_prevent_the_creation(world: World) -> None:
    store = world.store()
    revision = (await store.snapshot()).identity.revision
    await world.put("config", CONFIG)
    await world.put("subnets_old/10.1.2.0-24", value_of(1))
    made = await store.create(
        subnet=net("10.1.3.0/24"), subnet6=None, attrs=attrs(), ttl=60, not_after=revision
    )
    assert isinstance(made, Lease)


async def test_an_update_is_one_put_and_the_old_etcd_lease_ends(world: World) -> None:
    mine, other = world.store(), world.store()
    before = await world.leases_granted()
    lease = await create(mine, "10.1.2.0/24")
    async with listening(other) as heard:
        await heard.begun()
        changed = await mine.update(lease, attrs=attrs(mac="02:00:00:00:00:99"), ttl=60)
        await heard.one_more()

        async def one_is_granted() -> bool:
            return await world.leases_granted() == before + 1

        await eventually(one_is_granted, "the superseded lease is revoked")
        await world.put("subnets/10.1.9.0-24", value_of(9))
        await heard.until(lambda events: len(events) >= 3)
    assert isinstance(changed, Lease)
    assert changed.key == lease.key
    assert changed.create_revision == lease.create_revision
    assert changed.mod_revision > lease.mod_revision
    assert changed.lease_id != lease.lease_id
    assert heard.events[1] == Put(lease=changed)
    # Revoking the old lease took nothing away: the next event is the put that came after it.
    assert isinstance(heard.events[2], Put)
    assert changed in (await other.snapshot()).leases


async def test_an_update_of_a_changed_record_is_refused_with_what_stands_there(
    world: World,
) -> None:
    mine, other = world.store(), world.store()
    lease = await create(mine, "10.1.2.0/24")
    stolen = await other.update(lease, attrs=attrs("192.0.2.66"), ttl=60)
    assert isinstance(stolen, Lease)
    refused = await mine.update(lease, attrs=attrs(), ttl=60)
    assert refused == Conflict(current=stolen, reason=refused.reason)  # type: ignore[union-attr]
    assert (await mine.snapshot()).leases == (stolen,)


async def test_an_update_of_an_absent_record_is_refused(world: World) -> None:
    store = world.store()
    lease = await create(store, "10.1.2.0/24")
    await world.delete("subnets/10.1.2.0-24")
    refused = await store.update(lease, attrs=attrs(), ttl=60)
    assert isinstance(refused, Conflict)
    assert refused.current is None
    assert (await store.snapshot()).leases == ()


async def test_a_reservation_stays_one(world: World) -> None:
    store, granted = world.store(), await world.leases_granted()
    await world.put("subnets/10.1.2.0-24", value_of(1))
    (reserved,) = (await store.snapshot()).leases
    renewed = await store.update(reserved, attrs=attrs("192.0.2.5"), ttl=60)
    assert isinstance(renewed, Lease)
    assert renewed.lease_id == 0
    assert (await store.snapshot()).leases == (renewed,)
    assert await world.leases_granted() == granted


async def test_a_lease_is_deleted_only_if_unchanged(world: World) -> None:
    store = world.store()
    lease = await create(store, "10.1.2.0/24")
    changed = await store.update(lease, attrs=attrs("192.0.2.5"), ttl=60)
    assert isinstance(changed, Lease)
    assert not await store.delete(lease)
    assert (await store.snapshot()).leases == (changed,)
    assert await store.delete(changed)
    assert (await store.snapshot()).leases == ()
    assert not await store.delete(changed)


async def test_a_lease_that_is_not_renewed_expires_and_a_renewed_one_does_not(
    world: World,
) -> None:
    store = world.store()
    async with listening(world.store()) as heard:
        await heard.begun()
        left = await create(store, "10.1.2.0/24", ttl=1)
        kept = await create(store, "10.1.3.0/24", ttl=1)
        renewed = await store.update(kept, attrs=attrs(), ttl=3600)
        await world.pass_time(1.1)
        await heard.until(lambda events: isinstance(events[-1], Delete))
        assert [event.key for event in heard.events if isinstance(event, Delete)] == [left.key]
    assert (await store.snapshot()).leases == (renewed,)


async def test_fifty_nodes_at_once_all_get_a_lease_and_none_overlaps(world: World) -> None:
    network, tries = net("10.9.0.0/23"), 0
    chance = random.Random(3)

    async def node(number: int) -> Lease:
        nonlocal tries
        store = world.store()
        while True:
            tries += 1
            snapshot = await store.snapshot()
            taken = [lease.subnet for lease in snapshot.leases if lease.subnet]
            # Half of the nodes want larger subnets, so that different keys can overlap.
            free = [
                subnet
                for subnet in network.subnets(new_prefix=29 if number % 2 else 30)
                if not any(subnet.overlaps(other) for other in taken)
            ]
            got = await store.create(
                subnet=free[0],
                subnet6=None,
                attrs=attrs(f"192.0.2.{number}"),
                ttl=60,
                not_after=snapshot.identity.revision,
            )
            if isinstance(got, Lease):
                return got
            await asyncio.sleep(chance.uniform(0, 0.02))

    async with asyncio.timeout(60):
        leases = await asyncio.gather(*(node(number) for number in range(50)))
    subnets = [lease.subnet for lease in leases if lease.subnet]
    assert len(set(subnets)) == 50
    assert not any(a.overlaps(b) for a in subnets for b in subnets if a != b)
    assert set((await world.store().snapshot()).leases) == set(leases)
    assert tries > 50  # otherwise nobody raced


# --- outages ---------------------------------------------------------------------------------


async def test_an_outage_is_told_and_changes_nothing(world: World) -> None:
    store = world.store()
    await world.put("subnets/10.1.2.0-24", value_of(1))
    async with listening(store) as heard:
        await heard.begun()
        await world.interrupt()
        lost = await heard.one_more()
        assert isinstance(lost, StoreState)
        assert not lost.connected
        assert lost.reason
        await world.restore()
        await heard.until(lambda events: True in states(events))
        await world.put("subnets/10.1.3.0-24", value_of(2))
        await heard.until(lambda events: isinstance(events[-1], Put))
    # No second snapshot: the watch went on where it had been.
    assert [event for event in heard.events[1:-1] if not isinstance(event, StoreState)] == []


async def test_a_store_that_is_away_refuses_and_then_serves(world: World) -> None:
    store = world.store()
    lease = await create(store, "10.1.2.0/24")
    await world.interrupt()
    with pytest.raises(StoreUnavailable) as refused:
        await store.update(lease, attrs=attrs(), ttl=60)
    assert refused.value.reason
    with pytest.raises(StoreUnavailable):
        await store.snapshot()
    with pytest.raises(StoreUnavailable):
        await store.delete(lease)
    with pytest.raises(StoreUnavailable):
        await create(store, "10.1.3.0/24")
    await world.restore()
    renewed = await store.update(lease, attrs=attrs("192.0.2.9"), ttl=60)
    assert isinstance(renewed, Lease)
    assert (await store.snapshot()).leases == (renewed,)


async def test_events_wait_for_a_store_that_is_away_at_first(world: World) -> None:
    store = world.store()
    await world.interrupt()
    async with listening(store) as heard:
        lost = await heard.one_more()
        assert isinstance(lost, StoreState)
        assert not lost.connected
        await world.restore()
        await heard.until(lambda events: isinstance(events[-1], Snapshot))
    assert states(heard.events)[-1] is True


async def test_compaction_while_away_leads_to_a_snapshot(world: World) -> None:
    mine, other = world.store(), world.store()
    gone = await create(other, "10.1.2.0/24")
    async with listening(mine) as heard:
        first = await heard.begun()
        await world.interrupt()
        await heard.until(lambda events: False in states(events))
        await change_unseen(world, delete="subnets/10.1.2.0-24", put="subnets/10.1.3.0-24")
        await heard.until(
            lambda events: any(isinstance(event, Snapshot) for event in events[1:]), within=20
        )
    assert [lease.key for lease in first.leases] == [gone.key]
    last = heard.events[-1]
    assert isinstance(last, Snapshot)
    assert [lease.subnet for lease in last.leases] == [net("10.1.3.0/24")]
    assert last.identity.config_create_revision == first.identity.config_create_revision
    assert not any(isinstance(event, Put | Delete) for event in heard.events)


async def change_unseen(world: World, *, delete: str, put: str) -> None:
    """Change things, and compact, while no client of the world is connected."""
    async with world.unseen():
        await world.delete(delete)
        await world.put(put, value_of(1))
        await world.compact()
    await world.restore()


@pytest.mark.parametrize("own", [True, False], ids=["own-lease", "only-a-peer"])
async def test_a_wiped_store_whose_revision_has_passed_ours_is_recognised(
    world: World, own: bool
) -> None:
    store = world.store()
    await create(store if own else world.store(), "10.1.2.0/24")
    async with listening(store) as heard:
        first = await heard.begun()
        assert len(first.leases) == 1
        await world.interrupt()
        await heard.until(lambda events: False in states(events))
        await world.wipe_unseen(first.identity.revision + 10)
        await world.restore()
        await heard.until(lambda events: any(isinstance(event, Snapshot) for event in events[1:]))
    last = heard.events[-1]
    assert isinstance(last, Snapshot)
    assert last.leases == ()
    assert last.identity.revision > first.identity.revision
    assert last.identity.cluster_id == first.identity.cluster_id
    assert not any(isinstance(event, Delete) for event in heard.events)


# --- consumers -------------------------------------------------------------------------------


async def test_there_is_one_consumer_at_a_time_and_each_begins_with_a_snapshot(
    world: World,
) -> None:
    store = world.store()
    async with listening(store) as heard:
        await heard.begun()
        with pytest.raises(RuntimeError):
            await anext(store.events())
    async with listening(store) as again:
        assert isinstance(await again.begun(), Snapshot)


async def test_closing_the_events_stops_what_runs_behind_them(world: World) -> None:
    before = asyncio.all_tasks()
    store = world.store()
    events = store.events()
    async with aclosing(events):  # type: ignore[type-var]
        assert isinstance(await anext(events), Snapshot)

    async def nothing_is_left() -> bool:
        return asyncio.all_tasks() == before

    await eventually(nothing_is_left, "the tasks end")
