"""LeaseKeeper: the life of our lease (acquire, renew, lost, taken over) as a state machine.

`step` says what is to be done on the store, `done` and `failed` take the answer. What the store
holds is read from the table, into which the caller folds every event and every answer; the keeper
itself only remembers what is ours. It never steals a subnet, never changes it while it runs, and
never writes over another node's record. Without I/O; time and randomness are arguments. Pure.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace
from typing import Protocol

from subnet import allocate
from subnet.acquisition import Acquisition, Claim, KeyOf, plan_acquisition
from subnet.backoff import Backoff
from subnet.errors import OutOfSubnetsError, StoreDenied, StoreError
from subnet.intents import (
    CreateLease,
    DeleteLease,
    Intent,
    KeeperState,
    Phase,
    Relist,
    UpdateLease,
    Wait,
)
from subnet.judgement import OwnNode
from subnet.model import Lease, LeaseAttrs, LeaseEvent, PeerKey, Put, Snapshot
from subnet.ownership import foreign_writer
from subnet.store import Conflict
from subnet.table import LeaseTable

_log = logging.getLogger(__name__)

_URGENT_CAP = 3.0
"""Seconds. While we have no record, a store that is back is to be noticed soon."""
_RENEWAL_CAP = 30.0
"""Seconds; a renewal has time, as it begins long before the end."""
_RACE_CAP = 5.0
"""Seconds. Longest pause after a lost race, so that many nodes spread out."""
_DENIED_CAP = 60.0
"""Seconds. A person has to act first."""
_REWRITE_CAP = 60.0
"""Seconds. Somebody beside us who keeps rewriting our record gets ever rarer answers."""


class Randomness(allocate.RandomSource, Protocol):
    """What is asked of `random.Random`."""

    def random(self) -> float:
        """A number from 0 up to, not including, 1."""
        ...


Answer = Lease | Conflict | bool | Snapshot


class LeaseKeeper:
    """The life of one lease. See the module's text.

    Between an intent and its answer `step` returns `Wait`. The caller folds what `done` returns
    into the table, and tells the table `own`, before the next `step`.
    """

    def __init__(self, *, table: LeaseTable, key_of: KeyOf, random: Randomness) -> None:
        self._table = table
        self._key_of = key_of
        self._random = random
        self._claim: Claim | None = None
        self._lease: Lease | None = None
        self._expires_at: float | None = None
        self._renew_at: float | None = None
        self._rewrite_at = 0.0
        self._superseded: dict[PeerKey, Lease] = {}
        self._acquisition = Acquisition()
        # A write whose answer was lost may be seen much later.
        self._attempted: deque[LeaseAttrs] = deque(maxlen=8)
        self._undo: Lease | None = None
        self._pending: Intent | None = None
        self._issued_at = 0.0
        self._stale = False
        self._refresh = False
        self._error, self._failed = "", 0
        self._retry_at = 0.0
        self._failures = Backoff(random, base=0.5)
        # Wrong credentials are not mended by asking often.
        self._denials = Backoff(random, base=5.0)
        self._races = Backoff(random, base=0.05)
        self._rewrites = Backoff(random, base=1.0)
        self._state = KeeperState()

    @property
    def state(self) -> KeeperState:
        """How things stood at the last `step`."""
        return self._state

    @property
    def own(self) -> OwnNode:
        """What the table has to take for ours."""
        if self._claim is None:
            return OwnNode()
        return OwnNode.of(self._claim.attrs, self._lease)

    def claim(self, claim: Claim) -> None:
        """Ask for a lease; with one in hand only what is published, and when, can change."""
        self._claim = claim

    def publish(self, attrs: LeaseAttrs) -> None:
        """Publish other attributes: another address, another MAC."""
        if self._claim is None:
            raise RuntimeError("publish() before claim()")
        self._claim = replace(self._claim, attrs=attrs)

    def store_answers(self, now: float) -> None:
        """The store is back: do not sit out a long pause."""
        if self._error:
            self._retry_at = min(self._retry_at, now + 0.5 * self._random.random())

    # What to do next

    def step(self, now: float) -> Intent:
        """What is to be done now. `Wait` ends with the next event, or at its time."""
        claim = self._claim
        if self._pending is not None or claim is None:
            return Wait(until=None)
        if not self._table.has_snapshot:
            self._say(Phase.ACQUIRING, now, self._error or "the store has not answered yet")
            return Wait(until=None)
        if self._undo is not None:
            intent: Intent = DeleteLease(lease=self._undo)
        elif self._lease is None:
            intent = self._acquire(claim, now)
        else:
            intent = self._keep(claim, self._lease, now)
        if isinstance(intent, Wait):
            return intent
        if now < self._retry_at:
            return Wait(until=self._retry_at)
        if isinstance(intent, CreateLease | UpdateLease):
            self._attempted.append(intent.attrs)
        self._pending = intent
        self._issued_at = now
        return intent

    def _acquire(self, claim: Claim, now: float) -> Intent:
        self._say(Phase.ACQUIRING, now, self._error or "no lease yet")
        if now < self._retry_at:
            return Wait(until=self._retry_at)
        if self._stale or self._table.exact_revision is None:
            return self._relist()
        try:
            plan = plan_acquisition(claim, self._table, self._key_of, self._random)
        except OutOfSubnetsError as error:
            self._error = str(error)
            self._retry_at = now + self._failures.next(_RENEWAL_CAP)
            _log.warning("no lease, will retry error=%s", error)
            self._say(Phase.ACQUIRING, now, self._error)
            return Wait(until=self._retry_at)
        self._acquisition = plan
        if plan.reuse is None:
            return CreateLease(
                subnet=plan.subnet,
                subnet6=plan.subnet6,
                attrs=claim.attrs,
                ttl=claim.ttl,
                not_after=self._table.exact_revision,
            )
        return UpdateLease(lease=plan.reuse, attrs=claim.attrs, ttl=claim.ttl)

    def _keep(self, claim: Claim, lease: Lease, now: float) -> Intent:
        record = self._table.record(lease.key)
        if record is None:
            return self._reclaim(claim, lease, now)
        if writer := foreign_writer(record, lease.attrs, *self._attempted, claim.attrs):
            if record.create_revision == lease.create_revision:
                text = f"{lease.key} is overwritten by another node: {writer}"
                self._say(Phase.CONFLICT, now, text)
            else:
                self._say(Phase.LOST, now, self._given_away(lease, record))
            return Wait(until=None)
        if record != lease:
            self._adopt(claim, record, now)
            lease = record
        self._say(Phase.HELD, now, self._complaint(claim, lease, now))
        if self._stale:
            return self._relist()
        for earlier in list(self._superseded.values()):
            current = self._table.record(earlier.key)
            if current is not None and current.attrs == earlier.attrs:
                return DeleteLease(lease=current)
            del self._superseded[earlier.key]
        if lease.attrs != claim.attrs and now < self._rewrite_at:
            return Wait(until=self._rewrite_at)
        due = self._renew_at is not None and now >= self._renew_at
        if due:
            self._rewrites.reset()
        if due or self._refresh or lease.attrs != claim.attrs:
            return UpdateLease(lease=lease, attrs=claim.attrs, ttl=claim.ttl)
        return Wait(until=self._renew_at)

    def _reclaim(self, claim: Claim, lease: Lease, now: float) -> Intent:
        """The store does not hold our record: get the same subnets again if nobody has them."""
        rivals = [one for one in self._table.rivals() if one.key not in self._superseded]
        if rivals:
            self._say(Phase.LOST, now, self._given_away(lease, rivals[0]))
            return Wait(until=None)
        damaged = self._table.malformed(lease.key)
        why = "is gone from the store" if damaged is None else "is damaged in the store"
        error = f" ({self._error})" if self._error else ""
        self._say(Phase.LOST, now, f"our record {lease.key} {why}{error}")
        if damaged is not None:
            broken = replace(lease, mod_revision=damaged.mod_revision)
            return UpdateLease(lease=broken, attrs=claim.attrs, ttl=claim.ttl)
        if self._stale or self._table.exact_revision is None:
            return self._relist()
        return CreateLease(
            subnet=lease.subnet,
            subnet6=lease.subnet6,
            attrs=claim.attrs,
            ttl=claim.ttl,
            not_after=self._table.exact_revision,
        )

    def _relist(self) -> Relist:
        self._stale = True
        return Relist()

    def _adopt(self, claim: Claim, record: Lease, now: float) -> None:
        """The record was written by somebody who is us, such as flanneld on this node."""
        self._lease = record
        if record.lease_id == 0:
            self._expires_at = self._renew_at = None
        else:
            # When it ends is not known; a renewal of our own makes it known.
            self._expires_at = now + claim.ttl
            self._renew_at = now + self._random.random() * min(60.0, claim.margin)
        if record.attrs != claim.attrs:
            self._rewrite_at = now + self._rewrites.next(_REWRITE_CAP)

    # What came of it

    def done(self, intent: Intent, answer: Answer, now: float) -> tuple[LeaseEvent, ...]:
        """Take the store's answer; what it tells is to be folded into the table."""
        self._pending = None
        if not isinstance(answer, Snapshot):
            # Being able to read says nothing about being able to write.
            self._error, self._failed = "", 0
            self._failures.reset()
            self._denials.reset()
        match answer:
            case Lease() if isinstance(intent, CreateLease) and (
                answer.create_revision <= intent.not_after
            ):
                # The store lost its data since we looked, so nothing was compared with anything.
                self._undo = answer
                self._stale = True
            case Lease():
                self._written(answer)
                return (Put(lease=answer),)
            case Conflict():
                # Whoever waits and looks again is different on every node.
                self._retry_at = now + self._races.next(_RACE_CAP)
                if answer.current is None or self._lease is None:
                    self._stale = True
                return () if answer.current is None else (Put(lease=answer.current),)
            case Snapshot():
                if answer.identity.revision < self._table.revision:
                    # The watch is further than this list, or it will soon say that the store was
                    # rolled back. The list alone must not take anything away.
                    self._retry_at = now + self._races.next(_RACE_CAP)
                    return ()
                self._stale = False
                return (answer,)
        if isinstance(intent, DeleteLease) and intent.lease == self._undo:
            self._undo = None
        elif isinstance(intent, DeleteLease):
            self._superseded.pop(intent.lease.key, None)
            # flannel's peers match leases by subnet: to them our subnet is gone with the earlier
            # record, until our own is written once more.
            self._refresh = True
        return ()

    def failed(self, intent: Intent, error: StoreError, now: float) -> None:
        """The store did not answer, or refused."""
        self._pending = None
        self._error = str(error)
        denied = isinstance(error, StoreDenied)
        self._failed += 1
        pause = self._denials.next(_DENIED_CAP) if denied else self._failures.next(self._cap())
        self._retry_at = now + pause
        # A creation without an answer may have been done.
        self._stale = self._stale or isinstance(intent, CreateLease)
        if self._failed & (self._failed - 1) == 0:
            # The 1st, 2nd, 4th, 8th, ... time: never silent, never a flood.
            _log.log(
                logging.ERROR if denied else logging.WARNING,
                "store did not do it, will retry intent=%s failures=%d pause=%.1fs error=%s",
                type(intent).__name__,
                self._failed,
                pause,
                error,
            )

    def _cap(self) -> float:
        """Longest pause between tries, in seconds."""
        if self._claim is None or self._lease is None:
            return _URGENT_CAP
        if self._table.record(self._lease.key) is None:
            return _URGENT_CAP
        return min(_RENEWAL_CAP, self._claim.margin / 4)

    def _written(self, lease: Lease) -> None:
        assert self._claim is not None
        first = self._lease is None
        self._lease = lease
        self._stale = False
        self._refresh = False
        self._races.reset()
        if lease.lease_id == 0:
            self._expires_at = self._renew_at = None
        else:
            # From when it was asked for: the store cannot have counted from earlier.
            margin = self._claim.margin
            self._expires_at = self._issued_at + self._claim.ttl
            # Nodes that started together shall not renew together for ever.
            self._renew_at = self._expires_at - margin * (1 + 0.1 * self._random.random())
        if first:
            self._superseded = {one.key: one for one in self._acquisition.superseded}
            for text in self._acquisition.departures:
                _log.warning("subnet changed lease=%s previous=%s", lease.subnets_text(), text)

    # What people are told

    def _complaint(self, claim: Claim, lease: Lease, now: float) -> str:
        """What is wrong although the store holds our record."""
        if self._expires_at is not None and now >= self._expires_at:
            return f"the lease has expired and could not be renewed: {self._error or 'trying'}"
        if self._error:
            return f"the lease is held, but renewing fails: {self._error}"
        if misfit := allocate.compatible(claim.config, lease.subnet, lease.subnet6):
            return (
                f"the lease {lease.subnets_text()} does not fit the network config any more "
                f"({misfit}); it is kept until the agent starts anew"
            )
        return ""

    def _given_away(self, lease: Lease, to: Lease) -> str:
        owner = to.attrs.public_ip or to.attrs.public_ipv6
        return (
            f"our subnet {lease.subnets_text()} is now held by {owner} with {to.subnets_text()}; "
            "pods keep their addresses, and it is claimed again when that lease goes"
        )

    def _say(self, phase: Phase, now: float, reason: str) -> None:
        alive = self._expires_at is None or now < self._expires_at
        before = self._state
        self._state = KeeperState(
            phase=phase,
            lease=self._lease,
            ready=phase is Phase.HELD and alive,
            reason=reason,
            expires_at=self._expires_at,
            renew_at=self._renew_at,
            failures=self._failed,
        )
        if before.phase is phase:
            return
        if phase is Phase.HELD and self._lease is not None:
            _log.info("lease held subnet=%s key=%s", self._lease.subnets_text(), self._lease.key)
        elif phase in (Phase.LOST, Phase.CONFLICT):
            _log.error("lease %s reason=%s", phase.value, reason)
