"""What is measured: figures with their samples, yardsticks and targets, and how they are judged.

Pure: no clock, no file. What is written into JSON is the affair of `record`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """What else did the same work in the same run."""

    name: str
    """What it is, in a few words."""
    values: tuple[float, ...]
    """One per round, in the unit of the figure."""
    is_limit: bool = False
    """Whether the figure has to be no larger."""

    @property
    def median(self) -> float:
        """The middle one of the rounds."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that was measured; small is good."""

    bench: str
    """Which bench it belongs to, e.g. ``cold-start``."""
    name: str
    """What it is, in a few words."""
    unit: str
    """``s``, ``ms``, ``MiB``, ``%``, or what is counted: ``series``, ``processes``."""
    values: tuple[float, ...]
    """One per round."""
    target: float | None = None
    """What the median may be at most; None: it is there for information."""
    yardstick: Yardstick | None = None

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"{self.bench}: {self.name}: no values")

    @property
    def median(self) -> float:
        """The middle one of the rounds."""
        return statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        """Our median as a multiple of the yardstick's; None where there is none."""
        if self.yardstick is None or self.yardstick.median == 0:
            return None
        return self.median / self.yardstick.median

    @property
    def reached(self) -> bool | None:
        """Whether every demand is met; None where nothing is demanded."""
        demands = []
        if self.target is not None:
            demands.append(self.median <= self.target)
        if self.yardstick is not None and self.yardstick.is_limit:
            demands.append(self.median <= self.yardstick.median)
        return all(demands) if demands else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the figures depend on. Names nobody and no place."""

    cores: int
    processor: str
    memory_mib: int
    kernel: str
    python: str
    etcd: str
    iproute2: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that one `make bench` measured."""

    date: str
    """Day of the run, as YYYY-MM-DD."""
    version: str
    """The agent's."""
    peers: int
    rounds: int
    machine: Machine
    others: float
    """Share of all cores that others used meanwhile, the kernel's own threads included."""
    figures: tuple[Figure, ...]

    @property
    def missed(self) -> tuple[Figure, ...]:
        """The figures that do not meet what is demanded of them."""
        return tuple(figure for figure in self.figures if figure.reached is False)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0 to 1) of the values do not exceed.

    The nearest-rank definition: always a value that was measured. Raises ValueError on no values.
    """
    if not values:
        raise ValueError("no values, no percentile")
    if not 0 < share <= 1:
        raise ValueError(f"a share of {share} is not above 0 and at most 1")
    return sorted(values)[math.ceil(share * len(values)) - 1]
