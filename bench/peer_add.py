"""`peer-add`: one more lease among thousands, from the put to the route in the kernel.

The clock starts before the put is sent, so what etcd takes for it is part of the figure. Beside it
the smallest agent that one can make of programs: `etcdctl watch` into a waiting `ip` and `bridge`.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from functools import partial

from bench import iproute2
from bench.eye import Eye, RouteWatch
from bench.figures import Figure, Yardstick, percentile
from bench.table import amount
from bench.world import World, watch
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.underlay import GATEWAY

NAME = "peer-add"
SAMPLES = 200
"""Per round."""
TARGET_P50_MS, TARGET_P99_MS = 5.0, 9.0
LEAST_PAUSE, MOST_PAUSE = 0.005, 0.020
"""Seconds between two samples, by chance, so that no two clocks fall into step."""
YARDSTICK = "etcdctl watch into ip, bridge"


@dataclass(frozen=True, slots=True)
class Samples:
    """Milliseconds of one round."""

    put: list[float] = field(default_factory=list)
    """Until etcd had confirmed the put."""
    added: list[float] = field(default_factory=list)
    """Until the route came."""
    removed: list[float] = field(default_factory=list)
    """From the deletion until the route went."""


def run(world: World, rounds: int) -> list[Figure]:
    """Measure the agent, then the yardstick, each on a node that is full."""
    with world.node() as node:
        world.start_full(node)
        ours = [_round(world, node, f"{NAME} {n + 1}/{rounds}") for n in range(rounds)]
    with world.node() as node:
        fill_by_batches(world, node)
        with iproute2.Follower(
            node, [*world.peers, world.spare], f"http://{GATEWAY}:2379"
        ) as follower:
            thread = threading.Thread(target=follower.follow, name="follower", daemon=True)
            thread.start()
            wait_following(world, node)
            theirs = [_round(world, node, f"{YARDSTICK} {n + 1}/{rounds}") for n in range(rounds)]
    return figures(ours, theirs)


def fill_by_batches(world: World, node: Node) -> None:
    """Let iproute2 write all peers."""
    iproute2.make_device(node)
    with Eye(node.namespace, world.networks) as eye:
        programs = iproute2.Batches(world.lab.folder, world.peers).start(node.namespace)
        watch(node, eye)
        programs.wait()


def wait_following(world: World, node: Node) -> None:
    """Wait until the yardstick's watch stands."""
    deadline = time.monotonic() + 10
    lease = world.gateway.grant()
    network = world.spare.subnet.network_address.packed
    with RouteWatch(node.namespace) as routes:
        while True:
            try:
                put = partial(world.gateway.put, world.spare, lease)
                routes.after(put, network, present=True, within=0.3)
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise
                continue
            break
        routes.after(lambda: world.gateway.delete(world.spare.key), network, present=False)


def _round(world: World, node: Node, title: str) -> Samples:
    samples = measure(world, node)
    world.say(
        f"{title}: p50 {amount(percentile(samples.added, 0.5), 'ms')}, "
        f"p99 {amount(percentile(samples.added, 0.99), 'ms')}"
    )
    return samples


def measure(world: World, node: Node) -> Samples:
    """Put and delete one more lease, again and again."""
    samples = Samples()
    gateway, peer = world.gateway, world.spare
    network = peer.subnet.network_address.packed
    with RouteWatch(node.namespace) as routes:
        for _ in range(SAMPLES):
            lease = gateway.grant()
            _pause()
            confirmed, came = routes.after(partial(gateway.put, peer, lease), network, present=True)
            samples.put.append(confirmed * 1000)
            samples.added.append(came * 1000)
            _pause()
            _, went = routes.after(lambda: gateway.delete(peer.key), network, present=False)
            samples.removed.append(went * 1000)
    return samples


def _pause() -> None:
    time.sleep(random.uniform(LEAST_PAUSE, MOST_PAUSE))


def figures(ours: list[Samples], theirs: list[Samples]) -> list[Figure]:
    """Make figures of the rounds."""

    def shares(rounds: list[Samples], kind: str, share: float) -> tuple[float, ...]:
        return tuple(percentile(getattr(one, kind), share) for one in rounds)

    def figure(name: str, kind: str, share: float, target: float | None = None) -> Figure:
        return Figure(
            bench=NAME,
            name=name,
            unit="ms",
            values=shares(ours, kind, share),
            target=target,
            yardstick=Yardstick(name=YARDSTICK, values=shares(theirs, kind, share)),
        )

    return [
        figure("put to route, p50", "added", 0.5, TARGET_P50_MS),
        figure("put to route, p99", "added", 0.99, TARGET_P99_MS),
        figure("delete to route gone, p50", "removed", 0.5),
        figure("delete to route gone, p99", "removed", 0.99),
        figure("of that, until etcd confirms the put", "put", 0.5),
    ]
