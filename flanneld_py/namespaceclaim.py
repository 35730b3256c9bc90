"""NamespaceClaim: the network namespace has one agent, whatever its run folder.

An abstract unix socket (unix(7)) exists once per network namespace and goes with its holder, so two
agents with different run folders find each other by it. What somebody without our rights has bound
under the name is no agent, and hinders nobody.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable

log = logging.getLogger(__name__)

NAME = "flanneld-py/agent"
POLL_SECONDS = 0.5
_CREDENTIALS = struct.Struct("iII")
"""struct ucred of <sys/socket.h>: pid, uid, gid."""


class NamespaceClaim:
    """The right to be the agent of the network namespace that the process is in."""

    def __init__(self, *, name: str = NAME, poll: float = POLL_SECONDS) -> None:
        self._address = f"\0{name}"
        self._poll = poll
        self._socket: socket.socket | None = None

    def try_acquire(self) -> bool:
        """Take the name if it is free, or held by somebody who can be no agent."""
        if self._socket is not None:
            return True
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(self._address)
            claim.listen(64)
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        self._socket = claim
        return True

    def holder(self) -> tuple[int, int] | None:
        """Pid and user id of the holder; None when there is none to be asked."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.setblocking(False)
            try:
                asking.connect(self._address)
            except OSError:
                return None
            answer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(answer)
        return pid, uid

    async def acquire(self, on_wait: Callable[[int | None], None]) -> None:
        """Take the name, waiting for ever; `on_wait` is told the holder's pid, once."""
        told = False
        while not self.try_acquire():
            if not told:
                told, held_by = True, self.holder()
                if held_by is not None and held_by[1] not in (0, os.geteuid()):
                    log.warning(
                        "a process that is no agent has the agent's socket name pid=%d uid=%d: "
                        "a second agent would not be noticed",
                        *held_by,
                    )
                    return
                on_wait(None if held_by is None else held_by[0])
            await asyncio.sleep(self._poll)

    def release(self) -> None:
        """Give it up; a second call does nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
