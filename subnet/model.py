"""The values of the subnet world: leases, network config, and what a store says about them.

Frozen values without I/O. JSON and key texts become these values in `codec` and `netconf`, and
nowhere else. An absent family is ``None``; nothing here ever holds ``0.0.0.0`` to mean "none".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NewType

PeerKey = NewType("PeerKey", str)
"""The store's own identity of a record: etcd's full key text, or Kubernetes' node name and uid."""

MAX_VALUE_BYTES = 64 * 1024
"""A record whose value is larger than this is hostile or broken and is quarantined unread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseAttrs:
    """What a node publishes beside its subnet: how to reach it."""

    public_ip: IPv4Address | None = None
    """Underlay IPv4 address of the node; flannel's text for none is 0.0.0.0."""
    public_ipv6: IPv6Address | None = None
    """Underlay IPv6 address of the node."""
    backend_type: str = ""
    """``vxlan``, ``host-gw``, ...; empty for udp and alloc, as flannel writes it."""
    backend_data: str | None = None
    """Compact JSON text of the IPv4 backend data, e.g. ``{"VNI":1,"VtepMAC":"..."}``."""
    backend_v6_data: str | None = None
    """Compact JSON text of the IPv6 backend data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One node's claim of a pod subnet, as a store holds it."""

    key: PeerKey
    """Identity in the store, never the subnet itself."""
    subnet: IPv4Network | None = None
    """IPv4 pod subnet; None on IPv6-only networks."""
    subnet6: IPv6Network | None = None
    """IPv6 pod subnet; None on IPv4-only networks."""
    attrs: LeaseAttrs = field(default_factory=LeaseAttrs)
    """How to reach the node."""
    create_revision: int = 0
    """Store revision at which the record was created: of overlapping leases the older wins."""
    mod_revision: int = 0
    """Store revision of the last change: an event older than what is known is ignored."""
    lease_id: int = 0
    """etcd lease the record hangs on; 0 means a reservation, which never expires."""

    def subnets_text(self) -> str:
        """The subnets for people: ``10.244.1.0/24``, or ``10.244.1.0/24 fd00:1::/64``."""
        return " ".join(str(net) for net in (self.subnet, self.subnet6) if net is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """The cluster's network config after parsing, checking and deriving (flannel-compat 2)."""

    enable_ipv4: bool = True
    """Whether pods have IPv4 addresses."""
    enable_ipv6: bool = False
    """Whether pods have IPv6 addresses."""
    enable_nftables: bool = False
    """Which of flannel's two firewall modes the cluster asks for."""
    network: IPv4Network | None = None
    """The cluster's IPv4 pod network."""
    network6: IPv6Network | None = None
    """The cluster's IPv6 pod network."""
    subnet_len: int = 0
    """Prefix length of a node's IPv4 subnet; derived when the config is silent."""
    subnet_min: IPv4Address | None = None
    """First IPv4 subnet that may be leased."""
    subnet_max: IPv4Address | None = None
    """Last IPv4 subnet that may be leased, inclusive."""
    subnet6_len: int = 0
    """Prefix length of a node's IPv6 subnet."""
    subnet6_min: IPv6Address | None = None
    """First IPv6 subnet that may be leased."""
    subnet6_max: IPv6Address | None = None
    """Last IPv6 subnet that may be leased, inclusive."""
    backend_type: str = "udp"
    """Lower-cased backend name; an absent ``Backend`` key means udp, as in flannel."""
    backend_options: Mapping[str, object] = field(default_factory=dict)
    """The raw ``Backend`` object; only the backend itself reads it (keys are case-insensitive)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRecord:
    """The network config as the store holds it, unparsed."""

    text: str
    """JSON text."""
    create_revision: int
    """Revision at which the key was created: another one than before means another store."""
    mod_revision: int
    """Revision of the last change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A record under the store's prefix that is no lease. It changes nothing; it is named."""

    key: PeerKey
    """The store's key, as far as it is printable."""
    reason: str
    """Why it is refused, for people."""
    mod_revision: int = 0
    """Revision of the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreIdentity:
    """What tells one store from another that answers at the same address."""

    cluster_id: int
    """etcd's cluster id; 0 where the store has none."""
    revision: int
    """The store's revision when this was read."""
    config_create_revision: int
    """Create revision of the config record; 0 when there is no config."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All records of the store at one revision. Start, restart and compaction are this event."""

    leases: tuple[Lease, ...]
    """Every record that is a lease."""
    malformed: tuple[Malformed, ...] = ()
    """Every record that is none."""
    config: ConfigRecord | None = None
    """The network config at the same revision; None when the store has none."""
    identity: StoreIdentity
    """Which store said so; `identity.revision` is the revision of the snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """A lease was created or changed."""

    lease: Lease
    """The whole new value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutMalformed:
    """A record was written that is no lease; a lease under the same key is gone by that."""

    record: Malformed


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """A record is gone."""

    key: PeerKey
    revision: int
    """Revision of the deletion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChanged:
    """The network config was written or removed while we run."""

    config: ConfigRecord | None
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState:
    """The connection to the store came or went; says nothing about any lease."""

    connected: bool
    reason: str = ""
    """For people: why it is down, or where it is connected to."""


LeaseEvent = Snapshot | Put | PutMalformed | Delete | ConfigChanged | StoreState
