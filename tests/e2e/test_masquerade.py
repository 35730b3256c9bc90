"""48 flows through a node (R20): who is masqueraded, as seen by whoever receives the packet.

The table of verdicts is read off flannel's iptables rules (flannel-compat 8.1). Those rules
themselves pass the same table, which proves that it says what flannel does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

import pytest

from flanneld_py.firewall import nft
from flanneld_py.firewall.policy import Policy
from flanneld_py.testing.lab.namespace import run
from tests.e2e.masquerade_world import (
    OUTSIDE,
    OUTSIDE2,
    POD,
    POD2,
    REMOTE,
    REMOTE2,
    Place,
    World,
)

pytestmark = pytest.mark.tools("nft", "iptables-restore", "ip6tables-restore")

NETWORK, SUBNET = IPv4Network("10.244.0.0/16"), IPv4Network("10.244.1.0/24")
NETWORK6, SUBNET6 = IPv6Network("fd00:10:244::/48"), IPv6Network("fd00:10:244:1::/64")
HOST = {4: "192.0.2.1", 6: "2001:db8:2::1"}
"""An address of the node outside of the pod network, on no cable."""

PLAIN, MASQUERADED = "plain", "masqueraded"
DESTINATIONS = {"local pod": POD2, "remote pod": REMOTE2, "outside": OUTSIDE2}
SENDERS: dict[str, Place | None] = {
    "pod": POD,
    "remote pod": REMOTE,
    "host": None,
    "host with a pod address": None,
    "outside": OUTSIDE,
    "pod, marked": POD,
    "outside, marked": OUTSIDE,
    "host, marked": None,
}
EXPECTED = {
    # sender                    local pod  remote pod   outside
    "pod":                     (PLAIN, PLAIN,       MASQUERADED),
    "remote pod":              (PLAIN, MASQUERADED, MASQUERADED),
    "host":                    (PLAIN, MASQUERADED, PLAIN),
    "host with a pod address": (PLAIN, PLAIN,       MASQUERADED),
    "outside":                 (PLAIN, MASQUERADED, PLAIN),
    "pod, marked":             (PLAIN, PLAIN,       PLAIN),
    "outside, marked":         (PLAIN, PLAIN,       PLAIN),
    "host, marked":            (PLAIN, PLAIN,       PLAIN),
}  # fmt: skip
FLOWS = [
    (family, sender, destination)
    for family in (4, 6)
    for sender in SENDERS
    for destination in DESTINATIONS
]

FLANNELS_RULES = """\
*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s {S} -d {C} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s {C} -d {S} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s {C} -d {S} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s {C} ! -d {M} -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s {C} -d {C} -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
COMMIT
"""


def policy(*, v4: bool = True, v6: bool = True, fully_random: bool = True) -> Policy:
    return Policy.of(
        network=NETWORK if v4 else None,
        subnet=SUBNET if v4 else None,
        network6=NETWORK6 if v6 else None,
        subnet6=SUBNET6 if v6 else None,
        masquerade=True,
        fully_random=fully_random,
        forward=True,
    )


def ours(world: World) -> None:
    world.nft(nft.replace(policy()), "-j")


def flannels(world: World) -> None:
    for program, network, subnet, multicast in (
        ("iptables-restore", NETWORK, SUBNET, "224.0.0.0/4"),
        ("ip6tables-restore", NETWORK6, SUBNET6, "ff00::/8"),
    ):
        text = FLANNELS_RULES.format(S=subnet, C=network, M=multicast)
        run(world.node.command(program, "--noflush"), text=text)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as world:
        world.node.ip(*(f"addr add {address} dev lo" for address in HOST.values()))
        yield world


def source_of(family: int, sender: str) -> str:
    """The address with which a flow starts."""
    place = SENDERS[sender]
    if place is not None:
        return place.of(family)
    return POD.gateway_of(family) if sender == "host with a pod address" else HOST[family]


def verdict(world: World, family: int, sender: str, destination: str) -> str:
    target, source = DESTINATIONS[destination], source_of(family, sender)
    seen = world.send(
        family, SENDERS[sender], target, source=source, marked=sender.endswith("marked")
    )
    if seen == source:
        return PLAIN
    assert seen == target.gateway_of(family)
    return MASQUERADED


@pytest.fixture(
    scope="module", params=[ours, flannels], ids=["our table", "flannel's iptables rules"]
)
def guarded(request: pytest.FixtureRequest, world: World) -> Iterator[World]:
    request.param(world)
    yield world
    remove_rules(world)


@pytest.fixture
def bare(world: World) -> Iterator[World]:
    """No rules before and after, whichever test came first."""
    remove_rules(world)
    yield world
    remove_rules(world)


def remove_rules(world: World) -> None:
    for name in ("inet flanneld-py", "ip nat", "ip6 nat"):
        world.nft(f"add table {name}\ndelete table {name}\n")


def test_there_are_48_flows() -> None:
    assert len(FLOWS) == 48
    assert EXPECTED.keys() == SENDERS.keys()


@pytest.mark.parametrize(("family", "sender", "destination"), FLOWS)
def test_who_is_masqueraded(guarded: World, family: int, sender: str, destination: str) -> None:
    expected = EXPECTED[sender][list(DESTINATIONS).index(destination)]
    assert verdict(guarded, family, sender, destination) == expected


@pytest.mark.parametrize("family", [4, 6])
def test_multicast_keeps_its_source(guarded: World, family: int) -> None:
    for source in (POD.gateway_of(family), HOST[family]):
        assert guarded.send_multicast(family, source, OUTSIDE) == source


def test_without_rules_nobody_is_masqueraded(bare: World) -> None:
    assert {verdict(bare, *flow) for flow in FLOWS} == {PLAIN}


@pytest.mark.parametrize("enabled", [4, 6])
def test_a_family_that_is_not_enabled_is_left_alone(bare: World, enabled: int) -> None:
    bare.nft(nft.replace(policy(v4=enabled == 4, v6=enabled == 6)), "-j")
    for family in (4, 6):
        expected = MASQUERADED if family == enabled else PLAIN
        assert verdict(bare, family, "pod", "outside") == expected


@pytest.mark.parametrize("at_once", [True, False], ids=["in one transaction", "control: in two"])
def test_a_replaced_table_lets_nothing_through(bare: World, at_once: bool) -> None:
    """While the table is replaced, again and again, every new connection is masqueraded."""
    ours(bare)
    ended = threading.Event()
    made: list[int] = []

    def replace() -> None:
        try:
            for number in range(25):
                if not at_once:
                    bare.nft("delete table inet flanneld-py\n")
                bare.nft(nft.replace(policy(fully_random=bool(number % 2))), "-j")
                made.append(number)
        finally:
            ended.set()

    with bare.counting(POD, OUTSIDE2) as count:
        thread = threading.Thread(target=replace)
        thread.start()
        sent = bare.send_flows(POD, OUTSIDE2, while_=lambda: not ended.is_set())
        meanwhile = len(made)
        thread.join()
        arrived, unmasked = count()
    assert meanwhile >= 2
    assert len(made) == 25
    assert arrived == sent
    assert sent > 5000
    assert (unmasked == 0) == at_once
