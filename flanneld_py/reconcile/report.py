"""Report: what the reconcile loop did and could not do, for log, status and metrics.

Counts and a bounded ring of lines. It is told, it decides nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backends.elements import Kind
from flanneld_py.kernel import Action, Op

ROUND_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
"""Upper bounds, in seconds, between which rounds are counted by how long they took."""
_RING = 64
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line of what happened."""

    at: float
    """Clock time."""
    text: str
    """For people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How long rounds took."""

    counts: tuple[int, ...] = (0,) * (len(ROUND_BUCKETS) + 1)
    """Rounds up to each bound of ROUND_BUCKETS, those up to a lower one left out; and the rest."""
    seconds: float = 0.0
    """Of all rounds together."""


class Report:
    """Counters and the last changes."""

    def __init__(self) -> None:
        self.changes: deque[Change] = deque(maxlen=_RING)
        self.applied: Counter[tuple[Kind, Action]] = Counter()
        """Operations done."""
        self.failed: Counter[tuple[Kind, Action]] = Counter()
        """Operations that failed."""
        self.healed: Counter[Kind] = Counter()
        """Elements that somebody else had changed and that were put right."""
        self.rounds = 0
        self._round_counts = [0] * (len(ROUND_BUCKETS) + 1)
        self._round_seconds = 0.0
        self.observations = 0
        self.observe_seconds = 0.0
        """CPU seconds of the last full observation."""

    def note(self, text: str, at: float) -> None:
        """Keep one line."""
        self.changes.append(Change(at=at, text=text))

    def round_took(self, seconds: float) -> None:
        """Count one round."""
        self.rounds += 1
        self._round_counts[bisect_left(ROUND_BUCKETS, seconds)] += 1
        self._round_seconds += seconds

    def durations(self) -> Durations:
        """How long the rounds until now took."""
        return Durations(counts=tuple(self._round_counts), seconds=self._round_seconds)

    def count(self, done: Iterable[Op], failed: Iterable[Op]) -> None:
        """Count operations."""
        for op in done:
            self.applied[op.element.kind, op.action] += 1
        for op in failed:
            self.failed[op.element.kind, op.action] += 1


def summary(ops: Sequence[Op]) -> str:
    """Operations in one line: each by name if they are few, else counts per kind."""
    if len(ops) <= _NAMED:
        return "; ".join(f"{op.action.value} {op.element.describe()}" for op in ops)
    counts = Counter((op.action, op.element.kind) for op in ops)
    return ", ".join(
        f"{action.value} {number} {kind.name.lower()}{'es' if kind is Kind.ADDRESS else 's'}"
        if number > 1
        else f"{action.value} 1 {kind.name.lower()}"
        for (action, kind), number in counts.items()
    )
