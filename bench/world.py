"""The world in which all benches measure: a lab with etcd, thousands of leases, nodes to start on.

A node is used once: its namespace, folders and lease are new in each round. Must not measure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface

from bench.eye import Eye
from bench.gateway import Gateway
from flanneld_py.testing.lab.errors import AgentEnded, NotWithin
from flanneld_py.testing.lab.etcd_view import PREFIX
from flanneld_py.testing.lab.lab import Lab
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.peers import StaticPeer, make_peers
from flanneld_py.testing.lab.waiting import wait_until

NETWORK = "10.0.0.0/8"
"""Large enough for tens of thousands of /24 subnets."""
MOST_PEERS = 30_000
"""As many addresses as the lab's switch answers for, less a margin."""
CONFIG = {"Network": NETWORK, "Backend": {"Type": "vxlan"}}
WITHIN = 120.0
"""Seconds until the last route, at most."""


class World:
    """A lab whose etcd holds the leases of static peers."""

    def __init__(self, lab: Lab, count: int, say: Callable[[str], None]) -> None:
        self.lab = lab
        self.say = say
        *peers, spare = make_peers(count + 1, network=NETWORK)
        self.peers: list[StaticPeer] = peers
        """Those in etcd."""
        self.spare: StaticPeer = spare
        """One more, which is not."""
        self.networks = [peer.subnet.network_address.packed for peer in self.peers]
        self.gateway = Gateway(lab.underlay.namespace)

    def fill(self) -> None:
        """Write the leases, and let their peers answer pings."""
        began = time.monotonic()
        self.gateway.put_all(self.peers)
        self.lab.responders.serve([*self.peers, self.spare])
        self.say(f"{len(self.peers)} leases in etcd ({time.monotonic() - began:.1f} s)")

    @contextmanager
    def node(self) -> Iterator[Node]:
        """Give a new node, and remove it with its lease and all that its removal sets off."""
        (node,) = self.lab.add_nodes(1, "--nexthops=auto")
        try:
            yield node
        finally:
            node.agent.stop()
            if own := node.agent.subnet_env().get("FLANNEL_SUBNET"):
                subnet = str(IPv4Interface(own).network).replace("/", "-")
                self.gateway.delete(f"{PREFIX}/subnets/{subnet}")
            node.remove()
            self._wait_gone(node)

    def _wait_gone(self, node: Node) -> None:
        """Wait until the kernel has taken a namespace apart: that costs it seconds."""
        port = f"p{node.number}"
        wait_until(
            lambda: port not in self.lab.underlay.namespace.show("ip", "-o", "link", "show"),
            within=60,
            what=f"namespace {node.name} gone",
            every=0.1,
        )

    def start_full(self, node: Node) -> None:
        """Start a node's agent and wait until all routes are there and it is ready."""
        with Eye(node.namespace, self.networks) as eye:
            node.agent.start()
            watch(node, eye)
        node.agent.wait_ready()

    def peer_of(self, network: bytes) -> StaticPeer:
        """Return the peer that owns a /24."""
        first = IPv4Address(network)
        return next(peer for peer in self.peers if peer.subnet.network_address == first)


def watch(node: Node, eye: Eye, also: Callable[[], None] | None = None) -> None:
    """Look until the last route is there, whoever writes them; call `also` at each look."""
    deadline = time.monotonic() + WITHIN
    agent = node.agent
    while eye.ended is None:
        eye.look()
        if also is not None:
            also()
        if agent.process is not None and not agent.running:
            raise AgentEnded(node.name, agent.log_tail())
        if time.monotonic() > deadline:
            raise NotWithin("the last route", WITHIN, f"{eye.missing} missing{agent.log_tail()}")


def count_routes(node: Node, device: str = "flannel.1") -> int:
    """Count the routes of /24 networks on a device, by `ip`."""
    shown = node.namespace.show("ip", "-4", "route", "show", "dev", device)
    return sum(text.split()[0].endswith("/24") for text in shown.splitlines() if text.strip())
