"""Packing and parsing are each other's mirror, and parsing survives whatever comes."""

from __future__ import annotations

import struct
from socket import AF_INET, AF_INET6

import pytest

from backends.elements import ROUTE_PROTOCOL, Fdb, Neighbour
from flanneld_py.kernel import decode, encode
from flanneld_py.kernel import netlink as nl

MAC = b"\x02\0\0\0\0\x01"
V4, V6 = bytes([10, 244, 1, 0]), bytes.fromhex("fd000010024400010000000000000000")
GATEWAY = {4: bytes([172, 31, 0, 2]), 16: bytes.fromhex("fd000172000000000000000000000002")}


def whole(message: bytes) -> tuple[bytes, int, int]:
    """A message alone in its datagram, its length field checked."""
    [(start, end, *_)] = nl.frames(message, len(message))
    assert (start, end) == (0, len(message))
    return message, start, end


@pytest.mark.parametrize("dst", [V4, V6])
def test_fdb_entries(dst: bytes) -> None:
    message = encode.fdb(nl.RTM_NEWNEIGH, encode.PUT, 7, MAC, dst)
    assert decode.fdb(*whole(message), "flannel.1") == Fdb(dev="flannel.1", mac=MAC, dst=dst)
    family, index, state, flags, _ = decode.NDMSG.unpack_from(message, 16)
    assert (family, index, state, flags) == (nl.AF_BRIDGE, 7, nl.NUD_PERMANENT, nl.NTF_SELF)


@pytest.mark.parametrize(("dst", "family"), [(V4, AF_INET), (V6, AF_INET6)])
def test_neighbours(dst: bytes, family: int) -> None:
    message = encode.neighbour(nl.RTM_NEWNEIGH, encode.PUT, 7, dst, MAC)
    wanted = Neighbour(dev="flannel.1", dst=dst, mac=MAC)
    assert decode.neighbour(*whole(message), "flannel.1") == wanted
    assert decode.NDMSG.unpack_from(message, 16)[:4] == (family, 7, nl.NUD_PERMANENT, 0)


@pytest.mark.parametrize("gateway", list(GATEWAY.values()))
@pytest.mark.parametrize("onlink", [True, False])
def test_nexthops(gateway: bytes, onlink: bool) -> None:
    found = decode.nexthop(*whole(encode.nexthop(0x4F000001, 7, gateway, onlink)))
    assert found == decode.NexthopObject(0x4F000001, ROUTE_PROTOCOL, 7, gateway, onlink, plain=True)


@pytest.mark.parametrize("dst", [V4, V6])
def test_routes_in_every_form(dst: bytes) -> None:
    gateway, size = GATEWAY[len(dst)], len(dst)
    new, add = nl.RTM_NEWROUTE, encode.ADD
    by_id = encode.route_by_nexthop(new, add, dst, 24, 9, 241, 77)
    assert decode.route(*whole(by_id)) == (dst, 24, 9, b"", 0, 77, 0, 241, 1)
    classic = encode.route_by_gateway(new, add, dst, 24, 0, 3, 7, gateway, True)
    assert decode.route(*whole(classic)) == (dst, 24, 0, gateway, 7, 0, nl.RTNH_F_ONLINK, 3, 1)
    plain = encode.route_plain(new, add, dst, 16, 4294967295, 241, 7)
    assert decode.route(*whole(plain)) == (dst, 16, 4294967295, b"", 0, 0, 0, 241, 7)
    device = encode.route_by_device(new, add, dst, 16, 1, 241, 7)
    assert decode.route(*whole(device)) == (dst, 16, 1, b"", 7, 0, 0, 241, 1)
    assert {classic[16]} == {AF_INET if size == 4 else AF_INET6}


def test_a_removal_leaves_the_scope_open() -> None:
    removal = encode.route_by_nexthop(nl.RTM_DELROUTE, encode.REMOVE, V4, 24, 0, 241, 77)
    assert removal[22] == nl.RT_SCOPE_NOWHERE


@pytest.mark.parametrize(("packed", "flags"), [(V4, 0x80), (V6, 0x82)])
def test_addresses(packed: bytes, flags: int) -> None:
    message = encode.address(nl.RTM_NEWADDR, encode.ADD, 7, packed, len(packed) * 8)
    index, found = decode.address(*whole(message))
    assert (index, found.address, found.prefixlen) == (7, packed, len(packed) * 8)
    assert (found.permanent, found.tentative) == (True, False)
    assert message[18] == flags


def test_an_entry_with_a_port_of_its_own_equals_nothing_that_is_wanted() -> None:
    message = encode.fdb(nl.RTM_NEWNEIGH, encode.PUT, 7, MAC, V4)
    message += nl.attribute(nl.NDA_PORT, b"\x12\x34")
    found = decode.fdb(message, 0, len(message), "flannel.1")
    assert found == Fdb(dev="flannel.1", mac=MAC, dst=bytes(4))


def test_dumps_keep_permanent_entries_only() -> None:
    keep = decode.permanent("flannel.1", decode.fdb, nl.NTF_SELF)
    message = bytearray(encode.fdb(nl.RTM_NEWNEIGH, encode.PUT, 7, MAC, V4))
    assert keep(bytes(message), 0, len(message)) is not None
    struct.pack_into("=H", message, 24, 0x02)  # reachable: learned
    assert keep(bytes(message), 0, len(message)) is None


def test_frames_end_where_a_datagram_is_torn() -> None:
    message = encode.nexthop_removal(5)
    data = message + message[:20]
    assert [frame[:2] for frame in nl.frames(data, len(data))] == [(0, len(message))]
    assert nl.frames(b"\0" * 64, 64) == []


@pytest.mark.parametrize("capped", [True, False])
def test_refusals_carry_the_kernels_words(capped: bool) -> None:
    request = encode.nexthop_removal(5)
    flags = nl.NLM_F_ACK_TLVS | (nl.NLM_F_CAPPED if capped else 0)
    body = struct.pack("=i", -17) + (request[:16] if capped else request)
    body += nl.attribute(nl.NLMSGERR_ATTR_MSG, b"Nexthop id exists\0")
    message = nl.HEADER.pack(16 + len(body), nl.NLMSG_ERROR, flags, 9, 0) + body
    assert nl.refusal(message, 0, len(message), flags) == nl.Refusal(
        errno=17, text="Nexthop id exists"
    )
    assert nl.refusal(message, 0, len(message), 0) == nl.Refusal(errno=17)


def test_attributes_stop_at_nonsense() -> None:
    good = nl.attribute(1, b"abc")
    assert nl.attributes(good + b"\x02\0\x09\0", 0, len(good) + 4) == {1: b"abc"}
    assert nl.attributes(good + b"\xff\0\x09\0", 0, len(good) + 4) == {1: b"abc"}


def _link(name: str, options: bytes, *, kind: bytes = b"vxlan") -> bytes:
    payload = decode.IFINFOMSG.pack(0, 1, 7, nl.IFF_UP | nl.IFF_RUNNING, 0)
    payload += nl.attribute(nl.IFLA_IFNAME, name.encode() + b"\0")
    payload += nl.attribute(nl.IFLA_MTU, nl.U32.pack(1450)) + nl.attribute(nl.IFLA_ADDRESS, MAC)
    info = nl.attribute(nl.IFLA_INFO_KIND, kind + b"\0")
    info += nl.attribute(nl.IFLA_INFO_DATA | nl.NLA_F_NESTED, options)
    payload += nl.attribute(nl.IFLA_LINKINFO, info)
    return nl.message(nl.RTM_NEWLINK, 0, payload)


OPTIONS = (
    nl.attribute(nl.IFLA_VXLAN_ID, nl.U32.pack(1))
    + nl.attribute(nl.IFLA_VXLAN_LINK, nl.U32.pack(3))
    + nl.attribute(nl.IFLA_VXLAN_LOCAL, V4)
    + nl.attribute(nl.IFLA_VXLAN_PORT, (8472).to_bytes(2, "big"))
    + nl.attribute(nl.IFLA_VXLAN_LEARNING, b"\0")
)


def test_vxlan_devices() -> None:
    facts = decode.link(*whole(_link("flannel.1", OPTIONS)))
    element = facts.element({3: "eth0"})
    assert element.describe() == (
        "link flannel.1 vxlan id 1 dev eth0 local 10.244.1.0 dstport 8472 "
        "address 02:00:00:00:00:01 mtu 1450 nolearning up"
    )
    assert (facts.host.ifindex, facts.host.up, facts.host.running) == (7, True, True)


@pytest.mark.parametrize(
    ("extra", "oddity"),
    [
        (nl.attribute(nl.IFLA_VXLAN_GROUP, bytes([239, 1, 1, 1])), "group"),
        (nl.attribute(nl.IFLA_VXLAN_L2MISS, b"\x01"), "l2miss"),
        (nl.attribute(nl.IFLA_VXLAN_COLLECT_METADATA, b"\x01"), "external"),
    ],
)
def test_a_vxlan_device_unlike_ours_is_foreign(extra: bytes, oddity: str) -> None:
    element = decode.link(*whole(_link("flannel.1", OPTIONS + extra))).element({})
    assert element.describe() == f"link flannel.1 type vxlan {oddity}"


def test_other_links_have_their_kind() -> None:
    facts = decode.link(*whole(_link("flannel.1", b"", kind=b"bridge")))
    assert facts.element({}).describe() == "link flannel.1 type bridge"
