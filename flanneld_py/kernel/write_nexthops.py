"""Nexthop objects, written to the kernel in batches under ids of our own.

Chooses ids, tries the next one where another program was faster, and never removes an object that
is not ours. Which content is wanted is not decided here.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from backends.elements import ROUTE_PROTOCOL, Key, Kind, Nexthop
from flanneld_py.kernel import Action, Failure, Op, encode
from flanneld_py.kernel import netlink as nl
from flanneld_py.kernel.batch import RequestSocket
from flanneld_py.kernel.decode import NexthopObject
from flanneld_py.kernel.reasons import reason
from flanneld_py.kernel.view import View

PIECE = 1000
"""Operations that are packed before the event loop gets its turn."""
VANISHED = "a nexthop of ours has vanished, its routes with it"
_ATTEMPTS = 64


class Absent(Exception):
    """What an operation depends on is not there; for a removal that means it is done."""


class NexthopWriter:
    """Operations on nexthop objects; `index` finds a device, or raises `Absent`."""

    def __init__(self, sock: RequestSocket, view: View, index: Callable[[str], int]) -> None:
        self._sock = sock
        self._view = view
        self._index = index

    def id_of(self, dev: str, gateway: bytes, onlink: bool) -> int:
        """Id of the object in use for this content; 0 when there is none."""
        return self._view.nexthops.primary(self._index(dev), gateway, onlink) or 0

    async def write(self, run: list[Op]) -> list[Failure]:
        """Work through operations on nexthops; answer those that failed, in order."""
        failed: dict[int, Failure] = {}
        waiting: dict[int, Op] = {}
        for first in range(0, len(run), PIECE):
            piece = dict(enumerate(run[first : first + PIECE], first))
            waiting |= await self._try(piece, failed)
        for _ in range(_ATTEMPTS):
            if not waiting:
                break
            waiting = await self._try(waiting, failed)
        for place, op in waiting.items():
            says = "every id that was tried is taken by another program"
            failed[place] = Failure(op=op, errno=errno.EEXIST, reason=says)
        return [failed[place] for place in sorted(failed)]

    async def _try(self, waiting: dict[int, Op], failed: dict[int, Failure]) -> dict[int, Op]:
        """Send what is to be sent; answer the creations that have to be tried again."""
        table = self._view.nexthops
        messages: list[bytes] = []
        sent: list[tuple[int, Op, NexthopObject]] = []
        again: dict[int, Op] = {}
        begun: set[Key] = set()
        for place, op in waiting.items():
            element = op.element
            assert isinstance(element, Nexthop)
            try:
                id_ = element.instance or self.id_of(element.dev, element.gateway, element.onlink)
            except Absent as absent:
                if op.action is not Action.DELETE:
                    failed[place] = Failure(op=op, errno=errno.ENOENT, reason=str(absent))
                continue
            if op.action is Action.DELETE:
                item = table.get(id_) if id_ else None
                if item is None or item.protocol != ROUTE_PROTOCOL:
                    continue
                table.begin_removal(item.id)
                messages.append(encode.nexthop_removal(item.id))
            elif id_:
                continue
            elif element.key in begun:  # what becomes of the first decides
                again[place] = op
                continue
            else:
                begun.add(element.key)
                index, gateway, onlink = self._index(element.dev), element.gateway, element.onlink
                item = NexthopObject(
                    table.take_id(), ROUTE_PROTOCOL, index, gateway, onlink, plain=True
                )
                messages.append(encode.nexthop(item.id, index, gateway, onlink))
            sent.append((place, op, item))
        refused = await self._sock.write(messages)
        return again | self._settle(sent, refused, failed)

    def _settle(
        self,
        sent: list[tuple[int, Op, NexthopObject]],
        refused: dict[int, nl.Refusal],
        failed: dict[int, Failure],
    ) -> dict[int, Op]:
        table = self._view.nexthops
        again: dict[int, Op] = {}
        for number, (place, op, item) in enumerate(sent):
            answer = refused.get(number)
            if op.action is Action.DELETE:
                if answer is None:
                    table.drop(item.id)
                elif answer.errno == errno.ENOENT:
                    table.end_removal(item.id)
                    table.drop(item.id)
                    self._view.stale = VANISHED
                else:
                    table.end_removal(item.id)
                    failed[place] = _failure(op, answer)
            elif answer is None:
                assert isinstance(op.element, Nexthop)
                if table.get(item.id) is None:
                    table.put(item, op.element.dev)
                self._view.carriers.add(op.element.dev)
            elif answer.errno == errno.EEXIST:
                table.mark_taken(item.id)
                again[place] = op
            else:
                failed[place] = _failure(op, answer)
        return again


def _failure(op: Op, answer: nl.Refusal) -> Failure:
    number = errno.ENOENT if answer.errno == errno.ENODEV else answer.errno
    return Failure(op=op, errno=number, reason=reason(Kind.NEXTHOP, answer.errno, answer.text))
