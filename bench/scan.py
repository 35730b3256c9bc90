"""One full dump and diff, with the agent's own parts, in the namespace that the process is in.

    python -m bench.scan PEERS ROUNDS

What is there when it starts is what is wanted: a scan has to find no difference, and exactly one
when one more element is wanted. Prints milliseconds as JSON; changes nothing.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from dataclasses import replace
from ipaddress import IPv4Network

from backends.elements import Route
from bench.iproute2 import DEVICE
from bench.world import NETWORK
from flanneld_py.kernel import Scope
from flanneld_py.kernel.linux import LinuxKernel
from flanneld_py.reconcile.tracker import Tracker

SCOPE = Scope(devices=frozenset({DEVICE}), networks=(IPv4Network(NETWORK),))


async def measure(peers: int, rounds: int) -> dict[str, list[float]]:
    """Scan; return wall and processor time in milliseconds. Raises RuntimeError."""
    kernel, tracker = LinuxKernel(), Tracker()
    found: dict[str, list[float]] = {"wall": [], "cpu": []}
    elements = (await kernel.observe(SCOPE)).elements
    if len(elements) < 3 * peers:
        raise RuntimeError(f"{len(elements)} elements serve {peers} peers: too few")
    for number in range(peers):
        tracker.plan(f"peer {number}", elements[number::peers])
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        tracker.observe_all((await kernel.observe(SCOPE)).elements)
        found["cpu"].append((time.process_time() - cpu) * 1000)
        found["wall"].append((time.perf_counter() - wall) * 1000)
        if tracker.dirty:
            raise RuntimeError(f"{len(tracker.dirty)} differences where nothing changed")
    route = next(element for element in elements if isinstance(element, Route))
    tracker.plan("one more", (replace(route, metric=4711),))
    tracker.observe_all((await kernel.observe(SCOPE)).elements)
    if len(tracker.dirty) != 1:
        raise RuntimeError(f"{len(tracker.dirty)} differences, and one was made")
    kernel.close()
    return found


def main() -> None:
    """Measure as the agent does: with its thresholds of garbage collection."""
    gc.set_threshold(100_000, 50, 100)
    print(json.dumps(asyncio.run(measure(int(sys.argv[1]), int(sys.argv[2])))))


if __name__ == "__main__":
    main()
