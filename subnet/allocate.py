"""Choose a free subnet, and judge whether a given one fits the network config. Pure.

Follows flannel-compat 3.6, but draws from all free subnets instead of the first hundred, works on
ranges instead of walking (an IPv6 network may hold 2^56 subnets), and treats each family on its
own. Randomness is an argument; uniqueness among racing nodes is the store's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol

from subnet.errors import OutOfSubnetsError
from subnet.model import Lease, NetworkConfig


class RandomSource(Protocol):
    """What is asked of `random.Random`."""

    def randrange(self, stop: int, /) -> int:
        """A number from 0 to `stop` - 1, all equally likely."""
        ...


def choose(
    config: NetworkConfig,
    taken4: Collection[IPv4Network],
    taken6: Collection[IPv6Network],
    random: RandomSource,
) -> tuple[IPv4Network | None, IPv6Network | None]:
    """A subnet per enabled family that overlaps none of `taken4` and `taken6`.

    Raises OutOfSubnetsError when a family has none left.
    """
    subnet: IPv4Network | None = None
    subnet6: IPv6Network | None = None
    if config.subnet_min is not None and config.subnet_max is not None:
        span = (int(config.subnet_min), int(config.subnet_max), 32 - config.subnet_len)
        first = _draw(span, taken4, random)
        if first is None:
            raise _out_of_subnets(config.network, config.subnet_len, taken4)
        subnet = IPv4Network((first, config.subnet_len))
    if config.subnet6_min is not None and config.subnet6_max is not None:
        span = (int(config.subnet6_min), int(config.subnet6_max), 128 - config.subnet6_len)
        first = _draw(span, taken6, random)
        if first is None:
            raise _out_of_subnets(config.network6, config.subnet6_len, taken6)
        subnet6 = IPv6Network((first, config.subnet6_len))
    return subnet, subnet6


def compatible(
    config: NetworkConfig, subnet: IPv4Network | None, subnet6: IPv6Network | None
) -> str:
    """Why a lease of these subnets does not fit `config`; empty when it does."""
    return _misfit(
        "IPv4",
        subnet,
        config.enable_ipv4,
        config.subnet_len,
        (config.subnet_min, config.subnet_max),
    ) or _misfit(
        "IPv6",
        subnet6,
        config.enable_ipv6,
        config.subnet6_len,
        (config.subnet6_min, config.subnet6_max),
    )


def overlapping(
    subnet: IPv4Network | None, subnet6: IPv6Network | None, leases: Iterable[Lease]
) -> tuple[Lease, ...]:
    """Those of `leases` that overlap the wanted subnets in either family, in their order."""
    wanted4 = None if subnet is None else _bounds(subnet)
    wanted6 = None if subnet6 is None else _bounds(subnet6)
    return tuple(
        lease
        for lease in leases
        if _overlap(wanted4, lease.subnet) or _overlap(wanted6, lease.subnet6)
    )


def _draw(
    span: tuple[int, int, int],
    taken: Collection[IPv4Network] | Collection[IPv6Network],
    random: RandomSource,
) -> int | None:
    """Address of a random free subnet; None when there is none.

    `span` is the address of the first and of the last leasable subnet, and their host bits.
    Subnets are numbered from the first one; a lease blocks the range of numbers that it touches.
    """
    first, last, host_bits = span
    count = ((last - first) >> host_bits) + 1
    end = last + (1 << host_bits) - 1
    sizes: dict[int, int] = {}
    blocked: dict[int, int] = {}
    for net in taken:
        low = int(net.network_address)
        if low > end:
            continue
        size = sizes.get(net.prefixlen)
        if size is None:
            size = sizes[net.prefixlen] = 1 << (net.max_prefixlen - net.prefixlen)
        high = low + size - 1
        if high >= first:
            # A lease that begins below the first subnet touches from number 0 on.
            number = (low - first) >> host_bits if low > first else 0
            touched = (high - first) >> host_bits
            if blocked.get(number, -1) < touched:
                blocked[number] = touched
    gaps = _gaps(blocked, count)
    free = sum(length for _, length in gaps)
    if free == 0:
        return None
    drawn = random.randrange(free)
    for number, length in gaps:
        if drawn < length:
            return first + ((number + drawn) << host_bits)
        drawn -= length
    raise AssertionError("a number below the sum of the gaps lies in one of them")


def _out_of_subnets(
    network: IPv4Network | IPv6Network | None,
    subnet_len: int,
    taken: Collection[IPv4Network] | Collection[IPv6Network],
) -> OutOfSubnetsError:
    return OutOfSubnetsError(network=str(network), subnet_len=subnet_len, taken=len(taken))


def _gaps(blocked: Mapping[int, int], count: int) -> list[tuple[int, int]]:
    """Start and length of the runs of numbers below `count` that no range blocks.

    `blocked` has the last number of each range under its first one.
    """
    gaps: list[tuple[int, int]] = []
    number = 0
    for low in sorted(blocked):
        if low > number:
            gaps.append((number, low - number))
        if blocked[low] >= number:
            number = blocked[low] + 1
    if number < count:
        gaps.append((number, count - number))
    return gaps


def _misfit(
    family: str,
    subnet: IPv4Network | IPv6Network | None,
    enabled: bool,
    length: int,
    span: tuple[IPv4Address | IPv6Address | None, IPv4Address | IPv6Address | None],
) -> str:
    first, last = span
    if not enabled or first is None or last is None:
        return "" if subnet is None else f"{subnet} is {family}, which the network config disables"
    if subnet is None:
        return f"it has no {family} subnet, which the network config enables"
    if subnet.prefixlen != length:
        return f"{subnet} is not a /{length}, the subnet length of the network config"
    # A network of the right length is aligned by its type, and so are both bounds.
    if not int(first) <= int(subnet.network_address) <= int(last):
        return f"{subnet} is outside of the leasable range {first} to {last}"
    return ""


def _bounds(net: IPv4Network | IPv6Network) -> tuple[int, int]:
    low = int(net.network_address)
    return low, low + (1 << (net.max_prefixlen - net.prefixlen)) - 1


def _overlap(wanted: tuple[int, int] | None, net: IPv4Network | IPv6Network | None) -> bool:
    if wanted is None or net is None:
        return False
    low, high = _bounds(net)
    return low <= wanted[1] and wanted[0] <= high
