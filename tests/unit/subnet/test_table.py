from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from subnet.identity import KnownStore
from subnet.judgement import OwnNode
from subnet.model import (
    ConfigChanged,
    Delete,
    Lease,
    LeaseAttrs,
    Malformed,
    PeerKey,
    Put,
    PutMalformed,
    StoreIdentity,
    StoreState,
)
from subnet.table import LeaseTable
from tests.leases import CONFIG, DUAL_CONFIG, V6_CONFIG, attrs, dual_attrs, lease, mac, snapshot

A = lease("10.244.1.0/24", node=1, rev=10)
B = lease("10.244.2.0/24", node=2, rev=20)
C = lease("10.244.3.0/24", node=3, rev=30)


def table(*leases: Lease) -> LeaseTable:
    made = LeaseTable()
    made.set_config(CONFIG)
    made.apply(snapshot(*leases), 0)
    return made


def test_a_snapshot_brings_all_peers() -> None:
    made = LeaseTable()
    made.set_config(CONFIG)
    assert made.apply(snapshot(A, B), 0) == {A.key, B.key}
    assert dict(made.peers) == {A.key: A, B.key: B}
    assert made.peer(A.key) == A
    assert made.has_snapshot
    assert made.exact_revision == 100


def test_a_put_adds_and_changes_one_peer() -> None:
    made = table(A)
    new = replace(B, create_revision=101, mod_revision=101)
    assert made.apply(Put(lease=new), 0) == {B.key}
    moved = replace(new, mod_revision=102, attrs=attrs(9))
    assert made.apply(Put(lease=moved), 0) == {B.key}
    assert made.peer(B.key) == moved
    assert made.exact_revision is None
    assert made.revision == 102


def test_a_renewal_is_no_change() -> None:
    made = table(A)
    renewed = replace(A, mod_revision=101, lease_id=99)
    assert made.apply(Put(lease=renewed), 0) == frozenset()
    assert made.peer(A.key) == renewed


def test_a_snapshot_reports_changed_attributes_only() -> None:
    made = table(A, B)
    moved = replace(B, mod_revision=150, attrs=attrs(9))
    assert made.apply(snapshot(A, moved, rev=200), 0) == {B.key}
    assert made.apply(snapshot(A, moved, rev=201), 0) == frozenset()


def test_a_snapshot_removes_what_it_lacks() -> None:
    made = table(A, B)
    assert made.apply(snapshot(A, rev=200), 0) == {B.key}
    assert dict(made.peers) == {A.key: A}
    assert made.new_store == ""


@pytest.mark.parametrize(
    "event",
    [
        Put(lease=replace(A, mod_revision=90, attrs=attrs(9))),
        Put(lease=replace(C, mod_revision=100)),
        Delete(key=A.key, revision=100),
        PutMalformed(record=Malformed(key=A.key, reason="broken", mod_revision=99)),
        StoreState(connected=False),
    ],
)
def test_events_older_than_the_snapshot_are_ignored(
    event: Put | Delete | PutMalformed | StoreState,
) -> None:
    made = table(A)
    assert made.apply(event, 0) == frozenset()
    assert dict(made.peers) == {A.key: A}
    assert made.exact_revision == 100


def test_a_late_put_does_not_bring_back_what_was_deleted() -> None:
    made = table(A)
    assert made.apply(Delete(key=A.key, revision=110), 0) == {A.key}
    assert made.apply(Put(lease=replace(A, mod_revision=109)), 0) == frozenset()
    assert not made.peers
    again = replace(A, create_revision=111, mod_revision=111)
    assert made.apply(Put(lease=again), 0) == {A.key}


def test_a_late_delete_does_not_remove_what_was_created_again() -> None:
    made = table(A)
    made.apply(Put(lease=replace(A, create_revision=112, mod_revision=112)), 0)
    assert made.apply(Delete(key=A.key, revision=111), 0) == frozenset()
    assert A.key in made.peers


def test_our_own_lease_is_no_peer() -> None:
    made = table(A, B)
    own = OwnNode.of(A.attrs, A)
    assert made.set_own(own) == {A.key}
    assert made.set_own(own) == frozenset()
    assert dict(made.peers) == {B.key: B}
    assert not made.quarantine.reasons()
    assert made.record(A.key) == A
    assert made.apply(snapshot(A, B, rev=200), 0) == frozenset()
    assert made.apply(snapshot(B, rev=201), 0) == frozenset()
    assert made.set_own(OwnNode()) == frozenset()


def test_an_earlier_lease_of_ours_is_no_peer() -> None:
    earlier = replace(B, attrs=A.attrs)
    made = table(A, earlier, C)
    made.set_own(OwnNode.of(A.attrs, A))
    assert set(made.peers) == {C.key}
    assert "earlier lease of this node" in made.quarantine.reason(B.key)


OWN = OwnNode.of(dual_attrs(1), lease("10.244.1.0/24 fd00:0:0:1::/64", node=1))


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        (lease("10.9.0.0/24", node=5), "outside of the network 10.244.0.0/16"),
        (lease("10.0.0.0/8", node=5), "outside of the network 10.244.0.0/16"),
        (lease("10.244.1.128/25", node=5), "overlaps our own subnet 10.244.1.0/24"),
        (lease("10.244.0.0/16", node=5), "overlaps our own subnet 10.244.1.0/24"),
        (lease("fd00:0:0:1::/80", node=5), "overlaps our own subnet fd00:0:0:1::/64"),
        (lease("fd01::/64", node=5), "outside of the network fd00::/48"),
        (
            lease("10.244.9.0/24", published=attrs(5, ip="172.31.0.1")),
            "claims our public IP 172.31.0.1 (its MAC 02:00:00:00:00:05, ours 02:00:00:00:00:01)",
        ),
        (
            lease("fd00:0:0:9::/64", published=attrs(5, ip6="fd99::1")),
            "another node claims our public IP fd99::1",
        ),
        (lease("10.244.9.0/24", published=attrs(5, mac_number=1)), "our own MAC"),
        (
            lease(
                "10.244.9.0/24",
                published=replace(attrs(5), backend_data='{"VNI":1,"VtepMAC":"00:00:00:00:00:00"}'),
            ),
            "MAC is zero",
        ),
        (
            lease(
                "10.244.9.0/24",
                published=replace(attrs(5), backend_data='{"VNI":1,"VtepMAC":"01:00:5e:00:00:01"}'),
            ),
            "multicast",
        ),
        (
            lease("10.244.9.0/24", published=replace(attrs(5), backend_data='{"VNI":1}')),
            "VtepMAC is missing",
        ),
        (
            lease("10.244.9.0/24", published=replace(attrs(5), backend_data="x" * 65537)),
            "larger than 65536 bytes",
        ),
        (lease("10.244.9.0/24", published=attrs(5, ip="127.0.0.1")), "loopback"),
        (lease("10.244.9.0/24", published=attrs(5, ip="224.0.0.1")), "multicast or broadcast"),
        (
            lease("10.244.9.0/24", published=attrs(5, ip="255.255.255.255")),
            "multicast or broadcast",
        ),
        (lease("fd00:0:0:9::/64", published=attrs(5, ip6="::1")), "loopback"),
        (lease("fd00:0:0:9::/64", published=attrs(5, ip6="ff02::1")), "multicast or broadcast"),
        (lease("", key="/net/subnets/none"), "no subnet of a family"),
    ],
)
def test_hostile_leases_are_quarantined_and_change_nothing_else(
    hostile: Lease, reason: str
) -> None:
    made = LeaseTable()
    made.set_config(DUAL_CONFIG)
    made.set_own(OWN)
    # It is older than all good ones, and still takes nothing from them.
    made.apply(snapshot(replace(hostile, create_revision=1, mod_revision=1), B, C), 0)
    assert set(made.peers) == {B.key, C.key}
    assert reason in made.quarantine.reason(hostile.key)
    assert len(made.quarantine) == 1


def test_another_subnet_length_is_no_fault() -> None:
    small = lease("10.244.9.0/26", node=9)
    assert set(table(A, small).peers) == {A.key, small.key}


def test_of_overlapping_leases_the_older_wins_and_the_other_is_promoted() -> None:
    wide = lease("10.244.2.0/23", node=4, rev=40)
    made = table(A, B, C)
    assert made.apply(Put(lease=replace(wide, mod_revision=101)), 0) == frozenset()
    assert (
        made.quarantine.reason(wide.key)
        == "its subnet overlaps the older lease 10.244.2.0/24 of 172.31.0.2"
    )
    assert made.apply(Delete(key=B.key, revision=102), 0) == {B.key}
    assert "10.244.3.0/24" in made.quarantine.reason(wide.key)
    assert made.apply(Delete(key=C.key, revision=103), 0) == {C.key, wide.key}
    assert set(made.peers) == {A.key, wide.key}
    assert not made.quarantine.reasons()


def test_a_quarantined_lease_does_not_keep_others_out() -> None:
    wide = lease("10.244.2.0/23", node=4, rev=25)
    made = table(B, wide, C)
    assert set(made.peers) == {B.key, C.key}
    # The wide one is promoted when the winner goes, and takes what it is older than.
    assert made.apply(Delete(key=B.key, revision=101), 0) == {B.key, wide.key, C.key}
    assert set(made.peers) == {wide.key}


def test_equally_old_leases_are_told_apart_by_key() -> None:
    one = lease("10.244.2.0/24", node=2, rev=20)
    other = lease("10.244.2.0/25", node=3, rev=20)
    for order in ((one, other), (other, one)):
        assert set(table(*order).peers) == {min(one.key, other.key)}


def test_an_older_lease_that_is_learned_later_wins() -> None:
    older = lease("10.244.2.0/25", node=4, rev=15, mod=120)
    made = table(B)
    assert made.apply(Put(lease=older), 0) == {B.key, older.key}
    assert set(made.peers) == {older.key}


def test_a_mac_belongs_to_one_public_address() -> None:
    thief = lease("10.244.9.0/24", published=attrs(9, mac_number=2), rev=50)
    made = table(B, thief)
    assert set(made.peers) == {B.key}
    assert (
        made.quarantine.reason(thief.key)
        == "its MAC is held by the older lease 10.244.2.0/24 of 172.31.0.2"
    )
    assert made.apply(Delete(key=B.key, revision=101), 0) == {B.key, thief.key}


def test_two_leases_of_one_node_are_no_fault() -> None:
    second = lease("10.244.9.0/24", published=B.attrs, rev=50)
    made = table(B, second)
    assert set(made.peers) == {B.key, second.key}
    thief = lease("10.244.8.0/24", published=attrs(9, mac_number=2), rev=60, mod=101)
    made.apply(Put(lease=thief), 0)
    made.apply(Delete(key=B.key, revision=102), 0)
    assert "10.244.9.0/24" in made.quarantine.reason(thief.key)


def test_each_family_stands_on_its_own() -> None:
    dual = lease("10.244.2.0/24 fd00:0:0:2::/64", node=2, rev=20)
    same6 = lease("10.244.3.0/24 fd00:0:0:2::/64", node=3, rev=30)
    made = LeaseTable()
    made.set_config(DUAL_CONFIG)
    made.apply(snapshot(A, dual, same6), 0)
    assert dict(made.peers) == {A.key: A, dual.key: dual, same6.key: replace(same6, subnet6=None)}
    assert "fd00:0:0:2::/64 of fd99::2" in made.quarantine.reason(same6.key)
    assert made.apply(Delete(key=dual.key, revision=101), 0) == {dual.key, same6.key}
    assert made.peer(same6.key) == same6


@pytest.mark.parametrize(
    ("config", "subnets"), [(CONFIG, "10.244.2.0/24"), (V6_CONFIG, "fd00:0:0:2::/64")]
)
def test_of_a_dual_stack_lease_the_half_is_used_that_the_network_has(
    config: object, subnets: str
) -> None:
    dual = lease("10.244.2.0/24 fd00:0:0:2::/64", node=2)
    made = LeaseTable()
    assert made.apply(snapshot(dual), 0) == {dual.key}
    made.set_config(CONFIG if config is CONFIG else V6_CONFIG)
    peer = made.peer(dual.key)
    assert peer is not None
    assert peer.subnets_text() == subnets
    assert not made.quarantine.reasons()


def test_malformed_records_are_named_and_change_nothing() -> None:
    key = PeerKey("/net/subnets/junk")
    made = table(A)
    record = Malformed(key=key, reason="key is no lease", mod_revision=101)
    assert made.apply(PutMalformed(record=record), 0) == frozenset()
    assert made.quarantine.reason(key) == "key is no lease"
    assert made.malformed(key) == record
    assert made.quarantine.take_unsaid(10) == ([(key, "key is no lease")], 1)
    assert made.quarantine.take_unsaid(10) == ([], 0)
    assert made.apply(Delete(key=key, revision=102), 0) == frozenset()
    assert not made.quarantine.reasons()


def test_a_damaged_peer_is_held_so_that_it_can_be_written_anew() -> None:
    made = table(A, B)
    damage = Malformed(key=B.key, reason="value is no JSON", mod_revision=101)
    assert made.apply(PutMalformed(record=damage), 50) == frozenset()
    assert made.peer(B.key) == B
    assert made.record(B.key) is None
    assert dict(made.held()) == {B.key: 350}
    assert made.quarantine.reason(B.key) == "value is no JSON"
    assert made.apply(Put(lease=replace(B, mod_revision=102)), 60) == frozenset()
    assert not made.held()
    assert not made.quarantine.reasons()
    made.apply(PutMalformed(record=replace(damage, mod_revision=103)), 70)
    assert made.apply(snapshot(A, malformed=[damage], rev=200), 80) == frozenset()
    assert made.next_expiry() == 370
    assert made.expire(370) == {B.key}
    assert made.quarantine.reason(B.key) == "value is no JSON"


@pytest.mark.parametrize(
    "wiped",
    [
        snapshot(A, rev=200, cluster=8),
        snapshot(A, rev=99),
        snapshot(A, rev=200, config_rev=0),
        snapshot(A, rev=200, config_rev=150),
    ],
)
def test_peers_missing_from_a_new_store_are_held_for_a_grace_time(wiped: object) -> None:
    made = table(A, B, C)
    assert isinstance(wiped, type(snapshot()))
    assert made.apply(wiped, 1000) == frozenset()
    assert made.new_store
    assert set(made.peers) == {A.key, B.key, C.key}
    assert dict(made.held()) == {B.key: 1300, C.key: 1300}
    assert made.expire(1299) == frozenset()
    back = replace(B, create_revision=201, mod_revision=201)
    assert made.apply(Put(lease=back), 1100) == frozenset()
    assert made.next_expiry() == 1300
    assert made.expire(1300) == {C.key}
    assert made.next_expiry() is None
    assert dict(made.peers) == {A.key: A, B.key: back}


def test_our_own_record_tells_a_new_store() -> None:
    made = table(A, B)
    made.set_own(OwnNode.of(A.attrs, A))
    reborn = replace(A, create_revision=150, mod_revision=150)
    assert made.apply(snapshot(reborn, rev=200), 0) == frozenset()
    assert "our own record" in made.new_store
    assert set(made.held()) == {B.key}


def test_a_store_remembered_from_an_earlier_run_is_recognised() -> None:
    known = KnownStore(identity=StoreIdentity(cluster_id=7, revision=500, config_create_revision=1))
    made = LeaseTable(known=known)
    made.apply(snapshot(A, rev=100), 0)
    assert "went back from 500 to 100" in made.new_store
    same = LeaseTable(known=known)
    same.apply(snapshot(A, rev=500), 0)
    assert same.new_store == ""
    assert same.known_store() == known


def test_a_new_lease_wins_at_once_over_a_held_one() -> None:
    made = table(B)
    other = lease("10.244.2.0/24", node=7, rev=5, key="/net/subnets/other")
    assert made.apply(snapshot(other, rev=50), 0) == {B.key, other.key}
    assert set(made.peers) == {other.key}


def test_what_is_deleted_while_held_goes_at_once() -> None:
    made = table(A, B)
    made.apply(snapshot(A, rev=50), 0)
    assert made.apply(Delete(key=B.key, revision=51), 0) == {B.key}
    assert not made.held()


def test_a_relist_does_not_end_the_hold() -> None:
    made = table(A, B)
    made.apply(snapshot(A, rev=50), 0)
    assert made.apply(snapshot(A, rev=60), 100) == frozenset()
    assert made.new_store == ""
    assert dict(made.held()) == {B.key: 300}


def test_a_config_written_anew_under_our_eyes_is_no_new_store() -> None:
    made = table(A)
    made.apply(ConfigChanged(config=None, revision=101), 0)
    made.apply(ConfigChanged(config=snapshot(config_rev=102).config, revision=102), 0)
    made.apply(snapshot(A, rev=200, config_rev=102), 0)
    assert made.new_store == ""


def test_rivals_are_those_that_overlap_our_own_subnets() -> None:
    made = table(A, B)
    made.set_own(OwnNode(subnet=IPv4Network("10.244.2.128/25")))
    assert made.rivals() == [B]
    made.apply(Delete(key=B.key, revision=101), 0)
    assert made.rivals() == []


def test_what_backends_without_macs_publish_is_judged_without_them() -> None:
    gateway = LeaseAttrs(public_ip=IPv4Address("172.31.0.9"), backend_type="host-gw")
    peers = [lease(f"10.244.{n}.0/24", published=gateway, rev=n) for n in (1, 2)]
    assert len(table(*peers).peers) == 2


def test_ipv6_only_networks_work() -> None:
    made = LeaseTable()
    made.set_config(V6_CONFIG)
    peers = [
        lease(f"fd00:0:0:{n}::/64", published=attrs(n, ip6=f"fd99::{n}"), rev=n) for n in (1, 2)
    ]
    own = OwnNode.of(peers[0].attrs, peers[0])
    made.set_own(own)
    assert own.subnet6 == IPv6Network("fd00:0:0:1::/64")
    assert own.public_ipv6 == IPv6Address("fd99::1")
    assert own.mac6 == mac(0x10001)
    made.apply(snapshot(*peers), 0)
    assert set(made.peers) == {peers[1].key}
