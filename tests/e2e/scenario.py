"""What scenarios share: what a healed node looks like, and how long it took to become so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest

from flanneld_py.testing.lab.agent import Agent
from flanneld_py.testing.lab.errors import NotWithin
from flanneld_py.testing.lab.icmp import Target
from flanneld_py.testing.lab.lab import Lab
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.observed import KernelState
from flanneld_py.testing.lab.peers import StaticPeer
from flanneld_py.testing.lab.ping import Prober
from flanneld_py.testing.lab.waiting import wait_until

MakeLab = Callable[..., Lab]
"""The fixture `make_lab`; its arguments are those of `Lab`."""

ROUTE_FORMS = pytest.mark.parametrize("nexthops", ["auto", "off"])
"""A scenario that must pass with nexthop objects and with flannel's classic routes."""

WIDE = {
    "Network": "10.240.0.0/12",
    "SubnetMax": "10.243.255.0",
    "Backend": {"Type": "vxlan"},
}
"""A network in which no node takes a subnet in 10.244.0.0/16 and above, where static peers are."""


class Watch:
    """Judges one node: its kernel state against what is expected, and pings from its pod."""

    def __init__(self, node: Node, targets: Iterable[Target]) -> None:
        self.node = node
        self.targets = list(targets)
        self.expected = node.observe()
        self._prober = Prober(node.pods[0].namespace)

    def close(self) -> None:
        """Close the sockets."""
        self._prober.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_healed(self) -> bool:
        """Say whether all is as expected, and all targets answer."""
        return not self.unreached() and not self.differences()

    def unreached(self) -> list[Target]:
        """Return the targets that do not answer."""
        return self._prober.unreached(self.targets, timeout=0.2)

    def differences(self) -> list[str]:
        """Return how the kernel differs from what is expected."""
        return self.expected.difference(self.node.observe())

    def healed(self, *, within: float, after: str) -> float:
        """Wait until all is healed; return the seconds that took. Raises `NotWithin`."""
        return wait_until(
            self.is_healed,
            within=within,
            what=f"healed after {after}",
            seen=lambda: f"unreached {self.unreached()[:3]}, {self.differences()[:6]}",
        )


def with_peers(state: KernelState, peers: Sequence[StaticPeer], *, nexthops: str) -> KernelState:
    """Return the state of a node without peers as it shall be with exactly these."""
    form = " nhid" if nexthops == "auto" else ""
    dev = "dev flannel.1"
    return replace(
        state,
        routes=_sorted(
            *state.routes,
            *(
                f"unicast {peer.subnet} via {peer.subnet[0]} {dev} proto 241 onlink{form}"
                for peer in peers
            ),
        ),
        neighbours=_sorted(
            *state.neighbours,
            *(f"{peer.subnet[0]} lladdr {peer.mac.hex(':')} {dev} PERMANENT" for peer in peers),
        ),
        fdb=_sorted(
            *state.fdb,
            *(f"{peer.mac.hex(':')} dst {peer.public_ip} {dev}" for peer in peers),
        ),
    )


def show_control(agent: Agent, wait: Callable[[], object]) -> None:
    """Show that an assertion can fail: with the agent frozen, `wait` does not come true."""
    agent.freeze()
    try:
        with pytest.raises(NotWithin):
            wait()
    finally:
        agent.thaw()


def peers_in_state(agent: Agent, state: str) -> dict[str, str]:
    """Return the reasons of the peers that status lists in a state, by key."""
    listed = agent.says("peers", "listed") or []
    return {peer["key"]: peer["reason"] for peer in listed if peer["state"] == state}


def _sorted(*lines: str) -> tuple[str, ...]:
    return tuple(sorted(lines))
