from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from subnet.acquisition import Claim
from subnet.errors import StoreUnavailable
from subnet.intents import CreateLease, DeleteLease, Phase, Relist, UpdateLease, Wait
from subnet.keeper import Answer, LeaseKeeper
from subnet.model import Delete, Lease, Put, Snapshot
from subnet.store import Conflict
from subnet.table import LeaseTable
from tests.leases import CONFIG, attrs, key_of, lease, snapshot

CLAIM = Claim(config=CONFIG, attrs=attrs(1), ttl=600)


class Desk:
    """A keeper with its table, driven by hand."""

    def __init__(self) -> None:
        self.table = LeaseTable()
        self.table.set_config(CONFIG)
        self.keeper = LeaseKeeper(table=self.table, key_of=key_of, random=Random(1))

    def tell(self, event: Snapshot | Put | Delete) -> None:
        self.table.apply(event, 0)

    def answer(
        self, intent: CreateLease | UpdateLease | DeleteLease | Relist, what: Answer, now: float = 0
    ) -> None:
        for event in self.keeper.done(intent, what, now):
            self.table.apply(event, now)
        self.table.set_own(self.keeper.own)

    def create(self, now: float = 0) -> CreateLease:
        intent = self.keeper.step(now)
        assert isinstance(intent, CreateLease)
        return intent


def created(intent: CreateLease, rev: int) -> Lease:
    return Lease(
        key=key_of(intent.subnet, intent.subnet6),
        subnet=intent.subnet,
        subnet6=intent.subnet6,
        attrs=intent.attrs,
        create_revision=rev,
        mod_revision=rev,
        lease_id=5,
    )


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.keeper.claim(CLAIM)
    made.tell(snapshot(rev=100))
    return made


def test_nothing_is_asked_for_without_a_claim_or_before_the_store_answered() -> None:
    made = Desk()
    assert made.keeper.step(0) == Wait(until=None)
    assert made.keeper.state.phase is Phase.UNCLAIMED
    with pytest.raises(RuntimeError):
        made.keeper.publish(attrs(2))
    made.keeper.claim(CLAIM)
    assert made.keeper.step(0) == Wait(until=None)
    assert made.keeper.state.reason == "the store has not answered yet"


def test_one_request_at_a_time(desk: Desk) -> None:
    intent = desk.create()
    assert intent.not_after == 100
    assert desk.keeper.step(0) == Wait(until=None)
    desk.answer(intent, created(intent, 101))
    assert isinstance(desk.keeper.step(0), Wait)
    assert desk.keeper.state.phase is Phase.HELD


def test_after_an_event_the_list_is_read_before_a_subnet_is_chosen(desk: Desk) -> None:
    desk.tell(Put(lease=lease("10.244.9.0/24", node=9, rev=101)))
    intent = desk.keeper.step(0)
    assert intent == Relist()
    assert isinstance(intent, Relist)
    desk.answer(intent, snapshot(lease("10.244.9.0/24", node=9, rev=101), rev=102))
    assert desk.create().not_after == 102


def test_a_lost_race_is_run_again_later_and_later(desk: Desk) -> None:
    now, pauses = 0.0, []
    for revision in range(101, 111):
        intent = desk.create(now)
        desk.answer(intent, Conflict(current=None, reason="too late"), now)
        wait = desk.keeper.step(now)
        assert isinstance(wait, Wait)
        assert wait.until is not None
        pauses.append(wait.until - now)
        now = wait.until
        again = desk.keeper.step(now)
        assert isinstance(again, Relist)
        desk.answer(again, snapshot(rev=revision), now)
    assert pauses[0] < 0.06
    assert 2.5 <= max(pauses) <= 5


def test_a_list_older_than_the_watch_takes_nothing_away(desk: Desk) -> None:
    desk.tell(Put(lease=lease("10.244.9.0/24", node=9, rev=105)))
    intent = desk.keeper.step(0)
    assert isinstance(intent, Relist)
    assert desk.keeper.done(intent, snapshot(rev=104), 0) == ()
    assert len(desk.table.peers) == 1
    wait = desk.keeper.step(0)
    assert isinstance(wait, Wait)
    assert wait.until is not None
    assert desk.keeper.step(wait.until) == Relist()


def test_what_was_created_in_a_store_that_just_lost_its_data_is_taken_back(desk: Desk) -> None:
    intent = desk.create()
    # Its revision is not beyond the list's: the comparison was with another store's leases.
    lost = created(intent, 5)
    desk.answer(intent, lost)
    assert desk.keeper.state.lease is None
    undo = desk.keeper.step(0)
    assert undo == DeleteLease(lease=lost)
    assert isinstance(undo, DeleteLease)
    desk.answer(undo, True)
    assert desk.keeper.step(0) == Relist()


def test_the_renewal_is_due_at_the_smaller_of_margin_and_a_third() -> None:
    assert CLAIM.margin == 200
    assert replace(CLAIM, ttl=86400).margin == 3600
    assert replace(CLAIM, ttl=86400, renew_margin=60).margin == 60


def test_the_end_of_a_lease_counts_from_when_it_was_asked_for(desk: Desk) -> None:
    intent = desk.create(50)
    desk.keeper.done(intent, created(intent, 101), 58)
    desk.tell(Put(lease=created(intent, 101)))
    desk.table.set_own(desk.keeper.own)
    wait = desk.keeper.step(58)
    state = desk.keeper.state
    assert state.expires_at == 650
    assert isinstance(wait, Wait)
    assert wait.until == state.renew_at
    assert state.renew_at is not None
    assert 430 <= state.renew_at <= 450


def test_a_store_that_is_back_is_asked_at_once(desk: Desk) -> None:
    error = StoreUnavailable(source="memory", reason="away")
    now = 0.0
    for _ in range(10):
        wait = desk.keeper.step(now)
        while isinstance(wait, Wait):
            assert wait.until is not None
            now = wait.until
            wait = desk.keeper.step(now)
        desk.keeper.failed(wait, error, now)
    wait = desk.keeper.step(now)
    assert isinstance(wait, Wait)
    assert wait.until is not None
    assert 1.5 <= wait.until - now <= 3
    assert desk.keeper.state.failures == 10
    desk.keeper.store_answers(now)
    assert isinstance(desk.keeper.step(now + 0.5), Relist)


def test_a_record_created_by_another_node_under_our_key_is_a_lost_subnet(desk: Desk) -> None:
    intent = desk.create()
    ours = created(intent, 101)
    desk.answer(intent, ours)
    desk.tell(Delete(key=ours.key, revision=110))
    theirs = replace(ours, attrs=attrs(7), create_revision=111, mod_revision=111)
    desk.tell(Put(lease=theirs))
    assert desk.keeper.step(0) == Wait(until=None)
    assert desk.keeper.state.phase is Phase.LOST
    assert "is now held by 172.31.0.7" in desk.keeper.state.reason
    assert not desk.table.peers
