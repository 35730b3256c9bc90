"""PeerPlanner: turns changed peers into plans, a bounded slice at a time.

Keeps what each peer lacks, for status. It makes no system call and decides nothing about leases:
the table says who is a peer, the backend says what a peer needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Protocol

from backends.base import Backend, NodeContext
from backends.elements import Element
from subnet.model import Lease, PeerKey

_SLICE = 256


class PeerSource(Protocol):
    """The accepted peers (LeaseTable)."""

    def peer(self, key: PeerKey) -> Lease | None: ...

    @property
    def peers(self) -> Mapping[PeerKey, Lease]: ...


class PeerPlanner:
    """Plans peers that changed; all of them when the node's own circumstances change."""

    def __init__(
        self,
        *,
        source: PeerSource,
        plan: Callable[[str, tuple[Element, ...]], None],
        on_planned: Callable[[], None] = lambda: None,
    ) -> None:
        self.problems: dict[PeerKey, tuple[str, ...]] = {}
        """Why a peer, or one family of it, is not programmed."""
        self._source = source
        self._plan = plan
        self._on_planned = on_planned
        self._backend: Backend | None = None
        self._context: NodeContext | None = None
        self._planned: set[PeerKey] = set()
        self._changed: dict[PeerKey, None] = {}
        self._wake = asyncio.Event()

    def changed(self, keys: Iterable[PeerKey]) -> None:
        """These peers came, went or changed."""
        self._changed.update(dict.fromkeys(keys))
        self._wake.set()

    def use(self, backend: Backend, context: NodeContext) -> None:
        """Plan with these from now on; everybody anew if that can make a difference to peers."""
        # Our own lease is of no consequence for what reaches a peer.
        context = replace(context, lease=None)
        if backend is self._backend and context == self._context:
            return
        self._backend, self._context = backend, context
        self.changed([*self._planned, *self._source.peers])

    @property
    def pending(self) -> int:
        """Peers that are still to be planned."""
        return len(self._changed) if self._backend is not None else 0

    async def run(self) -> None:
        """Plan whatever changes until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._changed and self._backend is not None:
                self._plan_slice(self._backend)
                if not self._changed:
                    self._on_planned()
                await asyncio.sleep(0)

    def _plan_slice(self, backend: Backend) -> None:
        context = self._context
        if context is None:
            return
        keys = list(islice(self._changed, _SLICE))
        for key in keys:
            del self._changed[key]
            lease = self._source.peer(key)
            if lease is None:
                self._drop(key)
                continue
            plan = backend.plan_peer(context, lease)
            self._planned.add(key)
            if plan.problems:
                self.problems[key] = plan.problems
            else:
                self.problems.pop(key, None)
            self._plan(key, plan.elements)

    def _drop(self, key: PeerKey) -> None:
        self._planned.discard(key)
        self.problems.pop(key, None)
        self._plan(key, ())
