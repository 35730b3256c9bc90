"""etcd is silent, killed, wiped, full of garbage, or our own key is touched: pods do not notice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from flanneld_py.testing.lab.etcd_view import PREFIX
from flanneld_py.testing.lab.lab import VXLAN_CONFIG, Lab, unreached
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.peers import StaticPeer, leases_of, make_peers
from flanneld_py.testing.lab.ping import Flow, Prober
from flanneld_py.testing.lab.waiting import wait_until
from tests.e2e.scenario import MakeLab, peers_in_state, show_control

CONFIG = {**VXLAN_CONFIG, "SubnetMax": "10.244.199.0"}
"""Subnets above are left to static peers and to garbage."""
NOTICED_WITHIN = 3.5
"""Seconds until a silent store shows in the status: 3 s for the store, and the time to ask."""
BACK_WITHIN = 5.0
"""Seconds from the store's return until what changed meanwhile is done."""
RATE = 200


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(config=CONFIG)


@contextmanager
def two_pods(lab: Lab) -> Iterator[Flow]:
    """Two nodes whose pods ping each other at a steady rate; none may be lost."""
    one, two = _connect_two(lab)
    target = two.pods[0]
    with Flow(one.pods[0].namespace, target.ip, far_end=target.namespace, rate=RATE) as flow:
        yield flow
        _let_flow(flow, RATE // 2)
    tally = flow.tally()
    assert tally.lost == 0, str(tally)
    assert tally.arrived == tally.sent


def _connect_two(lab: Lab) -> list[Node]:
    nodes = lab.add_nodes(2)
    lab.start_agents()
    lab.publish()
    for node in nodes:
        node.add_pod()
    assert unreached(nodes) == []
    return nodes


def test_silent_etcd(lab: Lab) -> None:
    """Its connections stay open, but nothing answers."""
    with two_pods(lab) as flow:
        lab.etcd.freeze()
        for node in lab.nodes:
            _wait_connected(node, False, within=NOTICED_WITHIN)
        _let_flow(flow, RATE)
        lab.etcd.thaw()
        _check_news_arrive(lab)


def test_killed_etcd(lab: Lab) -> None:
    with two_pods(lab) as flow:
        leases = lab.view.leases()
        lab.etcd.kill()
        for node in lab.nodes:
            _wait_connected(node, False, within=NOTICED_WITHIN)
        _let_flow(flow, RATE)
        lab.etcd.start()
        _check_news_arrive(lab)
        assert lab.view.leases().items() >= leases.items()


def test_wiped_etcd(lab: Lab) -> None:
    """All nodes re-claim the subnets that they had; nobody forgets anybody."""
    with two_pods(lab) as flow:
        leases = lab.view.leases()
        state = lab.nodes[0].observe()
        lab.etcd.wipe()
        lab.etcd.start()
        _let_flow(flow, RATE)
        lab.view.configure(CONFIG)
        wait_until(
            lambda: lab.view.leases() == leases,
            within=BACK_WITHIN,
            what="all subnets are claimed again, with the same values",
            seen=lab.view.leases,
        )
        assert state.difference(lab.nodes[0].observe()) == []
        for node in lab.nodes:
            wait_until(node.agent.is_ready, within=BACK_WITHIN, what=f"{node.name} is ready")


def test_garbage_in_etcd(lab: Lab) -> None:
    """R14, small: nothing changes for good peers, and each piece is named with a reason."""
    with two_pods(lab):
        one, two = lab.nodes
        garbage = _garbage(one)
        impostor = _impostor(one)
        states = {node.name: node.observe() for node in lab.nodes}
        lab.view.put_all(garbage | leases_of([impostor]))
        # That a node moved to another subnet is nothing odd to others: only the victim can tell.
        wanted = {one.name: {*garbage, impostor.key}, two.name: set(garbage)}
        for node in lab.nodes:
            _wait_quarantined(node, wanted[node.name])
        assert states[one.name].difference(one.observe()) == []
        lab.view.delete(impostor.key)
        _check_news_arrive(lab)
        for node in lab.nodes:
            added = states[node.name].difference(node.observe())
            assert len(added) == 3, added  # the route, neighbour and FDB entry of the newcomer
            named = [node.agent.log().count(f"quarantined key={key} ") for key in garbage]
            assert set(named) == {1}
        lab.view.delete_all(garbage)
        for node in lab.nodes:
            _wait_quarantined(node, set())


def test_own_key_deleted(lab: Lab) -> None:
    """It is claimed again with the same subnet, by the agent alone (which the control shows)."""
    _connect_two(lab)
    node = lab.nodes[0]
    key, value = _own_lease(lab, node)
    state = node.observe()

    def claimed_again(within: float = BACK_WITHIN) -> None:
        lab.view.delete(key)
        wait_until(lambda: lab.view.get(key) == value, within=within, what="the own key is back")

    show_control(node.agent, lambda: claimed_again(within=0.5))
    wait_until(lambda: lab.view.get(key) == value, within=BACK_WITHIN, what="back after all")
    for _ in range(3):
        claimed_again()
    wait_until(node.agent.is_ready, within=BACK_WITHIN, what="ready")
    assert state.difference(node.observe()) == []
    wait_until(lambda: not unreached(lab.nodes), within=BACK_WITHIN, what="pods ping again")


def test_own_key_overwritten_with_another_mac(lab: Lab) -> None:
    """A second node with our address: not ready, both MACs named, nothing written, pods kept."""
    _connect_two(lab)
    node = lab.nodes[0]
    key, value = _own_lease(lab, node)
    ours, theirs = json.loads(value)["BackendData"]["VtepMAC"], "0a:00:00:00:00:99"
    state = node.observe()
    intruder = value.replace(ours, theirs)
    lab.view.put(key, intruder)
    wait_until(
        lambda: node.agent.says("ready") is False,
        within=BACK_WITHIN,
        what="not ready",
        seen=node.agent.status,
    )
    reasons = " ".join(node.agent.says("reasons"))
    assert ours in reasons
    assert theirs in reasons
    assert lab.view.get(key) == intruder
    assert state.difference(node.observe()) == []
    # The second node is gone, and its traces with it.
    lab.view.put(key, value)
    wait_until(lambda: not unreached(lab.nodes), within=BACK_WITHIN, what="pods ping again")


def _wait_connected(node: Node, connected: bool, *, within: float) -> None:
    wait_until(
        lambda: node.agent.says("store", "connected") is connected,
        within=within,
        what=f"{node.name} says that its store is {'' if connected else 'not '}connected",
        seen=lambda: node.agent.says("store"),
    )


def _check_news_arrive(lab: Lab) -> None:
    """A node that comes now is reached by the pods of all others."""
    (newcomer,) = make_peers(1, first=240)
    lab.populate([newcomer])
    for node in lab.nodes:
        with Prober(node.pods[0].namespace) as prober:
            wait_until(
                lambda prober=prober: not prober.unreached([newcomer.pod]),  # type: ignore[misc]
                within=BACK_WITHIN,
                what=f"{node.name} reaches a newcomer",
            )


def _own_lease(lab: Lab, node: Node) -> tuple[str, str]:
    """Return the key and value of a node's lease."""
    for key, value in lab.view.leases().items():
        if json.loads(value)["PublicIP"] == str(node.ip):
            return f"{PREFIX}/subnets/{key}", value
    raise AssertionError(f"{node.name} has no lease")


def _wait_quarantined(node: Node, keys: set[str]) -> None:
    """Wait until a node's status names exactly these as quarantined, each with a reason."""
    wait_until(
        lambda: peers_in_state(node.agent, "quarantined").keys() == keys,
        within=BACK_WITHIN,
        what=f"{node.name} names {len(keys)} pieces of garbage",
        seen=lambda: keys ^ peers_in_state(node.agent, "quarantined").keys(),
    )
    assert all(peers_in_state(node.agent, "quarantined").values())


def _garbage(victim: Node) -> dict[str, str]:
    """Return what must change nothing anywhere, from plain rubbish to a lease made to hurt."""
    folder = f"{PREFIX}/subnets"
    subnet = victim.agent.subnet_env()["FLANNEL_SUBNET"].partition("/")[0].rpartition(".")[0]
    (hostile,) = make_peers(1, first=300, network="10.200.0.0/16")
    (zero,) = make_peers(1, first=231)
    return {
        f"{folder}/README": "please do not delete",
        f"{folder}/10.244.232.0-24": '{"PublicIP":',
        f"{folder}/10.244.233.0-24": "\x00\x01\x02",
        f"{folder}/10.244.234.0-24": '{"PublicIP":"fd00::1","PublicIPv6":null}',
        f"{folder}/10.244.235.0-99": hostile.value,
        f"{folder}/10.244.236.0-24": "x" * 1_000_000,
        f"{folder}/{subnet}.128-25": hostile.value,
        hostile.key: hostile.value,
        **leases_of([replace(zero, mac=bytes(6))]),
    }


def _impostor(victim: Node) -> StaticPeer:
    """Return a lease that claims the victim's underlay address for another subnet."""
    (peer,) = make_peers(1, first=230)
    return replace(peer, public_ip=victim.ip)


def _let_flow(flow: Flow, more: int) -> None:
    """Wait until so many more pings were answered."""
    seen = flow.answered
    wait_until(lambda: flow.answered >= seen + more, within=5, what=f"{more} more pings answered")
