"""FamilyClaims: which leases hold what they claim in one address family.

A claim is a prefix and a MAC at a node address. Of two claims that exclude each other the older
one holds, and a claim that loses excludes nobody: the claims that hold are found by going through
all of them from the oldest on. A change touches only what overlaps it. Knows no events and no
network config. Pure.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from subnet.model import PeerKey
from subnet.prefixindex import MultiMap, PrefixIndex


class Claim:
    """What one lease claims in one family; mutable only in whether it holds."""

    __slots__ = ("by_mac", "created", "held", "key", "mac", "node", "prefix", "winner")

    def __init__(
        self, *, key: PeerKey, created: int, held: bool, prefix: int, mac: bytes | None, node: int
    ) -> None:
        self.key = key
        self.created = created
        """Create revision: the older claim wins."""
        self.held = held
        """Missing from a new store, kept for a while: loses against every claim that is not."""
        self.prefix = prefix
        self.mac = mac
        self.node = node
        """Underlay address: claims of one node may share a MAC."""
        self.winner: PeerKey | None = key
        """Who keeps this claim from holding; None while it holds, itself until it is judged."""
        self.by_mac = False
        """Whether it lost by its MAC rather than by its prefix."""

    @property
    def rank(self) -> tuple[bool, int, PeerKey]:
        """The smaller one wins."""
        return self.held, self.created, self.key

    def same_as(self, other: Claim) -> bool:
        """Whether both claim the same with the same rank."""
        return (
            self.prefix == other.prefix
            and self.mac == other.mac
            and self.node == other.node
            and self.rank == other.rank
        )


class _Standing:
    """A set of claims, found by what they exclude."""

    def __init__(self, bits: int) -> None:
        self._prefixes: PrefixIndex[Claim] = PrefixIndex(bits)
        self._macs: MultiMap[bytes, Claim] = MultiMap()

    def add(self, claim: Claim) -> None:
        self._prefixes.add(claim.prefix, claim)
        if claim.mac is not None:
            self._macs.add(claim.mac, claim)

    def remove(self, claim: Claim) -> None:
        self._prefixes.remove(claim.prefix, claim)
        if claim.mac is not None:
            self._macs.remove(claim.mac, claim)

    def overlapping(self, prefix: int) -> Iterator[Claim]:
        return self._prefixes.overlapping(prefix)

    def winner_over(self, claim: Claim) -> tuple[PeerKey | None, bool]:
        """A claim of smaller rank that excludes this one, and whether it does by its MAC."""
        rank = claim.rank
        for other in self._prefixes.overlapping(claim.prefix):
            if other is not claim and other.rank < rank:
                return other.key, False
        if claim.mac is not None:
            for other in self._macs.get(claim.mac):
                if other.node != claim.node and other.rank < rank:
                    return other.key, True
        return None, False

    def losers_against(self, claim: Claim) -> list[Claim]:
        """Claims of greater rank that this one excludes."""
        rank = claim.rank
        losers = [other for other in self._prefixes.overlapping(claim.prefix) if other.rank > rank]
        if claim.mac is not None:
            losers += [
                other
                for other in self._macs.get(claim.mac)
                if other.node != claim.node and other.rank > rank
            ]
        return losers


class FamilyClaims:
    """All claims of one family. Change with `put` and `drop`, then `resolve`."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._claims: dict[PeerKey, Claim] = {}
        self._all = _Standing(bits)
        self._holding = _Standing(bits)
        self._open: dict[PeerKey, Claim] = {}

    def get(self, key: PeerKey) -> Claim | None:
        """The claim of one lease, if it has one in this family."""
        return self._claims.get(key)

    def put(self, claim: Claim) -> None:
        """Add a claim, or put it in the place of the one under the same key."""
        known = self._claims.get(claim.key)
        if known is not None:
            if known.same_as(claim):
                return
            self.drop(claim.key)
        self._claims[claim.key] = claim
        self._all.add(claim)
        self._open[claim.key] = claim

    def drop(self, key: PeerKey) -> None:
        """Take a claim out, if there is one."""
        claim = self._claims.pop(key, None)
        if claim is None:
            return
        self._all.remove(claim)
        self._open.pop(key, None)
        if claim.winner is None:
            self._holding.remove(claim)
            self._reopen(claim)

    def overlapping(self, prefix: int) -> list[PeerKey]:
        """Keys of all claims, holding or not, that overlap a prefix."""
        return [claim.key for claim in self._all.overlapping(prefix)]

    def resolve(self) -> set[PeerKey]:
        """Judge what changes left open; the keys whose claim was judged anew."""
        judged: set[PeerKey] = set()
        queue = self._queue()
        while queue:
            if len(queue) * 4 > len(self._claims) > 4:
                return judged | self._resolve_all()
            _, claim = heapq.heappop(queue)
            if self._open.pop(claim.key, None) is not claim:
                continue
            judged.add(claim.key)
            if self._judge(claim):
                for loser in self._reopen(claim):
                    heapq.heappush(queue, (loser.rank, loser))
        return judged

    def _queue(self) -> list[tuple[tuple[bool, int, PeerKey], Claim]]:
        queue = [(claim.rank, claim) for claim in self._open.values()]
        heapq.heapify(queue)
        return queue

    def _resolve_all(self) -> set[PeerKey]:
        """Judge every claim from the oldest on: cheaper than following many changes."""
        self._open.clear()
        self._holding = _Standing(self._bits)
        judged: set[PeerKey] = set()
        for claim in sorted(self._claims.values(), key=lambda claim: claim.rank):
            before = claim.winner
            claim.winner, claim.by_mac = self._holding.winner_over(claim)
            if claim.winner is None:
                self._holding.add(claim)
            if claim.winner != before:
                judged.add(claim.key)
        return judged

    def _judge(self, claim: Claim) -> bool:
        """Judge one claim; True if it began or ceased to hold."""
        held_before = claim.winner is None
        claim.winner, claim.by_mac = self._holding.winner_over(claim)
        if (claim.winner is None) == held_before:
            return False
        if held_before:
            self._holding.remove(claim)
        else:
            self._holding.add(claim)
        return True

    def _reopen(self, claim: Claim) -> list[Claim]:
        """Leave open what `claim` excludes or excluded; those that were not open already."""
        reopened = [
            other for other in self._all.losers_against(claim) if other.key not in self._open
        ]
        for other in reopened:
            self._open[other.key] = other
        return reopened
