from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface
from pathlib import Path

import pytest

from flanneld_py.cni.oldsubnet import booked_addresses, old_gateways, pods_of_old_subnets
from flanneld_py.kernel import HostAddress, HostFacts
from flanneld_py.subnetfile import SubnetEnv

ENV = SubnetEnv(
    network=IPv4Network("10.1.0.0/16"),
    subnet=IPv4Network("10.1.17.0/24"),
    network6=IPv6Network("fd00:10:1::/56"),
    subnet6=IPv6Network("fd00:10:1:5::/64"),
    mtu=1450,
)


def on(dev: str, text: str, scope: int = 0) -> HostAddress:
    found = ip_interface(text)
    return HostAddress(
        dev=dev, address=found.ip.packed, prefixlen=found.network.prefixlen, scope=scope
    )


@pytest.mark.parametrize(
    ("address", "is_old"),
    [
        ("10.1.17.1/24", False),  # of today
        ("10.1.18.1/24", True),
        ("10.1.17.1/25", True),  # of another SubnetLen: the plugin compares that, too
        ("10.1.17.129/25", True),
        ("10.1.18.2/24", False),  # somebody's
        ("10.1.18.1/32", False),
        ("10.1.0.1/16", False),  # of the whole network: not of a node's subnet
        ("10.2.18.1/24", False),  # not in Network
        ("192.168.0.1/24", False),
        ("fd00:10:1:5::1/64", False),
        ("fd00:10:1:6::1/64", True),
        ("fd00:10:2:6::1/64", False),
        ("fe80::1/64", False),
    ],
)
def test_gateways(address: str, is_old: bool) -> None:
    found = on("cni0", address)
    assert old_gateways(HostFacts(addresses=(found,)), "cni0", ENV) == ((found,) if is_old else ())


def test_only_the_bridge_and_only_global_addresses() -> None:
    facts = HostFacts(addresses=(on("eth0", "10.1.18.1/24"), on("cni0", "10.1.18.1/24", scope=253)))
    assert old_gateways(facts, "cni0", ENV) == ()
    assert old_gateways(facts, "", ENV) == ()


def test_a_family_that_is_off_is_left_alone() -> None:
    facts = HostFacts(addresses=(on("cni0", "fd00:10:1:6::1/64"),))
    assert old_gateways(facts, "cni0", replace(ENV, network6=None, subnet6=None)) == ()


def test_pods_with_old_addresses() -> None:
    booked = [ip_address(text) for text in ("fd00:10:1:6::2", "10.1.17.9", "10.1.18.3", "10.1.9.1")]
    old = pods_of_old_subnets(booked, ENV)
    assert [str(one) for one in old] == ["10.1.9.1", "10.1.18.3", "fd00:10:1:6::2"]


def test_the_book_of_host_local(tmp_path: Path) -> None:
    for name in ("10.1.17.2", "fd00:10:1:5::2", "last_reserved_ip.0", "lock"):
        (tmp_path / name).touch()
    assert {str(one) for one in booked_addresses(tmp_path)} == {"10.1.17.2", "fd00:10:1:5::2"}
    assert booked_addresses(tmp_path / "none") == ()
    assert booked_addresses(tmp_path / "lock") == ()
