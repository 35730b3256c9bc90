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
        load_before=round(os.getloadavg()[0], 2),
    )


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _version(program: str, flag: str) -> str:
    found = re.search(r"\d+\.\d+(\.\d+)?", run([str(find_tool(program)), flag]))
    return found[0] if found else "?"
