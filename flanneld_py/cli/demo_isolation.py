"""Namespaces for the demo: network, mounts and processes of its own, for root and others alike.

The demo runs as the first process of a new pid namespace, so everything that it starts dies with
it, however it ends, and the host sees none of it. Must not know what the demo does inside.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MARK = "FLANNELD_PY_DEMO_INSIDE"
"""Set for the process inside; FLANNELD_PY_ is the prefix of our own tools' variables."""
NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--kill-child")

_MOUNTS = (
    ("mount", "--make-rprivate", "/"),
    ("mount", "-t", "proc", "proc", "/proc"),
    ("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"),
)
_LIBRARY = Path("/var/lib")
_REMEDIES = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "10000"),
)
"""Settings that forbid user namespaces: name, forbidding value, allowing value."""


class IsolationRefused(Exception):
    """The kernel does not let us have namespaces; the message says what to do about it."""


def is_inside() -> bool:
    """Say whether this process is the one inside."""
    return MARK in os.environ


def enter(command: Sequence[str]) -> None:
    """Run `command` inside, in place of this process. Raises `IsolationRefused`."""
    unshare = ["unshare", *_who(), *NAMESPACES, "--"]
    # Tried for real: some kernels let anyone have namespaces and then refuse all use.
    script = " && ".join(" ".join(mount) for mount in _MOUNTS)
    try:
        probe = subprocess.run(
            [*unshare, "sh", "-c", script],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise IsolationRefused("`unshare` is missing: install the package util-linux") from error
    if probe.returncode != 0:
        raise IsolationRefused(_advice(probe.stderr))
    # The one inside handles Ctrl-C; unshare must stay, because its end is the end of all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.execvpe("unshare", [*unshare, *command], {**os.environ, MARK: "1"})


def furnish(checkout: Path) -> int:
    """Mount what the demo needs, as the first process inside; return our pid on the host."""
    host_pid = int(Path("/proc/self").readlink().name)  # before /proc becomes our own
    for mount in _MOUNTS:
        subprocess.run(mount, check=True)
    # What plugins keep in /var/lib stays inside too, unless we live there ourselves.
    here = {checkout.resolve(), Path(sys.prefix).resolve(), Path(sys.executable).resolve()}
    if not any(_LIBRARY in place.parents for place in here):
        subprocess.run(("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", _LIBRARY), check=True)
    Path("/run/netns").mkdir()
    os.environ.pop("XDG_RUNTIME_DIR", None)
    return host_pid


def visit(host_pid: int) -> str:
    """Return the command that opens a shell inside, for another terminal on the host."""
    if is_root_outside():
        return f"nsenter -t {host_pid} -m -n -p"
    return f"nsenter -t {host_pid} -U --preserve-credentials -m -n -p"


def _who() -> tuple[str, ...]:
    return () if os.geteuid() == 0 else ("--user", "--map-root-user")


def is_root_outside() -> bool:
    """Say whether no user namespace of ours lies between."""
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def _advice(refusal: str) -> str:
    """Return one line that says what was refused and what to do."""
    refused = " ".join(refusal.split()) or "unknown reason"
    if os.geteuid() == 0:
        remedy = "in a container, start it with --privileged"
    else:
        remedy = "run it as root (in a container: started with --privileged)"
        for name, forbidding, allowing in _REMEDIES:
            if _setting(name) == forbidding:
                remedy = (
                    "run it as root, or allow it to everyone: "
                    f"sysctl {name.replace('/', '.')}={allowing}"
                )
                break
    return f"the kernel refuses namespaces of our own ({refused}): {remedy}"


def _setting(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return ""
