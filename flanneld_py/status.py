"""Status: what the agent says about itself, as frozen values and as JSON.

Responsible for the shape of the answer and its version. The daemon fills it (`StatusSource`),
`statusserver` serves it, `cli.status` prints it; none of them adds words of its own. Every list is
bounded: the status of 10,000 peers stays readable and small.

    Status
    ├── lease, interface, backend      what this node has
    ├── peers, elements                what the kernel shall hold, and does not yet
    ├── store                          where the leases come from
    └── changes, warnings              what happened, and what looks wrong
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

API_VERSION = 1
"""Raised when a field changes its meaning. New fields do not raise it: readers ignore them."""
MAX_PEERS = 200
"""Peers that are listed; the others are only counted."""
MAX_FAILING = 50
"""Failing elements that are listed."""
MAX_CHANGES = 50
"""Latest changes that are kept."""


class StatusFormatError(Exception):
    """What was read is no status of an API version that we know; `reason` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class LeasePhase(Enum):
    """How far this node is with its subnet."""

    WAITING = "waiting"
    """For the store, for its network config, or for a free subnet; the reasons say for what."""
    CACHED = "cached"
    """Known from an earlier run; the store has not confirmed it yet."""
    HELD = "held"
    """Ours, and renewed."""
    LOST = "lost"
    """Another node owns it now, or another node has our address."""


class PeerState(Enum):
    """What the kernel holds for a peer. In the order in which they are listed."""

    FAILING = "failing"
    """The kernel refused something; it is tried again."""
    NOT_PROGRAMMED = "not programmed"
    """It cannot be reached with our backend, e.g. another backend type or VNI."""
    QUARANTINED = "quarantined"
    """Its record is malformed or claims what is another's; it changes nothing."""
    HELD = "held"
    """Missing from a store that lost its data; kept for a grace time."""
    PENDING = "pending"
    """To be programmed next."""
    PROGRAMMED = "programmed"
    """All is as planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseStatus:
    """This node's subnet."""

    phase: LeasePhase = LeasePhase.WAITING
    key: str = ""
    """The record in the store."""
    subnets: tuple[str, ...] = ()
    """One per family."""
    expires_in: float | None = None
    """Seconds; None for a reservation, or without a lease."""
    reason: str = ""
    """Why the phase is not `held`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceStatus:
    """The external interface."""

    name: str = ""
    """Empty while none is chosen."""
    reason: str = ""
    """Why this one, or why none."""
    addresses: tuple[str, ...] = ()
    """Its own addresses that are used, one per family."""
    public_ips: tuple[str, ...] = ()
    """What is published, one per family."""
    mtu: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStatus:
    """How pods' packets travel."""

    type: str = ""
    """Empty while the network config is unknown."""
    devices: tuple[str, ...] = ()
    vni: int | None = None
    port: int | None = None
    """UDP port."""
    mtu: int = 0
    """FLANNEL_MTU: what pods may send, in bytes."""
    nexthops: bool | None = None
    """True: routes by nexthop objects; False: flannel's classic form; None: not known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    """One peer."""

    key: str
    """The record in the store."""
    state: PeerState
    subnets: tuple[str, ...] = ()
    public_ips: tuple[str, ...] = ()
    reason: str = ""
    """Why it is not programmed; empty when it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersStatus:
    """All peers. Make it by `PeersStatus.of`, which bounds the list."""

    counts: dict[str, int] = field(default_factory=dict)
    """Number of peers by `PeerState` value; states without a peer are absent."""
    listed: tuple[PeerStatus, ...] = ()
    """Those in trouble first; at most MAX_PEERS."""
    omitted: int = 0
    """Peers that are counted but not listed."""

    @classmethod
    def of(cls, peers: Iterable[PeerStatus], *, programmed: int = 0) -> PeersStatus:
        """From all peers, or from those in trouble and the number of the `programmed` others."""
        order = {state: rank for rank, state in enumerate(PeerState)}
        everyone = sorted(peers, key=lambda peer: (order[peer.state], peer.key))
        counts = {PeerState.PROGRAMMED.value: programmed} if programmed else {}
        for peer in everyone:
            counts[peer.state.value] = counts.get(peer.state.value, 0) + 1
        listed = tuple(everyone[:MAX_PEERS])
        return cls(counts=counts, listed=listed, omitted=sum(counts.values()) - len(listed))


@dataclass(frozen=True, slots=True, kw_only=True)
class KindCounts:
    """One kind of elements: how many shall be, are, and are not as they shall be."""

    kind: str
    """``link``, ``address``, ``fdb``, ``neighbour``, ``nexthop``, ``route``, ..."""
    desired: int = 0
    observed: int = 0
    dirty: int = 0
    """Known to differ and about to be worked on."""
    failing: int = 0
    """Refused by the kernel, waiting for the next try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingElement:
    """One element that the kernel does not take."""

    element: str
    """In iproute2's words."""
    reason: str
    tries: int = 1
    next_try_in: float = 0.0
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementsStatus:
    """Everything that is ours in the kernel."""

    kinds: tuple[KindCounts, ...] = ()
    failing: tuple[FailingElement, ...] = ()
    """At most MAX_FAILING; `kinds` counts them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """Where the leases come from."""

    source: str = ""
    """e.g. ``etcd http://10.0.0.1:2379 /coreos.com/network``; never with a password."""
    connected: bool = False
    reason: str = ""
    """Why it is not connected."""
    revision: int = 0
    """Of the last event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that happened."""

    at: float
    """Seconds since 1970."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The agent, now."""

    api: int = API_VERSION
    version: str = ""
    """Of flanneld-py."""
    pid: int = 0
    started: float = 0.0
    """Seconds since 1970."""
    now: float = 0.0
    """When this was said; seconds since 1970."""
    ready: bool = False
    """Pods of this node can reach the network."""
    reasons: tuple[str, ...] = ()
    """Why it is not ready; empty when it is."""
    lease: LeaseStatus = field(default_factory=LeaseStatus)
    interface: InterfaceStatus = field(default_factory=InterfaceStatus)
    backend: BackendStatus = field(default_factory=BackendStatus)
    peers: PeersStatus = field(default_factory=PeersStatus)
    elements: ElementsStatus = field(default_factory=ElementsStatus)
    store: StoreStatus = field(default_factory=StoreStatus)
    changes: tuple[Change, ...] = ()
    """The latest last; at most MAX_CHANGES."""
    warnings: tuple[str, ...] = ()
    """What looks wrong but stops nothing, e.g. rp_filter, or another program that fights us."""


class StatusSource(Protocol):
    """Who knows. The answer is made when it is asked for, without waiting for anything."""

    def status(self) -> Status: ...

    def warnings(self) -> tuple[str, ...]:
        """What looks wrong but stops nothing."""
        ...

    def ready(self) -> tuple[str, ...]:
        """Why the node is not ready, as `Status.reasons`, for less work than a status."""
        ...


class ChangeLog:
    """The latest changes, oldest first, at most MAX_CHANGES. Time is an argument."""

    def __init__(self) -> None:
        self._changes: list[Change] = []

    def add(self, text: str, *, at: float) -> None:
        """Remember that `text` happened at `at` (seconds since 1970)."""
        self._changes.append(Change(at=at, text=text))
        del self._changes[:-MAX_CHANGES]

    def latest(self) -> tuple[Change, ...]:
        """All that is remembered."""
        return tuple(self._changes)


def encode(status: Status) -> bytes:
    """The status as JSON."""
    import msgspec

    return msgspec.json.encode(status)


def decode(data: bytes) -> Status:
    """The status in JSON that an agent sent, also a newer one with fields we don't know.

    Raises StatusFormatError.
    """
    import msgspec

    try:
        status = msgspec.json.decode(data, type=Status)
    except msgspec.MsgspecError as error:
        raise StatusFormatError(f"the answer is no status: {error}") from error
    if status.api != API_VERSION:
        raise StatusFormatError(
            f"the agent speaks version {status.api} of the status, this command {API_VERSION}: "
            "use the command that was installed with the agent"
        )
    return status
