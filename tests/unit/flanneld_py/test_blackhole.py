from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

from backends.base import NodeContext, Underlay
from flanneld_py.blackhole import blackhole_routes
from subnet.model import Lease, LeaseAttrs, PeerKey
from subnet.netconf import parse

CONTEXT = NodeContext(
    config=parse('{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}'),
    underlay=Underlay(name="eth0", mtu=1500),
)


def lease(subnet: str | None, subnet6: str | None) -> Lease:
    return Lease(
        key=PeerKey("own"),
        subnet=None if subnet is None else IPv4Network(subnet),
        subnet6=None if subnet6 is None else IPv6Network(subnet6),
        attrs=LeaseAttrs(),
    )


def test_without_a_lease_there_is_nothing_to_keep_in() -> None:
    assert blackhole_routes(CONTEXT) == ()


def test_each_family_of_the_lease_has_one_that_any_other_route_beats() -> None:
    both = replace(CONTEXT, lease=lease("10.244.7.0/24", "fd00:7::/64"))
    assert [route.describe() for route in blackhole_routes(both)] == [
        "route blackhole 10.244.7.0/24 metric 4294967295 proto 241",
        "route blackhole fd00:7::/64 metric 4294967295 proto 241",
    ]
    only6 = replace(CONTEXT, lease=lease(None, "fd00:7::/64"))
    assert len(blackhole_routes(only6)) == 1
