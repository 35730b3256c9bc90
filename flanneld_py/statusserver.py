"""The agent's answers over HTTP: /status, /healthz and /readyz.

Responsible for paths and wording (flannel's words where flannel has them, flannel-compat 9), and
for the socket in the run folder. What is said comes from a `StatusSource`.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from flanneld_py import status as statuses
from flanneld_py.http import HttpServer, Limits, Request, Response
from flanneld_py.statusclient import SOCKET_NAME
from flanneld_py.unixsocket import ListeningSocket


class StatusPages:
    """Answers requests from a `StatusSource`."""

    def __init__(self, source: statuses.StatusSource) -> None:
        self._source = source

    def __call__(self, request: Request) -> Response:
        """The page at the request's path."""
        pages = {"/status": self._status, "/healthz": self._healthz, "/readyz": self._readyz}
        page = pages.get(request.path)
        if page is None:
            known = ", ".join(pages)
            return Response(
                status=HTTPStatus.NOT_FOUND, body=f"no such page: try {known}\n".encode()
            )
        if request.method not in ("GET", "HEAD"):
            return Response(status=HTTPStatus.METHOD_NOT_ALLOWED, allow="GET, HEAD")
        return page()

    def _status(self) -> Response:
        body = statuses.encode(self._source.status())
        return Response(body=body, content_type="application/json")

    def _healthz(self) -> Response:
        return Response(body=b"flanneld is running\n")

    def _readyz(self) -> Response:
        status = self._source.status()
        if status.ready:
            return Response(body=b"flanneld is ready\n")
        lines = ["flanneld is not ready yet", *status.reasons]
        text = "\n".join(lines) + "\n"
        return Response(status=HTTPStatus.SERVICE_UNAVAILABLE, body=text.encode(errors="replace"))


class StatusServer:
    """Serves the pages on the socket in the run folder."""

    def __init__(
        self, source: statuses.StatusSource, *, run_dir: Path, limits: Limits | None = None
    ) -> None:
        self._path = run_dir / SOCKET_NAME
        self._server = HttpServer(StatusPages(source), limits=limits, name="status")
        self._listening: ListeningSocket | None = None

    async def start(self) -> None:
        """Begin to serve; returns at once. Raises unixsocket.SocketInUse."""
        self._listening = ListeningSocket(self._path)
        await self._server.serve(self._listening.socket)

    async def aclose(self) -> None:
        """Stop serving and take the socket away. A second call does nothing."""
        if self._listening is not None:
            self._listening.remove()
            self._listening = None
        await self._server.aclose()
