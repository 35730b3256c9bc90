"""Takes the kernel's notifications away from a running process, from outside.

Its netlink sockets are borrowed (pidfd_getfd, Linux 5.6) and leave their multicast groups. The
process notices nothing, as when a kernel has a bug or a filter swallows events.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from pathlib import Path

_PIDFD_GETFD = 438
_SOL_NETLINK = 270
_DROP_MEMBERSHIP = 2
_LIST_MEMBERSHIPS = 9
_WORDS = 4
"""Of 32 groups each."""
_libc = ctypes.CDLL(None, use_errno=True)


def drop_notifications(pid: int) -> int:
    """Let all netlink sockets of a process leave all their groups; return how many they were."""
    handle = os.pidfd_open(pid)
    try:
        return sum(_silence(handle, int(path.name)) for path in _sockets(pid))
    finally:
        os.close(handle)


def _sockets(pid: int) -> list[Path]:
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(path).startswith("socket:"):
                found.append(path)
    return found


def _silence(handle: int, number: int) -> int:
    borrowed = _libc.syscall(_PIDFD_GETFD, handle, number, 0)
    if borrowed < 0:
        raise OSError(ctypes.get_errno(), f"pidfd_getfd {number}")
    with socket.socket(fileno=borrowed) as sock:
        if sock.family != socket.AF_NETLINK:
            return 0
        words = struct.unpack(
            f"{_WORDS}I",
            sock.getsockopt(_SOL_NETLINK, _LIST_MEMBERSHIPS, 4 * _WORDS).ljust(16, b"\0"),
        )
        groups = [
            32 * i + bit + 1 for i, word in enumerate(words) for bit in range(32) if word >> bit & 1
        ]
        for group in groups:
            sock.setsockopt(_SOL_NETLINK, _DROP_MEMBERSHIP, group)
        return len(groups)
