"""What a run depends on: cores, kernel, versions. Leaves out names of hosts and people."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from bench.figures import Machine
from flanneld_py.testing.lab.namespace import run
from flanneld_py.testing.tools import find_tool


def describe() -> Machine:
    """Return the facts about this machine."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        processor=_processor(),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        kernel=".".join(platform.release().split("-")[0].split(".")[:2]),
        python=platform.python_version(),
        etcd=_version("etcd", "--version"),
        iproute2=_version("ip", "-V"),
    )


class Others:
    """How much of the machine other programs use from now on, whoever they are."""

    def __init__(self) -> None:
        self._began = self._totals()

    def share(self) -> float:
        """Return the share of all cores. Counts children of ours only when they have ended."""
        busy, idle, own = (
            now - before for now, before in zip(self._totals(), self._began, strict=True)
        )
        return max(0.0, busy - own) / max(busy + idle, 1.0)

    @staticmethod
    def _totals() -> tuple[float, float, float]:
        """Seconds of all cores since boot: busy, idle, and busy for us and our children."""
        numbers = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
        ticks = [int(number) / os.sysconf("SC_CLK_TCK") for number in numbers]
        idle = ticks[3] + ticks[4]
        return sum(ticks) - idle, idle, sum(os.times()[:4])


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _version(program: str, flag: str) -> str:
    found = re.search(r"\d+\.\d+(\.\d+)?", run([str(find_tool(program)), flag]))
    return found[0] if found else "?"
