"""`idle`: what an agent takes while nothing happens: processes executed, and processor time.

With thousands of peers and with the rules of `--ip-masq`, whose keeper executes nft to write them.
At the end somebody flushes the ruleset: the agent has to be seen executing something.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure
from bench.memory import wait_steady
from bench.process import ended_children, fine_cpu_seconds
from bench.table import amount
from bench.world import World
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.waiting import wait_until

NAME = "idle"
SECONDS = 60.0
CPU_TARGET_PERCENT = 0.5
TABLE = ("inet", "flanneld-py")
HEALED_WITHIN = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """What one agent did while nothing was to be done."""

    processes: int
    """Executed by it."""
    cpu: float
    """Percent of one core."""


def run(world: World, rounds: int) -> list[Figure]:
    """Watch one agent for as many minutes as there are rounds, and show that it can be seen."""
    minutes = []
    with world.node() as node:
        node.agent.flags += ("--ip-masq",)
        world.start_full(node)
        wait_steady(node.agent.pid)
        for number in range(1, rounds + 1):
            minutes.append(once := watch(node.agent.pid))
            world.say(
                f"{NAME} {number}/{rounds}: {amount(once.processes, 'processes')}, "
                f"{amount(once.cpu, '%')} of a core"
            )
        show_control(node)
    return [
        Figure(
            bench=NAME,
            name="processes executed in 60 s",
            unit="processes",
            values=tuple(float(one.processes) for one in minutes),
            target=0,
        ),
        Figure(
            bench=NAME,
            name="share of a core",
            unit="%",
            values=tuple(one.cpu for one in minutes),
            target=CPU_TARGET_PERCENT,
        ),
    ]


def watch(pid: int) -> Minute:
    """Look away for a minute, and see what the agent did."""
    number, faults, cpu, began = next_pid(), ended_children(pid), fine_cpu_seconds(pid), _now()
    time.sleep(SECONDS)
    used, took = fine_cpu_seconds(pid) - cpu, _now() - began
    executed = 0
    if ended_children(pid) != faults or living_children(pid):
        # All that began meanwhile, whoever began it: more than the agent's, never fewer.
        executed = max(1, next_pid() - number - 1)
    return Minute(processes=executed, cpu=used / took * 100)


def show_control(node: Node) -> None:
    """Have the rules flushed: the agent executes nft. Raises RuntimeError when that is not seen."""
    faults = ended_children(node.agent.pid)
    node.namespace.show("nft", "flush", "ruleset")

    def healed() -> bool:
        return TABLE[1] in node.namespace.show("nft", "list", "tables")

    wait_until(healed, within=HEALED_WITHIN, what="the rules are back")
    wait_until(
        lambda: ended_children(node.agent.pid) != faults,
        within=HEALED_WITHIN,
        what="executing nft is seen",
    )


def next_pid() -> int:
    """Return the number of a process that is made for this; the kernel counts them up."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    return pid


def living_children(pid: int) -> list[int]:
    """Return the processes that a process has started and that still live."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except FileNotFoundError:
            continue
    return found


def _now() -> float:
    return time.monotonic()
