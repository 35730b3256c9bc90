"""A small HTTP/1.x server on asyncio: short answers to GET, over unix sockets or TCP.

Responsible for the protocol and its limits: a request has few bytes and little time, an answer is
written or given up, each connection carries one request, and when too many are open the one that
has waited longest makes room, so that slow clients hold up nobody. Must not know any path.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 8192
MAX_DISCARD_BYTES = 65536
"""Of a body that nobody asked for; what is left unread would reset the connection."""
ACCEPT_AT_ONCE = 8
"""Connections taken before anybody who is connected is served again: else a burst of them would
push out one that has just asked, before it is heard."""
BACKLOG = 1024
"""Connections that wait in the kernel, which may allow fewer (net.core.somaxconn)."""
HTTP_VERSIONS = ("HTTP/1.0", "HTTP/1.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may take."""

    read_seconds: float = 5.0
    """For the whole request."""
    write_seconds: float = 10.0
    """For the whole answer."""
    linger_seconds: float = 1.0
    """For the client to close after the answer."""
    connections: int = 128
    """Open at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked."""

    method: str
    path: str
    """Without the query."""
    query: str = ""
    """Behind the question mark, as it came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What is answered."""

    status: HTTPStatus = HTTPStatus.OK
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    allow: str = ""
    """Methods that would be right, for 405."""


Handler = Callable[[Request], Response]
"""Answers at once; a handler that waits would wait for all."""


class BadRequest(Exception):
    """The request cannot be served; `status` says why."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status
        super().__init__(status.phrase)


class HttpServer:
    """Serves one handler on any number of listening sockets until `aclose`."""

    def __init__(self, handler: Handler, *, limits: Limits | None = None, name: str) -> None:
        """`name` is what tasks and log lines call this server."""
        self._handler = handler
        self._limits = limits or Limits()
        self._name = name
        self._servers: list[asyncio.Server] = []
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(self, listening: socket.socket) -> None:
        """Begin to serve a socket that listens; returns at once. The socket is ours from now on."""
        if listening.family == socket.AF_UNIX:
            server = await asyncio.start_unix_server(
                self._connected, sock=listening, limit=MAX_REQUEST_BYTES, backlog=ACCEPT_AT_ONCE
            )
        else:
            server = await asyncio.start_server(
                self._connected, sock=listening, limit=MAX_REQUEST_BYTES, backlog=ACCEPT_AT_ONCE
            )
        # asyncio takes as many at once as it lets wait.
        listening.listen(BACKLOG)
        self._servers.append(server)

    async def aclose(self) -> None:
        """Stop listening and end what is open. A second call does nothing."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        tasks = list(self._connections)
        while self._connections:
            self._drop_oldest()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self._limits.connections:
            self._drop_oldest()
        task = asyncio.create_task(
            self._serve_connection(reader, writer), name=f"{self._name}-connection"
        )
        self._connections[task] = writer
        task.add_done_callback(self._ended)

    def _drop_oldest(self) -> None:
        task = next(iter(self._connections))
        # A task that is cancelled before its first step runs none of its code, `finally` included.
        self._connections.pop(task).transport.abort()
        task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error(
                "connection failed server=%s, please report this", self._name, exc_info=error
            )

    async def _serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            # The client may go, or be too slow, at any point: its loss.
            with suppress(OSError, TimeoutError):
                await self._answer(reader, writer)
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head_only = False
        try:
            async with asyncio.timeout(self._limits.read_seconds):
                request = await _read_request(reader)
        except BadRequest as error:
            response = Response(status=error.status, body=f"{error.status.phrase}\n".encode())
        except TimeoutError:
            status = HTTPStatus.REQUEST_TIMEOUT
            response = Response(status=status, body=f"{status.phrase}\n".encode())
        else:
            if request is None:
                return
            head_only = request.method == "HEAD"
            response = self._handler(request)
        async with asyncio.timeout(self._limits.write_seconds):
            writer.write(_render(response, head_only=head_only))
            await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            await _flushed(writer)
        async with asyncio.timeout(self._limits.linger_seconds):
            await _discard(reader)


async def _flushed(writer: asyncio.StreamWriter) -> None:
    """Wait until the kernel has taken everything; `drain` stops at the low-water mark."""
    writer.transport.set_write_buffer_limits(0)
    await writer.drain()


async def _discard(reader: asyncio.StreamReader) -> None:
    """Read to the client's end, so that closing does not throw away our answer."""
    left = MAX_DISCARD_BYTES
    while left > 0 and (data := await reader.read(4096)):
        left -= len(data)


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    """The request; None when the client went without asking. Raises BadRequest."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from None
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise BadRequest(HTTPStatus.BAD_REQUEST) from None
    line = head.partition(b"\r\n")[0]
    parts = line.decode("latin-1").split(" ")
    if len(parts) != 3 or not parts[0].isalpha() or not parts[1].startswith("/"):
        raise BadRequest(HTTPStatus.BAD_REQUEST)
    if parts[2] not in HTTP_VERSIONS:
        raise BadRequest(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    path, _, query = parts[1].partition("?")
    return Request(method=parts[0], path=path, query=query)


def _render(response: Response, *, head_only: bool) -> bytes:
    """The answer in bytes, which closes the connection."""
    lines = [
        f"HTTP/1.1 {response.status.value} {response.status.phrase}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if response.allow:
        lines.append(f"Allow: {response.allow}")
    head = "\r\n".join(lines) + "\r\n\r\n"
    return head.encode("ascii") + (b"" if head_only else response.body)
