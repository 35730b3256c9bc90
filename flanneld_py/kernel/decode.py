"""What the kernel's messages say, as values: one function per kind of message.

Pure. Functions get a datagram and the offsets of one message in it, because slicing tens of
thousands of messages costs more than reading them in place. Whether something is ours is decided
by the callers, apart from what makes it readable at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from socket import AF_INET
from struct import Struct
from typing import Final, NamedTuple

from backends.elements import Fdb, ForeignLink, Neighbour, Route, VxlanLink
from flanneld_py.kernel import HostAddress, HostLink, HostRoute
from flanneld_py.kernel import netlink as nl

NDMSG: Final = Struct("=BxxxiHBB")
"""struct ndmsg: family, ifindex, state, flags, type."""
RTMSG: Final = Struct("=BBBBBBBBI")
"""struct rtmsg: family, dst and src length, tos, table, protocol, scope, type, flags."""
NHMSG: Final = Struct("=BBBxI")
"""struct nhmsg: family, scope, protocol, flags."""
IFINFOMSG: Final = Struct("=BxHiII")
"""struct ifinfomsg: family, link type, ifindex, flags, change mask."""
IFADDRMSG: Final = Struct("=BBBBi")
"""struct ifaddrmsg: family, prefix length, flags, scope, ifindex."""

_attribute = nl.ATTRIBUTE.unpack_from
_ndmsg = NDMSG.unpack_from
_rtmsg = RTMSG.unpack_from
_nhmsg = NHMSG.unpack_from
_u32 = nl.U32.unpack_from
_MASK = nl.ATTRIBUTE_TYPE_MASK
_UNKNOWN_DESTINATION = {4: bytes(4), 16: bytes(16)}


class NexthopObject(NamedTuple):
    """A nexthop object as the kernel holds it."""

    id: int
    protocol: int
    ifindex: int
    """0 for groups and blackholes."""
    gateway: bytes
    """Empty when there is none."""
    onlink: bool
    plain: bool
    """Neither a group, blackhole or FDB nexthop, nor one with an encapsulation."""


class NexthopReference(NamedTuple):
    """What a route means when it names a nexthop id."""

    dev: str
    gateway: bytes
    onlink: bool
    instance: int
    """0 when it is the one that we use for this content, otherwise the id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFacts:
    """A link, before interface indices are turned into names."""

    host: HostLink
    parent: int = 0
    """Interface index of the underlay of a VXLAN device."""
    vxlan: VxlanLink | None = None
    """As a VXLAN device without oddities, `parent` still empty."""
    oddity: str = ""
    """What makes a VXLAN device unlike any of ours, and cannot be changed in place."""

    def element(self, names: Mapping[int, str]) -> VxlanLink | ForeignLink:
        """The link as an element of ours."""
        own = self.vxlan
        if own is None:
            kind = f"{self.host.kind} {self.oddity}" if self.oddity else self.host.kind
            return ForeignLink(name=self.host.name, type=kind)
        return replace(own, parent=names.get(self.parent, ""))


def fdb(data: bytes, start: int, end: int, dev: str) -> Fdb | None:
    """A forwarding entry; None without a destination.

    An entry with a port, VNI or interface of its own is shown with an unspecified destination, so
    that it equals nothing that is wanted.
    """
    mac = dst = b""
    odd = False
    at = start + 28
    while at < end:
        length, type_ = _attribute(data, at)
        if type_ == nl.NDA_LLADDR:
            mac = data[at + 4 : at + length]
        elif type_ == nl.NDA_DST:
            dst = data[at + 4 : at + length]
        elif type_ in (nl.NDA_PORT, nl.NDA_VNI, nl.NDA_IFINDEX):
            odd = True
        if length < 4:
            return None
        at += (length + 3) & ~3
    if not mac or not dst:
        return None
    return Fdb(dev=dev, mac=mac, dst=_UNKNOWN_DESTINATION.get(len(dst), dst) if odd else dst)


def neighbour(data: bytes, start: int, end: int, dev: str) -> Neighbour | None:
    """A neighbour entry; its MAC is empty when the message has none."""
    mac = dst = b""
    at = start + 28
    while at < end:
        length, type_ = _attribute(data, at)
        if type_ == nl.NDA_DST:
            dst = data[at + 4 : at + length]
        elif type_ == nl.NDA_LLADDR:
            mac = data[at + 4 : at + length]
        if length < 4:
            return None
        at += (length + 3) & ~3
    return Neighbour(dev=dev, dst=dst, mac=mac) if dst else None


def permanent(
    dev: str, decode: Callable[[bytes, int, int, str], Fdb | Neighbour | None], flags: int
) -> Callable[[bytes, int, int], Fdb | Neighbour | None]:
    """`decode` for dumps of one device: permanent entries with exactly these NTF_* flags."""

    def decoder(data: bytes, start: int, end: int) -> Fdb | Neighbour | None:
        _, _, state, has, _ = _ndmsg(data, start + 16)
        if not state & nl.NUD_PERMANENT or has != flags:
            return None
        return decode(data, start, end, dev)

    return decoder


def nexthop(data: bytes, start: int, end: int) -> NexthopObject | None:
    """A nexthop object of any kind."""
    _, _, protocol, flags = _nhmsg(data, start + 16)
    id_ = ifindex = 0
    gateway = b""
    plain = True
    at = start + 24
    while at < end:
        length, type_ = _attribute(data, at)
        type_ &= _MASK
        if type_ == nl.NHA_ID:
            id_ = _u32(data, at + 4)[0]
        elif type_ == nl.NHA_OIF:
            ifindex = _u32(data, at + 4)[0]
        elif type_ == nl.NHA_GATEWAY:
            gateway = data[at + 4 : at + length]
        elif type_ in (nl.NHA_GROUP, nl.NHA_BLACKHOLE, nl.NHA_ENCAP_TYPE, nl.NHA_FDB):
            plain = False
        if length < 4:
            return None
        at += (length + 3) & ~3
    onlink = bool(flags & nl.RTNH_F_ONLINK)
    return NexthopObject(id_, protocol, ifindex, gateway, onlink, plain) if id_ else None


class RouteFacts(NamedTuple):
    """A route, before interface indices and nexthop ids are turned into what they mean."""

    dst: bytes
    prefixlen: int
    metric: int
    gateway: bytes
    ifindex: int
    nexthop_id: int
    flags: int
    protocol: int
    type: int

    def key_of(self) -> tuple[bytes, int, int]:
        """What is unique among routes of a table, appended ones aside."""
        return (self.dst, self.prefixlen, self.metric)

    def element(self, names: Mapping[int, str], nexthops: Mapping[int, NexthopReference]) -> Route:
        """The route as an element of ours. An unknown nexthop id is another program's."""
        dst, prefixlen, metric, gateway, ifindex, nexthop_id, flags, protocol, type_ = self
        if nexthop_id:
            reference = nexthops.get(nexthop_id)
            if reference is None:
                reference = NexthopReference(
                    names.get(ifindex, ""), gateway, bool(flags & nl.RTNH_F_ONLINK), nexthop_id
                )
            dev, gateway, onlink, instance = reference
        else:
            # The kernel shows unreachable IPv6 routes on the loopback device.
            dev = names.get(ifindex, "") if type_ == nl.RTN_UNICAST else ""
            onlink, instance = bool(flags & nl.RTNH_F_ONLINK), 0
        return Route(
            dst=dst,
            prefixlen=prefixlen,
            metric=metric,
            gateway=gateway,
            dev=dev,
            onlink=onlink,
            by_nexthop=nexthop_id != 0,
            protocol=protocol,
            type=nl.ROUTE_TYPES.get(type_) or str(type_),
            via_instance=instance,
        )


def route(data: bytes, start: int, end: int) -> RouteFacts | None:
    """A route of table main; None for routes of other tables and for cached ones."""
    family, prefixlen, _, tos, table, protocol, _, type_, flags = _rtmsg(data, start + 16)
    if table != 254 or tos or flags & nl.RTM_F_CLONED:
        return None
    dst = gateway = b""
    metric = ifindex = nexthop_id = 0
    at = start + 28
    while at < end:
        length, kind = _attribute(data, at)
        if kind == nl.RTA_DST:
            dst = data[at + 4 : at + length]
        elif kind == nl.RTA_NH_ID:
            nexthop_id = _u32(data, at + 4)[0]
        elif kind == nl.RTA_OIF:
            ifindex = _u32(data, at + 4)[0]
        elif kind == nl.RTA_GATEWAY:
            gateway = data[at + 4 : at + length]
        elif kind == nl.RTA_PRIORITY:
            metric = _u32(data, at + 4)[0]
        elif kind == nl.RTA_VIA:
            gateway = data[at + 6 : at + length]
        if length < 4:
            return None
        at += (length + 3) & ~3
    if not dst:
        dst = bytes(4 if family == AF_INET else 16)
    return RouteFacts(dst, prefixlen, metric, gateway, ifindex, nexthop_id, flags, protocol, type_)


def host_route(facts: RouteFacts, names: Mapping[int, str]) -> HostRoute | None:
    """A default route or an on-link prefix; None for all others and for link-local prefixes."""
    if facts.type != nl.RTN_UNICAST or (facts.prefixlen and facts.gateway):
        return None
    if len(facts.dst) == 16 and facts.dst[0] == 0xFE and facts.dst[1] & 0xC0 == 0x80:
        return None
    return HostRoute(
        dst=facts.dst,
        prefixlen=facts.prefixlen,
        dev=names.get(facts.ifindex, ""),
        gateway=facts.gateway,
        metric=facts.metric,
    )


def address(data: bytes, start: int, end: int) -> tuple[int, HostAddress]:
    """An address and the index of its interface; `dev` is still empty."""
    _, prefixlen, flags, scope, ifindex = IFADDRMSG.unpack_from(data, start + 16)
    found = nl.attributes(data, start + 24, end)
    flags = nl.u32(found.get(nl.IFA_FLAGS), flags)
    packed = found.get(nl.IFA_LOCAL) or found.get(nl.IFA_ADDRESS, b"")
    return ifindex, HostAddress(
        dev="",
        address=packed,
        prefixlen=prefixlen,
        scope=scope,
        deprecated=bool(flags & nl.IFA_F_DEPRECATED),
        temporary=len(packed) == 16 and bool(flags & nl.IFA_F_TEMPORARY),
        permanent=bool(flags & nl.IFA_F_PERMANENT),
        tentative=bool(flags & (nl.IFA_F_TENTATIVE | nl.IFA_F_DADFAILED)),
    )


def named(found: HostAddress, dev: str) -> HostAddress:
    """The address, with the name of its interface."""
    return replace(found, dev=dev)


def appended(found: Route, instance: int) -> Route:
    """The route as a further one of its key."""
    return replace(found, instance=instance)


def link(data: bytes, start: int, end: int) -> LinkFacts:
    """A link of any type."""
    _, _, ifindex, flags, _ = IFINFOMSG.unpack_from(data, start + 16)
    found = nl.attributes(data, start + 32, end)
    info_bytes = found.get(nl.IFLA_LINKINFO, b"")
    info = nl.attributes(info_bytes, 0, len(info_bytes))
    host = HostLink(
        name=nl.text(found.get(nl.IFLA_IFNAME)),
        ifindex=ifindex,
        mtu=nl.u32(found.get(nl.IFLA_MTU)),
        up=bool(flags & nl.IFF_UP),
        running=bool(flags & nl.IFF_RUNNING),
        loopback=bool(flags & nl.IFF_LOOPBACK),
        kind=nl.text(info.get(nl.IFLA_INFO_KIND)),
        mac=found.get(nl.IFLA_ADDRESS, b""),
    )
    if host.kind != "vxlan":
        return LinkFacts(host=host)
    data_bytes = info.get(nl.IFLA_INFO_DATA, b"")
    return _vxlan(host, nl.attributes(data_bytes, 0, len(data_bytes)))


_ODDITIES: Final = {
    nl.IFLA_VXLAN_PROXY: "proxy",
    nl.IFLA_VXLAN_RSC: "rsc",
    nl.IFLA_VXLAN_L2MISS: "l2miss",
    nl.IFLA_VXLAN_L3MISS: "l3miss",
    nl.IFLA_VXLAN_COLLECT_METADATA: "external",
}


def _vxlan(host: HostLink, options: Mapping[int, bytes]) -> LinkFacts:
    oddities = [name for type_, name in _ODDITIES.items() if any(options.get(type_, b""))]
    if nl.IFLA_VXLAN_GROUP in options or nl.IFLA_VXLAN_GROUP6 in options:
        oddities.append("group")
    if oddities:
        return LinkFacts(host=host, oddity=" ".join(oddities))
    own = VxlanLink(
        name=host.name,
        vni=nl.u32(options.get(nl.IFLA_VXLAN_ID)),
        port=int.from_bytes(options.get(nl.IFLA_VXLAN_PORT, b""), "big"),
        parent="",
        local=options.get(nl.IFLA_VXLAN_LOCAL) or options.get(nl.IFLA_VXLAN_LOCAL6, b""),
        mac=host.mac,
        mtu=host.mtu,
        learning=any(options.get(nl.IFLA_VXLAN_LEARNING, b"")),
        gbp=nl.IFLA_VXLAN_GBP in options,
        up=host.up,
    )
    return LinkFacts(host=host, parent=nl.u32(options.get(nl.IFLA_VXLAN_LINK)), vxlan=own)
