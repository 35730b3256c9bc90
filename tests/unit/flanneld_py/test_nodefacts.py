from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest

from backends.base import Underlay
from flanneld_py.kernel import HostFacts, HostLink, HostRoute
from flanneld_py.netif import Choice
from flanneld_py.nodefacts import accepts_ra, onlink_prefixes, underlay_of

CHOICE = Choice(
    underlay="eth0",
    ipv4=IPv4Address("10.0.0.5"),
    ipv6=IPv6Address("2001:db8::5"),
    public_ip=IPv4Address("203.0.113.1"),
    why="it has the default route",
)


def route(text: str, dev: str, gateway: bytes = b"") -> HostRoute:
    network = ip_network(text)
    return HostRoute(
        dst=network.network_address.packed, prefixlen=network.prefixlen, dev=dev, gateway=gateway
    )


FACTS = HostFacts(
    links=(
        HostLink(name="lo", ifindex=1, mtu=65536, up=True, loopback=True),
        HostLink(name="eth0", ifindex=2, mtu=9000, up=True),
    ),
    routes=(
        route("2001:db8::/64", "eth0"),
        route("0.0.0.0/0", "eth0", gateway=bytes((10, 0, 0, 1))),
        route("10.0.0.0/24", "eth0"),
        route("10.0.0.0/24", "eth0"),
        route("192.168.7.0/24", "eth1"),
        route("172.16.0.0/12", ""),
    ),
)


def test_the_underlay_is_the_interface_as_observed() -> None:
    assert underlay_of(FACTS, CHOICE) == Underlay(
        name="eth0",
        mtu=9000,
        ipv4=IPv4Address("10.0.0.5"),
        ipv6=IPv6Address("2001:db8::5"),
        onlink=(IPv4Network("10.0.0.0/24"), IPv6Network("2001:db8::/64")),
    )
    with_ra = underlay_of(FACTS, CHOICE, accepts_ra=True)
    assert with_ra is not None
    assert with_ra.accepts_ra


def test_there_is_none_while_the_interface_is_away() -> None:
    assert underlay_of(HostFacts(), CHOICE) is None


def test_prefixes_do_not_depend_on_the_order_of_the_dump() -> None:
    assert onlink_prefixes(FACTS.routes, "eth0") == onlink_prefixes(FACTS.routes[::-1], "eth0")


@pytest.mark.parametrize(
    ("accept_ra", "forwarding", "accepts"),
    [
        ("0", "0", False),
        ("1\n", "0\n", True),
        ("1", "1", False),
        ("2", "0", True),
        ("2", "1", True),
        ("", "", False),
    ],
)
def test_who_accepts_router_advertisements(accept_ra: str, forwarding: str, accepts: bool) -> None:
    assert accepts_ra(accept_ra=accept_ra, forwarding=forwarding) is accepts
