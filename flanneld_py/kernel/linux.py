"""LinuxKernel: the `Kernel` of the network namespace that the process is in.

Composes the parts: `scan` reads, `write`, `links` and `sysctl` change, `monitor` and `events` tell
what happened. Requests are made one after the other; `drain` may be called between their parts.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from backends.elements import Kind, Route, Sysctl
from flanneld_py.kernel import (
    Action,
    Changes,
    Failure,
    Features,
    HostFacts,
    KernelError,
    Observation,
    Op,
    RouteAnswer,
    Scope,
    encode,
)
from flanneld_py.kernel import netlink as nl
from flanneld_py.kernel.batch import RequestSocket
from flanneld_py.kernel.events import EventReader
from flanneld_py.kernel.links import LinkWriter
from flanneld_py.kernel.monitor import Monitor
from flanneld_py.kernel.scan import Scanner
from flanneld_py.kernel.sysctl import write_sysctl
from flanneld_py.kernel.view import View
from flanneld_py.kernel.write import Writer

VXLAN_PORT_PARAMETER: Final = Path("/sys/module/vxlan/parameters/udp_port")
MAINLINE_VXLAN_PORT: Final = 8472


class LinuxKernel:
    """See `flanneld_py.kernel.Kernel`. Make it inside of a running event loop."""

    def __init__(self) -> None:
        self._features = Features(
            nexthops=_has_nexthops(), default_vxlan_port=_default_vxlan_port()
        )
        self._view = View()
        self._events = EventReader(self._view)
        self._monitor = Monitor(self._events.read, self._events.lost)
        self._sock = RequestSocket()
        self._scanner = Scanner(self._sock, self._view, nexthops=self._features.nexthops)
        self._writer = Writer(self._sock, self._view, self._scanner)
        self._links = LinkWriter(self._sock, self._view, self._monitor.read_all)
        self._busy = asyncio.Lock()

    @property
    def features(self) -> Features:
        return self._features

    async def observe(self, scope: Scope) -> Observation:
        async with self._busy:
            self._view.set_scope(scope)
            # What was notified until now is part of the dump; replayed later it would be old news.
            self._monitor.discard()
            self._events.forget()
            return await self._scanner.observe()

    async def apply(self, ops: Sequence[Op]) -> list[Failure]:
        async with self._busy:
            failures: list[Failure] = []
            for batched, run in groupby(ops, key=lambda op: op.element.kind > Kind.SYSCTL):
                if batched:
                    failures += await self._writer.write(list(run))
                    continue
                for op in run:
                    failure = await self._apply_one(op)
                    if failure is not None:
                        failures.append(failure)
            return failures

    async def _apply_one(self, op: Op) -> Failure | None:
        element = op.element
        if not isinstance(element, Sysctl):
            return await self._links.write(op)
        if op.action is Action.DELETE:  # a setting is never removed
            return None
        await asyncio.sleep(0)
        try:
            write_sysctl(element)
        except KernelError as error:
            says = f"{error.reason}: {error.remedy}" if error.remedy else error.reason
            return Failure(op=op, errno=error.errno, reason=says)
        return None

    def drain(self) -> Changes:
        self._monitor.read_all()
        return self._events.take()

    def on_change(self, wake: Callable[[], None]) -> None:
        self._monitor.watch(wake)

    async def host(self) -> HostFacts:
        async with self._busy:
            return await self._scanner.host()

    async def holder(self, route: Route) -> Route | None:
        place = (route.dst, route.prefixlen, route.metric)
        async with self._busy:
            # Asked about a creation that just failed: that answer is at hand.
            found = self._writer.holders.pop(place, None)
            if found is None:
                found = (await self._scanner.holders({place})).get(place)
            return found

    async def route_to(self, address: bytes) -> RouteAnswer | None:
        async with self._busy:
            return await self._scanner.route_to(address)

    def close(self) -> None:
        self._monitor.close()
        self._sock.close()


def _has_nexthops() -> bool:
    """Ask for nexthop objects: a kernel without them says EOPNOTSUPP."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(1.0)
        sock.bind((0, 0))
        sock.send(encode.dump_nexthops())
        data = sock.recv(64 * 1024)
        start, end, type_, flags, _ = nl.frames(data, len(data))[0]
        if type_ != nl.NLMSG_ERROR:
            return True
        return nl.refusal(data, start, end, flags).errno not in (errno.EOPNOTSUPP, errno.EINVAL)


def _default_vxlan_port() -> int:
    try:
        return int(VXLAN_PORT_PARAMETER.read_text())
    except (OSError, ValueError):  # the module is not loaded yet
        return MAINLINE_VXLAN_PORT
