"""Waiting for a condition with a deadline, and how long that took.

A lab has no sleeps: it waits for what it can see. Must not know what is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class NotWithin(AssertionError):
    """A condition did not come true in time; says what was waited for and what was seen last."""


def wait_until(
    condition: Callable[[], object],
    *,
    within: float,
    what: str,
    every: float = 0.02,
    seen: Callable[[], object] | None = None,
) -> float:
    """Wait until `condition` is true; return the seconds it took. Raises `NotWithin`.

    `seen` is asked only on failure, for the message.
    """
    began = time.monotonic()
    while True:
        if condition():
            return time.monotonic() - began
        if time.monotonic() - began > within:
            detail = f"; seen: {seen()}" if seen is not None else ""
            raise NotWithin(f"{what}: not within {within:g} s{detail}")
        time.sleep(every)
