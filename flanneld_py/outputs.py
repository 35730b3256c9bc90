"""Outputs: what the agent leaves for others on disk, kept as it should be.

subnet.env, and in direct CNI mode the conflist. Written once the node itself is programmed, put
back when somebody removes or alters them, never removed. It looks every half second, which costs a
few stat calls; what stands in the files is decided by `subnetfile` and `cni.direct`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from flanneld_py.cni.direct import ConflistError
from flanneld_py.nap import nap
from flanneld_py.subnetfile import SubnetFile, SubnetFileError
from subnet.clock import Clock

log = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between two looks: a removed file is back within a second."""


class Output(Protocol):
    """One file."""

    @property
    def name(self) -> str:
        """What messages call it: its path."""
        ...

    def ensure(self) -> bool:
        """Make the file as it should be; True when something was written.

        Raises SubnetFileError or ConflistError.
        """
        ...


class SubnetEnvOutput:
    """subnet.env with a given text."""

    def __init__(self, file: SubnetFile, text: str) -> None:
        self._file = file
        self._text = text
        self._written = False

    @property
    def name(self) -> str:
        return str(self._file.path)

    def ensure(self) -> bool:
        if self._written:
            return bool(self._file.repair())
        changed = self._file.write(self._text)
        self._written = True
        return changed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SubnetEnvOutput) and (self.name, self._text) == (
            other.name,
            other._text,
        )

    def __hash__(self) -> int:
        return hash((self.name, self._text))


class Outputs:
    """All files, looked after by one task."""

    def __init__(self, *, clock: Clock, on_progress: Callable[[], None]) -> None:
        self.problems: dict[str, str] = {}
        """Files that cannot be written, and why."""
        self._outputs: dict[str, Output] = {}
        self._written: set[str] = set()
        self._wake = asyncio.Event()
        self._clock = clock
        self._on_progress = on_progress

    def want(self, output: Output) -> None:
        """Keep this file from now on; replaces what was wanted under the same name."""
        if self._outputs.get(output.name) != output:
            self._outputs[output.name] = output
            self._wake.set()

    @property
    def complete(self) -> bool:
        """Whether everything that is wanted is written."""
        return bool(self._outputs) and self._outputs.keys() <= self._written

    async def run(self) -> None:
        """Look after the files until cancelled."""
        while True:
            for output in list(self._outputs.values()):
                self._ensure(output)
            if self._outputs:
                await nap(self._wake, self._clock, INTERVAL)
            else:
                await self._wake.wait()
            self._wake.clear()

    def _ensure(self, output: Output) -> None:
        name = output.name
        try:
            changed = output.ensure()
        except (SubnetFileError, ConflistError) as error:
            if self.problems.get(name) != str(error):
                log.error("%s", error)
                self.problems[name] = str(error)
                self._on_progress()
            self._written.discard(name)
            return
        known = name in self._written
        self._written.add(name)
        if self.problems.pop(name, ""):
            log.info("%s can be written again", name)
        if changed:
            log.info("%s path=%s", "put back" if known else "wrote", name)
        if changed or not known:
            self._on_progress()
