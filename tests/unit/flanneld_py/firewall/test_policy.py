"""The rules, held to flannel's own text, and what they decide for every packet."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flanneld_py.firewall.policy import Match, Policy, Rule, Verdict

NETWORK, SUBNET = IPv4Network("10.244.0.0/16"), IPv4Network("10.244.1.0/24")
NETWORK6, SUBNET6 = IPv6Network("fd00:10:244::/48"), IPv6Network("fd00:10:244:1::/64")
FLANNEL = """\
-m mark --mark 0x4000/0x4000 -j RETURN
-s S -d C -j RETURN
-s C -d S -j RETURN
! -s C -d S -j RETURN
-s C ! -d M -j MASQUERADE
! -s C -d C -j MASQUERADE
"""
"""flannel-compat 8.1: C is the network, S the node's subnet, M multicast."""


def policy(
    *,
    v4: bool = True,
    v6: bool = False,
    masquerade: bool = True,
    forward: bool = False,
    fully_random: bool = True,
) -> Policy:
    return Policy.of(
        network=NETWORK if v4 else None,
        subnet=SUBNET if v4 else None,
        network6=NETWORK6 if v6 else None,
        subnet6=SUBNET6 if v6 else None,
        masquerade=masquerade,
        fully_random=fully_random,
        forward=forward,
    )


def iptables(rules: tuple[Rule, ...], names: dict[object, str]) -> str:
    lines = []
    for rule in rules:
        parts = [] if rule.mark is None else [f"-m mark --mark {rule.mark:#x}/{rule.mark:#x}"]
        for option, match in (("-s", rule.source), ("-d", rule.destination)):
            if match is not None:
                parts.append(f"{'' if match.inside else '! '}{option} {names[match.network]}")
        lines.append(" ".join([*parts, f"-j {rule.verdict.name}"]))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("family", [4, 6])
def test_the_rules_are_those_of_flannels_iptables_mode(family: int) -> None:
    wanted = policy(v4=family == 4, v6=family == 6, forward=True)
    network, subnet = (NETWORK, SUBNET) if family == 4 else (NETWORK6, SUBNET6)
    multicast = IPv4Network("224.0.0.0/4") if family == 4 else IPv6Network("ff00::/8")
    names: dict[object, str] = {network: "C", subnet: "S", multicast: "M"}
    assert iptables(wanted.masquerade, names) == FLANNEL
    assert iptables(wanted.forward, names) == "-s C -j ACCEPT\n-d C -j ACCEPT\n"


def test_two_families_share_the_rule_on_marks() -> None:
    both = policy(v6=True).masquerade
    assert both == policy().masquerade + policy(v4=False, v6=True).masquerade[1:]


def test_a_family_that_is_not_enabled_has_no_rules() -> None:
    def families(rules: tuple[Rule, ...]) -> set[int]:
        matches = [match for rule in rules for match in (rule.source, rule.destination) if match]
        return {match.network.version for match in matches}

    for v4, v6 in ((True, False), (False, True), (True, True)):
        wanted = policy(v4=v4, v6=v6, forward=True)
        expected = {version for version, on in ((4, v4), (6, v6)) if on}
        assert families(wanted.masquerade) == families(wanted.forward) == expected
    assert policy(v4=False, v6=False, forward=True).is_empty
    # A network without a subnet is T7: flannel takes 0.0.0.0/0 for the subnet.
    half = Policy.of(
        network=NETWORK, subnet=None, network6=None, subnet6=SUBNET6, masquerade=True, forward=True
    )
    assert half.is_empty


def test_only_what_is_asked_for() -> None:
    assert policy(masquerade=False).is_empty
    assert policy(masquerade=False, forward=True).masquerade == ()
    assert policy().forward == ()
    assert not policy(fully_random=False).fully_random
    # Without masquerade rules the option changes nothing, so the policies are one and the same.
    assert policy(masquerade=False, fully_random=False) == policy(masquerade=False)


def decide(rules: tuple[Rule, ...], source: str, destination: str, mark: int) -> Verdict:
    def holds(match: Match | None, address: str) -> bool:
        if match is None:
            return True
        value = ip_address(address)
        return value.version == match.network.version and (value in match.network) == match.inside

    for rule in rules:
        marked = rule.mark is None or mark & rule.mark == rule.mark
        if marked and holds(rule.source, source) and holds(rule.destination, destination):
            return rule.verdict
    return Verdict.RETURN


EDGES = """
    10.244.1.0 10.244.1.255 10.244.0.255 10.244.2.0 10.243.255.255 10.245.0.0 10.244.0.0
    10.244.255.255 223.255.255.255 224.0.0.0 239.255.255.255 8.8.8.8
"""
NEAR = st.sampled_from(EDGES.split())
ANY = st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number)))


@given(source=NEAR | ANY, destination=NEAR | ANY, mark=st.integers(0, 2**32 - 1))
def test_what_the_rules_say_in_words(source: str, destination: str, mark: int) -> None:
    is_pod, is_here = ip_address(source) in NETWORK, ip_address(source) in SUBNET
    to_pod, to_here = ip_address(destination) in NETWORK, ip_address(destination) in SUBNET
    if mark & 0x4000 or to_here or (is_here and to_pod):
        masqueraded = False  # kube-proxy's; to our own pods; between pods
    elif is_pod:
        masqueraded = not ip_address(destination).is_multicast
    else:
        masqueraded = to_pod
    verdict = decide(policy(v6=True).masquerade, source, destination, mark)
    assert verdict is (Verdict.MASQUERADE if masqueraded else Verdict.RETURN)
