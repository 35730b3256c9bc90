"""The table against a model that is plainly right: everything judged from scratch, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from subnet.judgement import OwnNode
from subnet.model import Delete, Lease, Malformed, PeerKey, Put, PutMalformed
from subnet.table import LeaseTable
from tests.leases import DUAL_CONFIG, attrs, dual_attrs, key_of, lease, snapshot

OWN = lease("10.244.1.0/24 fd00:0:0:1::/64", node=1, rev=3)
START = 100

Event = Put | Delete | PutMalformed


@st.composite
def subnets(draw: st.DrawFn) -> tuple[IPv4Network | None, IPv6Network | None]:
    """Subnets of many lengths in a small space, so that they often overlap."""
    length = draw(st.sampled_from([24, 24, 24, 23, 25, 22]))
    low = 0x0AF40000 + (draw(st.integers(0, 7)) << 8)
    subnet = IPv4Network((low >> 32 - length << 32 - length, length))
    if draw(st.booleans()):
        return subnet, None
    length6 = draw(st.sampled_from([64, 64, 63]))
    low6 = (0xFD00 << 112) + (draw(st.integers(0, 7)) << 64)
    return subnet, IPv6Network((low6 >> 128 - length6 << 128 - length6, length6))


@st.composite
def leases(draw: st.DrawFn) -> Lease:
    subnet, subnet6 = draw(subnets())
    node = draw(st.integers(1, 6))
    published = dual_attrs(node) if subnet6 is not None else attrs(node)
    if draw(st.integers(0, 3)) == 0:
        published = replace(published, public_ip=IPv4Address(0xAC1F0063))
    return Lease(key=key_of(subnet, subnet6), subnet=subnet, subnet6=subnet6, attrs=published)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Lease], list[Event]]:
    """Records of a first snapshot, and what happened after it, revision by revision."""
    first = {made.key: made for made in draw(st.lists(leases(), max_size=8))}
    state = {
        key: replace(made, create_revision=number + 5, mod_revision=number + 5)
        for number, (key, made) in enumerate(first.items())
    }
    start = list(state.values())
    keys: dict[PeerKey, Lease] = dict(state)
    events: list[Event] = []
    for revision in range(START + 1, START + 1 + draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["put", "put", "delete", "damage"]))
        if kind == "put" or not keys:
            made = draw(leases())
            known = keys.get(made.key)
            created = revision if known is None else known.create_revision
            made = replace(made, create_revision=created, mod_revision=revision)
            keys[made.key] = made
            events.append(Put(lease=made))
        else:
            key = draw(st.sampled_from(sorted(keys)))
            del keys[key]
            if kind == "delete":
                events.append(Delete(key=key, revision=revision))
            else:
                record = Malformed(key=key, reason="broken", mod_revision=revision)
                events.append(PutMalformed(record=record))
    return start, events


def outcome(start: Sequence[Lease], events: Sequence[Event]) -> dict[PeerKey, Lease]:
    """The records that the store holds in the end."""
    records = {made.key: made for made in start}
    for event in events:
        if isinstance(event, Put):
            records[event.lease.key] = event.lease
        else:
            records.pop(event.record.key if isinstance(event, PutMalformed) else event.key, None)
    return records


def fresh_table() -> LeaseTable:
    made = LeaseTable(grace=0)
    made.set_config(DUAL_CONFIG)
    made.set_own(OwnNode.of(OWN.attrs, OWN))
    return made


def accepted(made: LeaseTable) -> dict[PeerKey, Lease]:
    made.expire(0)
    return dict(made.peers)


@settings(max_examples=300, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(
    history: tuple[list[Lease], list[Event]], random: Random
) -> None:
    start, events = history
    final = fresh_table()
    final.apply(snapshot(*outcome(start, events).values(), rev=START + 50), 0)
    shuffled = [*events, *events]
    random.shuffle(shuffled)
    for order in (events, shuffled):
        made = fresh_table()
        made.apply(snapshot(*start, rev=START), 0)
        seen = dict(made.peers)
        for event in order:
            changed = made.apply(event, 0)
            now = dict(made.peers)
            moved = {
                key
                for key in seen.keys() | now.keys()
                if _plain(seen.get(key)) != _plain(now.get(key))
            }
            assert changed == moved
            seen = now
        # Both kinds of damage end alike once the grace time is over.
        assert accepted(made) == accepted(final)


def _plain(made: Lease | None) -> object:
    return made and (made.subnet, made.subnet6, made.attrs)


@settings(max_examples=300, deadline=None)
@given(histories())
def test_what_is_accepted_is_what_the_plain_rules_accept(
    history: tuple[list[Lease], list[Event]],
) -> None:
    start, events = history
    made = fresh_table()
    made.apply(snapshot(*start, rev=START), 0)
    for event in events:
        made.apply(event, 0)
    records = outcome(start, events)
    assert accepted(made) == plainly_accepted(records)
    assert OWN.key not in made.peers
    # Who is not accepted in full is named, and nobody else.
    damaged = {event.record.key for event in events if isinstance(event, PutMalformed)}
    partly = {key for key, one in records.items() if made.peers.get(key) != one} - {OWN.key}
    assert partly <= set(made.quarantine.reasons()) <= partly | damaged


def plainly_accepted(records: dict[PeerKey, Lease]) -> dict[PeerKey, Lease]:
    halves4 = _holders(records, lambda one: one.subnet, 4)
    halves6 = _holders(records, lambda one: one.subnet6, 6)
    return {
        key: replace(
            one,
            subnet=one.subnet if key in halves4 else None,
            subnet6=one.subnet6 if key in halves6 else None,
        )
        for key, one in records.items()
        if key in halves4 or key in halves6
    }


def _holders(records: dict[PeerKey, Lease], half: object, version: int) -> set[PeerKey]:
    assert callable(half)
    holders: list[Lease] = []
    for one in sorted(records.values(), key=lambda one: (one.create_revision, one.key)):
        net, own_net = half(one), half(OWN)
        network = DUAL_CONFIG.network if version == 4 else DUAL_CONFIG.network6
        mine, data = _ends(one, version), _ends(OWN, version)
        if (
            net is None
            or one.key == OWN.key
            or not net.subnet_of(network)
            or net.overlaps(own_net)
            or mine[1] == data[1]
            or one.attrs.public_ip == OWN.attrs.public_ip
            or one.attrs.public_ipv6 == OWN.attrs.public_ipv6
        ):
            continue
        if any(
            net.overlaps(half(other))
            or (_ends(other, version)[1] == mine[1] and _ends(other, version)[0] != mine[0])
            for other in holders
        ):
            continue
        holders.append(one)
    return {one.key for one in holders}


def _ends(one: Lease, version: int) -> tuple[object, object]:
    if version == 4:
        return one.attrs.public_ip, one.attrs.backend_data
    return one.attrs.public_ipv6, one.attrs.backend_v6_data


@settings(max_examples=200, deadline=None)
@given(st.lists(leases(), max_size=8), st.lists(leases(), max_size=8), st.integers(1, 99))
def test_a_wiped_store_takes_no_peer_but_by_an_overlapping_lease(
    before: list[Lease], after: list[Lease], revision: int
) -> None:
    made = LeaseTable(grace=300)
    made.set_config(DUAL_CONFIG)
    made.apply(snapshot(*_numbered(before), rev=START), 0)
    good = dict(made.peers)
    written = _numbered(after)
    made.apply(snapshot(*written, rev=revision), 0)
    kept = made.peers
    for key, one in good.items():
        opposed = any(_contend(one, other) for other in written)
        assert key in kept or opposed
    made.expire(300)
    alone = LeaseTable()
    alone.set_config(DUAL_CONFIG)
    alone.apply(snapshot(*written, rev=revision), 0)
    assert dict(made.peers) == dict(alone.peers)


def _numbered(made: list[Lease]) -> list[Lease]:
    unique = {one.key: one for one in made}.values()
    return [
        replace(one, create_revision=number + 1, mod_revision=number + 1)
        for number, one in enumerate(unique)
    ]


def _contend(one: Lease, other: Lease) -> bool:
    return (
        (one.subnet and other.subnet and one.subnet.overlaps(other.subnet))
        or (one.subnet6 and other.subnet6 and one.subnet6.overlaps(other.subnet6))
        or one.attrs.backend_data == other.attrs.backend_data
        or (
            one.attrs.backend_v6_data is not None
            and one.attrs.backend_v6_data == other.attrs.backend_v6_data
        )
    )
