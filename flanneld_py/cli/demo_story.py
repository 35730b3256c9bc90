"""What the demo has seen so far, and what it claims: the model between scenes and screen.

Scenes write it, a screen draws it. A claim that proves false makes the demo fail. Must neither
print nor act.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

Matrix = dict[tuple[str, str], float | None]
"""Round-trip seconds by names of the two nodes; None where no answer came."""


@dataclass(slots=True, kw_only=True)
class NodeView:
    """One node, as shown."""

    name: str
    underlay: str
    subnet: str = ""
    """From the lease's key in etcd."""
    mac: str = ""
    """From the lease's value."""
    pod: str = ""
    """The pod's address."""


@dataclass(slots=True, kw_only=True)
class Step:
    """One step of the story: what is done, and what was seen."""

    title: str
    result: str = ""
    """Empty while it is under way."""
    details: list[str] = field(default_factory=list)
    """Lines below: what was observed."""
    held: bool | None = None
    """Whether its claim held; None while it is under way."""


@dataclass(slots=True, kw_only=True)
class Story:
    """All that is shown."""

    began: float = field(default_factory=time.monotonic)
    nodes: list[NodeView] = field(default_factory=list)
    matrix: Matrix = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    pings: str = ""
    """The tally of the pings that flow now."""
    closing: list[str] = field(default_factory=list)
    """Last words: hints, or what to do next."""

    @property
    def seconds(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self.began

    @property
    def failed(self) -> list[Step]:
        """Steps whose claim proved false."""
        return [step for step in self.steps if step.held is False]

    def begin(self, title: str) -> Step:
        """Add a step that is under way."""
        step = Step(title=title)
        self.steps.append(step)
        return step
