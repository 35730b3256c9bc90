"""Fights: another program keeps undoing what we do.

Counts our corrections per key. More than five within five seconds is a fight: corrections of that
key then come at most once a second, and the key is named, until it has been left alone for five
seconds. Pure: time is an argument.
"""

from __future__ import annotations

from collections import deque

from backends.elements import Key

WINDOW = 5.0
"""Seconds over which corrections are counted, and of quiet that end a fight."""
LIMIT = 5
"""More corrections than this within the window are a fight."""
PAUSE = 1.0
"""Seconds between corrections of a key that is fought over."""
_MAX_KEYS = 4096


class Fights:
    """Corrections per key, and who is in a fight."""

    def __init__(self) -> None:
        self._recent: dict[Key, deque[float]] = {}
        self._fighting: set[Key] = set()

    def corrected(self, key: Key, now: float) -> bool:
        """Note one correction; True when it makes the key a fought-over one."""
        if len(self._recent) > _MAX_KEYS:
            self._forget(now)
        times = self._recent.setdefault(key, deque(maxlen=LIMIT + 1))
        times.append(now)
        if key in self._fighting or len(times) <= LIMIT or times[0] < now - WINDOW:
            return False
        self._fighting.add(key)
        return True

    def not_before(self, key: Key, now: float) -> float:
        """When the key may be corrected again: `now`, or later while it is fought over."""
        if key not in self._fighting:
            return now
        last = self._recent[key][-1]
        if last < now - WINDOW:
            self._end(key)
            return now
        return max(now, last + PAUSE)

    def active(self, now: float) -> list[Key]:
        """Keys that are fought over now."""
        self._forget(now)
        return sorted(self._fighting, key=repr)

    def _forget(self, now: float) -> None:
        for key in [k for k, times in self._recent.items() if times[-1] < now - WINDOW]:
            self._end(key)

    def _end(self, key: Key) -> None:
        self._fighting.discard(key)
        self._recent.pop(key, None)
