"""Asks servers that listen in a node's namespace, over HTTP."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection
from typing import Any

from flanneld_py.testing.lab.namespace import Namespace


class InsideConnection(HTTPConnection):
    """An HTTP connection whose socket belongs to a namespace."""

    def __init__(self, namespace: Namespace, host: str, port: int) -> None:
        super().__init__(host, port, timeout=3)
        self._namespace = namespace

    def connect(self) -> None:
        """Connect, as the namespace's programs would."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self.sock = self._namespace.inside(lambda: socket.socket(family, socket.SOCK_STREAM))
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect((self.host, self.port))
        except OSError:
            self.sock.close()
            raise


def get(namespace: Namespace, port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    """Return status and body; (0, reason) when nobody answers."""
    connection = InsideConnection(namespace, host, port)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError as error:
        return 0, str(error)
    finally:
        connection.close()


def get_json(namespace: Namespace, port: int, path: str) -> Any:
    """Return the JSON that is answered; None when nobody answers as wished."""
    status, body = get(namespace, port, path)
    return json.loads(body) if status == 200 else None
