"""The agent's answers over HTTP: /healthz, /readyz, /metrics, and /status on our own socket only.

Responsible for paths and wording (flannel's words where flannel has them, flannel-compat 9), and
for the socket in the run folder. What is said comes from a `StatusSource` and from `Metrics`.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from flanneld_py import status as statuses
from flanneld_py.http import HttpServer, Limits, Request, Response
from flanneld_py.metrics import CONTENT_TYPE, Metrics
from flanneld_py.statusclient import SOCKET_NAME
from flanneld_py.unixsocket import ListeningSocket


class HealthPages:
    """What everybody may ask."""

    def __init__(self, source: statuses.StatusSource, metrics: Metrics) -> None:
        self._source = source
        self._metrics = metrics
        self.pages: dict[str, Callable[[], Response]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._render_metrics,
        }

    def __call__(self, request: Request) -> Response:
        """The page at the request's path."""
        page = self.pages.get(request.path)
        if page is None:
            known = ", ".join(self.pages)
            return Response(
                status=HTTPStatus.NOT_FOUND, body=f"no such page: try {known}\n".encode()
            )
        if request.method not in ("GET", "HEAD"):
            return Response(status=HTTPStatus.METHOD_NOT_ALLOWED, allow="GET, HEAD")
        return page()

    def _healthz(self) -> Response:
        # Alive is whoever answers. What keeps it from being useful is said, but a restart would
        # not help against it.
        return _lines("flanneld is running", *(f"not ready: {why}" for why in self._source.ready()))

    def _readyz(self) -> Response:
        reasons = self._source.ready()
        if not reasons:
            return _lines("flanneld is ready", *self._source.warnings())
        return _lines("flanneld is not ready yet", *reasons, status=HTTPStatus.SERVICE_UNAVAILABLE)

    def _render_metrics(self) -> Response:
        return Response(body=self._metrics.render(), content_type=CONTENT_TYPE)


class StatusPages(HealthPages):
    """What those may ask who can open our socket: the status tells of every peer."""

    def __init__(self, source: statuses.StatusSource, metrics: Metrics) -> None:
        super().__init__(source, metrics)
        self.pages = {"/status": self._status, **self.pages}

    def _status(self) -> Response:
        body = statuses.encode(self._source.status())
        return Response(body=body, content_type="application/json")


def _lines(*lines: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    text = "".join(f"{line}\n" for line in lines)
    return Response(status=status, body=text.encode(errors="replace"))


class StatusServer:
    """Serves the pages on the socket in the run folder."""

    def __init__(
        self,
        source: statuses.StatusSource,
        metrics: Metrics,
        *,
        run_dir: Path,
        limits: Limits | None = None,
    ) -> None:
        self._path = run_dir / SOCKET_NAME
        self._server = HttpServer(StatusPages(source, metrics), limits=limits, name="status")
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
