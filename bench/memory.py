"""`memory`: what the agent has resident with thousands of peers, and the most that it ever had."""

from __future__ import annotations

from bench import iproute2
from bench.figures import Figure, Yardstick
from bench.process import memory_mib
from bench.table import amount
from bench.world import World
from flanneld_py.testing.lab.waiting import wait_until

NAME = "memory"
TARGET_MIB = 100.0
STEADY_MIB = 0.25


def run(world: World, rounds: int) -> list[Figure]:
    """Measure agent and yardstick in turn."""
    batches = iproute2.Batches(world.lab.folder, world.peers)
    resident, most, theirs = [], [], []
    for number in range(1, rounds + 1):
        with world.node() as node:
            world.start_full(node)
            wait_steady(node.agent.pid)
            now, peak = memory_mib(node.agent.pid)
        with world.node() as node:
            iproute2.make_device(node)
            theirs.append(batches.start(node.namespace).peak_mib())
        resident.append(now)
        most.append(peak)
        world.say(f"{NAME} {number}/{rounds}: {amount(now, 'MiB')}, at most {amount(peak, 'MiB')}")
    yardstick = Yardstick(name="ip -batch, peak", values=tuple(theirs))
    return [
        Figure(
            bench=NAME,
            name="resident",
            unit="MiB",
            values=tuple(resident),
            target=TARGET_MIB,
            yardstick=yardstick,
        ),
        Figure(bench=NAME, name="peak", unit="MiB", values=tuple(most), yardstick=yardstick),
    ]


def wait_steady(pid: int) -> None:
    """Wait until the resident memory no longer changes: what follows a start has ended."""
    before = 0.0

    def is_steady() -> bool:
        nonlocal before
        now = memory_mib(pid)[0]
        steady = abs(now - before) < STEADY_MIB
        before = now
        return steady

    wait_until(is_steady, within=30, what="steady memory", every=1.0)
