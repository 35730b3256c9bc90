"""The elements that a plan is made of: one value per thing that the kernel holds for us.

An element has a `key` (what it is) and fields (how it shall be). Two elements with one key are the
same kernel object in two states. Elements name devices by name, because an interface index does
not survive a re-creation, and hold addresses packed (4 or 16 bytes, network order), because tens
of thousands of them are compared, hashed and written to netlink. `describe` renders them for
people in iproute2's words.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from typing import ClassVar

ROUTE_PROTOCOL = 241
"""rtm_protocol of our routes and nexthops: unassigned in iproute2's rt_protos."""
BOOT_PROTOCOL = 3
"""RTPROT_BOOT, which flannel writes (flannel-compat 6.1.3)."""
BACKSTOP_METRIC = 4294967295
"""Metric of the unreachable route that catches pod packets while a device is gone."""
IPV6_DEFAULT_METRIC = 1024
"""What the kernel makes of an IPv6 route without a metric (IP6_RT_PRIO_USER)."""
NEXTHOP_ID_BASE = 0x4F000000
"""First nexthop id of our private block; ids are this plus a slot number."""
MAIN_TABLE = 254
"""RT_TABLE_MAIN."""


class Kind(IntEnum):
    """Kinds of elements, in the order of their creation. Removal goes the other way round."""

    LINK = 0
    SYSCTL = 1
    ADDRESS = 2
    FDB = 3
    NEIGHBOUR = 4
    NEXTHOP = 5
    ROUTE = 6


Key = tuple[int | str | bytes, ...]
"""``(Kind, ...)``: hashable, small, fast to compare."""


def ip_text(packed: bytes) -> str:
    """An address for people."""
    return str(ip_address(packed))


def mac_text(mac: bytes) -> str:
    """A MAC address as flannel writes it: lower case, colons."""
    return mac.hex(":")


@dataclass(frozen=True, slots=True, kw_only=True)
class VxlanLink:
    """A VXLAN device of ours."""

    kind: ClassVar[Kind] = Kind.LINK
    name: str
    """``flannel.<VNI>`` or ``flannel-v6.<VNI>``."""
    vni: int
    port: int
    """UDP destination port."""
    parent: str
    """Name of the underlay interface."""
    local: bytes
    """Packed underlay address of this node (the interface's own, never a NAT address)."""
    mac: bytes
    """VTEP MAC, 6 bytes."""
    mtu: int
    learning: bool = False
    gbp: bool = False
    up: bool = True

    @property
    def key(self) -> Key:
        return (Kind.LINK, self.name)

    def describe(self) -> str:
        return (
            f"link {self.name} vxlan id {self.vni} dev {self.parent} local {ip_text(self.local)} "
            f"dstport {self.port} address {mac_text(self.mac)} mtu {self.mtu} "
            f"{'learning' if self.learning else 'nolearning'}{' gbp' if self.gbp else ''} "
            f"{'up' if self.up else 'down'}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignLink:
    """A device that stands under the name of one of ours but is of another type."""

    kind: ClassVar[Kind] = Kind.LINK
    name: str
    type: str
    """Link type as the kernel names it, e.g. ``dummy``."""

    @property
    def key(self) -> Key:
        return (Kind.LINK, self.name)

    def describe(self) -> str:
        return f"link {self.name} type {self.type or 'unknown'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysctl:
    """A kernel setting. It is never removed, only set."""

    kind: ClassVar[Kind] = Kind.SYSCTL
    name: str
    """Path below /proc/sys, with slashes (device names may hold dots)."""
    value: str

    @property
    def key(self) -> Key:
        return (Kind.SYSCTL, self.name)

    def describe(self) -> str:
        return f"sysctl {self.name} = {self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address on a device of ours."""

    kind: ClassVar[Kind] = Kind.ADDRESS
    dev: str
    address: bytes
    """Packed address."""
    prefixlen: int

    @property
    def key(self) -> Key:
        return (Kind.ADDRESS, self.dev, self.address, self.prefixlen)

    def describe(self) -> str:
        return f"address {ip_text(self.address)}/{self.prefixlen} dev {self.dev}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fdb:
    """A permanent self entry: frames for `mac` go to the peer's underlay address `dst`."""

    kind: ClassVar[Kind] = Kind.FDB
    dev: str
    mac: bytes
    dst: bytes

    @property
    def key(self) -> Key:
        return (Kind.FDB, self.dev, self.mac)

    def describe(self) -> str:
        return f"fdb {mac_text(self.mac)} dev {self.dev} dst {ip_text(self.dst)} self permanent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A permanent neighbour entry: the peer's VTEP address `dst` has the MAC `mac`."""

    kind: ClassVar[Kind] = Kind.NEIGHBOUR
    dev: str
    dst: bytes
    mac: bytes

    @property
    def key(self) -> Key:
        return (Kind.NEIGHBOUR, self.dev, self.dst)

    def describe(self) -> str:
        return f"neighbour {ip_text(self.dst)} lladdr {mac_text(self.mac)} dev {self.dev} permanent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nexthop:
    """A nexthop object. Its content is its key; the kernel's id is the kernel layer's affair."""

    kind: ClassVar[Kind] = Kind.NEXTHOP
    dev: str
    gateway: bytes
    onlink: bool
    instance: int = 0
    """0 for the one we use; the kernel's id for a second one of equal content, which must go."""

    @property
    def key(self) -> Key:
        return (Kind.NEXTHOP, self.dev, self.gateway, self.onlink, self.instance)

    def describe(self) -> str:
        onlink = " onlink" if self.onlink else ""
        return f"nexthop via {ip_text(self.gateway)} dev {self.dev}{onlink}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route in table main: to a peer's subnet, or the unreachable backstop.

    A gateway route has `gateway` and `dev`; an unreachable one has neither (both are empty).
    """

    kind: ClassVar[Kind] = Kind.ROUTE
    dst: bytes
    """Packed destination prefix."""
    prefixlen: int
    metric: int
    """0 for IPv4, 1024 for IPv6, BACKSTOP_METRIC for the backstop."""
    gateway: bytes = b""
    dev: str = ""
    onlink: bool = False
    by_nexthop: bool = False
    """Whether the route refers to a nexthop object (Nexthop with the same dev, gateway, onlink)."""
    protocol: int = ROUTE_PROTOCOL
    type: str = "unicast"
    """``unicast`` or ``unreachable``; observed routes may carry other types."""
    via_instance: int = 0
    """0 when `by_nexthop` means the nexthop we use; the kernel's id when it is another program's,
    a second one of equal content, or one that is unknown. Never desired, so such a route is
    re-pointed."""
    instance: int = 0
    """0 for the first route of a key; 1, 2, ... for further ones (appended), which must go."""

    @property
    def key(self) -> Key:
        return (Kind.ROUTE, self.dst, self.prefixlen, self.metric, self.instance)

    @property
    def nexthop_key(self) -> Key:
        """Key of the Nexthop that this route refers to when `by_nexthop`."""
        return (Kind.NEXTHOP, self.dev, self.gateway, self.onlink, 0)

    def describe(self) -> str:
        text = f"route {self.type + ' ' if self.type != 'unicast' else ''}"
        text += f"{ip_text(self.dst)}/{self.prefixlen}"
        if self.gateway:
            text += f" via {ip_text(self.gateway)}"
        if self.dev:
            text += f" dev {self.dev}"
        if self.metric:
            text += f" metric {self.metric}"
        text += f" proto {self.protocol}{' onlink' if self.onlink else ''}"
        return text + (" (by nexthop)" if self.by_nexthop else "")


Element = VxlanLink | ForeignLink | Sysctl | Address | Fdb | Neighbour | Nexthop | Route
