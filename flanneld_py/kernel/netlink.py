"""Netlink framing and the numbers of rtnetlink: headers, attributes, error messages.

Pure: bytes in, values out. What a message means is the affair of `encode` and `decode`; sockets
are the affair of `batch` and `monitor`. Numbers are those of the kernel's uapi headers
(linux/netlink.h, rtnetlink.h, neighbour.h, nexthop.h, if_link.h, if_addr.h).
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

# linux/netlink.h
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800
NLM_F_CAPPED: Final = 0x100
"""On an error message: the request is not repeated in it (NETLINK_CAP_ACK)."""
NLM_F_ACK_TLVS: Final = 0x200
"""On an error message: attributes with the kernel's words follow (NETLINK_EXT_ACK)."""
NLMSGERR_ATTR_MSG: Final = 1
SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11
NETLINK_GET_STRICT_CHK: Final = 12
SO_RCVBUFFORCE: Final = 33
ATTRIBUTE_TYPE_MASK: Final = 0x3FFF
NLA_F_NESTED: Final = 0x8000

# linux/rtnetlink.h: messages
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26
RTM_NEWNEIGH: Final = 28
RTM_DELNEIGH: Final = 29
RTM_GETNEIGH: Final = 30
RTM_NEWNEXTHOP: Final = 104
RTM_DELNEXTHOP: Final = 105
RTM_GETNEXTHOP: Final = 106

# linux/rtnetlink.h: multicast groups
RTNLGRP_LINK: Final = 1
RTNLGRP_NEIGH: Final = 3
RTNLGRP_IPV4_IFADDR: Final = 5
RTNLGRP_IPV4_ROUTE: Final = 7
RTNLGRP_IPV6_IFADDR: Final = 9
RTNLGRP_IPV6_ROUTE: Final = 11
RTNLGRP_NEXTHOP: Final = 32

# Routes
RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_PREFSRC: Final = 7
RTA_MULTIPATH: Final = 9
RTA_TABLE: Final = 15
RTA_VIA: Final = 18
RTA_NH_ID: Final = 30
RTNH_F_ONLINK: Final = 4
RTM_F_CLONED: Final = 0x200
RTN_UNICAST: Final = 1
RTN_LOCAL: Final = 2
ROUTE_TYPES: Final = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
    10: "nat",
}
ROUTE_TYPE_NUMBERS: Final = {name: number for number, name in ROUTE_TYPES.items()}
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_NOWHERE: Final = 255
HOST_ROUTE_PROTOCOLS: Final = (2, 3, 4, 9, 16)
"""RTPROT_KERNEL, BOOT, STATIC, RA, DHCP: who writes default routes and on-link prefixes."""

# Neighbours and forwarding entries
AF_BRIDGE: Final = 7
NDA_DST: Final = 1
NDA_LLADDR: Final = 2
NDA_PORT: Final = 6
NDA_VNI: Final = 7
NDA_IFINDEX: Final = 8
NDA_NH_ID: Final = 13
NUD_PERMANENT: Final = 0x80
NTF_SELF: Final = 0x02
NTF_PROXY: Final = 0x08

# Nexthop objects
NHA_ID: Final = 1
NHA_GROUP: Final = 2
NHA_BLACKHOLE: Final = 4
NHA_OIF: Final = 5
NHA_GATEWAY: Final = 6
NHA_ENCAP_TYPE: Final = 7
NHA_ENCAP: Final = 8
NHA_FDB: Final = 11

# Links
IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_LINK: Final = 5
IFLA_TXQLEN: Final = 13
IFLA_LINKINFO: Final = 18
IFLA_EXT_MASK: Final = 29
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFF_UP: Final = 0x1
IFF_LOOPBACK: Final = 0x8
IFF_RUNNING: Final = 0x40
IFF_LOWER_UP: Final = 0x10000
IFLA_VXLAN_ID: Final = 1
IFLA_VXLAN_GROUP: Final = 2
IFLA_VXLAN_LINK: Final = 3
IFLA_VXLAN_LOCAL: Final = 4
IFLA_VXLAN_TTL: Final = 5
IFLA_VXLAN_TOS: Final = 6
IFLA_VXLAN_LEARNING: Final = 7
IFLA_VXLAN_PROXY: Final = 11
IFLA_VXLAN_RSC: Final = 12
IFLA_VXLAN_L2MISS: Final = 13
IFLA_VXLAN_L3MISS: Final = 14
IFLA_VXLAN_PORT: Final = 15
IFLA_VXLAN_GROUP6: Final = 16
IFLA_VXLAN_LOCAL6: Final = 17
IFLA_VXLAN_UDP_ZERO_CSUM6_TX: Final = 19
IFLA_VXLAN_UDP_ZERO_CSUM6_RX: Final = 20
IFLA_VXLAN_GBP: Final = 23
IFLA_VXLAN_COLLECT_METADATA: Final = 25

# Addresses
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_FLAGS: Final = 8
IFA_F_TEMPORARY: Final = 0x01
IFA_F_NODAD: Final = 0x02
IFA_F_DADFAILED: Final = 0x08
IFA_F_DEPRECATED: Final = 0x20
IFA_F_TENTATIVE: Final = 0x40
IFA_F_PERMANENT: Final = 0x80

HEADER: Final = Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port id."""
ATTRIBUTE: Final = Struct("=HH")
"""struct nlattr: length with this header, type."""
U32: Final = Struct("=I")
_FRAME: Final = Struct("=IHHI")
_ERROR: Final = Struct("=iIHHII")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The kernel's answer to a message that it did not accept."""

    errno: int
    """Positive errno; 0 for a plain acknowledgement."""
    text: str = ""
    """The kernel's own words (extended acknowledgement); empty when it gives none."""


def message(type_: int, flags: int, payload: bytes) -> bytes:
    """One message with a header; whoever sends it writes the sequence number."""
    return HEADER.pack(16 + len(payload), type_, flags | NLM_F_REQUEST, 0, 0) + payload


def attribute(type_: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return ATTRIBUTE.pack(4 + len(value), type_) + value + b"\0" * (-len(value) % 4)


def attributes(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """Attributes between two offsets by type. Of equal types the last wins."""
    found: dict[int, bytes] = {}
    while end - start >= 4:
        length, type_ = ATTRIBUTE.unpack_from(data, start)
        if length < 4 or length > end - start:
            break
        found[type_ & ATTRIBUTE_TYPE_MASK] = data[start + 4 : start + length]
        start += (length + 3) & ~3
    return found


def u32(value: bytes | None, default: int = 0) -> int:
    """An attribute of 32 bits, or `default` when it is absent."""
    return int(U32.unpack(value)[0]) if value is not None and len(value) == 4 else default


def text(value: bytes | None) -> str:
    """A zero-terminated string attribute."""
    return (value or b"").split(b"\0", 1)[0].decode(errors="replace")


def frames(data: bytes, length: int) -> list[tuple[int, int, int, int, int]]:
    """The messages of one datagram: (start, end, type, flags, sequence); a torn one ends it."""
    found = []
    start = 0
    while length - start >= 16:
        size, type_, flags, sequence = _FRAME.unpack_from(data, start)
        if size < 16 or size > length - start:
            break
        found.append((start, start + size, type_, flags, sequence))
        start += (size + 3) & ~3
    return found


def refusal(data: bytes, start: int, end: int, flags: int) -> Refusal:
    """Decode NLMSG_ERROR. With CAP_ACK an error repeats only the header of the request."""
    errno, size = _ERROR.unpack_from(data, start + 16)[:2]
    if not flags & NLM_F_ACK_TLVS:
        return Refusal(errno=-errno)
    after = start + 16 + 4 + (16 if flags & NLM_F_CAPPED or errno == 0 else (size + 3) & ~3)
    return Refusal(errno=-errno, text=text(attributes(data, after, end).get(NLMSGERR_ATTR_MSG)))
