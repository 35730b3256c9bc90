from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from flanneld_py.kernel import HostAddress, HostFacts, HostLink, HostRoute, RouteAnswer
from flanneld_py.netif import (
    BadRegex,
    Choice,
    InterfaceOptions,
    NoInterface,
    choose,
    compile_regex,
)

V4 = IPv4Address
V6 = IPv6Address


def link(name: str, ifindex: int, mtu: int = 1500, *, loopback: bool = False) -> HostLink:
    return HostLink(name=name, ifindex=ifindex, mtu=mtu, up=True, loopback=loopback)


def address(
    dev: str,
    text: str,
    *,
    deprecated: bool = False,
    temporary: bool = False,
    permanent: bool = True,
    tentative: bool = False,
) -> HostAddress:
    packed = ip_address(text).packed
    return HostAddress(
        dev=dev,
        address=packed,
        prefixlen=24 if len(packed) == 4 else 64,
        deprecated=deprecated,
        temporary=temporary,
        permanent=permanent,
        tentative=tentative,
    )


def default(dev: str, length: int = 4, metric: int = 0) -> HostRoute:
    return HostRoute(dst=bytes(length), prefixlen=0, dev=dev, gateway=b"\1" * length, metric=metric)


LINKS = (link("lo", 1, 65536, loopback=True), link("eth0", 2), link("eth1", 3))
ADDRESSES = (
    address("lo", "127.0.0.1"),
    address("lo", "::1"),
    address("eth0", "10.0.0.5"),
    address("eth0", "10.0.0.6"),
    address("eth0", "2001:db8::5"),
    address("eth0", "fe80::5"),
    address("eth1", "192.168.7.5"),
    address("eth1", "2001:db8:7::5"),
    address("eth1", "fe80::7"),
)
ROUTES = (default("eth0"), default("eth0", 16, 1024))
HOST = HostFacts(links=LINKS, addresses=ADDRESSES, routes=ROUTES)


def of(
    options: InterfaceOptions | None = None,
    *,
    host: HostFacts = HOST,
    stack: str = "v4",
    reached: RouteAnswer | None = None,
    current: Choice | None = None,
    ours: frozenset[str] = frozenset(),
) -> Choice:
    return choose(
        host,
        options or InterfaceOptions(),
        ipv4=stack != "v6",
        ipv6=stack != "v4",
        reached=reached,
        current=current,
        ours=ours,
    )


def named(*ifaces: str) -> InterfaceOptions:
    return InterfaceOptions(ifaces=ifaces)


def matching(*patterns: str) -> InterfaceOptions:
    return InterfaceOptions(regexes=tuple(compile_regex(pattern) for pattern in patterns))


def refused(
    options: InterfaceOptions | None = None,
    *,
    host: HostFacts = HOST,
    stack: str = "v4",
    reached: RouteAnswer | None = None,
    ours: frozenset[str] = frozenset(),
) -> NoInterface:
    with pytest.raises(NoInterface) as caught:
        of(options, host=host, stack=stack, reached=reached, ours=ours)
    return caught.value


# --- default route ---------------------------------------------------------------------------


def test_without_options_the_default_route_decides() -> None:
    assert of() == Choice(
        underlay="eth0",
        ipv4=V4("10.0.0.5"),
        public_ip=V4("10.0.0.5"),
        why="it has the default route",
    )
    six = of(stack="v6")
    assert (six.underlay, six.ipv4, six.ipv6) == ("eth0", None, V6("2001:db8::5"))
    assert (six.public_ip, six.public_ipv6) == (None, V6("2001:db8::5"))
    both = of(stack="dual")
    assert (both.ipv4, both.ipv6) == (V4("10.0.0.5"), V6("2001:db8::5"))


def test_the_default_route_of_the_lowest_metric_counts() -> None:
    routes = (default("eth0", metric=200), default("eth1", metric=100))
    assert of(host=replace(HOST, routes=routes)).underlay == "eth1"


@pytest.mark.parametrize(
    ("routes", "stack", "reason"),
    [
        ((), "v4", "there is no IPv4 default route"),
        ((default("eth0"),), "v6", "there is no IPv6 default route"),
        ((default("eth0"),), "dual", "there is no IPv6 default route"),
        ((default(""),), "v4", "IPv4's has several next hops"),
        ((default("eth0"), default("", 16)), "dual", "IPv6's has several next hops"),
        (
            (default("eth0"), default("eth1", 16)),
            "dual",
            "it leads to eth0 for IPv4, but to eth1 for IPv6",
        ),
        ((default("gone0"),), "v4", "it leads to gone0, but there is no interface gone0"),
    ],
)
def test_a_default_route_that_does_not_decide(
    routes: tuple[HostRoute, ...], stack: str, reason: str
) -> None:
    error = refused(host=replace(HOST, routes=routes), stack=stack)
    (asked,) = error.asked
    assert asked.subject == "default route"
    assert reason in asked.reason


# --- by name and address ---------------------------------------------------------------------


def test_by_name() -> None:
    choice = of(named("eth1"))
    assert (choice.underlay, choice.ipv4) == ("eth1", V4("192.168.7.5"))
    assert choice.why == "--iface=eth1 names it"


def test_the_first_that_can_be_used_wins() -> None:
    assert of(named("eth9", "eth1", "eth0")).underlay == "eth1"
    options = replace(named("eth9"), regexes=(compile_regex("^192"),))
    assert of(options).underlay == "eth1"
    options = replace(named("eth9"), regexes=(compile_regex("^172"),), can_reach=V4("192.0.2.1"))
    choice = of(options, reached=RouteAnswer(dev="eth1", source=V4("192.168.7.5").packed))
    assert choice.underlay == "eth1"


def test_by_address_takes_just_that_address() -> None:
    choice = of(named("10.0.0.6"))
    assert (choice.underlay, choice.ipv4, choice.public_ip) == (
        "eth0",
        V4("10.0.0.6"),
        V4("10.0.0.6"),
    )
    assert of(named("fe80::7"), stack="v6").ipv6 == V6("fe80::7")


def test_an_address_on_two_interfaces_means_the_first() -> None:
    links = (link("eth1", 3), link("eth0", 2))
    addresses = (address("eth1", "10.0.0.5"), address("eth0", "10.0.0.5"))
    assert of(named("10.0.0.5"), host=HostFacts(links=links, addresses=addresses)).underlay == (
        "eth0"
    )


@pytest.mark.parametrize(
    ("iface", "stack", "reason"),
    [
        ("eth9", "v4", "there is no interface eth9"),
        ("10.9.9.9", "v4", "no interface has 10.9.9.9"),
        ("fe80::5", "v4", "it is an IPv6 address, and the network has no such family"),
        ("10.0.0.5", "v6", "it is an IPv4 address, and the network has no such family"),
        ("lo", "v4", "it is the loopback"),
        ("127.0.0.1", "v4", "lo has it, but it is the loopback"),
    ],
)
def test_an_iface_that_cannot_be_taken(iface: str, stack: str, reason: str) -> None:
    (asked,) = refused(named(iface), stack=stack).asked
    assert asked.subject == f"--iface={iface}"
    assert reason in asked.reason


def test_dual_stack_by_an_ipv4_address_takes_the_best_ipv6_of_the_interface() -> None:
    choice = of(named("192.168.7.5"), stack="dual")
    assert (choice.underlay, choice.ipv6) == ("eth1", V6("2001:db8:7::5"))


def test_dual_stack_by_an_ipv6_address_alone() -> None:
    """flannel crashes here (M5)."""
    choice = of(named("2001:db8:7::5"), stack="dual")
    assert (choice.underlay, choice.ipv4, choice.ipv6) == (
        "eth1",
        V4("192.168.7.5"),
        V6("2001:db8:7::5"),
    )


def test_dual_stack_with_public_ipv6_needs_both_on_one_interface() -> None:
    options = replace(named("10.0.0.6"), public_ipv6=V6("fe80::5"))
    choice = of(options, stack="dual")
    assert (choice.ipv4, choice.ipv6, choice.public_ipv6) == (
        V4("10.0.0.6"),
        V6("fe80::5"),
        V6("fe80::5"),
    )
    options = replace(named("10.0.0.6"), public_ipv6=V6("2001:db8:7::5"))
    (asked,) = refused(options, stack="dual").asked
    assert asked.reason == "no interface has 10.0.0.6 and 2001:db8:7::5"
    options = replace(named("2001:db8::5"), public_ipv6=V6("2001:db8:7::5"))
    assert of(options, stack="dual").underlay == "eth1"


# --- by regex --------------------------------------------------------------------------------


def test_a_regex_tests_addresses_of_all_interfaces_before_any_name() -> None:
    links = (link("net10.0", 2), link("eth1", 3))
    addresses = (address("net10.0", "172.16.0.1"), address("eth1", "10.0.0.9"))
    host = HostFacts(links=links, addresses=addresses)
    choice = of(matching(r"10\.0"), host=host)
    assert (choice.underlay, choice.why) == ("eth1", r"--iface-regex=10\.0 matches its address")
    choice = of(matching(r"^net10\.0$"), host=host)
    assert (choice.underlay, choice.why) == (
        "net10.0",
        r"--iface-regex=^net10\.0$ matches its name",
    )


def test_a_regex_takes_the_address_that_it_matches() -> None:
    assert of(matching(r"\.6$")).ipv4 == V4("10.0.0.6")


def test_a_regex_in_dual_stack_matches_both_families_of_one_interface() -> None:
    choice = of(matching(r"^192\.168|^2001:db8:7"), stack="dual")
    assert (choice.underlay, choice.ipv6) == ("eth1", V6("2001:db8:7::5"))
    # An address of one interface is never combined with another's name (M5).
    error = refused(matching(r"^10\.0\.0\.5$|^2001:db8:7"), stack="dual")
    assert "no usable interface has an address or a name that it matches" in str(error)


def test_a_regex_ignores_what_cannot_be_used() -> None:
    assert of(matching(".")).underlay == "eth0"
    assert of(matching("."), ours=frozenset({"eth0"})).underlay == "eth1"


@pytest.mark.parametrize(
    "pattern", ["(", "[", "a**", r"\z", r"\pL", "a(?i)b", "[[:alpha:]]+", "[[a]"]
)
def test_a_bad_regex_is_named(pattern: str) -> None:
    with pytest.raises(BadRegex) as caught:
        compile_regex(pattern)
    assert caught.value.pattern == pattern
    assert str(caught.value).startswith(f"--iface-regex={pattern}: ")


def test_a_regex_is_unanchored_as_in_flannel() -> None:
    assert of(matching("th1")).underlay == "eth1"


# --- can-reach -------------------------------------------------------------------------------


def test_can_reach_takes_the_routes_source() -> None:
    options = InterfaceOptions(can_reach=V4("192.0.2.1"))
    choice = of(
        options, reached=RouteAnswer(dev="eth0", source=V4("10.0.0.6").packed), stack="dual"
    )
    assert (choice.underlay, choice.ipv4, choice.ipv6) == (
        "eth0",
        V4("10.0.0.6"),
        V6("2001:db8::5"),
    )
    assert choice.why == "--iface-can-reach=192.0.2.1 goes through it"


def test_can_reach_without_a_source_takes_the_best_address() -> None:
    options = InterfaceOptions(can_reach=V4("192.0.2.1"))
    assert of(options, reached=RouteAnswer(dev="eth0", source=b"")).ipv4 == V4("10.0.0.5")


@pytest.mark.parametrize(
    ("reached", "reason"),
    [
        (None, "the kernel has no route to it"),
        (RouteAnswer(dev="lo", source=b""), "leads to lo, but it is the loopback"),
        (RouteAnswer(dev="x0", source=b""), "leads to x0, which is not there"),
    ],
)
def test_can_reach_that_cannot(reached: RouteAnswer | None, reason: str) -> None:
    error = refused(InterfaceOptions(can_reach=V4("192.0.2.1")), reached=reached)
    assert reason in error.asked[0].reason


# --- public addresses ------------------------------------------------------------------------


def test_a_public_ip_alone_selects() -> None:
    choice = of(InterfaceOptions(public_ip=V4("192.168.7.5")))
    assert (choice.underlay, choice.why) == ("eth1", "--public-ip=192.168.7.5 is its address")
    choice = of(InterfaceOptions(public_ipv6=V6("2001:db8:7::5")), stack="v6")
    assert choice.underlay == "eth1"


def test_a_public_ip_that_is_not_here_needs_an_iface() -> None:
    (asked,) = refused(InterfaceOptions(public_ip=V4("203.0.113.1"))).asked
    assert str(asked) == "--public-ip=203.0.113.1: no interface has 203.0.113.1"
    choice = of(replace(named("eth0"), public_ip=V4("203.0.113.1")))
    assert (choice.ipv4, choice.public_ip) == (V4("10.0.0.5"), V4("203.0.113.1"))
    assert choice.describe() == (
        "external interface eth0 (10.0.0.5, published as 203.0.113.1): --iface=eth0 names it"
    )


def test_a_public_ip_of_a_family_that_is_off_is_not_published() -> None:
    options = replace(named("eth0"), public_ip=V4("203.0.113.1"), public_ipv6=V6("2001:db8::9"))
    assert of(options).public_ipv6 is None
    assert of(options, stack="v6").public_ip is None


# --- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (address("eth0", "169.254.1.1"), address("eth0", "10.0.0.9", permanent=False)),
        (address("eth0", "10.0.0.9", permanent=False), address("eth0", "10.0.0.1")),
        (address("eth0", "10.0.0.9"), address("eth0", "10.0.0.1")),
    ],
)
def test_preference(worse: HostAddress, better: HostAddress) -> None:
    equal = (worse.permanent, worse.address[:2]) == (better.permanent, better.address[:2])
    for addresses in ((worse, better), (better, worse)):
        chosen = of(host=replace(HOST, addresses=addresses)).ipv4
        wanted = addresses[0] if equal else better
        assert chosen == V4(wanted.address)


def test_preference_of_ipv6() -> None:
    addresses: tuple[HostAddress, ...] = (
        address("eth0", "fe80::5"),
        address("eth0", "2001:db8::a", temporary=True, permanent=False),
        address("eth0", "2001:db8::b", permanent=False),
        address("eth0", "2001:db8::c", deprecated=True),
        address("eth0", "2001:db8::d", tentative=True),
    )
    expected = ["2001:db8::b", "2001:db8::a", "fe80::5"]
    while expected:
        chosen = of(host=replace(HOST, addresses=addresses), stack="v6").ipv6
        assert str(chosen) == expected.pop(0)
        addresses = tuple(a for a in addresses if chosen is None or a.address != chosen.packed)
    error = refused(host=replace(HOST, addresses=addresses), stack="v6")
    assert "2001:db8::c is deprecated, 2001:db8::d is tentative" in str(error)


@pytest.mark.parametrize("text", ["0.0.0.0", "127.0.0.2", "224.0.0.1", "255.255.255.255"])
def test_what_is_no_unicast_address_is_not_usable(text: str) -> None:
    error = refused(host=replace(HOST, addresses=(address("eth0", text),)))
    assert f"{text} is no unicast address" in str(error)


def test_an_interface_without_mtu_is_not_usable() -> None:
    links = (link("eth0", 2, mtu=0),)
    assert "its MTU is 0" in str(refused(named("eth0"), host=replace(HOST, links=links)))


def test_dual_stack_needs_both_families() -> None:
    host = replace(HOST, addresses=(address("eth0", "10.0.0.5"),))
    assert "it has no usable IPv6 address" in str(refused(named("eth0"), host=host, stack="dual"))


# --- what was not taken ----------------------------------------------------------------------


def test_with_no_match_every_option_and_every_interface_is_listed() -> None:
    options = replace(
        named("eth9", "10.9.9.9"),
        regexes=(compile_regex("^wlan"),),
        can_reach=V4("192.0.2.1"),
    )
    error = refused(options)
    assert [asked.subject for asked in error.asked] == [
        "--iface=eth9",
        "--iface=10.9.9.9",
        "--iface-regex=^wlan",
        "--iface-can-reach=192.0.2.1",
    ]
    assert [seen.subject.split()[0] for seen in error.seen] == ["lo", "eth0", "eth1"]
    text = str(error)
    assert "\n" not in text
    for rejection in (*error.asked, *error.seen):
        assert str(rejection) in text
    assert "lo (127.0.0.1, ::1): it is the loopback" in text
    assert "it could be used, but is not what was asked for" in text


def test_many_interfaces_are_counted() -> None:
    links = tuple(link(f"veth{number}", number) for number in range(1, 1001))
    error = refused(host=HostFacts(links=links))
    assert len(error.seen) == 1000
    assert "and 980 more" in str(error)
    assert len(str(error)) < 2000


def test_a_host_without_interfaces() -> None:
    assert "(interfaces: none at all)" in str(refused(host=HostFacts()))


# --- the choice in use -----------------------------------------------------------------------


def test_the_choice_in_use_stays_while_it_is_valid() -> None:
    current = of(named("eth9", "eth1"))
    back = replace(HOST, links=(*LINKS, link("eth9", 9)))
    back = replace(back, addresses=(*ADDRESSES, address("eth9", "10.9.9.1")))
    assert of(named("eth9", "eth1"), host=back).underlay == "eth9"
    assert of(named("eth9", "eth1"), host=back, current=current) == current


def test_an_address_in_use_stays_though_a_better_one_appears() -> None:
    dynamic = (address("eth0", "10.0.0.7", permanent=False),)
    current = of(host=replace(HOST, addresses=dynamic))
    virtual = replace(HOST, addresses=(address("eth0", "10.0.0.200"), *dynamic))
    assert of(host=virtual).ipv4 == V4("10.0.0.200")
    assert of(host=virtual, current=current) == current


def test_a_link_local_address_gives_way_to_a_global_one() -> None:
    early = replace(HOST, addresses=(address("eth0", "fe80::5"),))
    current = of(host=early, stack="v6")
    assert of(stack="v6", current=current).ipv6 == V6("2001:db8::5")


def test_an_address_in_use_may_be_tentative_for_a_while() -> None:
    current = of(stack="v6")
    bounced = replace(
        HOST,
        addresses=(address("eth0", "fe80::5"), address("eth0", "2001:db8::5", tentative=True)),
    )
    assert of(host=bounced, stack="v6", current=current) == current


@pytest.mark.parametrize(
    "addresses",
    [
        (address("eth0", "10.0.0.8"),),
        (address("eth0", "10.0.0.5", deprecated=True), address("eth0", "10.0.0.8")),
    ],
)
def test_an_address_that_is_gone_is_replaced(addresses: tuple[HostAddress, ...]) -> None:
    choice = of(host=replace(HOST, addresses=addresses), current=of())
    assert (choice.underlay, choice.ipv4) == ("eth0", V4("10.0.0.8"))


def test_one_family_may_change_and_the_other_stay() -> None:
    current = replace(of(stack="dual"), ipv4=V4("10.0.0.6"), public_ip=V4("10.0.0.6"))
    addresses = tuple(a for a in ADDRESSES if a.address != V6("2001:db8::5").packed)
    host = replace(HOST, addresses=(*addresses, address("eth0", "2001:db8::99")))
    choice = of(host=host, stack="dual", current=current)
    assert (choice.ipv4, choice.ipv6) == (V4("10.0.0.6"), V6("2001:db8::99"))


def test_a_default_route_that_moves_is_followed() -> None:
    current = of()
    beside = replace(HOST, routes=(default("eth1", metric=0), default("eth0", metric=100)))
    assert of(host=beside, current=current) == current
    moved = replace(HOST, routes=(default("eth1"),))
    assert of(host=moved, current=current).underlay == "eth1"


def test_the_interface_in_use_must_still_be_asked_for() -> None:
    current = of(named("eth1"))
    assert of(named("eth0"), current=current).underlay == "eth0"
