"""FakeClock: a clock that moves only when a test moves it.

It wakes sleepers in the order of their deadlines and lets each run until it waits again, so that
a test that advances by an hour sees the same as a process that lived through it.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

_TURNS = 50
"""Turns of the event loop given to whoever was woken, so that chains of tasks come to rest."""


class FakeClock:
    """`subnet.clock.Clock` in virtual time."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """The virtual time."""
        return self._now

    @property
    def sleepers(self) -> int:
        """How many sleeps have not ended yet."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Wait until a test has advanced the clock by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move the time, stopping at every deadline on the way until all woken tasks wait again."""
        end = self._now + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            deadline, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._now = max(self._now, deadline)
            future.set_result(None)
            await self.settle()
        self._now = end
        await self.settle()

    def jump(self, seconds: float) -> None:
        """Move the time at once, as a suspend does: sleepers wake late, all of them together."""
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)

    async def settle(self) -> None:
        """Let every task run that can, without moving the time."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
