"""A nap ends with its event or its time, on the clock of the test."""

from __future__ import annotations

import asyncio

from flanneld_py.nap import nap
from flanneld_py.testing.clock import FakeClock


async def test_it_ends_when_the_time_is_over() -> None:
    clock, wake = FakeClock(), asyncio.Event()
    task = asyncio.create_task(nap(wake, clock, 5.0))
    await clock.advance(4.9)
    assert not task.done()
    await clock.advance(0.2)
    assert task.done()


async def test_it_ends_when_it_is_woken_and_leaves_no_sleeper() -> None:
    clock, wake = FakeClock(), asyncio.Event()
    task = asyncio.create_task(nap(wake, clock, 5.0))
    await clock.settle()
    assert clock.sleepers == 1
    wake.set()
    await clock.settle()
    assert task.done()
    assert clock.sleepers == 0
    assert wake.is_set(), "whoever naps clears it"


async def test_it_yields_when_there_is_nothing_to_wait_for() -> None:
    clock, wake = FakeClock(), asyncio.Event()
    seen: list[str] = []
    asyncio.get_running_loop().call_soon(seen.append, "another")
    await nap(wake, clock, 0.0)
    assert seen == ["another"]


async def test_cancelling_it_leaves_no_sleeper() -> None:
    clock = FakeClock()
    task = asyncio.create_task(nap(asyncio.Event(), clock, 5.0))
    await clock.settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.sleepers == 0
