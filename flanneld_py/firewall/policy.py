"""Policy: which masquerade and forward rules a node needs; the same whoever renders them.

Pure. The rules are those of flannel's iptables mode (flannel-compat 8.1) in their order: the first
that matches a packet decides. How a table or a chain is made of them is the affair of `nft`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import Final

Network = IPv4Network | IPv6Network

SERVICE_MARK: Final = 0x4000
"""The bit by which kube-proxy marks what it will masquerade itself."""
MASQUERADE_COMMENT: Final = "flanneld masq"
FORWARD_COMMENT: Final = "flanneld forward"
MULTICAST: Final[dict[int, Network]] = {4: IPv4Network("224.0.0.0/4"), 6: IPv6Network("ff00::/8")}


class Verdict(Enum):
    """What happens to a packet that matches."""

    RETURN = "return"
    """Nothing here; other tables may still act."""
    MASQUERADE = "masquerade"
    """It leaves with the address of the interface it leaves by."""
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Addresses inside of a network, or all others."""

    network: Network
    inside: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule; conditions that are None hold for every packet."""

    verdict: Verdict
    mark: int | None = None
    """Bits of the packet's mark that must all be set."""
    source: Match | None = None
    destination: Match | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All rules of a node."""

    masquerade: tuple[Rule, ...] = ()
    """For packets that are about to leave, routed or our own; empty: none are masqueraded."""
    forward: tuple[Rule, ...] = ()
    """For packets that are routed through."""
    fully_random: bool = True
    """Whether masqueraded connections get ports at random, which avoids clashes."""

    @classmethod
    def of(
        cls,
        *,
        network: IPv4Network | None,
        subnet: IPv4Network | None,
        network6: IPv6Network | None,
        subnet6: IPv6Network | None,
        masquerade: bool,
        fully_random: bool = True,
        forward: bool = False,
    ) -> Policy:
        """The rules of a node with a subnet in a network, per family that is enabled.

        A family without network or without subnet gets no rules: it is not enabled.
        """
        families: list[tuple[Network, Network]] = []
        if network is not None and subnet is not None:
            families.append((network, subnet))
        if network6 is not None and subnet6 is not None:
            families.append((network6, subnet6))
        masquerades = [rule for nets in families for rule in _masquerade(*nets)]
        if masquerades:
            masquerades.insert(0, Rule(mark=SERVICE_MARK, verdict=Verdict.RETURN))
        return cls(
            masquerade=tuple(masquerades) if masquerade else (),
            forward=tuple(rule for net, _ in families for rule in _forward(net)) if forward else (),
            fully_random=fully_random if masquerade else True,
        )

    @property
    def is_empty(self) -> bool:
        """Whether no rule is wanted at all."""
        return not self.masquerade and not self.forward


def _masquerade(network: Network, subnet: Network) -> tuple[Rule, ...]:
    everywhere, here = Match(network=network), Match(network=subnet)
    outside = Match(network=network, inside=False)
    not_multicast = Match(network=MULTICAST[network.version], inside=False)
    return (
        Rule(source=here, destination=everywhere, verdict=Verdict.RETURN),
        Rule(source=everywhere, destination=here, verdict=Verdict.RETURN),
        Rule(source=outside, destination=here, verdict=Verdict.RETURN),
        Rule(source=everywhere, destination=not_multicast, verdict=Verdict.MASQUERADE),
        Rule(source=outside, destination=everywhere, verdict=Verdict.MASQUERADE),
    )


def _forward(network: Network) -> tuple[Rule, ...]:
    inside = Match(network=network)
    return (
        Rule(source=inside, verdict=Verdict.ACCEPT),
        Rule(destination=inside, verdict=Verdict.ACCEPT),
    )
