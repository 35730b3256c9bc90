"""`--ip-blackhole-route` beside the bridge's own routes."""

from __future__ import annotations

from flanneld_py.testing.lab.lab import unreached
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.waiting import wait_until
from tests.e2e.scenario import MakeLab

DUAL = {
    "EnableIPv6": True,
    "Network": "10.244.0.0/16",
    "IPv6Network": "fd00:10:244::/48",
    "Backend": {"Type": "vxlan"},
}


def blackholes(node: Node) -> list[str]:
    """Destinations of the blackhole routes of both families."""
    shown = [
        node.namespace.show("ip", family, "route", "show", "table", "main", "type", "blackhole")
        for family in ("-4", "-6")
    ]
    return [line.split()[1] for text in shown for line in text.splitlines()]


def test_pods_work_beside_blackholes_and_these_come_back(make_lab: MakeLab) -> None:
    lab = make_lab(config=DUAL)
    first, second = lab.add_nodes(2, "--ip-blackhole-route")
    lab.start_agents()
    wait_until(lambda: len(blackholes(first)) == 2, within=2, what="two blackholes")
    v4, v6 = blackholes(first)
    pods = [node.add_pod() for node in (first, second)]
    assert str(pods[0].ip).rpartition(".")[0] == v4.partition("/")[0].rpartition(".")[0]
    wait_until(lambda: unreached(lab.nodes) == [], within=5, what="all pods reach all")
    first.namespace.ip(f"route del blackhole {v4} metric 4294967295")
    wait_until(lambda: blackholes(first) == [v4, v6], within=2, what="the blackhole is back")
    assert unreached(lab.nodes) == []
    first.agent.stop()
    first.agent.flags = ()
    first.agent.start_ready()
    wait_until(lambda: blackholes(first) == [], within=5, what="nobody wants them any more")
    assert len(blackholes(second)) == 2
