"""The errors of the lab.

LabError
├── CommandFailed   a program of the lab failed
├── CniFailed       a CNI plugin refused
├── AgentEnded      an agent that should run has ended
└── NotWithin       a condition did not come true in time
"""

from __future__ import annotations

from collections.abc import Sequence


class LabError(Exception):
    """Base of all errors of the lab."""


class CommandFailed(LabError):
    """A program failed; the message holds its words."""

    def __init__(self, command: Sequence[str], status: int, output: str) -> None:
        self.command = tuple(command)
        self.status = status
        self.output = output
        super().__init__(f"`{' '.join(command)}` ended with {status}: {output.strip()}")


class CniFailed(LabError):
    """A plugin refused; the message holds its answer."""

    def __init__(self, plugin: str, command: str, answer: str) -> None:
        self.plugin = plugin
        self.answer = answer
        super().__init__(f"CNI {command} of {plugin}: {answer.strip()}")


class AgentEnded(LabError):
    """An agent that should run has ended; the message holds its last lines."""

    def __init__(self, node: str, log: str) -> None:
        self.node = node
        super().__init__(f"agent {node} has ended: {log}")


class NotWithin(LabError):
    """A condition did not come true in time: what was waited for, and what was seen last."""

    def __init__(self, what: str, seconds: float, seen: object = None) -> None:
        self.what = what
        self.seconds = seconds
        super().__init__(f"{what}: not within {seconds:g} s" + (f"; seen: {seen}" if seen else ""))
