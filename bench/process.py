"""What /proc says of a process: processor time, memory, children. Reads only."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def fine_cpu_seconds(pid: int) -> float:
    """Return the processor time of a process's living threads, to the nanosecond.

    Threads that have ended are left out, so it serves for differences while none ends.
    """
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            continue
    return total / 1e9


def ended_children(pid: int) -> int:
    """Return the page faults of all children of a process that have ended.

    It grows with each of them: there is no program that starts without page faults.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[8]) + int(fields[10])


def memory_mib(pid: int) -> tuple[float, float]:
    """Return what a process has resident now, and the most that it ever had."""
    found = {}
    for text in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = text.partition(":")
        if name in ("VmRSS", "VmHWM"):
            found[name] = int(value.split()[0]) / 1024
    return found["VmRSS"], found["VmHWM"]
