"""The two worlds in which the kernel contract is tried: memory, and a real network namespace.

A world is what other programs, administrators and cables do to the kernel under test.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from backends.elements import BOOT_PROTOCOL, Route, Sysctl, ip_text
from flanneld_py.kernel import HostAddress, HostRoute, Kernel
from flanneld_py.kernel.linux import LinuxKernel
from flanneld_py.testing.kernel import FakeKernel, Nexthop, StoredRoute
from flanneld_py.testing.tools import find_tool

CLONE_NEWNET = 0x40000000
UNDERLAY = "u0"
LOCAL = bytes([172, 31, 0, 1])
LOCAL6 = bytes.fromhex("fd001720000000000000000000000001")
STATIC_PROTOCOL = 4
FORWARDING = "net/ipv4/ip_forward"
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def fresh_namespace() -> Iterator[None]:
    """Put this thread into a network namespace of its own, which ends with the context."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if _libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        sh("ip", "link", "set", "lo", "up")
        try:
            yield
        finally:
            if _libc.setns(home, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(home)


def sh(program: str, *arguments: str, stdin: str = "") -> str:
    """Run a program of the toolbox in the current namespace."""
    command = [str(find_tool(program)), *arguments]
    done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def ip(line: str) -> str:
    return sh("ip", *line.split())


def ip_json(line: str) -> Any:
    return json.loads(sh("ip", "-j", "-d", *line.split()) or "[]")


class World(Protocol):
    """The kernel under test, and what others do to it."""

    kernel: Kernel

    def open(self, *, nexthops: bool = True) -> Kernel: ...
    def add_bridge(self, name: str) -> None: ...
    def set_link(self, name: str, *, up: bool | None = None, mtu: int | None = None) -> None: ...
    def remove_link(self, name: str) -> None: ...
    def add_route(self, route: Route, *, append: bool = False, replace: bool = False) -> None: ...
    def remove_route(self, route: Route) -> None: ...
    def remove_neighbour(self, dev: str, dst: bytes) -> None: ...
    def nexthop_ids(self) -> list[int]: ...
    def put_nexthop(
        self, id_: int, dev: str, gateway: bytes, protocol: int, *, replace: bool = False
    ) -> None: ...
    def remove_nexthop(self, id_: int) -> None: ...
    def overrun(self) -> None: ...
    def close(self) -> None: ...


class FakeWorld:
    """Everything in memory."""

    def __init__(self) -> None:
        self.fake = FakeKernel()
        self.kernel: Kernel = self.fake

    def open(self, *, nexthops: bool = True) -> Kernel:
        self.fake.namespace.add_link(UNDERLAY, mtu=1500, kind="veth")
        self.fake.sysctls[FORWARDING] = "0"
        self.fake.set_host(
            addresses=[HostAddress(dev=UNDERLAY, address=LOCAL, prefixlen=24)],
            routes=[HostRoute(dst=bytes([172, 31, 0, 0]), prefixlen=24, dev=UNDERLAY)],
        )
        return self.kernel

    def add_bridge(self, name: str) -> None:
        self.fake.namespace.add_link(name, kind="bridge")

    def set_link(self, name: str, *, up: bool | None = None, mtu: int | None = None) -> None:
        self.fake.namespace.set_link(name, up=up, mtu=mtu)

    def remove_link(self, name: str) -> None:
        self.fake.namespace.remove_link(name)

    def add_route(self, route: Route, *, append: bool = False, replace: bool = False) -> None:
        mode = "append" if append else "replace" if replace else "exclusive"
        self.fake.namespace.put_route(StoredRoute(route=route), mode)  # type: ignore[arg-type]

    def remove_route(self, route: Route) -> None:
        place = (route.dst, route.prefixlen, route.metric)
        space = self.fake.namespace
        space.remove_route(next(stored for stored in space.routes if stored.place == place))

    def remove_neighbour(self, dev: str, dst: bytes) -> None:
        self.fake.namespace.remove_entry(self.fake.namespace.neighbours[dev, dst])

    def nexthop_ids(self) -> list[int]:
        return sorted(self.fake.namespace.nexthops)

    def put_nexthop(
        self, id_: int, dev: str, gateway: bytes, protocol: int, *, replace: bool = False
    ) -> None:
        item = Nexthop(id=id_, dev=dev, gateway=gateway, onlink=True, protocol=protocol)
        self.fake.namespace.put_nexthop(item, exclusive=not replace)

    def remove_nexthop(self, id_: int) -> None:
        self.fake.namespace.remove_nexthop(id_)

    def overrun(self) -> None:
        self.fake.overrun()

    def close(self) -> None:
        self.kernel.close()


class LinuxWorld:
    """The real kernel, and iproute2. Make it inside of a namespace of its own."""

    kernel: Kernel

    def open(self, *, nexthops: bool = True) -> Kernel:
        ip(f"link add {UNDERLAY} mtu 1500 type veth peer name far0")
        ip(f"addr add {ip_text(LOCAL)}/24 dev {UNDERLAY}")
        ip(f"addr add {ip_text(LOCAL6)}/64 dev {UNDERLAY} nodad")
        ip(f"link set {UNDERLAY} up")
        ip("link set far0 up")
        Path("/proc/sys", FORWARDING).write_text("0")
        self.kernel = LinuxKernel()
        return self.kernel

    def add_bridge(self, name: str) -> None:
        ip(f"link add {name} type bridge")

    def set_link(self, name: str, *, up: bool | None = None, mtu: int | None = None) -> None:
        if up is not None:
            ip(f"link set {name} {'up' if up else 'down'}")
        if mtu is not None:
            ip(f"link set {name} mtu {mtu}")

    def remove_link(self, name: str) -> None:
        ip(f"link del {name}")

    def add_route(self, route: Route, *, append: bool = False, replace: bool = False) -> None:
        verb = "append" if append else "replace" if replace else "add"
        ip(f"route {verb} {_iproute2(route)}")

    def remove_route(self, route: Route) -> None:
        ip(f"route del {ip_text(route.dst)}/{route.prefixlen}")

    def remove_neighbour(self, dev: str, dst: bytes) -> None:
        ip(f"neigh del {ip_text(dst)} dev {dev}")

    def nexthop_ids(self) -> list[int]:
        return sorted(item["id"] for item in ip_json("nexthop show"))

    def put_nexthop(
        self, id_: int, dev: str, gateway: bytes, protocol: int, *, replace: bool = False
    ) -> None:
        verb = "replace" if replace else "add"
        line = f"id {id_} via {ip_text(gateway)} dev {dev} onlink protocol {protocol}"
        ip(f"nexthop {verb} {line}")

    def remove_nexthop(self, id_: int) -> None:
        ip(f"nexthop del id {id_}")

    def overrun(self) -> None:
        flips = f"link set {UNDERLAY} mtu 1400\nlink set {UNDERLAY} mtu 1401\n"
        sh("ip", "-batch", "-", stdin=flips * 10_000)
        ip(f"link set {UNDERLAY} mtu 1500")

    def close(self) -> None:
        self.kernel.close()


def _iproute2(route: Route) -> str:
    line = f"{ip_text(route.dst)}/{route.prefixlen} proto {route.protocol}"
    line += f" via {ip_text(route.gateway)}" if route.gateway else ""
    line += f" dev {route.dev}" if route.dev else ""
    line += f" metric {route.metric}" if route.metric else ""
    return line + (" onlink" if route.onlink else "")


FLANNEL_PROTOCOL = BOOT_PROTOCOL
FORWARDING_ON = Sysctl(name=FORWARDING, value="1")
