"""R1, R4, R10: a node with many peers is broken in every way, and heals by itself."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress

import pytest

from flanneld_py.testing.lab.errors import CommandFailed
from flanneld_py.testing.lab.icmp import Target
from flanneld_py.testing.lab.lab import Lab
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.observed import ifindex, routes_to
from flanneld_py.testing.lab.peers import StaticPeer, make_peers
from flanneld_py.testing.lab.ping import Prober
from flanneld_py.testing.lab.silence import drop_notifications
from flanneld_py.testing.lab.underlay import GATEWAY
from flanneld_py.testing.lab.waiting import wait_until
from tests.e2e.breakages import BREAKAGES
from tests.e2e.scenario import ROUTE_FORMS, WIDE, MakeLab, Watch, peers_in_state, show_control

PEERS = 100
ROUNDS = int(os.environ.get("FLANNELD_PY_ROUNDS", "20"))
"""Rounds of R1 for each of the two route forms; 100 is the full size."""
PACE, PACE_MIX = 1.2, 5.2
"""Seconds to the next round after one breakage, and after a mix: who undoes the same thing more
than five times in five seconds is fought with on purpose, at most once a second."""
WITHIN = 2.0
"""R1, with notifications."""
WITHIN_SILENT = 10.0
"""R1, without them."""
HARMLESS = {"underlay bounced"}
"""Nothing of ours is lost by it."""
LINK_EVENTS = 50_000
DUAL = {
    "EnableIPv6": True,
    "Network": "10.244.0.0/16",
    "IPv6Network": "fd00:10:244::/48",
    "Backend": {"Type": "vxlan"},
}


@contextmanager
def node_with_peers(lab: Lab, peers: list[StaticPeer], *flags: str) -> Iterator[Watch]:
    """One agent with a pod, all peers of which answer."""
    lab.populate(peers)
    (node,) = lab.add_nodes(1, *flags)
    lab.start_agents()
    lab.publish()
    with watched(lab, node, peers) as watch:
        yield watch


@contextmanager
def both_forms(lab: Lab, peers: list[StaticPeer]) -> Iterator[list[Watch]]:
    """Two such nodes: one routes by nexthop objects, one in flannel's classic form."""
    lab.populate(peers)
    nodes = [*lab.add_nodes(1, "--nexthops=auto"), *lab.add_nodes(1, "--nexthops=off")]
    lab.start_agents()
    lab.publish()
    with ExitStack() as stack:
        watches = [stack.enter_context(watched(lab, node, peers)) for node in nodes]
        for watch, by_nexthop in zip(watches, (True, False), strict=True):
            assert len(watch.expected.routes) > PEERS
            assert any(line.endswith("nhid") for line in watch.expected.routes) == by_nexthop
        yield watches


@contextmanager
def watched(lab: Lab, node: Node, peers: list[StaticPeer]) -> Iterator[Watch]:
    """A node with a pod, which reaches all peers."""
    node.add_pod()
    targets: list[Target] = [peer.pod for peer in peers]
    targets += [peer.pod6 for peer in peers if peer.subnet6]
    with Watch(node, targets) as watch:
        wait_until(
            lambda: not watch.unreached(),
            within=5,
            what="all peers answer",
            seen=lambda: dict(lab.responders.refused),
        )
        watch.expected = node.observe()
        yield watch


def test_every_breakage_heals(lab: Lab) -> None:
    """R1, singly and in random mixes, on two nodes: one of each form of routes."""
    chance = random.Random("R1")
    names = list(BREAKAGES)
    singles = [[name] for name in names]
    mixes = [chance.sample(names, chance.randint(2, 4)) for _ in range(ROUNDS - len(names))]
    with both_forms(lab, make_peers(PEERS)) as watches:
        pids = [watch.node.agent.pid for watch in watches]
        due = time.monotonic()
        for chosen in [*singles, *mixes]:
            wait_until(lambda due=due: time.monotonic() >= due, within=PACE_MIX, what="the round")  # type: ignore[misc]
            due = time.monotonic() + (PACE if len(chosen) == 1 else PACE_MIX)
            for watch in watches:
                for name in chosen:
                    _break(watch.node, name, alone=len(chosen) == 1)
                watch.healed(within=WITHIN, after=" + ".join(chosen))
        assert [watch.node.agent.pid for watch in watches if watch.node.agent.running] == pids


def test_silent_notifications(lab: Lab) -> None:
    """R1, with the kernel's notifications taken away: the periodic look finds what is broken."""
    with node_with_peers(lab, make_peers(PEERS)) as watch:
        assert drop_notifications(watch.node.agent.pid) > 0
        for chosen in (["routes flushed", "FDB deleted", "MAC rewritten"], ["device deleted"]):
            for name in chosen:
                _break(watch.node, name)
            watch.healed(within=WITHIN_SILENT, after=f"{' + '.join(chosen)}, without notifications")


@pytest.mark.parametrize("name", [name for name in BREAKAGES if name not in HARMLESS])
def test_nothing_heals_without_the_agent(lab: Lab, name: str) -> None:
    """The control of R1: what is broken stays broken while the agent is frozen."""
    with node_with_peers(lab, make_peers(3)) as watch:

        def break_and_wait() -> None:
            _break(watch.node, name)
            watch.healed(within=0.5, after=name)

        show_control(watch.node.agent, break_and_wait)
        watch.healed(within=WITHIN, after=f"{name}, and the agent thawed")


def test_both_devices_deleted(make_lab: MakeLab) -> None:
    """R4, on a dual-stack node."""
    lab = make_lab(config=DUAL)
    peers = make_peers(20, network6="fd00:10:244::/48")
    with node_with_peers(lab, peers) as watch:
        for devices in (["flannel.1"], ["flannel-v6.1"], ["flannel.1", "flannel-v6.1"]):
            watch.node.namespace.ip(*(f"link delete {device}" for device in devices))
            watch.healed(within=3, after=f"{devices} deleted")


@ROUTE_FORMS
def test_underlay_deleted_and_created_again(lab: Lab, nexthops: str) -> None:
    """R4: the device goes with its underlay, and comes back with it."""
    with node_with_peers(lab, make_peers(PEERS), f"--nexthops={nexthops}") as watch:
        node = watch.node
        pid = node.agent.pid
        for _ in range(3):
            node.underlay.detach(node.namespace)
            wait_until(
                lambda: ifindex(node.namespace, "flannel.1") == 0,
                within=3,
                what="flannel.1 is gone with its underlay",
            )
            node.underlay.attach(node.namespace, node.number)
            watch.healed(within=3, after="the underlay came back")
        assert node.agent.running
        assert node.agent.pid == pid


def test_underlay_bounced_fifty_times(lab: Lab) -> None:
    """R4."""
    with node_with_peers(lab, make_peers(PEERS)) as watch:
        pid = watch.node.agent.pid
        watch.node.underlay.bounce(watch.node.namespace, watch.node.number, times=50)
        watch.healed(within=3, after="50 bounces")
        assert watch.node.agent.running
        assert watch.node.agent.pid == pid


def test_a_burst_of_link_events(lab: Lab) -> None:
    """R4: notifications are lost (the receive buffer overruns), what they told of is not."""
    with node_with_peers(lab, make_peers(PEERS)) as watch:
        node = watch.node
        pid = node.agent.pid
        node.namespace.ip("link add name noise type bridge")
        burst = [f"link set noise mtu {1300 + number % 2}" for number in range(LINK_EVENTS)]
        # Frozen for the burst, so that the buffer overruns on any machine.
        node.agent.freeze()
        node.namespace.ip(*burst, "link delete flannel.1")
        node.agent.thaw()
        watch.healed(within=3, after=f"{LINK_EVENTS} link events")
        assert node.agent.running
        assert node.agent.pid == pid


@ROUTE_FORMS
def test_one_peer_of_a_thousand_cannot_be_installed(make_lab: MakeLab, nexthops: str) -> None:
    """R10: a foreign route holds its prefix; the others do not wait for it."""
    lab = make_lab(config=WIDE)
    peers = make_peers(1000)
    blocked, others = peers[500], [*peers[:500], *peers[501:]]
    (node,) = lab.add_nodes(1, f"--nexthops={nexthops}")
    lab.start_agents()
    lab.publish()
    node.add_pod()
    foreign = f"{blocked.subnet} via {GATEWAY} dev u0 proto static"
    node.namespace.ip(f"route add {foreign}")

    lab.populate(peers)
    with Watch(node, [peer.pod for peer in others]) as watch:
        wait_until(lambda: not watch.unreached(), within=3, what="999 peers answer", every=0.1)
    assert routes_to(node.namespace, str(blocked.subnet)) == [
        f"{blocked.subnet} via {GATEWAY} dev u0 proto 4"
    ]
    reasons = peers_in_state(node.agent, "failing")
    assert reasons.keys() == {blocked.key}
    assert str(GATEWAY) in reasons[blocked.key]

    node.namespace.ip(f"route delete {foreign}")
    with Prober(node.pods[0].namespace) as prober:
        wait_until(
            lambda: not prober.unreached([blocked.pod]), within=5, what="the blocked peer answers"
        )
    wait_until(
        lambda: not peers_in_state(node.agent, "failing"), within=2, what="status is content"
    )


def test_deleting_what_is_gone_already(lab: Lab) -> None:
    """R10: ten peers leave whose routes, neighbours and FDB entries somebody removed before."""
    peers = make_peers(30)
    with node_with_peers(lab, peers) as watch:
        node = watch.node
        gone, rest = peers[:10], peers[10:]
        node.agent.freeze()
        node.namespace.ip(
            *(f"route delete {peer.subnet}" for peer in gone),
            *(f"neighbour delete {peer.subnet[0]} dev flannel.1" for peer in gone),
        )
        node.namespace.batch(
            "bridge", [f"fdb delete {peer.mac.hex(':')} dev flannel.1 self" for peer in gone]
        )
        lab.view.delete_all([peer.key for peer in gone])
        node.agent.thaw()
        watch.targets = [peer.pod for peer in rest]
        keys = {peer.key for peer in gone}

        def settled() -> bool:
            listed = node.agent.says("peers", "counts") or {}
            return bool(listed.get("programmed") == len(rest)) and not watch.unreached()

        wait_until(settled, within=3, what=f"{len(keys)} peers are gone and the others answer")
        failing = [kind for kind in node.agent.says("elements", "kinds") if kind["failing"]]
        assert failing == []
        assert len(node.observe().fdb) == len(rest)


def _break(node: Node, name: str, *, alone: bool = True) -> None:
    """Break a node; in a mix, what is broken already may make a command fail."""
    with nullcontext() if alone else suppress(CommandFailed):
        BREAKAGES[name](node)
