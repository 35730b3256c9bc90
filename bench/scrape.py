"""`metrics`: what a scrape of `/metrics` takes and how much it brings, with thousands of peers.

Over TCP, from connecting to the last byte. The yardstick is `/healthz` of the same agent, asked in
turns: a request that has nothing to tell.
"""

from __future__ import annotations

import socket
import statistics
import time

from bench.figures import Figure, Yardstick
from bench.memory import wait_steady
from bench.table import amount
from bench.world import World
from flanneld_py.testing.lab.node import Node

NAME = "metrics"
PORT = 10256
SCRAPES = 40
"""In a round."""
TARGET_MS = 20.0
TARGET_SERIES = 300


def run(world: World, rounds: int) -> list[Figure]:
    """Scrape one agent."""
    times, floors, worst, series = [], [], [], []
    with world.node() as node:
        node.agent.flags += (f"--healthz-port={PORT}", "--healthz-ip=127.0.0.1")
        world.start_full(node)
        wait_steady(node.agent.pid)
        for number in range(1, rounds + 1):
            took, idle = [], []
            for _ in range(SCRAPES):
                idle.append(ask(node, "/healthz")[0])
                seconds, text = ask(node, "/metrics")
                took.append(seconds * 1000)
            times.append(statistics.median(took))
            worst.append(max(took))
            floors.append(statistics.median(idle) * 1000)
            series.append(float(count_series(text, len(world.peers))))
            world.say(
                f"{NAME} {number}/{rounds}: {amount(times[-1], 'ms')}, at most "
                f"{amount(worst[-1], 'ms')}, {amount(series[-1], 'series')}"
            )
    return [
        Figure(
            bench=NAME,
            name="scrape",
            unit="ms",
            values=tuple(times),
            target=TARGET_MS,
            yardstick=Yardstick(name="/healthz", values=tuple(floors)),
        ),
        Figure(bench=NAME, name="slowest scrape", unit="ms", values=tuple(worst)),
        Figure(
            bench=NAME, name="series", unit="series", values=tuple(series), target=TARGET_SERIES
        ),
    ]


def ask(node: Node, path: str) -> tuple[float, str]:
    """Ask the node's agent; return seconds and the answer. Raises RuntimeError unless it is 200."""
    sock = node.namespace.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    with sock:
        sock.settimeout(5)
        answer = bytearray()
        began = time.perf_counter()
        sock.connect(("127.0.0.1", PORT))
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n".encode())
        while data := sock.recv(65536):
            answer += data
        took = time.perf_counter() - began
    head, _, body = answer.decode().partition("\r\n\r\n")
    if " 200 " not in head.partition("\r\n")[0]:
        raise RuntimeError(f"{node.name}: {path} answered {head.partition(chr(13))[0]}")
    return took, body


def count_series(text: str, peers: int) -> int:
    """Count the samples of a scrape, which has to know all peers. Raises RuntimeError."""
    samples = [line for line in text.splitlines() if line and not line.startswith("#")]
    wanted = f'flanneld_py_peers{{state="programmed"}} {peers}'
    if not any(line.removesuffix(".0") == wanted for line in samples):
        raise RuntimeError(f"the metrics lack {wanted}")
    return len(samples)
