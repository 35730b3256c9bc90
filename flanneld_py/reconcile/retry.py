"""Retries: which failed elements are tried again, and when.

Capped, jittered back-off per key. Pure: time and randomness are arguments. One failing element
never holds up another.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Protocol

from backends.elements import Key


class Uniform(Protocol):
    """The part of `random.Random` that is needed."""

    def uniform(self, a: float, b: float, /) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """A key that could not be made as desired."""

    reason: str
    """Of the last try, for people."""
    attempts: int
    since: float
    """Clock time of the first failure."""
    next_try: float
    """Clock time of the next try."""


class Retries:
    """Failed keys and their next tries."""

    def __init__(self, random: Uniform, *, first: float = 0.1, cap: float = 10.0) -> None:
        self._random = random
        self._first = first
        self._cap = cap
        self._failing: dict[Key, Failing] = {}
        self._heap: list[tuple[float, Key]] = []

    def failed(self, key: Key, reason: str, now: float, *, cap: float | None = None) -> Failing:
        """Note a failure; the next try is due after a delay that doubles up to `cap` seconds."""
        before = self._failing.get(key)
        attempts = before.attempts + 1 if before else 1
        delay = min(self._first * 2 ** min(attempts - 1, 30), cap or self._cap)
        due = now + delay * self._random.uniform(0.75, 1.25)
        entry = Failing(
            reason=reason,
            attempts=attempts,
            since=before.since if before else now,
            next_try=due,
        )
        self._failing[key] = entry
        heapq.heappush(self._heap, (due, key))
        return entry

    def succeeded(self, key: Key) -> Failing | None:
        """Forget a key; returns what it was failing with."""
        return self._failing.pop(key, None)

    def due(self, now: float) -> list[Key]:
        """Keys whose time has come. Each is returned once for each failure."""
        ready: list[Key] = []
        while self._heap and self._heap[0][0] <= now:
            due, key = heapq.heappop(self._heap)
            entry = self._failing.get(key)
            if entry is not None and entry.next_try == due:
                ready.append(key)
        return ready

    def next_due(self) -> float | None:
        """When the next key is due; None when none waits."""
        while self._heap:
            due, key = self._heap[0]
            entry = self._failing.get(key)
            if entry is not None and entry.next_try == due:
                return due
            heapq.heappop(self._heap)
        return None

    def is_waiting(self, key: Key, now: float) -> bool:
        """Whether the key failed and its next try is still to come."""
        entry = self._failing.get(key)
        return entry is not None and entry.next_try > now

    def all(self) -> dict[Key, Failing]:
        """Every failing key."""
        return dict(self._failing)

    def __len__(self) -> int:
        return len(self._failing)
