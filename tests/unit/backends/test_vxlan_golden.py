"""Our plan against what flannel put into the kernel for the same leases.

Recorded on node 1 (172.31.0.1 and fd00:172::1 on u0, MTU 1500). Intended differences, all of them
applied here by name: protocol 241 instead of boot, routes by nexthop (`test_vxlan` covers that
form), the backstop, FLANNEL_MTU in dual stack (V7). In these recordings flannel's `local` is the
public address, which here is the interface's own as well (V8).
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from backends.base import NodeContext, Underlay
from backends.elements import (
    BACKSTOP_METRIC,
    BOOT_PROTOCOL,
    IPV6_DEFAULT_METRIC,
    ROUTE_PROTOCOL,
    Address,
    Element,
    Fdb,
    Neighbour,
    Route,
    Sysctl,
    VxlanLink,
)
from backends.registry import make_backend
from subnet import codec, netconf
from subnet.model import Lease

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
FOLDERS = (
    "etcd-vxlan",
    "etcd-vxlan-dual",
    "etcd-vxlan-dual-nft",
    "etcd-vxlan-options",
    "etcd-vxlan-directrouting",
)
OWN_IP = IPv4Address("172.31.0.1")
OWN_IP6 = IPv6Address("fd00:172::1")
PREFIX = "/coreos.com/network"
UNDERLAY = Underlay(
    name="u0",
    mtu=1500,
    ipv4=OWN_IP,
    ipv6=OWN_IP6,
    onlink=(ip_network("172.31.0.0/24"), ip_network("fd00:172::/64")),
)


class Recording:
    """One folder, read into our values."""

    def __init__(self, folder: str) -> None:
        self.path = GOLDEN / folder
        self.config = netconf.parse(self.text("net-conf.json"))
        self.values: dict[str, str] = {}
        self.leases = []
        lines = self.text("etcd.txt").splitlines()
        for key, value in zip(lines[::2], lines[1::2], strict=True):
            if key != codec.config_key(PREFIX):
                subnet, subnet6 = codec.parse_lease_key(PREFIX, key.encode())
                attrs = codec.decode_attrs(value.encode())
                lease = Lease(
                    key=codec.key_text(key.encode()), subnet=subnet, subnet6=subnet6, attrs=attrs
                )
                self.leases.append(lease)
                self.values[lease.key] = value
        (self.own,) = (lease for lease in self.leases if lease.attrs.public_ip == OWN_IP)
        self.peers = [lease for lease in self.leases if lease is not self.own]

    def text(self, name: str) -> str:
        return (self.path / name).read_text()

    def links(self) -> set[Element]:
        found: set[Element] = set()
        for link in json.loads(self.text("link.json")):
            if link["ifname"].startswith("flannel"):
                data = link["linkinfo"]["info_data"]
                found.add(
                    VxlanLink(
                        name=link["ifname"],
                        vni=data["id"],
                        port=data["port"],
                        parent=data["link"],
                        local=ip_address(data.get("local") or data["local6"]).packed,
                        mac=codec.parse_mac(link["address"]),
                        mtu=link["mtu"],
                        learning=data["learning"],
                        gbp=data.get("gbp", False),
                        up="UP" in link["flags"],
                    )
                )
        return found

    def addresses(self) -> set[Element]:
        found: set[Element] = set()
        dev = ""
        for line in self.text("addr.txt").splitlines():
            if match := re.match(r"\d+: ([^@:]+(?:\.\d+)?)[@:]", line):
                dev = match[1]
            elif (match := re.match(r"\s+inet6? (\S+) scope global", line)) and "flannel" in dev:
                own = ip_interface(match[1])
                found.add(Address(dev=dev, address=own.ip.packed, prefixlen=own.network.prefixlen))
        return found

    def peer_elements(self) -> set[Element]:
        return self.routes() | self.neighbours() | self.fdb()

    def routes(self) -> set[Element]:
        """Routes of protocol boot, but for the host's own default routes."""
        found: set[Element] = set()
        line_format = re.compile(
            r"unicast (\S+/\d+) via (\S+) dev (\S+) proto boot scope global (?:metric (\d+) )?"
            r"(onlink )?(?:pref medium)?"
        )
        for line in self.text("route.txt").splitlines():
            if " proto boot " in line and not line.startswith("unicast default"):
                match = line_format.fullmatch(line)
                assert match is not None, line
                network = ip_network(match[1])
                found.add(
                    Route(
                        dst=network.network_address.packed,
                        prefixlen=network.prefixlen,
                        metric=int(match[4] or 0),
                        gateway=ip_address(match[2]).packed,
                        dev=match[3],
                        onlink=bool(match[5]),
                        protocol=BOOT_PROTOCOL,
                    )
                )
        return found

    def neighbours(self) -> set[Element]:
        lines = self.text("neigh.txt").splitlines()
        matches = [re.fullmatch(r"(\S+) dev (\S+) lladdr (\S+) PERMANENT ?", x) for x in lines]
        return {
            Neighbour(dev=m[2], dst=ip_address(m[1]).packed, mac=codec.parse_mac(m[3]))
            for m in matches
            if m is not None
        }

    def fdb(self) -> set[Element]:
        line_format = re.compile(r"(\S+) dev (\S+) dst (\S+) self permanent ?")
        matches = [line_format.fullmatch(line) for line in self.text("fdb.txt").splitlines()]
        return {
            Fdb(dev=m[2], mac=codec.parse_mac(m[1]), dst=ip_address(m[3]).packed)
            for m in matches
            if m is not None
        }


@pytest.fixture(params=FOLDERS)
def recording(request: pytest.FixtureRequest) -> Recording:
    return Recording(request.param)


def context_of(recording: Recording) -> NodeContext:
    mac, mac6 = make_backend(recording.config).stored_macs(recording.own.attrs)
    return NodeContext(
        config=recording.config,
        underlay=UNDERLAY,
        public_ip=OWN_IP,
        public_ipv6=OWN_IP6 if recording.config.enable_ipv6 else None,
        mac=mac or b"",
        mac6=mac6 or b"",
        lease=recording.own,
        by_nexthop=False,
    )


def test_what_we_publish_is_what_flannel_published(recording: Recording) -> None:
    backend = make_backend(recording.config)
    attrs = backend.attrs(context_of(recording))
    assert codec.encode_attrs(attrs).decode() == recording.values[recording.own.key]


def test_the_devices_are_flannels(recording: Recording) -> None:
    plan = make_backend(recording.config).plan_node(context_of(recording))
    assert {e for e in plan if isinstance(e, VxlanLink)} == recording.links()
    assert {e for e in plan if isinstance(e, Address)} == recording.addresses()
    # Beyond flannel: the backstop, and settings it leaves to the administrator.
    rest = [e for e in plan if not isinstance(e, VxlanLink | Address | Sysctl)]
    assert rest
    for element in rest:
        assert isinstance(element, Route)
        assert (element.type, element.metric) == ("unreachable", BACKSTOP_METRIC)


def test_what_reaches_a_peer_is_flannels(recording: Recording) -> None:
    backend, context = make_backend(recording.config), context_of(recording)
    ours: set[Element] = set()
    for peer in recording.peers:
        plan = backend.plan_peer(context, peer)
        assert plan.problems == ()
        for element in plan.elements:
            if isinstance(element, Route):
                assert element.protocol == ROUTE_PROTOCOL
                element = replace(element, protocol=BOOT_PROTOCOL)
            ours.add(element)
    assert recording.routes()
    assert ours == recording.peer_elements()


def test_ipv6_routes_have_the_metric_that_the_kernel_reports() -> None:
    metrics = {r.metric for r in Recording("etcd-vxlan-dual").routes() if isinstance(r, Route)}
    assert metrics == {0, IPV6_DEFAULT_METRIC}


def test_flannel_mtu(recording: Recording) -> None:
    theirs = re.search(r"^FLANNEL_MTU=(\d+)$", recording.text("subnet.env"), re.MULTILINE)
    assert theirs is not None
    # V7: flannel forgets the longer IPv6 header; the kernel has clamped its device all the same.
    expected = 1430 if recording.config.enable_ipv6 else int(theirs[1])
    assert make_backend(recording.config).mtu(context_of(recording)) == expected
