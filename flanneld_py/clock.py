"""SystemClock: the kernel's clock that goes on during suspend.

It only tells the time and waits; what is due when is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import time

MAX_NAP = 30.0
"""Seconds. The event loop's timers stand still during suspend, so a long sleep is cut into naps,
after each of which the deadline is looked at again: after a resume it is late by at most one."""


class SystemClock:
    """`subnet.clock.Clock` on CLOCK_BOOTTIME (time_namespaces(7), clock_gettime(2))."""

    def now(self) -> float:
        """Seconds since boot, suspend included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        """Wait until `now()` has advanced by `seconds`."""
        deadline = self.now() + seconds
        while True:
            await asyncio.sleep(max(0.0, min(deadline - self.now(), MAX_NAP)))
            if self.now() >= deadline:
                return
