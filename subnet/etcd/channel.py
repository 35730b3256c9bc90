"""Calls to whichever etcd server answers: choice of the endpoint, credentials, deadlines.

A request that was certainly not sent goes to the next server; one that only reads does so in any
case. A write whose answer was lost is *not* repeated here: only its author can tell whether it was
done. Knows no key and no lease.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from subnet.errors import StoreSettingsError
from subnet.etcd import messages as m
from subnet.etcd.failures import CallDenied, CallFailed, CallUnavailable, may_log_in_again
from subnet.etcd.line import LOGIN, Line, Metadata, Method, NotConnected
from subnet.etcd.settings import Endpoint, EtcdSettings, TlsMaterial, parse_endpoints, read_tls

logger = logging.getLogger(__name__)

_LINE_FAULTS = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL"})


class Channel:
    """The way to an etcd cluster. All calls share one connection, to one server at a time."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Check the settings; nothing is connected yet. Raises `StoreSettingsError`."""
        self.settings = settings
        files = bool(settings.cafile or settings.certfile or settings.keyfile)
        self.endpoints = parse_endpoints(settings.endpoints, tls_files=files)
        self._tls: TlsMaterial | None = None
        if self.endpoints[0].secure:
            self._tls = read_tls(settings)
        elif files:
            logger.warning(
                "etcd TLS files are not used endpoints=%s remedy=%s",
                self._endpoints_text(),
                "write https:// in --etcd-endpoints to encrypt",
            )
        if bool(settings.username) != bool(settings.password):
            logger.warning(
                "etcd password login is off remedy=%s",
                "give both --etcd-username and --etcd-password",
            )
        self._next = 0
        self._line: Line | None = None
        self._closed = False
        self._token: str | None = None
        self._login = asyncio.Lock()

    def _endpoints_text(self) -> str:
        return ",".join(map(str, self.endpoints))

    @property
    def source(self) -> str:
        """What messages call the cluster."""
        return f"etcd {self._endpoints_text()}"

    @property
    def endpoint(self) -> Endpoint:
        """The server in use, or the one that is tried next."""
        return self.endpoints[self._next]

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        """Hold the line in use, opening it if there is none (it may not be connected)."""
        if self._closed:
            raise CallUnavailable(source=self.source, reason="closed", code="CANCELLED")
        if self._line is None:
            self._line = Line(self.endpoint, tls=self._current_tls(), settings=self.settings)
        line = self._line
        line.users += 1
        try:
            yield line
        finally:
            line.users -= 1
            if line.retired and line.users == 0:
                await line.close()

    def give_up(self, line: Line) -> None:
        """Use the next server from now on; calls that are still on this line may finish."""
        if self._line is line:
            self._line = None
            self._next = (self._next + 1) % len(self.endpoints)
            line.retired = True

    async def call(
        self, method: Method, request: Any, *, reads: bool = False, timeout: float | None = None
    ) -> Any:
        """Make one call, with credentials; `reads` says that it may be repeated.

        Raises `CallUnavailable`, `CallDenied`.
        """
        timeout = self.settings.request_timeout if timeout is None else timeout
        # A single server gets a second chance too: its line may have died while it was idle.
        for left in reversed(range(max(2, len(self.endpoints)))):
            async with self.line() as line:
                try:
                    await line.connect()
                    return await self.call_on(line, method, request, timeout=timeout)
                except CallUnavailable as error:
                    if error.code not in _LINE_FAULTS:
                        raise
                    self.give_up(line)
                    if not left or not (reads or isinstance(error, NotConnected)):
                        raise
        raise AssertionError("unreachable")

    async def call_on(self, line: Line, method: Method, request: Any, *, timeout: float) -> Any:
        """Make one call on a line that is given, with credentials."""
        credentials = await self.credentials(line)
        try:
            return await line.call(method, request, timeout=timeout, metadata=credentials)
        except (CallDenied, CallUnavailable) as error:
            if not self.forget_credentials(error, credentials):
                raise
        fresh = await self.credentials(line)
        return await line.call(method, request, timeout=timeout, metadata=fresh)

    async def credentials(self, line: Line) -> Metadata:
        """Return what identifies us, logging in if need be. Raises `CallDenied`."""
        if not self.settings.username or not self.settings.password:
            return ()
        async with self._login:
            if self._token is None:
                self._token = await self._log_in(line)
        return (("token", self._token),) if self._token else ()

    def forget_credentials(self, error: CallFailed, used: Metadata) -> bool:
        """Drop a token that the server refused; True if logging in anew may help."""
        if not self.settings.username or not may_log_in_again(error):
            return False
        if used == ((("token", self._token),) if self._token else ()):
            self._token = None
        return True

    async def _log_in(self, line: Line) -> str:
        request = m.AuthenticateRequest(
            name=self.settings.username, password=self.settings.password
        )
        try:
            answer = await line.call(LOGIN, request, timeout=self.settings.request_timeout)
        except CallUnavailable as error:
            if error.code == "FAILED_PRECONDITION" and "not enabled" in error.reason:
                return ""  # nobody has to log in here; if that changes, a call will be denied
            raise
        token: str = answer.token
        return token

    def _current_tls(self) -> TlsMaterial | None:
        if self._tls is not None:
            try:
                self._tls = read_tls(self.settings)  # certificates are renewed in place
            except StoreSettingsError as error:
                logger.warning("etcd TLS files unusable, keeping the old ones error=%s", error)
        return self._tls

    async def aclose(self) -> None:
        """Close the connection."""
        self._closed = True
        line, self._line = self._line, None
        if line is not None:
            line.retired = True
            await line.close()
