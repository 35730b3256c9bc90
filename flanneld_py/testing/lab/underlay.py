"""The underlay: one switch that all nodes hang on, which is also their way to everywhere else.

The switch's own address is every node's default gateway and the place where etcd listens, and it
answers for whole ranges of addresses (`PEERS`, `PEERS6`) behind which static peers live. Must not
know what a node runs.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from flanneld_py.testing.lab.namespace import Namespace

NODES = IPv4Network("172.31.0.0/24")
NODES6 = IPv6Network("fd00:172::/64")
GATEWAY = NODES[254]
GATEWAY6 = NODES6[254]
PEERS = IPv4Network("172.31.128.0/17")
PEERS6 = IPv6Network("fd00:172:1::/64")
UPLINK = "u0"
MTU = 1500


class Underlay:
    """A bridge in a namespace of its own."""

    def __init__(self, prefix: str) -> None:
        self.namespace = Namespace(f"{prefix}sw")

    def create(self) -> None:
        """Make the switch."""
        self.namespace.create()
        self.namespace.ip(
            # Snooping would swallow the first neighbour solicitations on a young port.
            "link add br0 type bridge forward_delay 0 mcast_snooping 0",
            "link set br0 up",
            f"address add {GATEWAY}/{NODES.prefixlen} dev br0",
            f"address add {GATEWAY6}/{NODES6.prefixlen} dev br0 nodad",
            f"route add local {PEERS} dev lo",
            f"route add local {PEERS6} dev lo",
        )

    def remove(self) -> None:
        """Remove the switch."""
        self.namespace.remove()

    def attach(self, node: Namespace, number: int, *, mtu: int = MTU) -> None:
        """Give a node its underlay interface `u0`, with addresses and default routes."""
        self.namespace.ip(
            f"link add p{number} mtu {mtu} type veth "
            f"peer name {UPLINK} netns {node.name} mtu {mtu}",
            f"link set p{number} master br0",
            f"link set p{number} up",
        )
        node.ip(f"link set {UPLINK} up", *_addressing(number))

    def detach(self, node: Namespace) -> None:
        """Delete a node's underlay interface, as when a card is pulled out."""
        node.ip(f"link delete {UPLINK}")

    def bounce(self, node: Namespace, number: int, *, times: int = 1) -> None:
        """Set a node's interface down and up again, and give back what that took away."""
        flaps = [f"link set {UPLINK} {state}" for _ in range(times) for state in ("down", "up")]
        node.ip(*flaps, *_addressing(number, again=True))

    def cut(self, number: int) -> None:
        """Let a node's packets vanish without a word, as a switch does that lost its mind."""
        self.namespace.ip(f"link set p{number} nomaster")

    def mend(self, number: int) -> None:
        """Undo `cut`."""
        self.namespace.ip(f"link set p{number} master br0")


def address_of(number: int) -> IPv4Address:
    """Return the underlay IPv4 address of node `number`."""
    return NODES[number]


def address6_of(number: int) -> IPv6Address:
    """Return the underlay IPv6 address of node `number`."""
    return NODES6[number]


def _addressing(number: int, *, again: bool = False) -> list[str]:
    """Return commands that give `u0` its addresses; a link that was down kept only IPv4 ones."""
    own = [f"address add {NODES[number]}/{NODES.prefixlen} dev {UPLINK}"] if not again else []
    return [
        *own,
        f"address add {NODES6[number]}/{NODES6.prefixlen} dev {UPLINK} nodad",
        f"route add default via {GATEWAY} dev {UPLINK}",
        f"route add default via {GATEWAY6} dev {UPLINK}",
    ]
