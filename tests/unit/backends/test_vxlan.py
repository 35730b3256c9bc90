from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

import pytest

from backends.base import NodeContext, Underlay
from backends.elements import (
    BACKSTOP_METRIC,
    ROUTE_PROTOCOL,
    Address,
    Element,
    Fdb,
    Neighbour,
    Nexthop,
    Route,
    Sysctl,
    VxlanLink,
)
from backends.vxlan import VxlanBackend
from subnet import netconf
from subnet.model import Lease, LeaseAttrs, PeerKey

E = TypeVar("E")

MAC = bytes.fromhex("020000000001")
MAC6 = bytes.fromhex("020000000601")
PEER_MAC = bytes.fromhex("020000000002")
PEER_MAC6 = bytes.fromhex("020000000602")
V4_DATA = '{"VNI":1,"VtepMAC":"02:00:00:00:00:02"}'
V6_DATA = '{"VNI":1,"VtepMAC":"02:00:00:00:06:02"}'
UNDERLAY = Underlay(
    name="eth0",
    mtu=1500,
    ipv4=IPv4Address("172.31.0.1"),
    ipv6=IPv6Address("fd00:172::1"),
    onlink=(IPv4Network("172.31.0.0/24"), IPv6Network("fd00:172::/64")),
)
PEER = Lease(
    key=PeerKey("peer"),
    subnet=IPv4Network("10.244.2.0/24"),
    subnet6=IPv6Network("fd00:10:244:2::/64"),
    attrs=LeaseAttrs(
        public_ip=IPv4Address("172.31.0.2"),
        public_ipv6=IPv6Address("fd00:172::2"),
        backend_type="vxlan",
        backend_data=V4_DATA,
        backend_v6_data=V6_DATA,
    ),
)
OWN = Lease(
    key=PeerKey("own"),
    subnet=IPv4Network("10.244.1.0/24"),
    subnet6=IPv6Network("fd00:10:244:1::/64"),
)
NETWORKS = {
    "v4": '"Network": "10.244.0.0/16"',
    "v6": '"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:10:244::/56"',
    "dual": '"Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:10:244::/56"',
}


def made(families: str = "dual", options: str = "") -> tuple[VxlanBackend, NodeContext]:
    config = netconf.parse(f'{{{NETWORKS[families]}, "Backend": {{"Type": "vxlan"{options}}}}}')
    context = NodeContext(
        config=config,
        underlay=UNDERLAY,
        public_ip=UNDERLAY.ipv4,
        public_ipv6=UNDERLAY.ipv6,
        mac=MAC,
        mac6=MAC6,
        lease=OWN,
    )
    return VxlanBackend(config), context


def of(kind: type[E], elements: tuple[Element, ...]) -> list[E]:
    return [element for element in elements if isinstance(element, kind)]


def test_devices_are_named_for_both_families_whatever_is_enabled() -> None:
    backend, _ = made("v4")
    assert backend.name == "vxlan"
    assert backend.devices() == ("flannel.1", "flannel-v6.1")


def test_a_name_that_no_device_can_have_is_not_listed() -> None:
    backend, _ = made("v4", ', "VNI": 10000')
    assert backend.devices() == ("flannel.10000",)


# --- attributes ------------------------------------------------------------------------------


def test_attributes_of_both_families() -> None:
    backend, context = made()
    assert backend.attrs(context) == LeaseAttrs(
        public_ip=IPv4Address("172.31.0.1"),
        public_ipv6=IPv6Address("fd00:172::1"),
        backend_type="vxlan",
        backend_data='{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}',
        backend_v6_data='{"VNI":1,"VtepMAC":"02:00:00:00:06:01"}',
    )


def test_a_disabled_family_is_not_published() -> None:
    backend, context = made("v4")
    attrs = backend.attrs(context)
    assert attrs.public_ip is not None
    assert attrs.public_ipv6 is None
    assert attrs.backend_v6_data is None
    backend, context = made("v6")
    attrs = backend.attrs(context)
    assert attrs.public_ip is None
    assert attrs.backend_data is None
    assert attrs.backend_v6_data is not None


def test_the_published_address_is_not_the_devices_local_one() -> None:
    backend, context = made("v4")
    context = replace(context, public_ip=IPv4Address("203.0.113.9"))
    assert backend.attrs(context).public_ip == IPv4Address("203.0.113.9")
    (link,) = of(VxlanLink, backend.plan_node(context))
    assert link.local == IPv4Address("172.31.0.1").packed


def test_stored_macs_are_what_attrs_published() -> None:
    backend, context = made()
    assert backend.stored_macs(backend.attrs(context)) == (MAC, MAC6)


@pytest.mark.parametrize(
    "data",
    [
        None,
        "",
        "{}",
        "[]",
        '{"VNI":1,"VtepMAC":"00:00:00:00:00:00"}',
        '{"VNI":1,"VtepMAC":"01:00:5e:00:00:01"}',
        '{"PublicKey":"abc=","Port":51820}',
    ],
)
def test_a_mac_that_no_device_can_have_is_not_stored(data: str | None) -> None:
    backend, _ = made()
    attrs = LeaseAttrs(backend_type="vxlan", backend_data=data, backend_v6_data=V6_DATA)
    assert backend.stored_macs(attrs) == (None, PEER_MAC6)


# --- MTU -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("families", "options", "underlay", "wanted"),
    [
        ("v4", "", 1500, 1450),
        ("v6", "", 1500, 1430),
        ("dual", "", 1500, 1430),
        ("v4", ', "MTU": 1400', 1500, 1350),
        ("v4", ', "MTU": 0', 9000, 8950),
        ("v4", ', "MTU": 9000', 1500, 1450),
        ("dual", ', "mtu": 1400', 9000, 1330),
    ],
)
def test_mtu(families: str, options: str, underlay: int, wanted: int) -> None:
    backend, context = made(families, options)
    context = replace(context, underlay=replace(UNDERLAY, mtu=underlay))
    assert backend.mtu(context) == wanted
    links = of(VxlanLink, backend.plan_node(context))
    assert min(link.mtu for link in links) == wanted
    by_name = {link.name: link.mtu for link in links}
    if families == "dual":
        assert by_name["flannel.1"] - by_name["flannel-v6.1"] == 20


def test_an_mtu_above_the_underlays_is_said() -> None:
    backend, context = made("v4", ', "MTU": 9000')
    (problem,) = backend.node_problems(context)
    assert "Backend.MTU 9000 is above the MTU 1500 of eth0" in problem
    backend, context = made("v4", ', "MTU": 1500')
    assert backend.node_problems(context) == ()


# --- the node --------------------------------------------------------------------------------


def test_devices_of_both_families() -> None:
    options = ', "VNI": 7, "Port": 4789, "MTU": 1400, "GBP": true, "Learning": true'
    backend, context = made("dual", options)
    four, six = of(VxlanLink, backend.plan_node(context))
    assert four == VxlanLink(
        name="flannel.7",
        vni=7,
        port=4789,
        parent="eth0",
        local=IPv4Address("172.31.0.1").packed,
        mac=MAC,
        mtu=1350,
        learning=True,
        gbp=True,
    )
    assert six == replace(
        four,
        name="flannel-v6.7",
        local=IPv6Address("fd00:172::1").packed,
        mac=MAC6,
        mtu=1330,
    )


def test_without_a_port_the_kernels_default_is_named() -> None:
    backend, context = made("v4")
    (link,) = of(VxlanLink, backend.plan_node(replace(context, default_vxlan_port=4789)))
    assert link.port == 4789


def test_addresses_come_with_the_lease() -> None:
    backend, context = made()
    assert of(Address, backend.plan_node(replace(context, lease=None))) == []
    assert of(Address, backend.plan_node(context)) == [
        Address(dev="flannel.1", address=IPv4Address("10.244.1.0").packed, prefixlen=32),
        Address(dev="flannel-v6.1", address=IPv6Address("fd00:10:244:1::").packed, prefixlen=128),
    ]
    one_family = replace(OWN, subnet6=None)
    (address,) = of(Address, backend.plan_node(replace(context, lease=one_family)))
    assert address.dev == "flannel.1"


def test_settings() -> None:
    backend, context = made()
    assert {(s.name, s.value) for s in of(Sysctl, backend.plan_node(context))} == {
        ("net/ipv6/conf/flannel.1/accept_ra", "0"),
        ("net/ipv6/conf/flannel-v6.1/accept_ra", "0"),
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
    }
    backend, context = made("v4")
    assert {s.name for s in of(Sysctl, backend.plan_node(context))} == {
        "net/ipv6/conf/flannel.1/accept_ra",
        "net/ipv4/ip_forward",
    }


def test_the_hosts_advertised_default_route_outlives_forwarding() -> None:
    backend, context = made()
    underlay = replace(UNDERLAY, name="en.5", accepts_ra=True)
    plan = backend.plan_node(replace(context, underlay=underlay))
    settings = [(s.name, s.value) for s in of(Sysctl, plan)]
    keeps = ("net/ipv6/conf/en.5/accept_ra", "2")
    assert settings.index(keeps) < settings.index(("net/ipv6/conf/all/forwarding", "1"))
    backend, context = made("v4")
    plan = backend.plan_node(replace(context, underlay=underlay))
    assert keeps not in [(s.name, s.value) for s in of(Sysctl, plan)]


def test_the_backstop_covers_each_network_also_before_the_lease() -> None:
    backend, context = made()
    assert of(Route, backend.plan_node(replace(context, lease=None))) == [
        Route(
            dst=network.network_address.packed,
            prefixlen=network.prefixlen,
            metric=BACKSTOP_METRIC,
            protocol=ROUTE_PROTOCOL,
            type="unreachable",
        )
        for network in (IPv4Network("10.244.0.0/16"), IPv6Network("fd00:10:244::/56"))
    ]


def test_no_backstop_where_hosts_may_live() -> None:
    backend, context = made("v4")
    underlay = replace(UNDERLAY, ipv4=IPv4Address("10.244.200.1"))
    context = replace(context, underlay=underlay)
    assert of(Route, backend.plan_node(context)) == []
    (problem,) = backend.node_problems(context)
    assert "no backstop route for 10.244.0.0/16" in problem
    assert "10.244.200.1" in problem


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ipv6": None}, "eth0 has no IPv6 address"),
        ({"mtu": 1349}, "eth0 needs an MTU of at least 1350"),
    ],
)
def test_a_family_that_cannot_be_does_not_hide_the_other(
    change: dict[str, object], reason: str
) -> None:
    backend, context = made()
    context = replace(context, underlay=replace(UNDERLAY, **change))  # type: ignore[arg-type]
    (link,) = of(VxlanLink, backend.plan_node(context))
    assert link.name == "flannel.1"
    assert backend.node_problems(context) == (f"IPv6: no device flannel-v6.1: {reason}",)
    plan = backend.plan_peer(context, PEER)
    assert plan.elements == backend.plan_peer(made()[1], PEER).elements[: len(plan.elements)]
    assert len(plan.elements) == 4
    assert plan.problems == (f"IPv6: this node has no device flannel-v6.1: {reason}",)


def test_an_unknown_mac_makes_no_device() -> None:
    backend, context = made("v4")
    context = replace(context, mac=b"")
    assert of(VxlanLink, backend.plan_node(context)) == []
    assert backend.attrs(context).backend_data is None
    assert "MAC address is not known yet" in backend.node_problems(context)[0]


def test_a_healthy_node_has_no_problems() -> None:
    backend, context = made()
    assert backend.node_problems(context) == ()


# --- peers -----------------------------------------------------------------------------------


def test_a_peer_by_nexthop() -> None:
    backend, context = made("v4")
    subnet = IPv4Address("10.244.2.0").packed
    plan = backend.plan_peer(context, PEER)
    assert plan.problems == ()
    assert plan.elements == (
        Fdb(dev="flannel.1", mac=PEER_MAC, dst=IPv4Address("172.31.0.2").packed),
        Neighbour(dev="flannel.1", dst=subnet, mac=PEER_MAC),
        Nexthop(dev="flannel.1", gateway=subnet, onlink=True),
        Route(
            dst=subnet,
            prefixlen=24,
            metric=0,
            gateway=subnet,
            dev="flannel.1",
            onlink=True,
            by_nexthop=True,
        ),
    )
    route, nexthop = of(Route, plan.elements)[0], of(Nexthop, plan.elements)[0]
    assert route.nexthop_key == nexthop.key


def test_a_peer_in_the_classic_form() -> None:
    backend, context = made("v4")
    plan = backend.plan_peer(replace(context, by_nexthop=False), PEER)
    assert of(Nexthop, plan.elements) == []
    (route,) = of(Route, plan.elements)
    assert not route.by_nexthop
    assert route == replace(
        of(Route, backend.plan_peer(context, PEER).elements)[0], by_nexthop=False
    )


def test_a_peer_over_ipv6() -> None:
    backend, context = made("v6")
    subnet = IPv6Address("fd00:10:244:2::").packed
    assert backend.plan_peer(context, PEER).elements == (
        Fdb(dev="flannel-v6.1", mac=PEER_MAC6, dst=IPv6Address("fd00:172::2").packed),
        Neighbour(dev="flannel-v6.1", dst=subnet, mac=PEER_MAC6),
        Nexthop(dev="flannel-v6.1", gateway=subnet, onlink=True),
        Route(
            dst=subnet,
            prefixlen=64,
            metric=1024,
            gateway=subnet,
            dev="flannel-v6.1",
            onlink=True,
            by_nexthop=True,
        ),
    )


def test_dual_stack_is_both_families() -> None:
    both, context = made()
    elements = both.plan_peer(context, PEER).elements
    for families in ("v4", "v6"):
        one, _ = made(families)
        assert set(one.plan_peer(context, PEER).elements) < set(elements)
    assert len(elements) == 8


@pytest.mark.parametrize("by_nexthop", [True, False])
def test_direct_routing_follows_the_observed_prefixes(by_nexthop: bool) -> None:
    backend, context = made("dual", ', "DirectRouting": true')
    context = replace(context, by_nexthop=by_nexthop)
    plan = backend.plan_peer(context, PEER)
    assert of(Fdb, plan.elements) == []
    assert of(Neighbour, plan.elements) == []
    four, six = of(Route, plan.elements)
    assert (four.dev, four.gateway, four.onlink) == (
        "eth0",
        IPv4Address("172.31.0.2").packed,
        False,
    )
    assert (six.dev, six.gateway, six.metric) == ("eth0", IPv6Address("fd00:172::2").packed, 1024)
    assert {n.key for n in of(Nexthop, plan.elements)} == (
        {four.nexthop_key, six.nexthop_key} if by_nexthop else set()
    )
    # The prefix goes, and the plan of the IPv4 half is the tunnel's again.
    context = replace(context, underlay=replace(UNDERLAY, onlink=(IPv6Network("fd00:172::/64"),)))
    plan = backend.plan_peer(context, PEER)
    assert [route.dev for route in of(Route, plan.elements)] == ["flannel.1", "eth0"]
    assert [fdb.dev for fdb in of(Fdb, plan.elements)] == ["flannel.1"]


def test_without_direct_routing_prefixes_do_not_matter() -> None:
    backend, context = made("v4")
    (route,) = of(Route, backend.plan_peer(context, PEER).elements)
    assert route.dev == "flannel.1"


def test_two_leases_of_one_node_share_its_fdb_entry() -> None:
    backend, context = made("v4")
    moved = replace(PEER, key=PeerKey("moved"), subnet=IPv4Network("10.244.9.0/24"))
    one = backend.plan_peer(context, PEER).elements
    other = backend.plan_peer(context, moved).elements
    assert set(one) & set(other) == set(of(Fdb, one))


@pytest.mark.parametrize(
    ("attrs", "reason"),
    [
        ({"backend_type": "host-gw"}, "its backend is 'host-gw', ours is vxlan"),
        ({"backend_type": ""}, "its backend is not named, ours is vxlan"),
        ({"backend_type": "VXLAN"}, "its backend is 'VXLAN', ours is vxlan"),
    ],
)
def test_another_backend_is_not_programmed(attrs: dict[str, str], reason: str) -> None:
    backend, context = made()
    plan = backend.plan_peer(context, replace(PEER, attrs=replace(PEER.attrs, **attrs)))  # type: ignore[arg-type]
    assert plan.elements == ()
    assert plan.problems == (reason,)


BROKEN = [
    ({"public_ip": None}, "it publishes no public address"),
    ({"backend_data": None}, "it publishes no backend data"),
    (
        {"backend_data": '{"VNI":2,"VtepMAC":"02:00:00:00:00:02"}'},
        "its VNI is 2, ours is 1",
    ),
    ({"backend_data": "{"}, "vxlan backend data: "),
    ({"backend_data": '{"VNI":1}'}, "vxlan backend data: VtepMAC is missing"),
    ({"backend_data": '{"VNI":1,"VtepMAC":"02:00"}'}, "vxlan backend data: VtepMAC"),
    ({"backend_data": '{"VNI":"1","VtepMAC":"02:00:00:00:00:02"}'}, "vxlan backend data: VNI"),
]


@pytest.mark.parametrize(("change", "reason"), BROKEN)
def test_a_broken_ipv4_half_leaves_ipv6(change: dict[str, object], reason: str) -> None:
    backend, context = made()
    attrs = replace(PEER.attrs, **change)  # type: ignore[arg-type]
    plan = backend.plan_peer(context, replace(PEER, attrs=attrs))
    (problem,) = plan.problems
    assert problem.startswith(f"IPv4: {reason}")
    assert plan.elements == made("v6")[0].plan_peer(context, PEER).elements


@pytest.mark.parametrize(("change", "reason"), BROKEN)
def test_a_broken_ipv6_half_leaves_ipv4(change: dict[str, object], reason: str) -> None:
    backend, context = made()
    names = {"public_ip": "public_ipv6", "backend_data": "backend_v6_data"}
    attrs = replace(PEER.attrs, **{names[name]: value for name, value in change.items()})  # type: ignore[arg-type]
    plan = backend.plan_peer(context, replace(PEER, attrs=attrs))
    (problem,) = plan.problems
    assert problem.startswith(f"IPv6: {reason}")
    assert plan.elements == made("v4")[0].plan_peer(context, PEER).elements


def test_a_lease_without_a_family_says_so() -> None:
    backend, context = made()
    plan = backend.plan_peer(context, replace(PEER, subnet6=None))
    assert plan.problems == ("IPv6: its lease has no subnet",)
    assert len(plan.elements) == 4


def test_a_family_that_we_do_not_have_is_no_problem() -> None:
    backend, context = made("v4")
    assert backend.plan_peer(context, PEER).problems == ()


def test_old_releases_publish_no_vni() -> None:
    backend, context = made("v4")
    attrs = replace(PEER.attrs, backend_data='{"VtepMAC":"02:00:00:00:00:02"}')
    assert backend.plan_peer(context, replace(PEER, attrs=attrs)) == backend.plan_peer(
        context, PEER
    )


def test_elements_share_their_memory() -> None:
    backend, context = made("v4")
    fdb, neighbour, nexthop, route = backend.plan_peer(context, PEER).elements
    assert isinstance(fdb, Fdb)
    assert isinstance(neighbour, Neighbour)
    assert isinstance(nexthop, Nexthop)
    assert isinstance(route, Route)
    assert neighbour.dst is nexthop.gateway is route.gateway is route.dst
    assert fdb.mac is neighbour.mac
    other = backend.plan_peer(context, replace(PEER, subnet=IPv4Network("10.244.3.0/24")))
    assert fdb.dev is route.dev is of(Route, other.elements)[0].dev


# --- settings that are judged ----------------------------------------------------------------


def test_rp_filter_is_judged_with_direct_routing_only() -> None:
    backend, context = made("v4")
    assert backend.settings_to_judge(context) == ()
    backend, context = made("v4", ', "DirectRouting": true')
    names = backend.settings_to_judge(context)
    assert names == (
        "net/ipv4/conf/all/rp_filter",
        "net/ipv4/conf/flannel.1/rp_filter",
        "net/ipv4/conf/eth0/rp_filter",
    )
    (warning,) = backend.judge_settings(dict.fromkeys(names, "1"))
    assert "eth0, flannel.1" in warning
    assert backend.judge_settings(dict.fromkeys(names, "2")) == ()
    backend, context = made("v6", ', "DirectRouting": true')
    assert backend.settings_to_judge(context) == ()
