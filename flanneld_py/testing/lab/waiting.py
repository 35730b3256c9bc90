"""Waiting for a condition with a deadline, and how long that took.

A lab has no sleeps: it waits for what it can see. Must not know what is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from flanneld_py.testing.lab.errors import NotWithin


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
            raise NotWithin(what, within, seen() if seen is not None else None)
        time.sleep(every)
