"""How fast can the kernel part be at all? 10,000 peers written and read by the netlink batch path.

Beside it, in the same run, the yardstick: the same peers by `ip -batch` and `bridge -batch` in
flannel's classic form. Everything happens in a network namespace that ends with this process.

    python bench/netlink_raw.py [PEERS] [ROUNDS]
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from backends.elements import (
    NEXTHOP_ID_BASE,
    ROUTE_PROTOCOL,
    Nexthop,
    ip_text,
    mac_text,
)
from flanneld_py.kernel import decode, encode
from flanneld_py.kernel import netlink as nl
from flanneld_py.kernel.batch import RequestSocket

DEVICE = "flannel.1"
INSIDE = "FLANNELD_PY_BENCH_NAMESPACE"
Peer = tuple[bytes, bytes, bytes]


def make_peers(count: int) -> list[Peer]:
    """Subnet, VTEP MAC and underlay address of each peer."""
    return [
        (
            (0x0A000000 + (index << 8)).to_bytes(4, "big"),
            b"\x02\x00" + index.to_bytes(4, "big"),
            (0xAC100000 + index).to_bytes(4, "big"),
        )
        for index in range(1, count + 1)
    ]


def sh(*command: str) -> str:
    """Run a program that must succeed; answers what it printed."""
    return subprocess.run(command, text=True, check=True, capture_output=True).stdout


def fresh_device() -> int:
    """A VXLAN device on a veth underlay; answers its index."""
    subprocess.run(["ip", "link", "del", DEVICE], check=False, capture_output=True)
    subprocess.run(["ip", "link", "del", "u0"], check=False, capture_output=True)
    sh("ip", "link", "add", "u0", "type", "veth", "peer", "name", "u1")
    sh("ip", "addr", "add", "172.16.0.0/12", "dev", "u0")
    sh("ip", "link", "set", "u0", "up")
    sh("ip", "link", "set", "u1", "up")
    sh(*f"ip link add {DEVICE} type vxlan id 1 dev u0 dstport 8472 nolearning".split())
    sh("ip", "link", "set", DEVICE, "up")
    return int(json.loads(sh("ip", "-j", "link", "show", DEVICE))[0]["ifindex"])


def measured(results: dict[str, list[float]], name: str, wall: float, cpu: float) -> None:
    """Note one figure."""
    results.setdefault(f"{name}.wall_ms", []).append(wall * 1000)
    results.setdefault(f"{name}.cpu_ms", []).append(cpu * 1000)


async def write(
    results: dict[str, list[float]], name: str, sock: RequestSocket, make: Callable[[], list[bytes]]
) -> None:
    """Encode and send."""
    wall, cpu = time.perf_counter(), time.process_time()
    refused = await sock.write(make())
    measured(results, name, time.perf_counter() - wall, time.process_time() - cpu)
    if refused:
        raise SystemExit(f"{name}: {len(refused)} refused, first {next(iter(refused.values()))}")


async def batches(results: dict[str, list[float]], peers: list[Peer], form: str) -> None:
    """Write all, then read all, in one of the two route forms."""
    index = fresh_device()
    sock = RequestSocket()
    begun, begun_cpu = time.perf_counter(), time.process_time()

    def fdbs() -> list[bytes]:
        return [encode.fdb(nl.RTM_NEWNEIGH, encode.PUT, index, m, p) for _, m, p in peers]

    def neighbours() -> list[bytes]:
        return [encode.neighbour(nl.RTM_NEWNEIGH, encode.PUT, index, s, m) for s, m, _ in peers]

    def nexthops() -> list[bytes]:
        return [
            encode.nexthop(NEXTHOP_ID_BASE + i, index, s, True) for i, (s, _, _) in enumerate(peers)
        ]

    def routes() -> list[bytes]:
        new, add, us = nl.RTM_NEWROUTE, encode.ADD, ROUTE_PROTOCOL
        if form == "nexthop":
            return [
                encode.route_by_nexthop(new, add, s, 24, 0, us, NEXTHOP_ID_BASE + i)
                for i, (s, _, _) in enumerate(peers)
            ]
        return [
            encode.route_by_gateway(new, add, s, 24, 0, us, index, s, True) for s, _, _ in peers
        ]

    await write(results, f"{form}.write.fdb", sock, fdbs)
    await write(results, f"{form}.write.neighbour", sock, neighbours)
    if form == "nexthop":
        await write(results, f"{form}.write.nexthop", sock, nexthops)
    await write(results, f"{form}.write.route", sock, routes)
    wall, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    measured(results, f"{form}.write.all", wall, cpu)
    await read(results, form, sock, index, len(peers))
    sock.close()


async def read(
    results: dict[str, list[float]], form: str, sock: RequestSocket, index: int, count: int
) -> None:
    """Dump everything into elements, as an observation does."""
    begun, begun_cpu = time.perf_counter(), time.process_time()
    names = {index: DEVICE}
    fdb = await sock.dump(encode.dump_fdb(index), decode.permanent(DEVICE, decode.fdb, nl.NTF_SELF))
    measured(results, f"{form}.read.fdb", time.perf_counter() - begun, 0)
    neighbours = await sock.dump(
        encode.dump_neighbours(index), decode.permanent(DEVICE, decode.neighbour, 0)
    )
    objects = await sock.dump(encode.dump_nexthops(), decode.nexthop)
    hops = [Nexthop(dev=DEVICE, gateway=o.gateway, onlink=o.onlink) for o in objects]
    references = {o.id: decode.NexthopReference(DEVICE, o.gateway, o.onlink, 0) for o in objects}
    started = time.perf_counter()
    facts = await sock.dump(encode.dump_routes(2, ROUTE_PROTOCOL), decode.route)
    routes = [fact.element(names, references) for fact in facts]
    measured(results, f"{form}.read.route", time.perf_counter() - started, 0)
    wall, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    measured(results, f"{form}.read.all", wall, cpu)
    parts: list[Sequence[Any]] = [fdb, neighbours, hops, routes]
    elements = {element.key: element for part in parts for element in part}
    cpu = time.process_time() - begun_cpu
    measured(results, f"{form}.read.all+keyed", time.perf_counter() - begun, cpu)
    wanted = (4 if form == "nexthop" else 3) * count
    if len(elements) != wanted:
        raise SystemExit(f"{form}: {len(elements)} elements read, {wanted} written")


def yardstick(results: dict[str, list[float]], peers: list[Peer]) -> None:
    """The same by iproute2, as flannel would have it."""
    fresh_device()
    texts = [(ip_text(s), mac_text(m), ip_text(p)) for s, m, p in peers]
    fdb = "".join(f"fdb replace {m} dev {DEVICE} dst {p} self permanent\n" for _, m, p in texts)
    lines = "".join(
        f"neigh replace {s} lladdr {m} dev {DEVICE} nud permanent\n" for s, m, _ in texts
    )
    lines += "".join(f"route add {s}/24 via {s} dev {DEVICE} onlink\n" for s, _, _ in texts)
    begun = time.perf_counter()
    before = os.times()
    with tempfile.NamedTemporaryFile("w", suffix=".batch") as first:
        first.write(fdb)
        first.flush()
        sh("bridge", "-batch", first.name)
    with tempfile.NamedTemporaryFile("w", suffix=".batch") as second:
        second.write(lines)
        second.flush()
        sh("ip", "-batch", second.name)
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    measured(results, "yardstick.write.all", time.perf_counter() - begun, cpu)


def main() -> None:
    """Enter a namespace, then measure and print."""
    if not os.environ.get(INSIDE):
        rights = ["--net"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net"]
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", *rights, sys.executable, *sys.argv])
    peers = make_peers(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    results: dict[str, list[float]] = {}
    sh("ip", "link", "set", "lo", "up")
    for _ in range(rounds):
        asyncio.run(batches(results, peers, "nexthop"))
        asyncio.run(batches(results, peers, "classic"))
        yardstick(results, peers)
    medians = {name: round(statistics.median(values), 1) for name, values in results.items()}
    print(json.dumps({"peers": len(peers), "rounds": rounds, "median": medians}, indent=2))


if __name__ == "__main__":
    main()
