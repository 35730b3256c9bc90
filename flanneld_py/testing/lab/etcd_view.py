"""etcd as an outsider sees it: get, put, delete over its HTTP gateway, by a client of the lab.

Serves tests and the demo, which must judge by another way than the agent's own. Values are text;
one request at a time; a store that is silent raises `TimeoutError`. No watch, no TLS.
"""

from __future__ import annotations

import http.client
import json
import socket
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any

from flanneld_py.testing.lab.namespace import Namespace

PORT = 2379
PREFIX = "/coreos.com/network"
TXN_SIZE = 100
"""Operations per transaction; etcd takes 128."""


class EtcdView:
    """A view of the etcd that listens in `namespace`."""

    def __init__(self, namespace: Namespace, *, timeout: float = 3) -> None:
        self._namespace = namespace
        self._timeout = timeout

    def get(self, key: str) -> str | None:
        """Return a key's value, or None."""
        return self._range({"key": _encode(key)}).get(key)

    def under(self, prefix: str) -> dict[str, str]:
        """Return all keys that begin with `prefix`, in order."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        return self._range({"key": _encode(prefix), "range_end": _encode(end)})

    def leases(self) -> dict[str, str]:
        """Return all that stands under `subnets/`: the key's last part, and its value."""
        folder = f"{PREFIX}/subnets/"
        return {key.removeprefix(folder): value for key, value in self.under(folder).items()}

    def lease_ttl(self, key: str) -> int:
        """Return the granted TTL of the lease that a key hangs on; 0 when it hangs on none."""
        found = self._call("kv/range", {"key": _encode(key)}).get("kvs", [])
        lease = found[0].get("lease", "0") if found else "0"
        if lease == "0":
            return 0
        return int(self._call("kv/lease/timetolive", {"ID": lease})["grantedTTL"])

    def put(self, key: str, value: str) -> None:
        """Write a key without a lease of its own."""
        self._call("kv/put", {"key": _encode(key), "value": _encode(value)})

    def put_all(self, values: Mapping[str, str]) -> None:
        """Write many keys, in transactions of a hundred."""
        self._in_transactions(
            {"requestPut": {"key": _encode(key), "value": _encode(value)}}
            for key, value in values.items()
        )

    def delete(self, key: str) -> None:
        """Delete a key; an absent one is fine."""
        self._call("kv/deleterange", {"key": _encode(key)})

    def delete_all(self, keys: Iterable[str]) -> None:
        """Delete many keys, in transactions of a hundred."""
        self._in_transactions({"requestDeleteRange": {"key": _encode(key)}} for key in keys)

    def configure(self, config: Mapping[str, object] | str) -> None:
        """Write the network config."""
        text = config if isinstance(config, str) else json.dumps(config)
        self.put(f"{PREFIX}/config", text)

    def answers(self) -> bool:
        """Say whether etcd serves a read."""
        try:
            self.get(f"{PREFIX}/config")
        except (OSError, http.client.HTTPException, ValueError, RuntimeError):
            return False
        return True

    def _range(self, request: dict[str, str]) -> dict[str, str]:
        found = self._call("kv/range", request).get("kvs", [])
        return {_decode(kv["key"]): _decode(kv.get("value", "")) for kv in found}

    def _in_transactions(self, requests: Iterable[dict[str, object]]) -> None:
        pending = list(requests)
        for start in range(0, len(pending), TXN_SIZE):
            self._call("kv/txn", {"success": pending[start : start + TXN_SIZE]})

    def _call(self, method: str, request: Mapping[str, object]) -> dict[str, Any]:
        connection = _Connection(self._namespace, self._timeout)
        try:
            connection.request("POST", f"/v3/{method}", json.dumps(request))
            reply = connection.getresponse()
            text = reply.read()
            if reply.status != http.client.OK:
                raise RuntimeError(f"etcd {method}: {reply.status} {text.decode()[:300]}")
            answer: dict[str, Any] = json.loads(text)
            return answer
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """An HTTP connection that begins inside a namespace."""

    def __init__(self, namespace: Namespace, timeout: float) -> None:
        super().__init__("127.0.0.1", PORT, timeout=timeout)
        self._namespace = namespace

    def connect(self) -> None:
        self.sock = self._namespace.inside(
            lambda: socket.create_connection((self.host, self.port), self.timeout)
        )


def _encode(text: str) -> str:
    return b64encode(text.encode()).decode()


def _decode(text: str) -> str:
    return b64decode(text).decode(errors="replace")
