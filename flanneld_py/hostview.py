"""Which interfaces and addresses of the host can carry the overlay, whoever asks for them.

Pure: a view on `HostFacts` for the choice of the external interface (flannel-compat 5.3). It does
not know the options; `netif` asks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from flanneld_py.kernel import HostAddress, HostFacts, HostLink

BROADCAST = IPv4Address("255.255.255.255")
TENTATIVE = "is tentative"
FAMILIES = ((4, "IPv4"), (16, "IPv6"))
"""Length of a packed address, and the family's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """An interface that an option selects, with the addresses that it allows."""

    link: HostLink
    ipv4: tuple[HostAddress, ...]
    """Best first; empty when the network has no IPv4."""
    ipv6: tuple[HostAddress, ...]
    """Best first; empty when the network has no IPv6."""
    why: str
    """What selected it."""


def address_text(address: HostAddress) -> str:
    """An interface's address for people."""
    return str(ip_address(address.address))


def is_link_local(address: HostAddress) -> bool:
    """Whether the address is valid on its link only."""
    return ip_address(address.address).is_link_local


def why_unusable(address: HostAddress) -> str:
    """Why an address cannot be the source of encapsulated packets; empty when it can."""
    value = ip_address(address.address)
    if value.is_unspecified or value.is_loopback or value.is_multicast or value == BROADCAST:
        return "is no unicast address"
    if address.deprecated:
        return "is deprecated"
    return TENTATIVE if address.tentative else ""


def _preference(address: HostAddress) -> tuple[bool, bool, bool]:
    return (is_link_local(address), not address.permanent, address.temporary)


class HostView:
    """The host's interfaces in the order of their indexes, judged for a network of some families.

    `in_use` holds packed addresses that stay usable while they are tentative: they go through
    duplicate address detection again after each bounce of the link.
    """

    def __init__(
        self,
        facts: HostFacts,
        *,
        ipv4: bool,
        ipv6: bool,
        ours: frozenset[str],
        in_use: frozenset[bytes],
    ) -> None:
        self.links = sorted(facts.links, key=lambda link: link.ifindex)
        self.routes = facts.routes
        self._wanted = {4: ipv4, 16: ipv6}
        self._ours = ours
        self._in_use = in_use
        self._addresses: dict[str, list[HostAddress]] = {link.name: [] for link in self.links}
        for address in facts.addresses:
            if address.dev in self._addresses:
                self._addresses[address.dev].append(address)

    def families(self) -> tuple[tuple[int, str], ...]:
        """Length of packed addresses and name of each family that the network has."""
        return tuple((length, name) for length, name in FAMILIES if self._wanted[length])

    def link(self, name: str) -> HostLink | None:
        """The interface of this name."""
        return next((link for link in self.links if link.name == name), None)

    def own(self, link: HostLink) -> dict[bytes, HostAddress]:
        """All addresses of an interface by their packed form."""
        return {address.address: address for address in self._addresses[link.name]}

    def usable(self, link: HostLink, length: int) -> tuple[HostAddress, ...]:
        """Addresses of one family that may be taken, best first."""
        found = (
            address
            for address in self._addresses[link.name]
            if len(address.address) == length and not self._why_unusable(address)
        )
        return tuple(sorted(found, key=_preference))

    def fault(self, link: HostLink) -> str:
        """Why an interface cannot be used, whoever asks for it; empty when it can."""
        if link.loopback:
            return "it is the loopback, and what is sent there never leaves the host"
        if link.name in self._ours:
            return "it is a device of this agent"
        if link.mtu <= 0:
            return "its MTU is 0"
        for length, family in self.families():
            if not self.usable(link, length):
                tried = [
                    f"{address_text(address)} {self._why_unusable(address)}"
                    for address in self._addresses[link.name]
                    if len(address.address) == length
                ]
                return f"it has no usable {family} address" + (
                    f" ({', '.join(tried)})" if tried else ""
                )
        return ""

    def match(
        self,
        link: HostLink,
        why: str,
        *,
        ipv4: tuple[HostAddress, ...] | None = None,
        ipv6: tuple[HostAddress, ...] | None = None,
    ) -> Match:
        """A match of `link`; a family whose addresses are left open gets all that are usable."""
        allowed4 = self.usable(link, 4) if ipv4 is None else ipv4
        allowed6 = self.usable(link, 16) if ipv6 is None else ipv6
        return Match(
            link=link,
            ipv4=allowed4 if self._wanted[4] else (),
            ipv6=allowed6 if self._wanted[16] else (),
            why=why,
        )

    def describe(self, link: HostLink) -> str:
        """An interface with its addresses, for people."""
        own = ", ".join(address_text(address) for address in self._addresses[link.name])
        return f"{link.name} ({own})" if own else link.name

    def _why_unusable(self, address: HostAddress) -> str:
        why = why_unusable(address)
        return "" if why == TENTATIVE and address.address in self._in_use else why
