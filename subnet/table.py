"""LeaseTable: folds what the store says into the peers that can be believed.

It knows every record, excludes our own, quarantines with a reason what is malformed, hostile or
in conflict, and says after each event whose accepted lease changed. It does not talk to a store,
does not know the kernel, and takes the time as an argument. Pure.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

from subnet.claims import Claim, FamilyClaims
from subnet.identity import KnownStore, difference
from subnet.judgement import Half, Judgement, OwnNode
from subnet.model import (
    ConfigChanged,
    Delete,
    Lease,
    LeaseEvent,
    Malformed,
    NetworkConfig,
    PeerKey,
    Put,
    PutMalformed,
    Snapshot,
)
from subnet.quarantine import Quarantine
from subnet.revisions import Revisions

GRACE = 300.0
"""Seconds for which peers that a new store lacks are kept, so that their nodes can come back."""

NOBODY: frozenset[PeerKey] = frozenset()


class LeaseTable:
    """The leases of all nodes. See the module's text."""

    def __init__(self, *, grace: float = GRACE, known: KnownStore | None = None) -> None:
        self._grace = grace
        self._config: NetworkConfig | None = None
        self._own = OwnNode()
        self._judgement = Judgement(None, self._own)
        self._known = known
        self._revisions = Revisions()
        self._records: dict[PeerKey, Lease] = {}
        self._malformed: dict[PeerKey, Malformed] = {}
        self._held: dict[PeerKey, float] = {}
        self._claims = FamilyClaims(32)
        self._claims6 = FamilyClaims(128)
        # What follows from the above, kept so that one event costs one peer's work.
        self._peers: dict[PeerKey, Lease] = {}
        self._rivals: set[PeerKey] = set()
        self._faults: dict[PeerKey, str] = {}
        self._quarantine = Quarantine()
        self.new_store = ""
        """Why the last snapshot came from another store than the one before; else empty."""

    # What is known

    @property
    def peers(self) -> Mapping[PeerKey, Lease]:
        """The accepted leases of other nodes, with only those halves that are in use."""
        return MappingProxyType(self._peers)

    def peer(self, key: PeerKey) -> Lease | None:
        """One accepted peer."""
        return self._peers.get(key)

    @property
    def quarantine(self) -> Quarantine:
        """Which records are refused, in whole or in one half, and why."""
        return self._quarantine

    def record(self, key: PeerKey) -> Lease | None:
        """What the store holds under a key, accepted or not, ours or not; None if it is held."""
        return None if key in self._held else self._records.get(key)

    def records(self) -> Collection[Lease]:
        """All leases, accepted or not, our own and the held ones included."""
        return self._records.values()

    def malformed(self, key: PeerKey) -> Malformed | None:
        """The record under a key if it is no lease."""
        return self._malformed.get(key)

    def rivals(self) -> list[Lease]:
        """The leases in the store that overlap our own subnets (`set_own`)."""
        return [self._records[key] for key in sorted(self._rivals) if key not in self._held]

    def held(self) -> Mapping[PeerKey, float]:
        """Peers that the store lacks but that are kept, and until when."""
        return MappingProxyType(self._held)

    def next_expiry(self) -> float | None:
        """When `expire` has something to do."""
        return min(self._held.values(), default=None)

    @property
    def own(self) -> OwnNode:
        """What was said to be ours."""
        return self._own

    @property
    def has_snapshot(self) -> bool:
        """Whether the store has told everything once."""
        return self._revisions.any_snapshot

    @property
    def revision(self) -> int:
        """The newest revision seen."""
        return self._revisions.newest

    @property
    def exact_revision(self) -> int | None:
        """The revision up to which everything is known; None while events may be outstanding."""
        return self._revisions.exact

    def known_store(self) -> KnownStore | None:
        """The store as we know it now, to be recognised by; None before anything is known."""
        if self._known is None or not self.has_snapshot:
            return self._known
        own = None if self._own.key is None else self.record(self._own.key)
        if own is None:
            return KnownStore(identity=replace(self._known.identity, revision=self.revision))
        return KnownStore(
            identity=replace(self._known.identity, revision=self.revision),
            own_key=own.key,
            own_create_revision=own.create_revision,
        )

    # What is ours, and what the network is

    def set_own(self, own: OwnNode) -> frozenset[PeerKey]:
        """Say what is ours; the peers that this changed."""
        if own == self._own:
            return NOBODY
        self._own = own
        return self._rejudge()

    def set_config(self, config: NetworkConfig | None) -> frozenset[PeerKey]:
        """Say which families and networks there are; the peers that this changed."""
        if config == self._config:
            return NOBODY
        self._config = config
        return self._rejudge()

    def _rejudge(self) -> frozenset[PeerKey]:
        self._judgement = Judgement(self._config, self._own)
        for lease in self._records.values():
            self._judge(lease)
        return self._settle(self._records)

    # What the store says

    def apply(self, event: LeaseEvent, now: float) -> frozenset[PeerKey]:
        """Fold an event; the peers whose accepted lease changed, in whatever way."""
        match event:
            case Snapshot():
                return self._settle(self._fold_snapshot(event, now))
            case Put() if self._is_news(event.lease.key, event.lease.mod_revision):
                self._store(event.lease)
                return self._settle((event.lease.key,))
            case PutMalformed() if self._is_news(event.record.key, event.record.mod_revision):
                self._store_malformed(event.record, now)
                return self._settle((event.record.key,))
            case Delete() if self._is_news(event.key, event.revision):
                self._revisions.deleted(event.key, event.revision)
                self._malformed.pop(event.key, None)
                self._drop(event.key)
                return self._settle((event.key,))
            case ConfigChanged() if self._known is not None:
                created = 0 if event.config is None else event.config.create_revision
                identity = replace(self._known.identity, config_create_revision=created)
                self._known = replace(self._known, identity=identity)
        return NOBODY

    def expire(self, now: float) -> frozenset[PeerKey]:
        """Let go of the held peers whose time has come."""
        gone = [key for key, until in self._held.items() if until <= now]
        for key in gone:
            self._drop(key)
        return self._settle(gone)

    def _is_news(self, key: PeerKey, revision: int) -> bool:
        known = 0
        if (record := self.record(key)) is not None:
            known = record.mod_revision
        elif (malformed := self._malformed.get(key)) is not None:
            known = malformed.mod_revision
        return self._revisions.is_news(key, revision, known)

    def _fold_snapshot(self, snapshot: Snapshot, now: float) -> set[PeerKey]:
        known = self.known_store()
        self.new_store = "" if known is None else difference(known, snapshot)
        self._known = KnownStore(identity=snapshot.identity)
        self._revisions.snapshot(snapshot.identity.revision)
        touched = self._miss(snapshot, now)
        for lease in snapshot.leases:
            if lease.key in self._held or self._records.get(lease.key) != lease:
                self._store(lease)
                touched.add(lease.key)
        for record in snapshot.malformed:
            self._store_malformed(record, now)
            touched.add(record.key)
        return touched

    def _miss(self, snapshot: Snapshot, now: float) -> set[PeerKey]:
        """Let go of, or hold, what a snapshot lacks."""
        touched = set(self._malformed)
        self._malformed.clear()
        present = {lease.key for lease in snapshot.leases}
        present.update(record.key for record in snapshot.malformed)
        for key in self._records.keys() - present:
            if self.new_store:
                self._hold(key, now)
            elif key not in self._held:
                self._drop(key)
            touched.add(key)
        return touched

    # Records, and what is wrong with each

    def _store(self, lease: Lease) -> None:
        self._held.pop(lease.key, None)
        self._malformed.pop(lease.key, None)
        self._records[lease.key] = lease
        self._judge(lease)

    def _store_malformed(self, record: Malformed, now: float) -> None:
        # A damaged record says nothing about its node: the lease is kept for a while, as if the
        # store lacked it, so that the node can write it anew.
        if record.key in self._records:
            self._hold(record.key, now)
        self._malformed[record.key] = record

    def _hold(self, key: PeerKey, now: float) -> None:
        if key not in self._peers:
            self._drop(key)
        elif key not in self._held:
            self._held[key] = now + self._grace
            # Only the halves that were accepted: what is held contends with nothing else held.
            self._records[key] = self._peers[key]
            self._judge(self._records[key])

    def _drop(self, key: PeerKey) -> None:
        self._records.pop(key, None)
        self._held.pop(key, None)
        self._exonerate(key)

    def _exonerate(self, key: PeerKey) -> None:
        self._faults.pop(key, None)
        self._rivals.discard(key)
        self._claims.drop(key)
        self._claims6.drop(key)

    def _judge(self, lease: Lease) -> None:
        """Find what is wrong with the lease itself; what is right becomes a claim."""
        key = lease.key
        if key == self._own.key:
            self._exonerate(key)
            return
        verdict = self._judgement.judge(lease)
        self._claim(self._claims, lease, verdict.half)
        self._claim(self._claims6, lease, verdict.half6)
        if verdict.fault:
            # Equal texts are one: there may be very many.
            self._faults[key] = sys.intern(verdict.fault)
        else:
            self._faults.pop(key, None)
        if verdict.rival:
            self._rivals.add(key)
        else:
            self._rivals.discard(key)

    def _claim(self, claims: FamilyClaims, lease: Lease, half: Half | None) -> None:
        if half is None:
            claims.drop(lease.key)
            return
        claims.put(
            Claim(
                key=lease.key,
                created=lease.create_revision,
                held=lease.key in self._held,
                prefix=half.prefix,
                mac=half.mac,
                node=half.node,
            )
        )

    # What follows

    def _settle(self, touched: Collection[PeerKey]) -> frozenset[PeerKey]:
        """Resolve the claims, and compare what is accepted now with what was."""
        judged = self._claims.resolve() | self._claims6.resolve()
        changed: set[PeerKey] = set()
        winners: dict[tuple[PeerKey, bool, int], str] = {}
        for key in judged.union(touched):
            before, after = self._peers.get(key), self._accepted(key)
            if after is not None:
                self._peers[key] = after
            elif before is not None:
                del self._peers[key]
            if not _mean_the_same(before, after):
                changed.add(key)
            self._quarantine.put(key, self._reason(key, winners))
        return frozenset(changed)

    def _accepted(self, key: PeerKey) -> Lease | None:
        """The lease with the halves that hold; None if none does."""
        lease = self._records.get(key)
        if lease is None:
            return None
        subnet = lease.subnet if _holds(self._claims.get(key)) else None
        subnet6 = lease.subnet6 if _holds(self._claims6.get(key)) else None
        if subnet is None and subnet6 is None:
            return None
        if subnet is lease.subnet and subnet6 is lease.subnet6:
            return lease
        return replace(lease, subnet=subnet, subnet6=subnet6)

    def _reason(self, key: PeerKey, known: dict[tuple[PeerKey, bool, int], str]) -> str:
        reasons = []
        if (malformed := self._malformed.get(key)) is not None:
            reasons.append(malformed.reason)
        if (fault := self._faults.get(key)) is not None:
            reasons.append(fault)
        for claims, version in ((self._claims, 4), (self._claims6, 6)):
            claim = claims.get(key)
            if claim is not None and claim.winner is not None:
                case = claim.winner, claim.by_mac, version
                if case not in known:
                    known[case] = self._lost_to(*case)
                reasons.append(known[case])
        return ", and ".join(reasons)

    def _lost_to(self, winner_key: PeerKey, by_mac: bool, version: int) -> str:
        winner = self._records[winner_key]
        net = winner.subnet if version == 4 else winner.subnet6
        address = winner.attrs.public_ip if version == 4 else winner.attrs.public_ipv6
        what = "its MAC is held by" if by_mac else "its subnet overlaps"
        return f"{what} the older lease {net} of {address}"


def _holds(claim: Claim | None) -> bool:
    return claim is not None and claim.winner is None


def _mean_the_same(before: Lease | None, after: Lease | None) -> bool:
    """Whether nothing changed for whoever sends to the peer: a renewal only moves revisions."""
    if before is after:
        return True
    if before is None or after is None:
        return False
    return (
        before.attrs == after.attrs
        and before.subnet == after.subnet
        and before.subnet6 == after.subnet6
    )
