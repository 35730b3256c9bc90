"""Backoff: pauses that grow, each different on every node. Pure."""

from __future__ import annotations

from typing import Protocol


class Fraction(Protocol):
    """What is asked of `random.Random`."""

    def random(self) -> float:
        """A number from 0 up to, not including, 1."""
        ...


class Backoff:
    """Doubles from `base` seconds on; each pause is drawn from its upper half."""

    def __init__(self, random: Fraction, *, base: float) -> None:
        self._random = random
        self._base = base
        self.count = 0
        """Pauses since the last `reset`."""
        self.current = 0.0
        """The last pause in seconds; 0 after `reset`."""

    def next(self, cap: float) -> float:
        """The next pause in seconds, at most `cap`."""
        # 2**30 times any base is beyond any cap, and floats do not overflow.
        pause = min(cap, self._base * 2.0 ** min(self.count, 30))
        self.count += 1
        self.current = pause * (0.5 + 0.5 * self._random.random())
        return self.current

    def reset(self) -> None:
        """Begin anew."""
        self.count = 0
        self.current = 0.0
