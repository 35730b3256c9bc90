"""What a backend is told about the external interface, from what was observed and chosen.

Pure: `HostFacts` and a `Choice` become an `Underlay`. Chooses nothing (that is `netif`) and reads
nothing (that is the kernel layer).
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from backends.base import Underlay
from flanneld_py.kernel import HostFacts, HostRoute
from flanneld_py.netif import Choice


def underlay_of(facts: HostFacts, choice: Choice, *, accepts_ra: bool = False) -> Underlay | None:
    """The chosen interface as it is now; None while it is not there."""
    link = next((link for link in facts.links if link.name == choice.underlay), None)
    if link is None:
        return None
    return Underlay(
        name=link.name,
        mtu=link.mtu,
        ipv4=choice.ipv4,
        ipv6=choice.ipv6,
        onlink=onlink_prefixes(facts.routes, link.name),
        accepts_ra=accepts_ra,
    )


def onlink_prefixes(
    routes: tuple[HostRoute, ...], dev: str
) -> tuple[IPv4Network | IPv6Network, ...]:
    """Destinations that `dev` reaches without a gateway, in a fixed order, each one once.

    The order makes two observations of one state equal, so that plans are compared by value.
    """
    found = {
        (len(route.dst), route.dst, route.prefixlen)
        for route in routes
        if route.dev == dev and not route.gateway
    }
    return tuple(_network(dst, prefixlen) for _, dst, prefixlen in sorted(found))


def accepts_ra(*, accept_ra: str, forwarding: str) -> bool:
    """Whether an interface takes router advertisements, from its two settings as text.

    The kernel takes ``accept_ra`` 1 for yes only while the interface does not forward, and 2 for
    yes in any case (Linux Documentation/networking/ip-sysctl). Forwarding that we turn on would
    therefore silently cost the host its own default route.
    """
    return accept_ra.strip() == "2" or (accept_ra.strip() == "1" and forwarding.strip() == "0")


def _network(dst: bytes, prefixlen: int) -> IPv4Network | IPv6Network:
    packed = int.from_bytes(dst)
    if len(dst) == 4:
        return IPv4Network((packed, prefixlen), strict=False)
    return IPv6Network((packed, prefixlen), strict=False)
