"""Clock: where the life of leases takes its time from.

Leases end by the time of the store, which goes on while this machine is suspended. So the clock
that keeps their deadlines must go on as well, which neither `time.monotonic` nor the event loop's
own clock does. This module only states what is asked; `flanneld_py.clock` is the real one.
"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Seconds since some fixed moment, never set back, counting the time spent in suspend."""

    def now(self) -> float:
        """Return the current time in seconds; only differences mean something."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return once `now()` has advanced by `seconds`; at once (but yielding) for <= 0."""
        ...
