"""Nap: wait for an event, but no longer than so many seconds of a given clock.

The time is the clock's and not the event loop's, so that tests can move it. Decides nothing.
"""

from __future__ import annotations

import asyncio

from subnet.clock import Clock


async def nap(wake: asyncio.Event, clock: Clock, seconds: float) -> None:
    """Return when `wake` is set or `seconds` are over, whichever is first; clears nothing."""
    if seconds <= 0 or wake.is_set():
        # Yield even when there is always work, so that nothing else starves.
        await asyncio.sleep(0)
        return
    sleeper = asyncio.ensure_future(clock.sleep(seconds))
    waker = asyncio.ensure_future(wake.wait())
    try:
        await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sleeper, waker):
            task.cancel()
        await asyncio.gather(sleeper, waker, return_exceptions=True)
