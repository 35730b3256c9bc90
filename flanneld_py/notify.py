"""Notifier: tells systemd (or whoever set NOTIFY_SOCKET) how the agent is doing (sd_notify(3)).

Never waits and never fails: without a socket, or with one that is gone or full, it does nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping

logger = logging.getLogger(__name__)


class Notifier:
    """Sends states, each one datagram."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # An abstract name is written with a leading @, and begins with a zero byte in truth.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket: socket.socket | None = None
        self._last_status = ""
        self.watchdog_seconds = _watchdog_seconds(environ)
        """Within which a sign of life is expected again and again; None: nobody expects any."""
        if self._address:
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, kind)

    def ready(self) -> None:
        """The node is set up: what depends on it may start."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; the same line is sent once."""
        line = " ".join(text.split())
        if line != self._last_status:
            self._last_status = line
            self._send(f"STATUS={line}")

    def stopping(self) -> None:
        """We are about to end, on purpose."""
        self._send("STOPPING=1")

    async def keep_alive(self) -> None:
        """Give signs of life from the event loop until cancelled, if they are expected at all.

        They stop with the loop: an agent that hangs is started anew.
        """
        if self._socket is None or self.watchdog_seconds is None:
            return
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_seconds / 2)

    def close(self) -> None:
        """Close the socket; what is said afterwards goes nowhere."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, state: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(state.encode(errors="replace"), self._address)
        except OSError as error:
            logger.debug("notification not sent state=%r reason=%s", state, error)


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """What the manager says about its patience (sd_watchdog_enabled(3))."""
    for_whom = environ.get("WATCHDOG_PID", "")
    if for_whom and for_whom != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        return None
    return int(text) / 1e6
