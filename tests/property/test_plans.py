from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hypothesis import assume, given
from hypothesis import strategies as st

from backends.base import NodeContext, Underlay
from backends.elements import Element, Nexthop, Route, VxlanLink
from backends.registry import make_backend
from flanneld_py.kernel import HostAddress, HostFacts, HostLink, HostRoute, RouteAnswer
from flanneld_py.netif import Choice, InterfaceOptions, NoInterface, choose, compile_regex
from flanneld_py.nodefacts import underlay_of
from subnet import codec, netconf
from subnet.model import Lease, LeaseAttrs, NetworkConfig, PeerKey

# --- backends --------------------------------------------------------------------------------

NETWORKS = (
    '"Network": "10.0.0.0/8"',
    '"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00::/40"',
    '"Network": "10.0.0.0/8", "EnableIPv6": true, "IPv6Network": "fd00::/40"',
)

ipv4 = st.integers(0, 2**32 - 1).map(IPv4Address)
ipv6 = st.integers(0, 2**128 - 1).map(IPv6Address)
subnets = st.builds(
    lambda address, length: IPv4Network((int(address), length), strict=False),
    ipv4,
    st.integers(1, 31),
)
subnets6 = st.builds(
    lambda address, length: IPv6Network((int(address), length), strict=False),
    ipv6,
    st.integers(1, 127),
)
macs = st.binary(min_size=6, max_size=6)
backend_data = (
    st.none()
    | st.builds(codec.vtep_text, st.integers(0, 3), macs)
    | st.text(max_size=40)
    | st.sampled_from(
        ["{}", "[]", "null", '{"VNI":1}', '{"VtepMAC":"x"}', '{"VNI":1e9,"VtepMAC":[]}', "[" * 9999]
    )
)
attributes = st.builds(
    LeaseAttrs,
    public_ip=st.none() | ipv4,
    public_ipv6=st.none() | ipv6,
    backend_type=st.sampled_from(["vxlan"] * 5 + ["", "host-gw", "\ud800\n"]),
    backend_data=backend_data,
    backend_v6_data=backend_data,
)
leases = st.builds(
    Lease,
    key=st.just(PeerKey("peer")),
    subnet=st.none() | subnets,
    subnet6=st.none() | subnets6,
    attrs=attributes,
)


@st.composite
def configs(draw: st.DrawFn) -> NetworkConfig:
    network = draw(st.sampled_from(NETWORKS))
    mtu = draw(st.sampled_from([0, 1350, 1500, 9000]))
    direct = draw(st.sampled_from(["true", "false"]))
    return netconf.parse(
        f'{{{network}, "Backend": {{"Type": "vxlan", "MTU": {mtu}, "DirectRouting": {direct}}}}}'
    )


@st.composite
def contexts(draw: st.DrawFn) -> NodeContext:
    underlay = Underlay(
        name="eth0",
        mtu=draw(st.integers(0, 65536)),
        ipv4=draw(st.none() | ipv4),
        ipv6=draw(st.none() | ipv6),
        onlink=tuple(draw(st.lists(subnets | subnets6, max_size=3))),
        accepts_ra=draw(st.booleans()),
    )
    return NodeContext(
        config=draw(configs()),
        underlay=underlay,
        public_ip=draw(st.none() | ipv4),
        public_ipv6=draw(st.none() | ipv6),
        mac=draw(macs | st.just(b"")),
        mac6=draw(macs | st.just(b"")),
        lease=draw(st.none() | leases),
        by_nexthop=draw(st.booleans()),
    )


def keys_are_unique(elements: tuple[Element, ...]) -> bool:
    return len({element.key for element in elements}) == len(elements)


@given(contexts())
def test_a_nodes_plan_is_total_and_fits_its_underlay(context: NodeContext) -> None:
    backend = make_backend(context.config)
    plan = backend.plan_node(context)
    assert plan == backend.plan_node(context)
    assert keys_are_unique(plan)
    links = [element for element in plan if isinstance(element, VxlanLink)]
    for link in links:
        overhead = 50 if len(link.local) == 4 else 70
        assert link.mtu <= context.underlay.mtu - overhead
        assert link.name in backend.devices()
        assert backend.mtu(context) <= link.mtu
    config = context.config
    wanted = int(config.enable_ipv4) + int(config.enable_ipv6)
    said = [text for text in backend.node_problems(context) if ": no device " in text]
    assert len(links) + len(said) == wanted
    mac, mac6 = backend.stored_macs(backend.attrs(context))
    assert mac in (None, context.mac)
    assert mac6 in (None, context.mac6)


@given(contexts(), leases)
def test_a_peers_plan_is_total_and_about_that_peer_only(context: NodeContext, lease: Lease) -> None:
    backend = make_backend(context.config)
    plan = backend.plan_peer(context, lease)
    assert plan == backend.plan_peer(context, lease)
    assert keys_are_unique(plan.elements)
    assert plan.elements or plan.problems
    assert all(len(problem) < 300 and problem.isprintable() for problem in plan.problems)
    nexthops = {element.key for element in plan.elements if isinstance(element, Nexthop)}
    routes = [element for element in plan.elements if isinstance(element, Route)]
    own = {
        (net.network_address.packed, net.prefixlen) for net in (lease.subnet, lease.subnet6) if net
    }
    assert {(route.dst, route.prefixlen) for route in routes} <= own
    assert nexthops == {route.nexthop_key for route in routes if route.by_nexthop}
    assert all(route.by_nexthop == context.by_nexthop for route in routes)
    devices = {*backend.devices(), context.underlay.name}
    assert {element.dev for element in plan.elements if not hasattr(element, "value")} <= devices  # type: ignore[union-attr]


@given(contexts(), leases)
def test_both_forms_of_routes_lead_the_same_way(context: NodeContext, lease: Lease) -> None:
    backend = make_backend(context.config)
    by_id, classic = (
        backend.plan_peer(replace(context, by_nexthop=by_nexthop), lease)
        for by_nexthop in (True, False)
    )
    assert by_id.problems == classic.problems
    as_classic = [
        replace(element, by_nexthop=False) if isinstance(element, Route) else element
        for element in by_id.elements
        if not isinstance(element, Nexthop)
    ]
    assert as_classic == list(classic.elements)


@given(contexts(), leases, leases)
def test_one_family_never_depends_on_the_other(
    context: NodeContext, lease: Lease, other: Lease
) -> None:
    """Whatever the IPv6 half of a lease is, the IPv4 half of its plan is the same."""
    assume(lease.attrs.backend_type == "vxlan")
    mixed = replace(
        lease,
        subnet6=other.subnet6,
        attrs=replace(
            lease.attrs,
            public_ipv6=other.attrs.public_ipv6,
            backend_v6_data=other.attrs.backend_v6_data,
        ),
    )
    backend = make_backend(context.config)
    halves = []
    for one in (lease, mixed):
        plan = backend.plan_peer(context, one)
        elements = [e for e in plan.elements if e.key and not _is_ipv6(e)]
        halves.append((elements, [text for text in plan.problems if text.startswith("IPv4")]))
    assert halves[0] == halves[1]


def _is_ipv6(element: Element) -> bool:
    if isinstance(element, Nexthop):
        return len(element.gateway) == 16
    if isinstance(element, Route):
        return len(element.dst) == 16
    return "flannel-v6" in element.describe()


# --- the external interface ------------------------------------------------------------------

NAMES = ("lo", "eth0", "eth1", "flannel.1")
few4 = st.sampled_from(["10.0.0.1", "10.0.0.2", "127.0.0.1", "169.254.0.1", "224.0.0.1"])
few6 = st.sampled_from(["2001:db8::1", "2001:db8::2", "fe80::1", "::1", "ff02::1"])
packed4 = few4.map(lambda text: IPv4Address(text).packed)
packed6 = few6.map(lambda text: IPv6Address(text).packed)

hosts = st.builds(
    HostFacts,
    links=st.lists(
        st.builds(
            HostLink,
            name=st.sampled_from(NAMES),
            ifindex=st.integers(1, 9),
            mtu=st.sampled_from([0, 1500]),
            up=st.booleans(),
            loopback=st.booleans(),
        ),
        unique_by=lambda link: link.name,
        max_size=4,
    ).map(tuple),
    addresses=st.lists(
        st.builds(
            HostAddress,
            dev=st.sampled_from(NAMES),
            address=packed4 | packed6,
            prefixlen=st.just(24),
            deprecated=st.booleans(),
            temporary=st.booleans(),
            permanent=st.booleans(),
            tentative=st.booleans(),
        ),
        unique_by=lambda address: (address.dev, address.address),
        max_size=10,
    ).map(tuple),
    routes=st.lists(
        st.builds(
            HostRoute,
            dst=st.sampled_from([bytes(4), bytes(16)]),
            prefixlen=st.sampled_from([0, 24]),
            dev=st.sampled_from([*NAMES, ""]),
            gateway=st.sampled_from([b"", b"\1\1\1\1"]),
            metric=st.integers(0, 2),
        ),
        max_size=6,
    ).map(tuple),
)
options = st.builds(
    InterfaceOptions,
    ifaces=st.lists(st.sampled_from(["eth0", "eth1", "eth9"]) | few4 | few6, max_size=2).map(tuple),
    regexes=st.lists(
        st.sampled_from([r"^10\.", "^eth", "1", "^2001:"]).map(compile_regex), max_size=2
    ).map(tuple),
    can_reach=st.none() | st.just(IPv4Address("192.0.2.1")),
    public_ip=st.none() | few4.map(IPv4Address),
    public_ipv6=st.none() | few6.map(IPv6Address),
)
reached = st.none() | st.builds(
    RouteAnswer, dev=st.sampled_from(NAMES), source=packed4 | packed6 | st.just(b"")
)
stacks = st.sampled_from([(True, False), (False, True), (True, True)])
OURS = frozenset({"flannel.1"})


@given(hosts, options, reached, stacks)
def test_a_choice_is_usable_and_stays(
    host: HostFacts,
    asked: InterfaceOptions,
    answer: RouteAnswer | None,
    stack: tuple[bool, bool],
) -> None:
    def of(facts: HostFacts, current: Choice | None = None) -> Choice | NoInterface:
        try:
            return choose(
                facts,
                asked,
                ipv4=stack[0],
                ipv6=stack[1],
                reached=answer,
                current=current,
                ours=OURS,
            )
        except NoInterface as error:
            return error

    choice = of(host)
    if isinstance(choice, NoInterface):
        assert choice.asked
        seen = {rejection.subject.split(" ")[0] for rejection in choice.seen}
        assert seen == {link.name for link in host.links}
        return
    (link,) = (link for link in host.links if link.name == choice.underlay)
    assert link.mtu > 0
    assert not link.loopback
    assert link.name not in OURS
    own = {a.address for a in host.addresses if a.dev == link.name}
    for enabled, address, public in (
        (stack[0], choice.ipv4, choice.public_ip),
        (stack[1], choice.ipv6, choice.public_ipv6),
    ):
        assert (address is not None) == (public is not None) == enabled
        assert address is None or address.packed in own
    # Asked again, and whatever else comes to the host, it stays.
    assert of(host, choice) == choice
    more = HostAddress(
        dev=link.name, address=IPv4Address("10.0.0.200").packed, prefixlen=24, permanent=True
    )
    later = of(replace(host, addresses=(more, *host.addresses)), choice)
    assert isinstance(later, Choice)
    assert later.underlay == choice.underlay
    assert later.ipv4 == choice.ipv4 or (choice.ipv4 is not None and choice.ipv4.is_link_local)
    underlay = underlay_of(host, choice)
    assert underlay is not None
    assert (underlay.name, underlay.ipv4, underlay.ipv6) == (link.name, choice.ipv4, choice.ipv6)
