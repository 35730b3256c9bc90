"""One agent per network namespace: a lock in the run folder, and the detection of flanneld.

The lock is a flock, which the kernel drops with its holder, however that one dies. The file is
named by the namespace's inode, because several namespaces may share one /run, and holds the pid of
its holder. It stays in place when it is released: removing it would let two agents lock two files
of one name.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

POLL_SECONDS = 0.2
"""A flock that can be waited for would block a thread that cannot be cancelled."""
FLANNEL_PROGRAMS = frozenset(
    {b"flanneld"} | {f"flanneld-{arch}".encode() for arch in ("amd64", "arm64", "arm", "ppc64le")}
)
"""Names under which flannel's binary is released; /proc cuts names at 15 bytes."""
OWN_NAMESPACE = Path("/proc/self/ns/net")


class LockError(Exception):
    """The lock cannot even be tried; `path` and `reason` say why."""

    def __init__(self, *, path: Path, reason: str, remedy: str) -> None:
        self.path = path
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{path}: {reason}: {remedy}")


def network_namespace(link: Path = OWN_NAMESPACE) -> int:
    """Inode number of a network namespace, which tells one from another while both exist."""
    return os.stat(link).st_ino


class AgentLock:
    """The right to be the agent of a network namespace."""

    def __init__(self, run_dir: Path, *, namespace: int, poll: float = POLL_SECONDS) -> None:
        self.path = run_dir / f"agent-{namespace}.lock"
        self._poll = poll
        self._file: int | None = None

    @property
    def held(self) -> bool:
        """Whether it is ours."""
        return self._file is not None

    def holder(self) -> int | None:
        """Pid that the holder wrote; None when it has not written one (yet)."""
        try:
            text = self.path.read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            return None
        return int(text) if text.isascii() and text.isdigit() else None

    def try_acquire(self) -> bool:
        """Take the lock if it is free. Raises LockError when the file cannot be used."""
        if self._file is not None:
            return True
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            self._file = self._open_locked()
        except OSError as error:
            raise LockError(
                path=self.path,
                reason=f"the lock cannot be used: {error.strerror}",
                remedy="run as root, or give a folder that this user may write as --run-dir",
            ) from error
        return self._file is not None

    def _open_locked(self) -> int | None:
        """Descriptor of the file, locked and with our pid in it; None when another holds it."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_ino == os.stat(self.path).st_ino:
                os.ftruncate(file, 0)
                os.write(file, f"{os.getpid()}\n".encode())
                return file
        except (BlockingIOError, FileNotFoundError):
            # Held by another, or removed between our opening and locking it.
            pass
        except OSError:
            os.close(file)
            raise
        os.close(file)
        return None

    async def acquire(self, on_wait: Callable[[int | None], None]) -> None:
        """Take the lock, waiting for ever; `on_wait` is told each new holder's pid, once."""
        told: set[int | None] = set()
        while not self.try_acquire():
            holder = self.holder()
            if holder not in told and (holder is not None or not told):
                told.add(holder)
                on_wait(holder)
            await asyncio.sleep(self._poll)

    def release(self) -> None:
        """Give it up; a second call does nothing."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None


def flanneld_pids(proc: Path = Path("/proc")) -> tuple[int, ...]:
    """Processes of real flannel in our network namespace: they would write what we write.

    What cannot be read (other users' processes, processes that end meanwhile) is passed over.
    """
    try:
        ours = os.readlink(proc / "self/ns/net")
    except OSError:
        return ()
    found = []
    for folder in proc.iterdir():
        if folder.name.isdigit() and _is_flanneld(folder):
            try:
                if os.readlink(folder / "ns/net") == ours:
                    found.append(int(folder.name))
            except OSError:
                continue
    return tuple(sorted(found))


def _is_flanneld(folder: Path) -> bool:
    """Whether the process of this folder in /proc runs flannel's binary."""
    try:
        return (folder / "comm").read_bytes().strip() in FLANNEL_PROGRAMS
    except OSError:
        return False
