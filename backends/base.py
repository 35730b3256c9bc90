"""Backend: what every backend answers, and the context from which it answers.

A backend is pure: the same context and lease give the same plan, for any input, without a system
call, a clock or a random source. It plans per peer, so that one changed peer among 10,000 costs
one peer's work. Each address family stands on its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol

from backends.elements import Element
from subnet.model import Lease, LeaseAttrs, NetworkConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Underlay:
    """The external interface, as observed."""

    name: str
    mtu: int
    """Bytes."""
    ipv4: IPv4Address | None = None
    """The interface's own IPv4 address; source of encapsulated packets."""
    ipv6: IPv6Address | None = None
    """The interface's own IPv6 address."""
    onlink: tuple[IPv4Network | IPv6Network, ...] = ()
    """Prefixes reachable through this interface without a gateway (for DirectRouting)."""
    accepts_ra: bool = False
    """Whether the interface takes IPv6 router advertisements, which forwarding would end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeContext:
    """All that a backend may know about this node."""

    config: NetworkConfig
    underlay: Underlay
    public_ip: IPv4Address | None = None
    """Published IPv4 address: `--public-ip`, else the underlay's."""
    public_ipv6: IPv6Address | None = None
    """Published IPv6 address."""
    mac: bytes = b""
    """MAC of the IPv4 device: from our lease in the store, the cache, the device, or random."""
    mac6: bytes = b""
    """MAC of the IPv6 device."""
    lease: Lease | None = None
    """Our own lease; None before it is acquired."""
    by_nexthop: bool = True
    """Whether routes refer to nexthop objects (False: kernel below 5.3, or --nexthops=off)."""
    default_vxlan_port: int = 8472
    """UDP port that this kernel gives a VXLAN device made without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPlan:
    """What the kernel shall hold for one peer."""

    elements: tuple[Element, ...] = ()
    problems: tuple[str, ...] = field(default=())
    """Why the peer, or one family of it, is not programmed; for status. Empty when all is well."""


class Backend(Protocol):
    """A way to carry pods' packets between nodes. Made by `registry.make_backend`."""

    @property
    def name(self) -> str:
        """The backend's name in the network config, e.g. ``vxlan``."""
        ...

    def devices(self) -> Sequence[str]:
        """Names of the devices that are ours, whether they exist or not."""
        ...

    def attrs(self, ctx: NodeContext) -> LeaseAttrs:
        """What this node publishes to its peers."""
        ...

    def stored_macs(self, attrs: LeaseAttrs) -> tuple[bytes | None, bytes | None]:
        """The MACs (IPv4 device, IPv6 device) that an earlier lease of ours published."""
        ...

    def mtu(self, ctx: NodeContext) -> int:
        """FLANNEL_MTU: what pods may send, the smallest of the enabled families, in bytes."""
        ...

    def plan_node(self, ctx: NodeContext) -> tuple[Element, ...]:
        """Devices, settings and backstop; with a lease the devices' addresses too."""
        ...

    def node_problems(self, ctx: NodeContext) -> tuple[str, ...]:
        """Why `plan_node` holds less than the network config asks for; for log and status."""
        ...

    def settings_to_judge(self, ctx: NodeContext) -> tuple[str, ...]:
        """Kernel settings that are not ours to set, but that `judge_settings` wants to see."""
        ...

    def judge_settings(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Warnings about the settings that `settings_to_judge` named."""
        ...

    def plan_peer(self, ctx: NodeContext, lease: Lease) -> PeerPlan:
        """What reaches one peer. Never called with our own lease."""
        ...
