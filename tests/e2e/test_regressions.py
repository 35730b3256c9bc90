"""Faults that were found by attack, each shown gone from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flanneld_py.testing.lab.namespace import Namespace, stop
from flanneld_py.testing.lab.peers import make_peers
from flanneld_py.testing.lab.waiting import wait_until
from flanneld_py.testing.tools import find_tool
from tests.e2e.scenario import ROUTE_FORMS, MakeLab

MANY = 600
"""More peers than are planned in one go."""
DUAL = {
    "EnableIPv6": True,
    "Network": "10.240.0.0/12",
    "SubnetMax": "10.243.255.0",
    "IPv6Network": "fd00:10:244::/48",
    "Backend": {"Type": "vxlan"},
}
MARKS = ("198.51.100.7", "198.51.100.8")


@contextmanager
def removals(node: Namespace, folder: Path) -> Iterator[list[str]]:
    """Collect what the kernel says was removed; complete at the end of the block."""
    found: list[str] = []
    log = folder / "monitor.log"
    with log.open("wb") as file:
        monitor = node.popen(
            [str(find_tool("ip")), "monitor", "route", "neigh", "address", "nexthop"], log=file
        )
    try:
        _mark(node, log, MARKS[0])
        yield found
        _mark(node, log, MARKS[1])
    finally:
        stop(monitor)
    gone = [line for line in log.read_text().splitlines() if line.startswith("Deleted")]
    found.extend(line for line in gone if "flannel" in line or "nhid" in line)


@ROUTE_FORMS
def test_a_restart_removes_nothing_for_a_moment(make_lab: MakeLab, nexthops: str) -> None:
    """Neither peers whose turn to be planned has not come, nor our address before the lease."""
    lab = make_lab(config=DUAL)
    lab.populate(make_peers(MANY, network6="fd00:10:244::/48"))
    (node,) = lab.add_nodes(1, f"--nexthops={nexthops}")
    lab.start_agents()
    wait_until(
        lambda: node.agent.says("peers", "counts", "programmed") == MANY,
        within=5,
        what="all peers are programmed",
    )
    before = node.observe()
    for end in (node.agent.stop, node.agent.kill):
        end()
        with removals(node.namespace, node.folder) as removed:
            node.agent.start_ready()
            wait_until(
                lambda: node.agent.says("peers", "counts", "programmed") == MANY,
                within=5,
                what="all peers are programmed again",
            )
        assert removed == []
    assert before.difference(node.observe()) == []


def _mark(node: Namespace, log: Path, mark: str) -> None:
    """Wait until the monitor has seen all that was before now."""

    def seen() -> bool:
        node.ip(f"route add {mark} dev lo", f"route delete {mark} dev lo")
        return f"Deleted {mark}" in log.read_text()

    wait_until(seen, within=5, what="the monitor listens")
