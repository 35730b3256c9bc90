"""Which differences show another store. Answers are made as etcd would give them."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from subnet.etcd import messages as m
from subnet.etcd.identity import Fingerprint, OwnRecord
from subnet.etcd.keyspace import Keyspace
from subnet.etcd.listing import Listing
from subnet.model import ConfigRecord, Lease, PeerKey, Snapshot, StoreIdentity

KEYS = Keyspace("/p")
SEEN = 50


def lease(number: int, *, created: int) -> Lease:
    return Lease(
        key=PeerKey(f"/p/subnets/10.1.{number}.0-24"),
        subnet=IPv4Network(f"10.1.{number}.0/24"),
        create_revision=created,
        mod_revision=created,
    )


def fingerprint(
    *leases: Lease, config: tuple[int, int] | None = (2, 9), own: OwnRecord | None = None
) -> Fingerprint:
    record = (
        ConfigRecord(text="{}", create_revision=config[0], mod_revision=config[1])
        if config
        else None
    )
    identity = StoreIdentity(cluster_id=7, revision=SEEN, config_create_revision=2)
    snapshot = Snapshot(leases=leases, config=record, identity=identity)
    return Fingerprint(Listing(snapshot=snapshot, raft_term=3), own or OwnRecord())


def answer(
    *records: tuple[int, int] | None, cluster: int = 7, revision: int = SEEN, term: int = 3
) -> Any:
    made = m.TxnResponse(succeeded=True)
    made.header.cluster_id, made.header.revision, made.header.raft_term = cluster, revision, term
    for record in records:
        found = made.responses.add().response_range
        found.SetInParent()
        if record is not None:
            found.kvs.add(create_revision=record[0], mod_revision=record[1])
    return made


def test_the_same_store_shows_no_difference() -> None:
    known = fingerprint(lease(1, created=5), lease(2, created=4))
    assert known.difference(answer((2, 9), (4, 44)), seen=SEEN) == ""
    assert known.difference(answer((2, 60), (4, 61), revision=90, term=9), seen=SEEN) == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (answer((2, 9), (4, 44), cluster=8), "cluster id"),
        (answer((2, 9), (4, 44), revision=SEEN - 1), "went back from 50 to 49"),
        (answer((2, 9), (4, 44), term=2), "raft term"),
        (answer((3, 9), (4, 44)), "config's create revision is 3, not 2"),
        (answer(None, (4, 44)), "config's create revision is 0, not 2"),
        (answer((2, 8), (4, 44)), "config's revision went back"),
        (answer((2, 9), None, revision=900), "10.1.2.0-24 is 0, not 4"),
        (answer((2, 9), (700, 700), revision=900), "10.1.2.0-24 is 700, not 4"),
    ],
)
def test_another_or_older_store_is_recognised(found: Any, words: str) -> None:
    known = fingerprint(lease(1, created=5), lease(2, created=4))
    assert words in known.difference(found, seen=SEEN)


def test_the_oldest_lease_is_asked_for_until_there_is_one_of_our_own() -> None:
    own = OwnRecord()
    known = fingerprint(lease(1, created=5), lease(2, created=4), own=own)

    def asked() -> bytes:
        return bytes(known.question(KEYS).success[1].request_range.key)

    assert asked() == b"/p/subnets/10.1.2.0-24"
    own.key, own.create_revision = b"/p/subnets/10.1.9.0-24", 40
    assert asked() == b"/p/subnets/10.1.9.0-24"
    assert known.difference(answer((2, 9), (40, 41)), seen=SEEN) == ""
    assert "is 4, not 40" in known.difference(answer((2, 9), (4, 4)), seen=SEEN)


@pytest.mark.parametrize(
    ("written", "leases", "asked"),
    [
        (4, (lease(9, created=4),), (b"/p/subnets/10.1.9.0-24", 4)),
        (4, (lease(9, created=30),), (b"/p/subnets/10.1.9.0-24", 30)),  # it was re-created
        (4, (), (b"", 0)),  # it is gone, and not missed again at each reconnect
        (SEEN + 1, (), (b"/p/subnets/10.1.9.0-24", SEEN + 1)),  # created after the list
    ],
)
def test_a_list_says_what_became_of_our_own_record(
    written: int, leases: tuple[Lease, ...], asked: tuple[bytes, int]
) -> None:
    own = OwnRecord(b"/p/subnets/10.1.9.0-24", written)
    fingerprint(*leases, own=own)
    assert (own.key, own.create_revision if own.key else 0) == asked


def test_what_the_watch_told_is_no_difference_later() -> None:
    own = OwnRecord(b"/p/subnets/10.1.9.0-24", 40)
    known = fingerprint(own=own)
    known.note_delete(own.key)
    assert own.key == b""
    assert len(known.question(KEYS).success) == 1
    assert known.difference(answer((2, 9)), seen=SEEN) == ""
    known.note_config(None)
    assert known.difference(answer(None), seen=SEEN) == ""
    known.note_put(b"/p/subnets/10.1.3.0-24", 55)
    assert known.difference(answer(None, (55, 58), revision=60), seen=58) == ""


def test_a_config_that_appeared_after_all_we_saw_is_left_to_the_watch() -> None:
    known = fingerprint(config=None)
    assert known.difference(answer((60, 60), revision=60), seen=SEEN) == ""
    assert known.difference(answer((30, 30), revision=60), seen=SEEN) != ""
