"""`cold-start`: from exec to the last route, with thousands of leases in etcd.

Judged by the kernel's notifications, by counting routes with `ip`, and by a ping to the peer whose
route came last.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench import iproute2
from bench.eye import Eye
from bench.figures import Figure, Yardstick
from bench.process import cpu_seconds
from bench.table import amount
from bench.world import World, count_routes, watch
from flanneld_py.testing.lab.errors import NotWithin
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.ping import Prober

NAME = "cold-start"
TARGET_SECONDS = 2.2
PING_WITHIN = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Seconds of one round of the agent, from exec unless it says otherwise."""

    file: float
    """Until subnet.env was there."""
    routes: float
    """Until the last route."""
    ping: float
    """Until the peer of that route answered a ping."""
    kernel: float
    """From the first element of a peer to the last route."""
    cpu: float
    """Processor time until the last route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Seconds of one round of iproute2."""

    wall: float
    kernel: float
    """From the first element of a peer to the last route."""
    cpu: float


def run(world: World, rounds: int) -> list[Figure]:
    """Measure agent and yardstick in turn."""
    batches = iproute2.Batches(world.lab.folder, world.peers)
    starts, baselines = [], []
    for number in range(1, rounds + 1):
        with world.node() as node:
            starts.append(start_agent(world, node))
        with world.node() as node:
            baselines.append(write_batches(world, node, batches))
        world.say(
            f"{NAME} {number}/{rounds}: last route {amount(starts[-1].routes, 's')}, kernel part "
            f"{amount(starts[-1].kernel * 1000, 'ms')}, {iproute2.NAME} "
            f"{amount(baselines[-1].kernel * 1000, 'ms')}"
        )
    return figures(starts, baselines)


def start_agent(world: World, node: Node) -> Start:
    """Start the agent of a new node, and look."""
    file_seen = 0.0

    def look_for_file() -> None:
        nonlocal file_seen
        if not file_seen and node.agent.subnet_file.exists():
            file_seen = time.perf_counter()

    with Eye(node.namespace, world.networks) as eye:
        began = time.perf_counter()
        node.agent.start()
        watch(node, eye, look_for_file)
        cpu = cpu_seconds(node.agent.pid)
        ping = first_ping(world, node, eye)
        while not file_seen:
            eye.look()
            look_for_file()
    assert eye.began is not None
    assert eye.ended is not None
    check_count(world, node)
    return Start(
        file=file_seen - began,
        routes=eye.ended - began,
        ping=ping - began,
        kernel=eye.ended - eye.began,
        cpu=cpu,
    )


def first_ping(world: World, node: Node, eye: Eye) -> float:
    """Ping the peer whose route came last; return when it answered. Raises `NotWithin`."""
    target = world.peer_of(eye.last).pod
    deadline = time.perf_counter() + PING_WITHIN
    with Prober(node.namespace) as prober:
        while not prober.round([target], timeout=0.05):
            if time.perf_counter() > deadline:
                refused = dict(world.lab.responders.refused)
                raise NotWithin(f"answer of the last peer, {target}", PING_WITHIN, refused)
    return time.perf_counter()


def check_count(world: World, node: Node) -> None:
    """Count the routes by other means too. Raises RuntimeError."""
    counted = count_routes(node)
    if counted < len(world.peers):
        raise RuntimeError(f"{node.name}: {counted} routes counted, {len(world.peers)} peers")


def write_batches(world: World, node: Node, batches: iproute2.Batches) -> Baseline:
    """Let iproute2 write the same peers."""
    iproute2.make_device(node)
    with Eye(node.namespace, world.networks) as eye:
        programs = batches.start(node.namespace)
        watch(node, eye)
        cost = programs.wait()
    assert eye.began is not None
    assert eye.ended is not None
    check_count(world, node)
    return Baseline(wall=cost.wall, kernel=eye.ended - eye.began, cpu=cost.cpu)


def figures(starts: list[Start], baselines: list[Baseline]) -> list[Figure]:
    """Make figures of the rounds."""
    return [
        Figure(
            bench=NAME,
            name="exec to last route",
            unit="s",
            values=tuple(one.routes for one in starts),
            target=TARGET_SECONDS,
            yardstick=Yardstick(
                name=f"{iproute2.NAME} alone", values=tuple(one.wall for one in baselines)
            ),
        ),
        Figure(
            bench=NAME,
            name="kernel part",
            unit="ms",
            values=tuple(one.kernel * 1000 for one in starts),
            yardstick=Yardstick(
                name=iproute2.NAME,
                values=tuple(one.kernel * 1000 for one in baselines),
                is_limit=True,
            ),
        ),
        Figure(
            bench=NAME,
            name="exec to answer of the last peer",
            unit="s",
            values=tuple(one.ping for one in starts),
        ),
        Figure(
            bench=NAME,
            name="exec to subnet.env",
            unit="s",
            values=tuple(one.file for one in starts),
        ),
        Figure(
            bench=NAME,
            name="CPU until the last route",
            unit="s",
            values=tuple(one.cpu for one in starts),
            yardstick=Yardstick(
                name=f"{iproute2.NAME} alone", values=tuple(one.cpu for one in baselines)
            ),
        ),
    ]
