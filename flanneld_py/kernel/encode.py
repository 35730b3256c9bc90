"""Requests to rtnetlink, packed: one function per thing that is written or asked for.

Pure. Tens of thousands of these are made at once, so the frequent ones are a single pack of a
fixed layout. Every function answers a whole message without a sequence number, which the sender
writes; nothing here knows a device by name.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, AF_UNSPEC
from struct import Struct
from typing import Final

from backends.elements import MAIN_TABLE, ROUTE_PROTOCOL
from flanneld_py.kernel import netlink as nl

ADD: Final = nl.NLM_F_REQUEST | nl.NLM_F_CREATE | nl.NLM_F_EXCL
PUT: Final = nl.NLM_F_REQUEST | nl.NLM_F_CREATE | nl.NLM_F_REPLACE
REMOVE: Final = nl.NLM_F_REQUEST

_HEAD = "=IHHII"
_NDMSG = "BxxxiHBB"
_NHMSG = "BBBxI"
_RTMSG = "BBBBBBBBI"
_FDB = {n: Struct(f"{_HEAD}{_NDMSG}HH6sxxHH{n}s") for n in (4, 16)}
_NEIGHBOUR = {n: Struct(f"{_HEAD}{_NDMSG}HH{n}sHH6sxx") for n in (4, 16)}
_NEXTHOP = {n: Struct(f"{_HEAD}{_NHMSG}HHIHHIHH{n}s") for n in (4, 16)}
_NEXTHOP_ID = Struct(f"{_HEAD}{_NHMSG}HHI")
_ROUTE = {n: Struct(f"{_HEAD}{_RTMSG}HH{n}sHHI") for n in (4, 16)}
_ROUTE_NEXTHOP = {n: Struct(f"{_HEAD}{_RTMSG}HH{n}sHHIHHI") for n in (4, 16)}
_ROUTE_GATEWAY = {n: Struct(f"{_HEAD}{_RTMSG}HH{n}sHHIHHIHH{n}s") for n in (4, 16)}
_FAMILY = {4: AF_INET, 16: AF_INET6}


def _scope(type_: int) -> int:
    """A removal leaves the scope open, because observed routes do not carry it."""
    return nl.RT_SCOPE_NOWHERE if type_ == nl.RTM_DELROUTE else nl.RT_SCOPE_UNIVERSE


def fdb(type_: int, flags: int, ifindex: int, mac: bytes, dst: bytes) -> bytes:
    """A permanent self entry of a VXLAN device."""
    form = _FDB[len(dst)]
    return form.pack(
        form.size, type_, flags, 0, 0, nl.AF_BRIDGE, ifindex, nl.NUD_PERMANENT, nl.NTF_SELF, 0,
        10, nl.NDA_LLADDR, mac, 4 + len(dst), nl.NDA_DST, dst,
    )  # fmt: skip


def fdb_removal(ifindex: int, mac: bytes) -> bytes:
    """The removal of a forwarding entry with all of its destinations."""
    payload = Struct(f"={_NDMSG}").pack(nl.AF_BRIDGE, ifindex, nl.NUD_PERMANENT, nl.NTF_SELF, 0)
    return nl.message(nl.RTM_DELNEIGH, REMOVE, payload + nl.attribute(nl.NDA_LLADDR, mac))


def neighbour(type_: int, flags: int, ifindex: int, dst: bytes, mac: bytes) -> bytes:
    """A permanent neighbour entry."""
    form = _NEIGHBOUR[len(dst)]
    return form.pack(
        form.size, type_, flags, 0, 0, _FAMILY[len(dst)], ifindex, nl.NUD_PERMANENT, 0,
        nl.RTN_UNICAST, 4 + len(dst), nl.NDA_DST, dst, 10, nl.NDA_LLADDR, mac,
    )  # fmt: skip


def nexthop(id_: int, ifindex: int, gateway: bytes, onlink: bool) -> bytes:
    """A nexthop object of our protocol, created exclusively."""
    form = _NEXTHOP[len(gateway)]
    return form.pack(
        form.size, nl.RTM_NEWNEXTHOP, ADD, 0, 0,
        _FAMILY[len(gateway)], 0, ROUTE_PROTOCOL, nl.RTNH_F_ONLINK if onlink else 0,
        8, nl.NHA_ID, id_, 8, nl.NHA_OIF, ifindex, 4 + len(gateway), nl.NHA_GATEWAY, gateway,
    )  # fmt: skip


def nexthop_removal(id_: int) -> bytes:
    """The removal of a nexthop object. The kernel takes its routes along without a word."""
    return _NEXTHOP_ID.pack(
        _NEXTHOP_ID.size, nl.RTM_DELNEXTHOP, REMOVE, 0, 0, AF_UNSPEC, 0, 0, 0, 8, nl.NHA_ID, id_
    )


def route_by_nexthop(
    type_: int, flags: int, dst: bytes, prefixlen: int, metric: int, protocol: int, nexthop_id: int
) -> bytes:
    """A unicast route in table main that refers to a nexthop object."""
    size = len(dst)
    scope = _scope(type_)
    form = _ROUTE_NEXTHOP[size]
    return form.pack(
        form.size, type_, flags, 0, 0,
        _FAMILY[size], prefixlen, 0, 0, MAIN_TABLE, protocol, scope, nl.RTN_UNICAST, 0,
        4 + size, nl.RTA_DST, dst, 8, nl.RTA_PRIORITY, metric, 8, nl.RTA_NH_ID, nexthop_id,
    )  # fmt: skip


def route_by_gateway(
    type_: int,
    flags: int,
    dst: bytes,
    prefixlen: int,
    metric: int,
    protocol: int,
    ifindex: int,
    gateway: bytes,
    onlink: bool,
) -> bytes:
    """A unicast route in table main in the classic form."""
    size = len(dst)
    scope = _scope(type_)
    form = _ROUTE_GATEWAY[size]
    return form.pack(
        form.size, type_, flags, 0, 0,
        _FAMILY[size], prefixlen, 0, 0, MAIN_TABLE, protocol, scope, nl.RTN_UNICAST,
        nl.RTNH_F_ONLINK if onlink else 0,
        4 + size, nl.RTA_DST, dst, 8, nl.RTA_PRIORITY, metric, 8, nl.RTA_OIF, ifindex,
        4 + size, nl.RTA_GATEWAY, gateway,
    )  # fmt: skip


def route_plain(
    type_: int,
    flags: int,
    dst: bytes,
    prefixlen: int,
    metric: int,
    protocol: int,
    route_type: int,
) -> bytes:
    """A route without a next hop: unreachable and its like; removes a multipath route too."""
    size = len(dst)
    scope = _scope(type_)
    form = _ROUTE[size]
    return form.pack(
        form.size, type_, flags, 0, 0,
        _FAMILY[size], prefixlen, 0, 0, MAIN_TABLE, protocol, scope, route_type, 0,
        4 + size, nl.RTA_DST, dst, 8, nl.RTA_PRIORITY, metric,
    )  # fmt: skip


def route_by_device(
    type_: int, flags: int, dst: bytes, prefixlen: int, metric: int, protocol: int, ifindex: int
) -> bytes:
    """A unicast route in table main through a device, without a gateway."""
    form = Struct(f"={_RTMSG}")
    size = len(dst)
    payload = form.pack(
        _FAMILY[size], prefixlen, 0, 0, MAIN_TABLE, protocol, _scope(type_), nl.RTN_UNICAST, 0
    )
    payload += nl.attribute(nl.RTA_DST, dst)
    payload += nl.attribute(nl.RTA_PRIORITY, nl.U32.pack(metric))
    payload += nl.attribute(nl.RTA_OIF, nl.U32.pack(ifindex))
    return nl.message(type_, flags, payload)


def address(type_: int, flags: int, ifindex: int, packed: bytes, prefixlen: int) -> bytes:
    """An address. IPv6 without duplicate address detection: it can be used at once."""
    ifa_flags = nl.IFA_F_PERMANENT | (nl.IFA_F_NODAD if len(packed) == 16 else 0)
    payload = Struct("=BBBBi").pack(_FAMILY[len(packed)], prefixlen, ifa_flags, 0, ifindex)
    payload += nl.attribute(nl.IFA_LOCAL, packed) + nl.attribute(nl.IFA_ADDRESS, packed)
    return nl.message(type_, flags, payload)


def dump_links() -> bytes:
    """All links."""
    payload = Struct("=BxHiII").pack(AF_UNSPEC, 0, 0, 0, 0)
    return nl.message(nl.RTM_GETLINK, nl.NLM_F_DUMP, payload)


def get_link(name: str) -> bytes:
    """One link by its name."""
    payload = Struct("=BxHiII").pack(AF_UNSPEC, 0, 0, 0, 0)
    payload += nl.attribute(nl.IFLA_IFNAME, name.encode() + b"\0")
    return nl.message(nl.RTM_GETLINK, 0, payload)


def dump_addresses() -> bytes:
    """All addresses of both families."""
    return nl.message(nl.RTM_GETADDR, nl.NLM_F_DUMP, Struct("=BBBBi").pack(AF_UNSPEC, 0, 0, 0, 0))


def dump_neighbours(ifindex: int) -> bytes:
    """Neighbours of one device, both families."""
    payload = Struct(f"={_NDMSG}").pack(AF_UNSPEC, 0, 0, 0, 0)
    payload += nl.attribute(nl.NDA_IFINDEX, nl.U32.pack(ifindex))
    return nl.message(nl.RTM_GETNEIGH, nl.NLM_F_DUMP, payload)


def dump_fdb(ifindex: int) -> bytes:
    """Forwarding entries of one device."""
    payload = Struct(f"={_NDMSG}").pack(nl.AF_BRIDGE, ifindex, 0, 0, 0)
    return nl.message(nl.RTM_GETNEIGH, nl.NLM_F_DUMP, payload)


def dump_nexthops() -> bytes:
    """All nexthop objects: the kernel does not filter them by protocol."""
    return nl.message(nl.RTM_GETNEXTHOP, nl.NLM_F_DUMP, Struct(f"={_NHMSG}").pack(0, 0, 0, 0))


def dump_routes(family: int, protocol: int = 0, ifindex: int = 0) -> bytes:
    """Routes of table main, of one protocol and through one device if these are not 0."""
    payload = Struct(f"={_RTMSG}").pack(family, 0, 0, 0, MAIN_TABLE, protocol, 0, 0, 0)
    payload += nl.attribute(nl.RTA_TABLE, nl.U32.pack(MAIN_TABLE))
    if ifindex:
        payload += nl.attribute(nl.RTA_OIF, nl.U32.pack(ifindex))
    return nl.message(nl.RTM_GETROUTE, nl.NLM_F_DUMP, payload)


def get_route(packed: bytes) -> bytes:
    """Where a packet to this address would go."""
    size = len(packed)
    payload = Struct(f"={_RTMSG}").pack(_FAMILY[size], size * 8, 0, 0, 0, 0, 0, 0, 0)
    return nl.message(nl.RTM_GETROUTE, 0, payload + nl.attribute(nl.RTA_DST, packed))
