"""The socket on which the kernel notifies: reads datagrams, and notices when some are lost.

What they mean is the affair of `events`. Reading never waits, and never takes the event loop for
longer than a slice of time.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from time import perf_counter
from typing import Final

from flanneld_py.kernel import netlink as nl
from flanneld_py.kernel.batch import receive_buffer

RECEIVE_BYTES: Final = 8 * 1024 * 1024
READ_BYTES: Final = 64 * 1024
SLICE_SECONDS: Final = 0.02
DATAGRAMS_PER_LOOK: Final = 64
"""How many datagrams are read between two looks at the clock."""
DISCARD_AT_MOST: Final = 20_000
GROUPS: Final = (
    nl.RTNLGRP_LINK,
    nl.RTNLGRP_NEIGH,
    nl.RTNLGRP_IPV4_IFADDR,
    nl.RTNLGRP_IPV6_IFADDR,
    nl.RTNLGRP_IPV4_ROUTE,
    nl.RTNLGRP_IPV6_ROUTE,
    nl.RTNLGRP_NEXTHOP,
)


class Monitor:
    """Hands every datagram to `read`, and tells `lost` when the kernel had to drop some."""

    def __init__(self, read: Callable[[bytes], None], lost: Callable[[str], None]) -> None:
        self._read = read
        self._lost = lost
        self._wake: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._sock.setblocking(False)
        receive_buffer(self._sock, RECEIVE_BYTES)
        self._sock.bind((0, 0))
        for group in GROUPS:
            try:
                self._sock.setsockopt(nl.SOL_NETLINK, nl.NETLINK_ADD_MEMBERSHIP, group)
            except OSError as error:  # Linux < 5.3 has no group for nexthops
                if group != nl.RTNLGRP_NEXTHOP or error.errno != errno.EINVAL:
                    raise

    def watch(self, wake: Callable[[], None]) -> None:
        """Read from the running loop from now on, and call `wake` when there was something."""
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._readable)

    def close(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._sock)
        self._sock.close()

    def read_all(self) -> None:
        """Read what is there, for a slice of time; the rest wakes us again."""
        if not self._read_slice() and self._loop is not None and self._wake is not None:
            self._loop.call_soon(self._wake)

    def discard(self) -> None:
        """Throw away what is there: it is older than the dump that follows."""
        for _ in range(DISCARD_AT_MOST):
            try:
                self._sock.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._check(error)

    def _readable(self) -> None:
        self._read_slice()
        if self._wake is not None:
            self._wake()

    def _read_slice(self) -> bool:
        """Whether nothing was left."""
        receive, read = self._sock.recv, self._read
        until = perf_counter() + SLICE_SECONDS
        while perf_counter() < until:
            try:
                for _ in range(DATAGRAMS_PER_LOOK):
                    read(receive(READ_BYTES))
            except BlockingIOError:
                return True
            except OSError as error:
                self._check(error)
                self._lost("notifications were lost (receive buffer overrun)")
        return False

    @staticmethod
    def _check(error: OSError) -> None:
        if error.errno != errno.ENOBUFS:
            raise error
