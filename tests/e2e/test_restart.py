"""R2, R5 and the change from flanneld: an agent is stopped and started, and pods do not notice."""

from __future__ import annotations

import shutil
from dataclasses import replace
from ipaddress import IPv4Network

from flanneld_py.testing.lab.lab import Lab, matrix
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.observed import device_mac
from flanneld_py.testing.lab.peers import StaticPeer, leases_of, make_peers
from flanneld_py.testing.lab.ping import Flow
from flanneld_py.testing.lab.underlay import GATEWAY, PEERS
from flanneld_py.testing.lab.waiting import wait_until
from tests.e2e.scenario import ROUTE_FORMS, WIDE, MakeLab, Watch, with_peers

RESTARTS = 3
"""Of each kind; 20 is the full size of R5."""


@ROUTE_FORMS
def test_peers_changed_while_the_agent_was_stopped(make_lab: MakeLab, nexthops: str) -> None:
    """R2: what is ours becomes exact within 2 s of the start, what is not stays untouched."""
    lab = make_lab(config=WIDE)
    (node,) = lab.add_nodes(1, f"--nexthops={nexthops}")
    lab.start_agents()
    lab.publish()
    node.add_pod()
    bare = node.observe()
    before = make_peers(60)
    lab.populate(before)
    with Watch(node, [peer.pod for peer in before]) as watch:
        watch.expected = with_peers(bare, before, nexthops=nexthops)
        watch.healed(within=3, after="60 peers came")

        node.agent.stop()
        after = _changed(before)
        lab.view.delete_all([peer.key for peer in before if peer not in after])
        lab.view.put_all(leases_of(after))
        lab.responders.serve(after)
        foreign = _add_foreign(node)
        watch.targets = [peer.pod for peer in after]
        with_foreign = replace(bare, addresses=tuple(sorted([*bare.addresses, FOREIGN_ADDRESS])))
        watch.expected = with_peers(with_foreign, after, nexthops=nexthops)
        assert not watch.is_healed()

        node.agent.start()
        watch.healed(within=2, after="the start")
    assert _show_foreign(node) == foreign


@ROUTE_FORMS
def test_a_node_is_taken_over_from_flanneld(lab: Lab, nexthops: str) -> None:
    """What flannel left in kernel and store is adopted without a lost packet, and becomes exact."""
    one, two = lab.add_nodes(2, f"--nexthops={nexthops}")
    peers = make_peers(100)
    lab.populate(peers)
    lab.start_agents()
    lab.publish()
    for node in (one, two):
        node.add_pod()
    assert None not in matrix(lab.nodes).values()
    with Watch(one, [peer.pod for peer in peers]) as watch:
        watch.healed(within=3, after="100 peers came")
        leases = lab.view.leases()
        one.agent.stop()
        _become_flannel(one)
        assert not watch.unreached()
        target = two.pods[0]
        with Flow(one.pods[0].namespace, target.ip, far_end=target.namespace, rate=500) as flow:
            wait_until(lambda: flow.answered > 50, within=3, what="pings flow")
            one.agent.start_ready()
            watch.healed(within=2, after="the change from flanneld")
            seen = flow.answered
            wait_until(lambda: flow.answered > seen + 100, within=3, what="pings flow on")
        assert flow.tally().lost == 0, str(flow.tally())
        assert lab.view.leases() == leases


def test_restarts_under_pings(lab: Lab) -> None:
    """R5: 1 kHz of pings through stops and kills of the agent, none lost."""
    one, two = lab.add_nodes(2)
    lab.start_agents()
    for node in (one, two):
        node.add_pod()
    assert None not in matrix(lab.nodes).values()
    target = two.pods[0]
    with Flow(one.pods[0].namespace, target.ip, far_end=target.namespace, rate=1000) as flow:
        for end in [one.agent.stop, one.agent.kill] * RESTARTS:
            end()
            one.agent.start_ready()
    assert flow.tally().sent > 1000
    assert flow.tally().lost == 0, str(flow.tally())


def test_a_stopped_agent_leaves_everything_in_place(lab: Lab) -> None:
    peers = make_peers(20)
    lab.populate(peers)
    (node,) = lab.add_nodes(1)
    lab.start_agents()
    lab.publish()
    node.add_pod()
    with Watch(node, [peer.pod for peer in peers]) as watch:
        wait_until(lambda: not watch.unreached(), within=3, what="20 peers answer")
        watch.expected = node.observe()
        leases = lab.view.leases()
        assert node.agent.stop() == 0
        assert watch.is_healed()
        assert lab.view.leases() == leases
        assert node.agent.subnet_env()


def _changed(peers: list[StaticPeer]) -> list[StaticPeer]:
    """Ten gone, ten with another MAC, ten at another address, ten with another subnet."""
    macs = [replace(peer, mac=b"\x0a\x77" + peer.mac[2:]) for peer in peers[10:20]]
    moved = [
        replace(peer, public_ip=PEERS[1000 + number]) for number, peer in enumerate(peers[20:30])
    ]
    subnets = [
        replace(peer, subnet=IPv4Network((int(peer.subnet.network_address) + (100 << 8), 24)))
        for peer in peers[30:40]
    ]
    return [*macs, *moved, *subnets, *peers[40:]]


FOREIGN_ADDRESS = "192.0.2.1/32 dev flannel.1"
_FOREIGN = (
    "route show 198.51.100.0/24",
    "route show 203.0.113.0/24",
    "route show table 77",
    "neighbour show 172.31.0.77 dev u0",
    "address show dev flannel.1 to 192.0.2.1/32",
)


def _add_foreign(node: Node) -> list[str]:
    """Add what is not ours, on the underlay and on our device; return how it looks."""
    node.namespace.ip(
        f"address add {FOREIGN_ADDRESS}",
        "route add 198.51.100.0/24 dev flannel.1 proto static",
        f"route add 203.0.113.0/24 via {GATEWAY} dev u0 proto static",
        f"route add 10.244.9.0/24 via {GATEWAY} dev u0 table 77",
        "neighbour add 172.31.0.77 lladdr 02:00:00:00:00:77 dev u0 nud permanent",
    )
    node.namespace.batch("bridge", ["fdb add 02:00:00:00:00:77 dev u0 self permanent"])
    return _show_foreign(node)


def _show_foreign(node: Node) -> list[str]:
    shown = [node.namespace.show("ip", *command.split()) for command in _FOREIGN]
    fdb = node.namespace.show("bridge", "fdb", "show", "dev", "u0")
    assert all(text.strip() for text in shown)
    return [*shown, *(line for line in fdb.splitlines() if "02:00:00:00:00:77" in line)]


def _become_flannel(node: Node) -> None:
    """Make the kernel look as flannel leaves it: classic routes of protocol boot, nothing else."""
    mac = device_mac(node.namespace, "flannel.1")
    gateways = [line.split()[0] for line in node.observe().neighbours]
    node.namespace.ip(
        *(
            f"route replace {gateway}/24 via {gateway} dev flannel.1 onlink proto boot"
            for gateway in gateways
        ),
        "nexthop flush",
        "route flush proto 241",
    )
    for place in (node.agent.state_dir, node.agent.run_dir):
        shutil.rmtree(place)
    assert device_mac(node.namespace, "flannel.1") == mac
    state = node.observe()
    assert len(state.routes) == len(gateways)
    assert all(line.endswith("proto 3 onlink") for line in state.routes)
