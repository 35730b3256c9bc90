from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from random import Random

import pytest

from flanneld_py.testing.clock import FakeClock
from flanneld_py.testing.store import MemoryBackend, MemoryStore
from subnet import codec
from subnet.acquisition import Claim, Previous, own_record
from subnet.errors import StoreDenied, StoreSettingsError
from subnet.intents import KeeperState, Phase
from subnet.model import ConfigRecord, Lease, LeaseAttrs, NetworkConfig, PeerKey, StoreState
from subnet.session import LeaseSession
from tests.leases import CONFIG, DUAL_CONFIG, V6_CONFIG, attrs, dual_attrs

TTL = 86400


class Node:
    """One agent: a session, what it asks for, and what it was told."""

    def __init__(
        self,
        lab: Lab,
        number: int,
        *,
        config: NetworkConfig = CONFIG,
        previous: tuple[Previous, ...] = (),
        published: LeaseAttrs | None = None,
        ttl: float = TTL,
    ) -> None:
        self.lab = lab
        self.attrs = published or attrs(number)
        self.wanted = Claim(config=config, attrs=self.attrs, previous=previous, ttl=ttl)
        self.store = MemoryStore(lab.backend, name=f"node{number}")
        self.session = LeaseSession(
            store=self.store, clock=lab.clock, listener=self, random=Random(number)
        )
        self.said: list[str] = []
        self.configs: list[ConfigRecord | None] = []
        self.states: list[KeeperState] = []
        self.peers: dict[PeerKey, Lease] = {}
        self.task = asyncio.create_task(self.session.run(), name=f"node{number}")

    def config_changed(self, config: ConfigRecord | None) -> None:
        self.said.append("config")
        self.configs.append(config)
        self.session.use_config(self.wanted.config)
        self.session.claim(self.wanted)

    def peers_changed(self, keys: frozenset[PeerKey]) -> None:
        self.said.append("peers")
        for key in keys:
            peer = self.session.table.peer(key)
            if peer is None:
                del self.peers[key]
            else:
                self.peers[key] = peer

    def snapshot_seen(self) -> None:
        self.said.append("snapshot")

    def lease_changed(self, state: KeeperState) -> None:
        self.said.append(state.phase.value)
        self.states.append(state)

    def store_state(self, state: StoreState) -> None:
        self.said.append("connected" if state.connected else "disconnected")

    @property
    def state(self) -> KeeperState:
        return self.session.lease_state

    def ready(self) -> bool:
        return self.state.ready

    def phase(self) -> Phase:
        return self.state.phase

    @property
    def subnets(self) -> str:
        lease = self.state.lease
        return "" if lease is None else lease.subnets_text()

    @property
    def lease(self) -> Lease:
        assert self.state.lease is not None, self.state
        return self.state.lease

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


class Lab:
    """A datastore in memory, its nodes, and the time."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.backend = MemoryBackend(self.clock)
        self.backend.put_config("{}")
        self.nodes: list[Node] = []

    def start(
        self,
        number: int,
        *,
        config: NetworkConfig = CONFIG,
        previous: tuple[Previous, ...] = (),
        published: LeaseAttrs | None = None,
        ttl: float = TTL,
    ) -> Node:
        node = Node(self, number, config=config, previous=previous, published=published, ttl=ttl)
        self.nodes.append(node)
        return node

    async def run(self, seconds: float = 30) -> None:
        await self.clock.advance(seconds)

    def put(
        self, subnets: str, published: LeaseAttrs, *, ttl: float | None = None, after: str = ""
    ) -> PeerKey:
        """Write a record, as some other program would."""
        subnet: IPv4Network | None = None
        subnet6: IPv6Network | None = None
        for text in subnets.split():
            if ":" in text:
                subnet6 = IPv6Network(text)
            else:
                subnet = IPv4Network(text)
        key = codec.lease_key(self.backend.prefix, subnet, subnet6)
        granted = 0 if ttl is None else self.backend.grant(ttl)
        self.backend.put(
            key.encode(), codec.encode_attrs(published) + after.encode(), lease_id=granted
        )
        return key

    def held(self) -> list[str]:
        start = codec.leases_prefix(self.backend.prefix)
        return [
            key.decode().removeprefix(start)
            for key in sorted(self.backend.records)
            if key.decode().startswith(start)
        ]


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    made = Lab()
    yield made
    for node in made.nodes:
        await node.stop()


def previous(subnet: str = "", subnet6: str = "", *, lease: Lease | None = None) -> tuple[Previous]:
    return (
        Previous(
            subnet=IPv4Network(subnet) if subnet else None,
            subnet6=IPv6Network(subnet6) if subnet6 else None,
            source="subnet.env",
            lease=lease,
        ),
    )


async def test_a_node_gets_a_lease_and_hears_of_it_in_order(lab: Lab) -> None:
    lab.put("10.244.7.0/24", attrs(7), ttl=TTL)
    node = lab.start(1)
    await lab.run()
    assert node.said == ["config", "peers", "snapshot", "acquiring", "held"]
    assert list(node.peers) == [PeerKey("/coreos.com/network/subnets/10.244.7.0-24")]
    state = node.state
    assert state.phase is Phase.HELD
    assert state.ready
    assert state.reason == ""
    assert state.expires_at is not None
    assert 1000 + TTL <= state.expires_at <= 1030 + TTL
    assert node.lease.attrs == attrs(1)
    assert node.lease.subnet is not None
    assert node.lease.subnet.subnet_of(IPv4Network("10.244.0.0/16"))
    assert node.store.peers == 1


async def test_fifty_nodes_at_once_all_get_a_lease_and_none_twice(lab: Lab) -> None:
    nodes = [lab.start(number) for number in range(1, 51)]
    await lab.run(60)
    assert all(node.ready() for node in nodes)
    assert len({node.subnets for node in nodes}) == 50
    assert len(lab.held()) == 50
    assert all(len(node.peers) == 49 for node in nodes)


async def test_a_lease_with_our_public_ip_is_ours_though_the_mac_differs(lab: Lab) -> None:
    lab.put("10.244.7.0/24", attrs(1, mac_number=99), ttl=TTL)
    node = lab.start(1)
    await lab.run()
    assert node.subnets == "10.244.7.0/24"
    assert node.lease.attrs == attrs(1)
    assert lab.held() == ["10.244.7.0-24"]


async def test_the_record_that_names_our_mac_is_found_before_there_is_a_claim(lab: Lab) -> None:
    lab.put("10.244.7.0/24", attrs(1, mac_number=99), ttl=TTL)
    lab.put("10.244.8.0/24", attrs(2), ttl=TTL)
    node = lab.start(3)
    await lab.run()
    found = own_record(
        node.session.table, config=CONFIG, public_ip=attrs(1).public_ip, public_ipv6=None
    )
    assert found is not None
    assert found.attrs == attrs(1, mac_number=99)


async def test_a_later_record_with_our_address_does_not_give_us_its_mac(lab: Lab) -> None:
    lab.put("10.244.7.0/24", attrs(1, mac_number=98), ttl=TTL)
    lab.put("10.244.8.0/24", attrs(1, mac_number=99), ttl=TTL)
    node = lab.start(3)
    await lab.run()
    found = own_record(
        node.session.table,
        config=CONFIG,
        public_ip=attrs(1).public_ip,
        public_ipv6=None,
        previous=previous("10.244.7.0/24"),
    )
    assert found is not None
    assert found.attrs == attrs(1, mac_number=98)


async def test_two_nodes_without_ipv4_do_not_share_a_lease(lab: Lab) -> None:
    one = lab.start(1, config=V6_CONFIG, published=attrs(1, ip6="fd99::1"))
    await lab.run()
    other = lab.start(2, config=V6_CONFIG, published=attrs(2, ip6="fd99::2"))
    await lab.run()
    assert one.ready()
    assert other.ready()
    assert one.subnets != other.subnets
    assert one.lease.subnet is None
    await one.stop()
    again = lab.start(1, config=V6_CONFIG, published=attrs(1, ip6="fd99::1"))
    await lab.run()
    assert again.subnets == one.subnets


async def test_a_previous_subnet_is_taken_again(lab: Lab) -> None:
    node = lab.start(1, previous=previous("10.244.9.0/24"))
    await lab.run()
    assert node.subnets == "10.244.9.0/24"


async def test_a_previous_subnet_of_another_node_leads_to_a_new_lease_said_once(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.put("10.244.9.0/24", attrs(7), ttl=TTL)
    node = lab.start(1, previous=previous("10.244.9.0/24"))
    await lab.run(3600)
    assert node.ready()
    assert node.subnets != "10.244.9.0/24"
    said = [record.getMessage() for record in caplog.records if "changed" in record.getMessage()]
    assert len(said) == 1
    assert f"lease={node.subnets} previous=10.244.9.0/24 (subnet.env): it is now held" in said[0]
    assert said[0].endswith("by 172.31.0.7 with 10.244.9.0/24")
    assert len(lab.held()) == 2


async def test_a_node_whose_public_ip_changed_keeps_its_lease(lab: Lab) -> None:
    lab.put("10.244.9.0/24", attrs(1), ttl=TTL)
    moved = attrs(1, ip="172.31.9.9")
    node = lab.start(1, published=moved, previous=previous("10.244.9.0/24"))
    await lab.run()
    assert node.subnets == "10.244.9.0/24"
    assert node.lease.attrs == moved
    assert lab.held() == ["10.244.9.0-24"]


async def test_without_a_mac_the_cache_tells_that_a_record_is_ours(lab: Lab) -> None:
    gateway = LeaseAttrs(public_ip=IPv4Address("172.31.0.1"), backend_type="host-gw")
    first = lab.start(1, published=gateway)
    await lab.run()
    await first.stop()
    moved = replace(gateway, public_ip=IPv4Address("172.31.9.9"))
    text = first.subnets
    second = lab.start(1, published=moved, previous=previous(text, lease=first.lease))
    await lab.run()
    assert second.subnets == text
    assert len(lab.held()) == 1


async def test_an_incompatible_lease_is_left_to_its_end_and_both_subnets_are_said(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.put("10.244.8.0/25", attrs(1), ttl=TTL)
    node = lab.start(1)
    await lab.run()
    assert node.ready()
    assert "10.244.8.0-25" in lab.held()
    assert len(lab.held()) == 2
    assert f"lease={node.subnets} previous=10.244.8.0/25 (our lease): 10.244.8.0/25 is not" in (
        caplog.text
    )
    assert not node.lease.subnet or not node.lease.subnet.overlaps(IPv4Network("10.244.8.0/25"))
    assert not node.peers


async def test_a_node_goes_from_one_family_to_two_with_the_same_subnet(lab: Lab) -> None:
    lab.put("10.244.8.0/24", dual_attrs(1), ttl=TTL)
    watcher = lab.start(5, config=DUAL_CONFIG, published=dual_attrs(5))
    await lab.run()
    node = lab.start(1, config=DUAL_CONFIG, published=dual_attrs(1))
    await lab.run()
    assert node.lease.subnet == IPv4Network("10.244.8.0/24")
    assert node.lease.subnet6 is not None
    assert "10.244.8.0-24" not in lab.held()
    assert len(lab.held()) == 2
    assert [peer.subnets_text() for peer in watcher.peers.values()] == [node.subnets]
    # For flannel's peers, the record was written once more after the earlier one was deleted.
    assert node.lease.mod_revision > node.lease.create_revision


async def test_damaged_records_do_not_keep_a_node_from_getting_a_lease(lab: Lab) -> None:
    narrow = replace(
        CONFIG, subnet_min=IPv4Address("10.244.1.0"), subnet_max=IPv4Address("10.244.3.0")
    )
    lab.put("10.244.1.0/24", attrs(8), after="junk")
    lab.put("10.244.2.0/24", attrs(9), after="junk")
    node = lab.start(1, config=narrow, previous=previous("10.244.1.0/24"))
    await lab.run()
    assert node.subnets == "10.244.3.0/24"


async def test_no_free_subnet_is_said_and_tried_again(lab: Lab) -> None:
    narrow = replace(CONFIG, subnet_max=CONFIG.subnet_min)
    key = lab.put("10.244.1.0/24", attrs(7), ttl=TTL)
    node = lab.start(1, config=narrow)
    await lab.run()
    assert not node.ready()
    assert "no free /24" in node.state.reason
    lab.backend.delete(key.encode())
    await lab.run(40)
    assert node.subnets == "10.244.1.0/24"
    assert node.ready()


async def test_a_lease_is_renewed_in_time_and_for_ever(lab: Lab) -> None:
    node = lab.start(1, ttl=60)
    await lab.run()
    first = node.lease
    await lab.run(3600)
    assert node.ready()
    assert node.lease.create_revision == first.create_revision
    assert node.lease.mod_revision >= first.mod_revision + 80
    assert node.lease.mod_revision <= first.mod_revision + 100
    assert all(state.ready for state in node.states[2:])


async def test_the_margin_counts_where_a_third_is_longer(lab: Lab) -> None:
    node = lab.start(1)
    await lab.run()
    before = node.lease.mod_revision
    await lab.run(TTL - 3600 * 1.1 - 60)
    assert node.lease.mod_revision == before
    await lab.run(3600 * 0.1 + 60)
    assert node.lease.mod_revision > before


async def test_a_renewal_that_fails_is_repeated_and_said(lab: Lab) -> None:
    node = lab.start(1, ttl=600)
    await lab.run()
    node.store.cut()
    await lab.run(450)
    assert node.ready()
    assert "renewing fails" in node.state.reason
    await lab.run(130)
    node.store.restore()
    await lab.run(2)
    assert node.ready()
    assert node.state.reason == ""
    assert node.state.failures == 0


async def test_a_lease_that_ended_during_an_outage_is_claimed_again(lab: Lab) -> None:
    node = lab.start(1, ttl=600)
    await lab.run()
    subnets = node.subnets
    node.store.cut()
    await lab.run(700)
    assert not node.ready()
    assert "has expired" in node.state.reason
    assert lab.held() == []
    node.store.restore()
    await lab.run(5)
    assert node.ready()
    assert node.subnets == subnets


async def test_after_a_suspend_the_lease_is_claimed_again(lab: Lab) -> None:
    node = lab.start(1, ttl=600)
    await lab.run()
    subnets = node.subnets
    lab.clock.jump(10_000)
    await lab.run(10)
    assert node.ready()
    assert node.subnets == subnets


async def test_missing_rights_are_asked_for_slowly_and_said(lab: Lab) -> None:
    node = lab.start(1)
    node.store.fail_next(
        "create", StoreDenied(source="memory", reason="permission denied"), times=5
    )
    await lab.run()
    assert "permission denied" in node.state.reason
    assert not node.ready()
    assert 3 <= node.state.failures <= 4
    await lab.run(120)
    assert node.ready()


async def test_an_answer_that_is_lost_does_no_harm(lab: Lab) -> None:
    node = lab.start(1, ttl=600)
    node.store.fail_next("create", done=True)
    await lab.run()
    assert node.ready()
    assert len(lab.held()) == 1
    node.store.fail_next("update", done=True, times=3)
    node.session.publish(attrs(1, ip="172.31.8.1"))
    await lab.clock.settle()
    node.session.publish(attrs(1, ip="172.31.8.2"))
    await lab.run(120)
    assert node.ready()
    assert node.lease.attrs == attrs(1, ip="172.31.8.2")
    assert Phase.CONFLICT not in [state.phase for state in node.states]


async def test_new_attributes_are_published_soon(lab: Lab) -> None:
    node = lab.start(1)
    other = lab.start(2)
    await lab.run()
    node.session.publish(attrs(1, ip="172.31.8.1", mac_number=5))
    await lab.run(1)
    assert [peer.attrs for peer in other.peers.values()] == [
        attrs(1, ip="172.31.8.1", mac_number=5)
    ]
    assert node.ready()


async def test_a_reservation_stays_one_and_is_not_renewed(lab: Lab) -> None:
    key = lab.put("10.244.9.0/24", attrs(1))
    node = lab.start(1)
    await lab.run()
    assert node.subnets == "10.244.9.0/24"
    assert node.ready()
    assert node.state.expires_at is None
    before = lab.backend.records[key.encode()]
    await lab.run(3 * TTL)
    assert lab.backend.records[key.encode()] == before
    assert before.lease_id == 0


async def test_a_put_of_flannel_on_this_node_is_adopted(lab: Lab) -> None:
    node = lab.start(1)
    await lab.run()
    lab.put(node.subnets, attrs(1), ttl=600)
    await lab.run(1)
    assert node.ready()
    await lab.run(2000)
    assert node.ready()
    assert len(lab.held()) == 1


async def test_a_program_that_keeps_rewriting_our_record_is_answered_ever_slower(lab: Lab) -> None:
    node = lab.start(1)
    await lab.run()
    other = replace(attrs(1), backend_data=codec.vtep_text(9, bytes((2, 0, 0, 0, 0, 1))))
    before = lab.backend.revision
    for _ in range(600):
        lab.put(node.subnets, other, ttl=600)
        await lab.run(1)
    assert lab.backend.revision - before < 600 + 40
    await lab.run(120)
    assert node.lease.attrs == attrs(1)


async def test_another_node_under_our_key_is_named_and_not_overwritten(lab: Lab) -> None:
    node = lab.start(1, ttl=600)
    await lab.run()
    key = lab.put(node.subnets, attrs(1, mac_number=66), ttl=900)
    written = lab.backend.records[key.encode()]
    await lab.run(800)
    assert node.phase() is Phase.CONFLICT
    assert not node.ready()
    assert "02:00:00:00:00:42" in node.state.reason
    assert "02:00:00:00:00:01" in node.state.reason
    assert lab.backend.records[key.encode()] == written
    assert node.lease.attrs == attrs(1)
    await lab.run(200)
    assert node.phase() is Phase.HELD
    assert node.ready()


async def test_a_conflict_ends_when_our_values_are_written_back(lab: Lab) -> None:
    node = lab.start(1)
    await lab.run()
    lab.put(node.subnets, attrs(4), ttl=900)
    await lab.run(1)
    assert node.phase() is Phase.CONFLICT
    lab.put(node.subnets, attrs(1), ttl=900)
    await lab.run(1)
    assert node.ready()


async def test_a_deleted_record_is_claimed_again(lab: Lab) -> None:
    node = lab.start(1)
    await lab.run()
    subnets = node.subnets
    lab.backend.delete(node.lease.key.encode())
    await lab.run(1)
    assert node.ready()
    assert node.subnets == subnets
    assert len(lab.held()) == 1


async def test_a_damaged_record_is_written_anew_and_peers_keep_us(lab: Lab) -> None:
    node, other = lab.start(1), lab.start(2)
    await lab.run()
    other.said.clear()
    lab.backend.put(node.lease.key.encode(), b"junk")
    await lab.run(1)
    assert node.ready()
    assert other.said == []
    assert list(other.peers) == [node.lease.key]
    record = lab.backend.records[node.lease.key.encode()]
    assert codec.decode_attrs(record.value) == attrs(1)
    assert record.lease_id


async def test_a_record_damaged_while_we_were_away_is_still_ours(lab: Lab) -> None:
    node = lab.start(1)
    await lab.run()
    await node.stop()
    lab.backend.put(node.lease.key.encode(), b"junk")
    again = lab.start(1, previous=previous(node.subnets, lease=node.lease))
    await lab.run()
    assert again.ready()
    assert again.subnets == node.subnets


async def test_a_subnet_that_another_node_got_is_not_stolen(lab: Lab) -> None:
    node = lab.start(1, ttl=600)
    await lab.run()
    subnets = node.subnets
    node.store.cut()
    await lab.run(700)
    wide = IPv4Network(subnets).supernet()
    key = lab.put(str(wide), attrs(7))
    node.store.restore()
    await lab.run(60)
    assert node.phase() is Phase.LOST
    assert not node.ready()
    assert "172.31.0.7" in node.state.reason
    assert node.subnets == subnets
    # Nor is the new owner's route programmed over our pods.
    assert not node.peers
    assert len(lab.held()) == 1
    lab.backend.delete(key.encode())
    await lab.run(5)
    assert node.ready()
    assert node.subnets == subnets


async def test_a_wiped_store_gets_all_leases_back_and_no_peer_goes(lab: Lab) -> None:
    nodes = [lab.start(number) for number in range(1, 11)]
    await lab.run()
    before = [node.subnets for node in nodes]
    for node in nodes:
        node.said.clear()
    # The etcd that lost its data is soon ahead of what we knew.
    lab.backend.wipe(revision=1000)
    lab.backend.put_config("{}")
    await lab.run(60)
    assert [node.subnets for node in nodes] == before
    assert all(node.ready() for node in nodes)
    assert len(lab.held()) == 10
    assert all(len(node.peers) == 9 for node in nodes)
    assert all("peers" not in node.said for node in nodes)
    await lab.run(600)
    assert all("peers" not in node.said for node in nodes)


async def test_a_wiped_store_loses_those_who_do_not_come_back(lab: Lab) -> None:
    lab.put("10.244.7.0/24", attrs(7), ttl=TTL)
    node = lab.start(1)
    await lab.run()
    lab.backend.wipe(revision=1000)
    await lab.run(290)
    assert len(node.peers) == 1
    await lab.run(20)
    assert not node.peers
    assert node.ready()


async def test_compaction_goes_unnoticed(lab: Lab) -> None:
    node, other = lab.start(1), lab.start(2)
    await lab.run()
    node.said.clear()
    node.store.cut()
    await lab.run(1)
    lab.put("10.244.77.0/24", attrs(77), ttl=TTL)
    lab.backend.compact()
    node.store.restore()
    await lab.run(5)
    assert node.said == ["disconnected", "connected", "peers"]
    assert len(node.peers) == 2
    assert other.ready()


async def test_a_running_agent_keeps_its_subnet_when_the_config_changes(lab: Lab) -> None:
    node = lab.start(1)
    await lab.run()
    subnets = node.subnets
    node.wanted = replace(node.wanted, config=replace(CONFIG, subnet_len=25))
    lab.backend.put_config('{"SubnetLen": 25}')
    await lab.run(5)
    assert len(node.configs) == 2
    assert node.subnets == subnets
    assert node.ready()
    assert "does not fit the network config any more" in node.state.reason


async def test_nothing_is_removed_at_the_end(lab: Lab) -> None:
    node = lab.start(1)
    await lab.run()
    await node.stop()
    assert len(lab.held()) == 1


async def test_hostile_records_are_named_but_not_without_end(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(100):
        lab.put(f"10.9.{number}.0/24", attrs(1000 + number))
    with caplog.at_level(logging.WARNING):
        node = lab.start(1)
        await lab.run(600)
    assert node.ready()
    assert len(node.session.table.quarantine) == 100
    lines = [text for record in caplog.records if "quarantined" in (text := record.getMessage())]
    assert len(lines) == 21
    assert "count=100" in lines[-1]


async def test_a_store_that_is_set_up_wrongly_ends_the_session(lab: Lab) -> None:
    node = lab.start(1)
    node.store.fail_next("create", StoreSettingsError(source="memory", reason="no such file"))
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.gather(lab.run(), node.task)
    assert caught.group_contains(StoreSettingsError)
    lab.nodes.remove(node)
