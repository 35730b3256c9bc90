"""The yardstick: the same peers by `ip -batch` and `bridge -batch`, in flannel's classic form.

Per peer a forwarding entry, a permanent neighbour and an on-link gateway route, on a device as
flannel makes it. The programs are real ones; the kernel tells their processor time.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from bench.process import memory_mib
from flanneld_py.testing.lab.namespace import Namespace
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.peers import StaticPeer
from flanneld_py.testing.tools import find_tool, search_path

DEVICE = "flannel.1"
NAME = "ip/bridge -batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one or more programs cost."""

    wall: float
    """Seconds from the start of the first to the end of the last."""
    cpu: float
    """Seconds of processor time, all together."""


def make_device(node: Node) -> None:
    """Make the VXLAN device as flannel does."""
    node.namespace.ip(
        f"link add {DEVICE} type vxlan id 1 dev u0 local {node.ip} dstport 8472 nolearning",
        f"address add 10.255.255.0/32 dev {DEVICE}",
        f"link set {DEVICE} up",
    )


def fdb_line(peer: StaticPeer) -> str:
    """Return what `bridge` is told for a peer."""
    return f"fdb replace {peer.mac.hex(':')} dev {DEVICE} dst {peer.public_ip} self permanent"


def ip_lines(peer: StaticPeer) -> tuple[str, str]:
    """Return what `ip` is told for a peer."""
    first = peer.subnet.network_address
    return (
        f"neigh replace {first} lladdr {peer.mac.hex(':')} dev {DEVICE} nud permanent",
        f"route replace {peer.subnet} via {first} dev {DEVICE} onlink",
    )


class Batches:
    """The commands for many peers, in two files."""

    def __init__(self, folder: Path, peers: Iterable[StaticPeer]) -> None:
        chosen = list(peers)
        self._bridge, self._ip = folder / "bridge.batch", folder / "ip.batch"
        self._bridge.write_text("".join(f"{fdb_line(peer)}\n" for peer in chosen))
        neighbours = [ip_lines(peer)[0] for peer in chosen]
        routes = [ip_lines(peer)[1] for peer in chosen]
        self._ip.write_text("".join(f"{line}\n" for line in (*neighbours, *routes)))

    def start(self, node: Namespace) -> Running:
        """Begin to write all peers: entries and neighbours first, routes last."""
        script = 'bridge -batch "$1" && exec ip -batch "$2"'
        return Running(node, ["sh", "-c", script, "sh", str(self._bridge), str(self._ip)])


def show_all(node: Namespace) -> Cost:
    """Read everything that serves peers, as text that nobody looks at."""
    commands = (
        f"ip -4 route show dev {DEVICE}",
        f"ip -4 neighbour show dev {DEVICE}",
        f"bridge fdb show dev {DEVICE}",
        f"ip nexthop show dev {DEVICE}",
    )
    return Running(node, ["sh", "-c", " && ".join(commands)]).wait()


class Running:
    """Programs of iproute2 that run in a namespace."""

    def __init__(self, node: Namespace, command: Sequence[str]) -> None:
        self._began = time.perf_counter()
        self._process = subprocess.Popen(
            node.command(*command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PATH": search_path()},
        )

    def peak_mib(self) -> float:
        """Wait for their end; return the most that the last of them was seen to have resident."""
        # The kernel's own account of it (ru_maxrss) begins with us, who started the program.
        most = 0.0
        with contextlib.suppress(ProcessLookupError, KeyError, FileNotFoundError):
            while True:
                most = max(most, memory_mib(self._process.pid)[0])
                time.sleep(0.01)
        self.wait()
        return most

    def wait(self) -> Cost:
        """Wait for their end. Raises RuntimeError when they failed."""
        assert self._process.stderr is not None
        words = self._process.stderr.read().decode()
        _, status, usage = os.wait4(self._process.pid, 0)
        wall = time.perf_counter() - self._began
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._process.stderr.close()
        if self._process.returncode != 0:
            raise RuntimeError(f"{NAME} ended with {self._process.returncode}: {words[:300]}")
        return Cost(wall=wall, cpu=usage.ru_utime + usage.ru_stime)


class Follower:
    """The smallest agent that one can make of a shell: `etcdctl watch` into `ip` and `bridge`.

    The programs stay and read commands as they come. A context manager; `feed` takes one line of
    what etcdctl prints for a put: the words PUT, key and value come on lines of their own.
    """

    def __init__(self, node: Node, known: Iterable[StaticPeer], endpoint: str) -> None:
        self._lines = {peer.key: (fdb_line(peer), ip_lines(peer)) for peer in known}
        inside = node.namespace.command
        self._environment = {**os.environ, "PATH": search_path(), "ETCDCTL_API": "3"}
        self._bridge = self._open(inside("bridge", "-force", "-batch", "-"))
        self._ip = self._open(inside("ip", "-force", "-batch", "-"))
        watch = [str(find_tool("etcdctl")), f"--endpoints={endpoint}", "watch", "--prefix"]
        self._watch = self._open(inside(*watch, "/coreos.com/network/subnets/"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in (self._watch, self._ip, self._bridge):
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def follow(self) -> None:
        """Write what each put means into the kernel, until etcdctl ends."""
        word = ""
        for text in _pipe(self._watch.stdout):
            line = text.decode().strip()
            if line in ("PUT", "DELETE"):
                word = line
            elif line in self._lines and word:
                self._write(line, word)
                word = ""

    def _write(self, key: str, word: str) -> None:
        fdb, lines = self._lines[key]
        if word == "DELETE":
            fdb = fdb.replace("replace", "del").replace(" permanent", "")
            lines = (
                lines[0].replace("replace", "del").split(" lladdr")[0] + f" dev {DEVICE}",
                lines[1].replace("replace", "del"),
            )
        _say(self._bridge, fdb)
        _say(self._ip, *lines)

    def _open(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment,
        )


def _say(process: subprocess.Popen[bytes], *lines: str) -> None:
    pipe = process.stdin
    assert pipe is not None
    pipe.write("".join(f"{line}\n" for line in lines).encode())
    pipe.flush()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
