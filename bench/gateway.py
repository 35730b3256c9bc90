"""Writes leases into etcd as nodes do: each key hangs on an etcd lease of its own.

Over etcd's HTTP gateway, on one connection that stays open, so that a put costs little beside what
it is to set off. Must not read: `EtcdView` does.
"""

from __future__ import annotations

import http.client
import json
import socket
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any

from flanneld_py.testing.lab.etcd_view import PORT, TXN_SIZE
from flanneld_py.testing.lab.namespace import Namespace
from flanneld_py.testing.lab.peers import StaticPeer

TTL = 24 * 3600
"""Seconds, flannel's own."""


class Gateway(http.client.HTTPConnection):
    """One connection to the etcd that listens in a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__("127.0.0.1", PORT, timeout=10)
        self._namespace = namespace

    def connect(self) -> None:
        """Connect inside of the namespace."""
        self.sock = self._namespace.inside(
            lambda: socket.create_connection((self.host, self.port), self.timeout)
        )
        # Head and body are sent apart; the second must not wait for an acknowledgement.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def grant(self) -> str:
        """Grant an etcd lease; return its id."""
        return str(self._call("lease/grant", {"TTL": TTL})["ID"])

    def put(self, peer: StaticPeer, lease: str) -> None:
        """Write a peer's lease."""
        self._call("kv/put", _put(peer, lease))

    def delete(self, key: str) -> None:
        """Delete a key."""
        self._call("kv/deleterange", {"key": _encode(key)})

    def put_all(self, peers: Iterable[StaticPeer]) -> None:
        """Write the leases of many peers."""
        pending = list(peers)
        for start in range(0, len(pending), TXN_SIZE):
            part = pending[start : start + TXN_SIZE]
            puts = [{"requestPut": _put(peer, self.grant())} for peer in part]
            self._call("kv/txn", {"success": puts})

    def _call(self, method: str, request: Mapping[str, object]) -> dict[str, Any]:
        self.request("POST", f"/v3/{method}", json.dumps(request))
        reply = self.getresponse()
        text = reply.read()
        if reply.status != http.client.OK:
            raise RuntimeError(f"etcd {method}: {reply.status} {text.decode()[:300]}")
        answer: dict[str, Any] = json.loads(text)
        return answer


def _put(peer: StaticPeer, lease: str) -> dict[str, object]:
    return {"key": _encode(peer.key), "value": _encode(peer.value), "lease": lease}


def _encode(text: str) -> str:
    return b64encode(text.encode()).decode()
