"""`drift`: what it costs to look whether the kernel still holds what it should.

A full dump and diff is measured in a process of its own with the agent's parts (`scan`). From
outside: one nexthop object is deleted, which takes its route without a word; the agent reads
everything anew, and heals it.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from dataclasses import dataclass

from bench import iproute2
from bench.eye import RouteWatch
from bench.figures import Figure, Yardstick
from bench.process import fine_cpu_seconds
from bench.table import amount
from bench.world import World
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.waiting import wait_until
from flanneld_py.testing.tools import CHECKOUT

NAME = "drift"
TARGET_MS = 250.0
IDLE_AFTER = 0.001
"""Seconds of processor time in 0.5 s: less is idle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Healing:
    """Seconds of one round, seen from outside."""

    wall: float
    """From the deletion until the route was back."""
    cpu: float
    """Processor time of the agent, until it was idle again."""


def run(world: World, rounds: int) -> list[Figure]:
    """Measure the agent from outside, then its parts and the yardstick on what it left."""
    with world.node() as node:
        world.start_full(node)
        healings = []
        for number in range(1, rounds + 1):
            healings.append(healing := heal(world, node))
            world.say(
                f"{NAME} {number}/{rounds}: healed in {amount(healing.wall * 1000, 'ms')}, "
                f"{amount(healing.cpu * 1000, 'ms')} CPU"
            )
        node.agent.stop()  # leaves everything in the kernel
        scans = scan(node, len(world.peers), rounds)
        shows = [iproute2.show_all(node.namespace) for _ in range(rounds)]
    world.say(f"{NAME}: scan {amount(sorted(scans['cpu'])[len(scans['cpu']) // 2], 'ms')} CPU")
    texts = Yardstick(name="ip/bridge show", values=tuple(one.cpu * 1000 for one in shows))
    return [
        Figure(
            bench=NAME,
            name="full dump and diff, CPU",
            unit="ms",
            values=tuple(scans["cpu"]),
            target=TARGET_MS,
            yardstick=texts,
        ),
        Figure(
            bench=NAME,
            name="full dump and diff, wall",
            unit="ms",
            values=tuple(scans["wall"]),
            yardstick=Yardstick(
                name="ip/bridge show", values=tuple(one.wall * 1000 for one in shows)
            ),
        ),
        Figure(
            bench=NAME,
            name="lost nexthop and route healed",
            unit="ms",
            values=tuple(one.wall * 1000 for one in healings),
        ),
        Figure(
            bench=NAME,
            name="agent's CPU for that",
            unit="ms",
            values=tuple(one.cpu * 1000 for one in healings),
            yardstick=texts,
        ),
    ]


def heal(world: World, node: Node) -> Healing:
    """Delete the nexthop object of a peer by chance, and see the agent heal it."""
    peer = random.choice(world.peers)
    first = peer.subnet.network_address
    number = nexthop_id(node, str(first))
    pid = node.agent.pid
    wait_idle(pid)
    with RouteWatch(node.namespace) as routes:
        before = fine_cpu_seconds(pid)
        _, wall = routes.after(
            lambda: node.namespace.ip(f"nexthop delete id {number}"),
            first.packed,
            present=True,
            within=30,
        )
        cpu = wait_idle(pid) - before
    return Healing(wall=wall, cpu=cpu)


def nexthop_id(node: Node, gateway: str) -> int:
    """Return the id of the nexthop object with this gateway."""
    shown = node.namespace.show("ip", "nexthop", "show")
    found = re.search(rf"^id (\d+) via {re.escape(gateway)} ", shown, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{node.name} has no nexthop object via {gateway}")
    return int(found[1])


def wait_idle(pid: int) -> float:
    """Wait until a process does nothing any more; return its processor time so far, in seconds."""
    before = -1.0

    def is_idle() -> bool:
        nonlocal before
        now = fine_cpu_seconds(pid)
        idle = now - before < IDLE_AFTER
        before = now
        return idle

    wait_until(is_idle, within=30, what="an idle agent", every=0.5)
    return before


def scan(node: Node, peers: int, rounds: int) -> dict[str, list[float]]:
    """Run `bench.scan` in the node's namespace; return its milliseconds. Raises RuntimeError."""
    done = subprocess.run(
        node.namespace.command(sys.executable, "-m", "bench.scan", str(peers), str(rounds)),
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
    )
    if done.returncode != 0:
        raise RuntimeError(f"bench.scan: {done.stderr or done.stdout}")
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found
