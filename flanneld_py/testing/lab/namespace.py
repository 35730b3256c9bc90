"""Named network namespaces: make, enter, run programs in, remove, also those of a run that died.

A name holds the pid of the process that made it, so that whatever a killed run left behind is
found and removed by the next one. Must not know what a lab puts into a namespace.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeVar

from flanneld_py.testing.lab.errors import CommandFailed
from flanneld_py.testing.tools import find_tool, search_path

T = TypeVar("T")

NETNS_FOLDER = Path("/run/netns")
PREFIX = "fpy"
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """One network namespace. `create` and `remove` are separate from the object's life."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = NETNS_FOLDER / name

    def create(self) -> None:
        """Make the namespace, with its loopback up."""
        run([str(find_tool("ip")), "netns", "add", self.name])
        self.ip("link set lo up")

    def remove(self) -> None:
        """Remove the name; the namespace goes when its last process and socket do."""
        if self.path.exists():
            run([str(find_tool("ip")), "netns", "delete", self.name])

    def ip(self, *lines: str) -> None:
        """Run `ip` commands in the namespace, in one process; the first failure ends them."""
        self.batch("ip", lines)

    def batch(self, program: str, lines: Sequence[str], *, force: bool = False) -> None:
        """Run commands of `ip` or `bridge` in one process; `force` goes on past failures."""
        command = [str(find_tool(program)), "-n", self.name]
        command += [*(["-force"] if force else []), "-batch", "-"]
        run(command, text="\n".join(lines) + "\n", check=not force)

    def show(self, *command: str) -> str:
        """Run a program in the namespace and return what it prints. Raises `CommandFailed`."""
        return run(self.command(*command))

    def command(self, *command: str) -> list[str]:
        """Return the command line that runs `command` inside; the process is `command` itself."""
        return ["nsenter", f"--net={self.path}", "--", *command]

    def popen(
        self,
        command: Sequence[str],
        *,
        log: IO[bytes],
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program inside that the kernel kills when we die. Its pid is the program's."""
        # The parent-death signal survives both executions in between.
        line = ["setpriv", "--pdeathsig", "KILL", *self.command(*command)]
        return subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": search_path(), **(environment or {})},
            start_new_session=True,
        )

    def inside(self, make: Callable[[], T]) -> T:
        """Call `make` inside the namespace, in a thread of its own.

        A socket that it makes belongs to the namespace and can be used from anywhere.
        """
        done: list[T] = []
        failed: list[BaseException] = []

        def enter() -> None:
            try:
                with self.path.open() as handle:
                    if _libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), f"setns to {self.name}")
                done.append(make())
            except BaseException as error:  # noqa: BLE001 - handed to the caller below
                failed.append(error)

        thread = threading.Thread(target=enter, name=f"inside {self.name}")
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return done[0]


def run(command: Sequence[str], *, text: str = "", check: bool = True) -> str:
    """Run a program with `text` as its input; return its output. Raises `CommandFailed`."""
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": search_path()},
    )
    if check and done.returncode != 0:
        raise CommandFailed(command, done.returncode, done.stderr or done.stdout)
    return done.stdout


def unique_prefix(serial: int) -> str:
    """Return how the names of a run's `serial`-th lab begin."""
    return f"{PREFIX}{os.getpid()}-{serial}-"


def sweep() -> list[str]:
    """Remove namespaces of runs whose process is gone; return their names."""
    if not NETNS_FOLDER.exists():
        return []
    stale = [path.name for path in NETNS_FOLDER.glob(f"{PREFIX}*-*") if not _maker_lives(path.name)]
    for name in stale:
        Namespace(name).remove()
    return stale


def _maker_lives(name: str) -> bool:
    pid = name.removeprefix(PREFIX).partition("-")[0]
    return pid.isdigit() and Path(f"/proc/{pid}").exists()


def stop(process: subprocess.Popen[bytes], *, sign: int = signal.SIGTERM, grace: float = 3) -> int:
    """End a process of ours, by force when it does not go within `grace` seconds."""
    if process.poll() is None:
        process.send_signal(sign)
        process.send_signal(signal.SIGCONT)
    try:
        return process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
