"""The eye outside: hears the kernel's notifications in a node's namespace and dates them.

It shares nothing with the agent's own reading of netlink, and costs little: while thousands of
elements are written it looks every few milliseconds, and only decodes what it counts. Must not know
who writes.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from flanneld_py.testing.lab.namespace import Namespace

GROUPS = (3, 7, 32)
"""RTNLGRP_NEIGH (neighbours and forwarding entries), RTNLGRP_IPV4_ROUTE, RTNLGRP_NEXTHOP."""
ROUTE_GROUP = (7,)
RECEIVE_BYTES = 64 * 1024 * 1024
PATIENT_BYTES = 32 * 1024 * 1024
"""A receive buffer that holds all notifications of 10,000 peers. A smaller one needs haste."""
PAUSE = 0.004
_NEWROUTE, _DELROUTE, _NEWNEIGH, _NEWNEXTHOP = 24, 25, 28, 104
_PERMANENT = 0x80
_RTA_DST = 1
_HEADER = struct.Struct("=IH")
_ATTRIBUTE = struct.Struct("=HH")
_STATE = struct.Struct("=H")
_SO_RCVBUFFORCE = 33
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1


class NotificationsLost(Exception):
    """The kernel dropped notifications, so nothing can be said about when things happened."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"the kernel dropped notifications: a receive buffer of {size} bytes is too small; "
            "run as root, or raise net.core.rmem_max"
        )


class Eye:
    """Counts the routes to a set of /24 networks, and dates the first element and the last route.

    A context manager. `look` must be called all the time.
    """

    def __init__(self, node: Namespace, networks: Iterable[bytes]) -> None:
        self._missing = set(networks)
        self._sock = node.inside(lambda: _listen(GROUPS))
        self._is_patient = _buffer(self._sock) >= PATIENT_BYTES
        self.began: float | None = None
        """When the first element that serves a peer was seen (clock of `time.perf_counter`)."""
        self.ended: float | None = None
        """When the last missing route was seen."""
        self.last: bytes = b""
        """The network of that route."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    @property
    def missing(self) -> int:
        """How many networks have no route yet."""
        return len(self._missing)

    def look(self) -> None:
        """Wait a little, and take in what was notified. Raises `NotificationsLost`."""
        if self._is_patient:
            time.sleep(PAUSE)
        else:
            select.select([self._sock], [], [], PAUSE)
        while True:
            try:
                data = self._sock.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                _refuse(error, self._sock)
                raise
            self._read(data)

    def _read(self, data: bytes) -> None:
        kind = _HEADER.unpack_from(data)[1]
        if self.began is None and _serves_a_peer(kind, data):
            self.began = time.perf_counter()
        if kind == _NEWROUTE and (network := _network_of(data)) in self._missing:
            self._missing.remove(network)
            if not self._missing:
                self.last, self.ended = network, time.perf_counter()


class RouteWatch:
    """Dates single routes as they come and go, in a thread. A context manager."""

    def __init__(self, node: Namespace) -> None:
        self._sock = node.inside(lambda: _listen(ROUTE_GROUP))
        self._seen: dict[tuple[bool, bytes], float] = {}
        self._news = threading.Condition()
        self._wake, self._stop = socket.socketpair()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="route watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.send(b"x")
        self._thread.join()
        for sock in (self._sock, self._wake, self._stop):
            sock.close()

    def after(
        self, act: Callable[[], None], network: bytes, *, present: bool, within: float = 10
    ) -> tuple[float, float]:
        """Do something; return the seconds until it was done, and until the route came or went.

        Both count from the start. Raises TimeoutError.
        """
        what = (present, network)
        with self._news:
            self._seen.pop(what, None)
        began = time.perf_counter()
        act()
        done = time.perf_counter() - began
        with self._news:
            if not self._news.wait_for(lambda: what in self._seen or self._failure, within):
                state = "come" if present else "gone"
                raise TimeoutError(f"route to {socket.inet_ntoa(network)}/24 not {state}")
            if self._failure is not None:
                raise self._failure
            return done, self._seen[what] - began

    def _run(self) -> None:
        try:
            while True:
                ready, _, _ = select.select([self._sock, self._wake], [], [])
                if self._wake in ready:
                    return
                self._read_all()
        except (OSError, NotificationsLost) as error:
            with self._news:
                self._failure = error
                self._news.notify_all()

    def _read_all(self) -> None:
        now = time.perf_counter()
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    data = self._sock.recv(65536)
                except OSError as error:
                    _refuse(error, self._sock)
                    raise
                kind = _HEADER.unpack_from(data)[1]
                if kind in (_NEWROUTE, _DELROUTE):
                    with self._news:
                        self._seen[kind == _NEWROUTE, _network_of(data)] = now
                        self._news.notify_all()


def _listen(groups: Iterable[int]) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BYTES)
    except PermissionError:  # in a user namespace
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    sock.setblocking(False)
    sock.bind((0, 0))
    for group in groups:
        sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    return sock


def _refuse(error: OSError, sock: socket.socket) -> None:
    if error.errno == errno.ENOBUFS:
        raise NotificationsLost(_buffer(sock)) from error


def _buffer(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def _serves_a_peer(kind: int, data: bytes) -> bool:
    """Whether this is a permanent neighbour or forwarding entry, or a nexthop object."""
    if kind == _NEWNEIGH:
        return bool(_STATE.unpack_from(data, 24)[0] & _PERMANENT)
    return kind == _NEWNEXTHOP


def _network_of(data: bytes) -> bytes:
    """The destination of a route to an IPv4 /24; empty for any other route."""
    if data[16] != socket.AF_INET or data[17] != 24:
        return b""
    place, end = 28, len(data)
    while end - place >= 4:
        length, kind = _ATTRIBUTE.unpack_from(data, place)
        if kind == _RTA_DST:
            return data[place + 4 : place + 8]
        if length < 4:
            break
        place += (length + 3) & ~3
    return b""
