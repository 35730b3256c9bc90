from __future__ import annotations

import asyncio
import time

import pytest

from flanneld_py.clock import SystemClock
from flanneld_py.testing.clock import FakeClock


async def test_system_clock_tells_boot_time_and_sleeps_for_what_was_asked() -> None:
    clock = SystemClock()
    assert abs(clock.now() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1
    before = clock.now()
    await clock.sleep(0.02)
    assert clock.now() - before >= 0.02


async def test_system_clock_looks_at_the_deadline_again_after_each_nap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    naps: list[float] = []
    times = [0.0]

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        times[0] += 1000  # the machine was suspended during the nap

    clock = SystemClock()
    monkeypatch.setattr(time, "clock_gettime", lambda _: times[0])
    monkeypatch.setattr(asyncio, "sleep", nap)
    await clock.sleep(900)
    assert naps == [30.0]


async def test_fake_clock_wakes_sleepers_in_the_order_of_their_deadlines() -> None:
    clock = FakeClock(start=0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, clock.now()))

    async with asyncio.TaskGroup() as group:
        group.create_task(sleeper("late", 10))
        group.create_task(sleeper("twice", 3, 4))
        await clock.advance(6)
        assert woken == [("twice", 3)]
        assert clock.now() == 6
        await clock.advance(4)
        assert woken == [("twice", 3), ("twice", 7), ("late", 10)]
    assert clock.sleepers == 0


async def test_fake_clock_forgets_sleepers_that_were_cancelled() -> None:
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(5))
    await clock.settle()
    assert clock.sleepers == 1
    task.cancel()
    await clock.advance(10)
    assert clock.sleepers == 0


async def test_fake_clock_jumps_like_a_suspend() -> None:
    clock = FakeClock(start=0)
    naps = [asyncio.create_task(clock.sleep(seconds)) for seconds in (1, 2)]
    await clock.settle()
    clock.jump(100)
    await asyncio.gather(*naps)
    assert clock.now() == 100
