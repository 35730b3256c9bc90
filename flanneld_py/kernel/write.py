"""Elements other than links and settings, written to the kernel in batches.

Turns operations into messages and refusals into failures, and knows which refusals are none:
deleting what is absent, creating what is there and equal. It does not decide what is wanted.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from itertools import groupby

from backends.elements import (
    Address,
    Fdb,
    Kind,
    Neighbour,
    Route,
    ip_text,
)
from flanneld_py.kernel import Action, Failure, Op, decode, encode
from flanneld_py.kernel import netlink as nl
from flanneld_py.kernel.batch import RequestSocket
from flanneld_py.kernel.reasons import reason
from flanneld_py.kernel.scan import Scanner
from flanneld_py.kernel.view import RouteKey, View
from flanneld_py.kernel.write_nexthops import PIECE, VANISHED, Absent, NexthopWriter

_ABSENT = {
    Kind.ADDRESS: {errno.EADDRNOTAVAIL, errno.ENODEV},
    Kind.FDB: {errno.ENOENT, errno.ENODEV, errno.EINVAL},
    Kind.NEIGHBOUR: {errno.ENOENT, errno.ENODEV},
    Kind.ROUTE: {errno.ESRCH, errno.ENODEV},
}
"""What the kernel answers to the removal of what is not there."""


def _place(route: Route) -> RouteKey:
    return (route.dst, route.prefixlen, route.metric)


class Writer:
    """Batches of operations on addresses, FDB, neighbours, nexthops and routes."""

    def __init__(self, sock: RequestSocket, view: View, scanner: Scanner) -> None:
        self._sock = sock
        self._view = view
        self._scanner = scanner
        self._strangers: dict[str, int] = {}
        self._nexthops = NexthopWriter(sock, view, self._index)
        self.holders: dict[RouteKey, Route] = {}
        """Routes that were found in the way of creations of the last `write`."""

    async def write(self, ops: Sequence[Op]) -> list[Failure]:
        """Work through `ops`. A kind's answers are known before the next kind is sent."""
        self.holders = {}
        await self._find_strangers(ops)
        failures: list[Failure] = []
        for kind, run in groupby(ops, key=lambda op: op.element.kind):
            if kind is Kind.NEXTHOP:
                failures += await self._nexthops.write(list(run))
            else:
                failures += await self._write_run(kind, list(run))
        return failures

    async def _find_strangers(self, ops: Sequence[Op]) -> None:
        """Look up devices that the view does not know, for this call only."""
        devices = {getattr(op.element, "dev", "") for op in ops}
        self._strangers = {}
        for name in sorted(devices - self._view.indices.keys() - {""}):
            answer = await self._sock.ask(encode.get_link(name))
            if isinstance(answer, bytes):
                self._strangers[name] = decode.link(answer, 0, len(answer)).host.ifindex

    def _index(self, dev: str) -> int:
        index = self._view.indices.get(dev) or self._strangers.get(dev)
        if index is None:
            raise Absent(f"device {dev} is absent")
        return index

    async def _write_run(self, kind: Kind, run: list[Op]) -> list[Failure]:
        failed: dict[int, Failure] = {}
        in_the_way: dict[int, nl.Refusal] = {}
        for first in range(0, len(run), PIECE):
            places, messages = self._messages(run, first, failed)
            refused = await self._sock.write(messages)
            for number, answer in refused.items():
                place = places[number]
                op = run[place]
                if op.action is Action.DELETE and self._is_absent(op, answer):
                    continue
                if answer.errno == errno.EEXIST and op.action is Action.CREATE:
                    in_the_way[place] = answer
                else:
                    failed[place] = self._failure(op, answer)
        if in_the_way:
            failed.update(await self._compare(kind, run, in_the_way))
        if kind is Kind.ROUTE:
            self._view.carriers |= {
                op.element.dev for op in run if isinstance(op.element, Route) and op.element.dev
            }
        return [failed[place] for place in sorted(failed)]

    def _messages(
        self, run: list[Op], first: int, failed: dict[int, Failure]
    ) -> tuple[list[int], list[bytes]]:
        """A piece of the run as messages, and which operations they are."""
        places: list[int] = []
        messages: list[bytes] = []
        for place in range(first, min(first + PIECE, len(run))):
            op = run[place]
            try:
                message = self._message(op)
            except Absent as absent:
                if op.action is not Action.DELETE:
                    failed[place] = Failure(op=op, errno=errno.ENOENT, reason=str(absent))
                continue
            messages.append(message)
            places.append(place)
        return places, messages

    def _is_absent(self, op: Op, answer: nl.Refusal) -> bool:
        element = op.element
        if answer.errno in _ABSENT[element.kind]:
            return True
        # The route went with its nexthop.
        return isinstance(element, Route) and element.by_nexthop and "exthop id" in answer.text

    def _failure(self, op: Op, answer: nl.Refusal) -> Failure:
        element = op.element
        number = answer.errno
        if number == errno.ENODEV:
            number = errno.ENOENT
        if isinstance(element, Route) and element.by_nexthop and "exthop id" in answer.text:
            number = errno.ENOENT
            self._view.stale = VANISHED
        return Failure(op=op, errno=number, reason=reason(element.kind, answer.errno, answer.text))

    def _message(self, op: Op) -> bytes:
        element = op.element
        remove = op.action is Action.DELETE
        if isinstance(element, Fdb):
            return self._fdb(element, remove)
        if isinstance(element, Neighbour):
            index = self._index(element.dev)
            type_, flags = (
                (nl.RTM_DELNEIGH, encode.REMOVE) if remove else (nl.RTM_NEWNEIGH, encode.PUT)
            )
            return encode.neighbour(type_, flags, index, element.dst, element.mac or bytes(6))
        if isinstance(element, Route):
            return self._route(element, op.action)
        if isinstance(element, Address):
            index = self._index(element.dev)
            type_, flags = (
                (nl.RTM_DELADDR, encode.REMOVE) if remove else (nl.RTM_NEWADDR, encode.ADD)
            )
            return encode.address(type_, flags, index, element.address, element.prefixlen)
        raise TypeError(f"{type(element).__name__} is not written in batches")

    def _fdb(self, element: Fdb, remove: bool) -> bytes:
        index = self._index(element.dev)
        if not remove:
            return encode.fdb(nl.RTM_NEWNEIGH, encode.PUT, index, element.mac, element.dst)
        # Only multicast and zero MACs have several destinations; an unspecified one stands for
        # whatever the entry has.
        if element.mac[0] & 1 or not any(element.mac) or not any(element.dst):
            return encode.fdb_removal(index, element.mac)
        return encode.fdb(nl.RTM_DELNEIGH, encode.REMOVE, index, element.mac, element.dst)

    def _route(self, route: Route, action: Action) -> bytes:
        if action is Action.DELETE:
            type_, flags = nl.RTM_DELROUTE, encode.REMOVE
        else:
            type_ = nl.RTM_NEWROUTE
            flags = encode.ADD if action is Action.CREATE else encode.PUT
        dst, length, metric, protocol = route.dst, route.prefixlen, route.metric, route.protocol
        if route.by_nexthop:
            id_ = route.via_instance if action is Action.DELETE else 0
            id_ = id_ or self._nexthops.id_of(route.dev, route.gateway, route.onlink)
            if not id_:
                raise Absent(f"nexthop via {ip_text(route.gateway)} dev {route.dev} is absent")
            return encode.route_by_nexthop(type_, flags, dst, length, metric, protocol, id_)
        if route.type != "unicast" or not route.dev:
            number = nl.ROUTE_TYPE_NUMBERS.get(route.type, 0) or int(route.type)
            return encode.route_plain(type_, flags, dst, length, metric, protocol, number)
        index = self._index(route.dev)
        if not route.gateway:
            return encode.route_by_device(type_, flags, dst, length, metric, protocol, index)
        return encode.route_by_gateway(
            type_, flags, dst, length, metric, protocol, index, route.gateway, route.onlink
        )

    async def _compare(
        self, kind: Kind, run: list[Op], refused: dict[int, nl.Refusal]
    ) -> dict[int, Failure]:
        """Creations that met something: equal is success, anything else is in the way."""
        failed: dict[int, Failure] = {}
        if kind is Kind.ROUTE:
            wanted = {_place(r) for p in refused if isinstance(r := run[p].element, Route)}
            self.holders |= await self._scanner.holders(wanted)
        for place, answer in refused.items():
            op = run[place]
            element = op.element
            if isinstance(element, Route):
                held = self.holders.get(_place(element))
                if held == element:
                    continue
                says = f"held by {held.describe()}" if held else "held by a route that went since"
                failed[place] = Failure(op=op, errno=errno.EEXIST, reason=says)
            elif isinstance(element, Address):
                length = await self._scanner.has_address(self._index(element.dev), element)
                if length is not None and length != element.prefixlen:
                    says = f"the device has the address with prefix length {length}"
                    failed[place] = Failure(op=op, errno=errno.EEXIST, reason=says)
            else:
                failed[place] = self._failure(op, answer)
        return failed
