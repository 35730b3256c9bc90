"""Health: what is said from the first second of the process on, and the TCP port that says it.

Responsible for speaking before there is an agent (while another one holds the lock, for instance),
and for getting the port: an address that is taken is named and tried again, for pods need their
network more than probes need their port. Pages and wording are `statusserver`'s.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import time
from dataclasses import replace

from flanneld_py import __version__
from flanneld_py.figures import Figures, FigureSource
from flanneld_py.http import HttpServer, Limits
from flanneld_py.metrics import Metrics
from flanneld_py.settings import HealthSettings
from flanneld_py.status import Status, StatusSource
from flanneld_py.statusserver import HealthPages

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
"""Between tries to get the port."""


class Front:
    """Who is asked: says what the process waits for, and hands on to the agent once there is one.

    Implements `status.StatusSource` and `figures.FigureSource`.
    """

    def __init__(self) -> None:
        self.reason = "the agent is starting"
        """What is waited for as long as there is no agent."""
        self.warning = ""
        """What is wrong with the health port; empty when nothing is."""
        self._started = time.time()
        self._status: StatusSource | None = None
        self._figures: FigureSource | None = None

    def use(self, status: StatusSource, figures: FigureSource) -> None:
        """Let these answer from now on."""
        self._status, self._figures = status, figures

    def ready(self) -> tuple[str, ...]:
        """Why the node is not ready."""
        return (self.reason,) if self._status is None else self._status.ready()

    def warnings(self) -> tuple[str, ...]:
        """What looks wrong but stops nothing."""
        port = (self.warning,) if self.warning else ()
        return port if self._status is None else (*self._status.warnings(), *port)

    def status(self) -> Status:
        """The agent's status, with what is wrong with the port."""
        if self._status is not None:
            status = self._status.status()
        else:
            status = Status(
                version=__version__,
                pid=os.getpid(),
                started=self._started,
                now=time.time(),
                reasons=(self.reason,),
            )
        if not self.warning:
            return status
        return replace(status, warnings=(*status.warnings, self.warning))

    def figures(self) -> Figures:
        """The agent's figures."""
        return Figures() if self._figures is None else self._figures.figures()


class HealthPort:
    """Serves health and metrics over TCP, as soon as the address can be had."""

    def __init__(
        self,
        front: Front,
        metrics: Metrics,
        settings: HealthSettings,
        *,
        limits: Limits | None = None,
        retry: float = RETRY_SECONDS,
    ) -> None:
        self._front = front
        self._metrics = metrics
        self._settings = settings
        self._retry = retry
        self._server = HttpServer(HealthPages(front, metrics), limits=limits, name="health")
        self.address: tuple[str, int] | None = None
        """Where it is served; None while it is not."""

    async def run(self) -> None:
        """Serve until cancelled; with port 0 (none) it returns at once."""
        if self._settings.port == 0:
            return
        try:
            listening = await self._listen()
            await self._server.serve(listening)
            self._metrics.load()
            await asyncio.get_running_loop().create_future()
        finally:
            await self._server.aclose()

    async def _listen(self) -> socket.socket:
        while True:
            try:
                listening = listen(self._settings.ip, self._settings.port)
            except OSError as error:
                self._complain(error)
                await asyncio.sleep(self._retry)
                continue
            self._front.warning = ""
            host, port = listening.getsockname()[:2]
            self.address = (host, port)
            log.info("health and metrics are served address=%s port=%d", host, port)
            return listening

    def _complain(self, error: OSError) -> None:
        ip, port = self._settings.ip or "all addresses", self._settings.port
        text = (
            f"no health and metrics on {ip} port {port}: {error.strerror or error}: "
            f"{_remedy(error, port)}; tried again every {self._retry:g} s"
        )
        if text != self._front.warning:
            self._front.warning = text
            log.error("%s", text)


def listen(ip: str, port: int) -> socket.socket:
    """A TCP socket that listens. Raises OSError.

    Go listens in both families when the address is unspecified in either, and so do we: probes of
    an IPv6 node find the port that `--healthz-ip=0.0.0.0` means.
    """
    if ip in ("", "0.0.0.0", "::"):
        try:
            return _bound(socket.AF_INET6, "::", port)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
        return _bound(socket.AF_INET, "0.0.0.0", port)
    address = "127.0.0.1" if ip == "localhost" else ip
    return _bound(socket.AF_INET6 if ":" in address else socket.AF_INET, address, port)


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            both = int(address != "::")
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, both)
        listening.bind((address, port))
        listening.listen()
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _remedy(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"stop what listens there (`ss -ltnp sport = {port}`), or give another --healthz-port"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return "give an address of this host as --healthz-ip"
    if error.errno == errno.EACCES:
        return "give a --healthz-port above 1023, or CAP_NET_BIND_SERVICE"
    return "give another --healthz-ip or --healthz-port"
