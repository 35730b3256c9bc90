"""What the keeper of our lease wants done next, and what it tells about itself. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network

from subnet.model import Lease, LeaseAttrs


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateLease:
    """Create our record; the answer is `Lease | Conflict`."""

    subnet: IPv4Network | None
    subnet6: IPv6Network | None
    attrs: LeaseAttrs
    ttl: float
    """Seconds."""
    not_after: int
    """The revision at which these subnets were free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateLease:
    """Write our record, which also renews it; the answer is `Lease | Conflict`."""

    lease: Lease
    """The record as we know it."""
    attrs: LeaseAttrs
    ttl: float
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteLease:
    """Remove an earlier record of ours that stands in our way; the answer is a bool."""

    lease: Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Relist:
    """Read everything; the answer is a `Snapshot`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to do but to listen."""

    until: float | None
    """Time of the next `step`, if no event comes before; None: whenever one comes."""


Intent = CreateLease | UpdateLease | DeleteLease | Relist | Wait


class Phase(Enum):
    """Where the life of our lease stands."""

    UNCLAIMED = "unclaimed"
    """Nobody asked for a lease yet."""
    ACQUIRING = "acquiring"
    """We have none yet."""
    HELD = "held"
    """The store holds our record."""
    LOST = "lost"
    """The store does not hold our record; it is claimed again as soon as nothing overlaps it."""
    CONFLICT = "conflict"
    """Another node writes under our key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperState:
    """Our lease, for the daemon and for people."""

    phase: Phase = Phase.UNCLAIMED
    lease: Lease | None = None
    """Our lease as last known; it stays the same while its record is lost or overwritten."""
    ready: bool = False
    """Whether pods may be given addresses of it."""
    reason: str = ""
    """What is wrong, for people; may be set although `ready`. Empty when all is well."""
    expires_at: float | None = None
    """Time at which the store lets the record go; None for a reservation or without a lease."""
    renew_at: float | None = None
    """Time of the next renewal; None for a reservation or without a lease."""
    failures: int = 0
    """Writes in a row that failed."""
