"""Choosing a free subnet, and judging a given one."""

import json
import random
from ipaddress import IPv4Network, IPv6Network

import pytest

from subnet import netconf
from subnet.allocate import choose, compatible, overlapping
from subnet.errors import OutOfSubnetsError
from subnet.model import Lease, NetworkConfig, PeerKey


class Fixed:
    """Draws the number it was made with, and remembers from how many."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stops: list[int] = []

    def randrange(self, stop: int, /) -> int:
        self.stops.append(stop)
        assert 0 <= self.number % stop < stop
        return self.number % stop


def config4(network: str = "10.3.0.0/16", **keys: object) -> NetworkConfig:
    return parse(Network=network, **keys)


def parse(**keys: object) -> NetworkConfig:
    return netconf.parse(json.dumps(keys))


def nets(*texts: str) -> list[IPv4Network]:
    return [IPv4Network(text) for text in texts]


def test_every_free_subnet_can_be_drawn_and_no_other() -> None:
    config = config4(SubnetMin="10.3.1.0", SubnetMax="10.3.8.0")
    taken = nets("10.3.2.0/24", "10.3.4.0/23", "10.3.7.128/25", "10.4.0.0/16", "10.2.0.0/16")
    drawn = {choose(config, taken, [], Fixed(n))[0] for n in range(4)}
    assert drawn == set(nets("10.3.1.0/24", "10.3.3.0/24", "10.3.6.0/24", "10.3.8.0/24"))
    source = Fixed(0)
    choose(config, taken, [], source)
    assert source.stops == [4]


def test_nested_and_equal_leases_are_counted_once() -> None:
    config = config4(SubnetMin="10.3.0.0", SubnetMax="10.3.3.0")
    taken = nets("10.3.0.0/24", "10.3.0.0/25", "10.3.0.0/23", "10.3.1.0/24", "10.3.1.0/28")
    assert {choose(config, taken, [], Fixed(n))[0] for n in range(2)} == set(
        nets("10.3.2.0/24", "10.3.3.0/24")
    )


def test_a_lease_that_begins_before_the_range_blocks_its_begin() -> None:
    config = config4(SubnetMin="10.3.1.0", SubnetMax="10.3.4.0")
    assert choose(config, nets("10.3.0.0/23"), [], Fixed(0))[0] == IPv4Network("10.3.2.0/24")


def test_no_wrap_at_the_end_of_the_address_space() -> None:
    config = parse(Network="255.255.0.0/16")
    drawn = {choose(config, [], [], Fixed(n))[0] for n in range(255)}
    assert len(drawn) == 255
    assert IPv4Network("255.255.255.0/24") in drawn
    assert all(net is not None and net.subnet_of(IPv4Network("255.255.0.0/16")) for net in drawn)


def test_out_of_subnets_names_network_length_and_leases() -> None:
    config = config4(SubnetLen=18)
    with pytest.raises(OutOfSubnetsError) as caught:
        choose(config, nets("10.3.64.0/18", "10.3.128.0/18", "10.3.192.0/18"), [], Fixed(0))
    assert caught.value.network == "10.3.0.0/16"
    assert caught.value.subnet_len == 18
    assert caught.value.taken == 3
    with pytest.raises(OutOfSubnetsError):
        choose(config, nets("10.0.0.0/8"), [], Fixed(0))


def test_families_are_chosen_independently() -> None:
    config = parse(EnableIPv6=True, Network="10.3.0.0/16", IPv6Network="fd00:10::/56")
    subnet, subnet6 = choose(
        config, nets("10.3.1.0/24"), [IPv6Network("fd00:10:0:1::/64")], Fixed(0)
    )
    assert subnet == IPv4Network("10.3.2.0/24")
    assert subnet6 == IPv6Network("fd00:10:0:2::/64")
    config = parse(EnableIPv4=False, EnableIPv6=True, IPv6Network="fd00:10::/56")
    assert choose(config, nets("0.0.0.0/1"), [], Fixed(3)) == (
        None,
        IPv6Network("fd00:10:0:4::/64"),
    )
    with pytest.raises(OutOfSubnetsError):
        choose(config, [], [IPv6Network("fd00::/8")], Fixed(0))


def test_a_huge_ipv6_network_is_not_walked() -> None:
    config = parse(EnableIPv4=False, EnableIPv6=True, IPv6Network="fd00::/8", IPv6SubnetLen=126)
    _, subnet6 = choose(config, [], [IPv6Network("fd00::/9")], Fixed(2**117 - 1))
    assert subnet6 == IPv6Network(((0xFE << 120) - 4, 126))


def test_many_leases_and_a_real_source() -> None:
    config = parse(Network="10.0.0.0/8")
    taken = [IPv4Network((0x0A000000 + (i << 8), 24)) for i in range(65536) if i != 0x1234]
    random.Random(1).shuffle(taken)
    assert choose(config, taken, [], random.Random(2))[0] == IPv4Network("10.18.52.0/24")


@pytest.mark.parametrize(
    ("subnet", "subnet6", "part"),
    [
        ("10.3.1.0/24", "fd00:10:0:1::/64", ""),
        ("10.3.255.0/24", "fd00:10:0:ff::/64", ""),
        ("10.3.0.0/24", "fd00:10:0:1::/64", "outside of the leasable range 10.3.1.0 to 10.3.255.0"),
        ("10.4.0.0/24", "fd00:10:0:1::/64", "10.4.0.0/24 is outside"),
        ("10.3.1.0/25", "fd00:10:0:1::/64", "not a /24"),
        (None, "fd00:10:0:1::/64", "no IPv4 subnet"),
        ("10.3.1.0/24", None, "no IPv6 subnet"),
        ("10.3.1.0/24", "fd00:10:0:100::/64", "fd00:10:0:100::/64 is outside"),
        ("10.3.1.0/24", "fd00:10::/56", "not a /64"),
    ],
)
def test_compatible(subnet: str | None, subnet6: str | None, part: str) -> None:
    config = parse(EnableIPv6=True, Network="10.3.0.0/16", IPv6Network="fd00:10::/56")
    reason = compatible(
        config,
        IPv4Network(subnet) if subnet else None,
        IPv6Network(subnet6) if subnet6 else None,
    )
    assert (reason == "") == (part == "")
    assert part in reason


def test_a_subnet_of_a_disabled_family_is_not_compatible() -> None:
    subnet, subnet6 = IPv4Network("10.3.1.0/24"), IPv6Network("fd00:10:0:1::/64")
    assert "IPv6" in compatible(config4(), subnet, subnet6)
    config = parse(EnableIPv4=False, EnableIPv6=True, IPv6Network="fd00:10::/56")
    assert "IPv4" in compatible(config, subnet, subnet6)
    assert compatible(config, None, subnet6) == ""


def test_overlapping() -> None:
    leases = [
        Lease(key=PeerKey("a"), subnet=IPv4Network("10.3.1.0/24")),
        Lease(
            key=PeerKey("b"),
            subnet=IPv4Network("10.3.2.0/24"),
            subnet6=IPv6Network("fd00:10:0:1::/64"),
        ),
        Lease(key=PeerKey("c"), subnet6=IPv6Network("fd00:10:0:2::/64")),
        Lease(key=PeerKey("d"), subnet=IPv4Network("10.3.0.0/16")),
    ]

    def found(subnet: str | None, subnet6: str | None) -> str:
        wanted = IPv4Network(subnet) if subnet else None
        wanted6 = IPv6Network(subnet6) if subnet6 else None
        return "".join(lease.key for lease in overlapping(wanted, wanted6, leases))

    assert found("10.3.1.128/25", None) == "ad"
    assert found("10.3.0.0/23", None) == "ad"
    assert found("10.4.0.0/24", "fd00:10::/56") == "bc"
    assert found("10.3.3.0/24", "fd00:10:0:2::/64") == "cd"
    assert found(None, "fd00:10:0:3::/64") == ""
    assert found(None, None) == ""
    # The first 32 bits of fd00:a03:... read as IPv4 mean nothing.
    assert found("253.0.0.0/16", None) == ""
