"""Where things stand in etcd: the keys under our prefix, and the records that are read from there.

Makes requests out of keys and values out of records; sends nothing.
"""

from __future__ import annotations

from typing import Any

from subnet import codec
from subnet.errors import StoreSettingsError
from subnet.etcd import messages as m
from subnet.etcd.settings import DEFAULT_PREFIX
from subnet.model import ConfigRecord, Lease, Malformed
from subnet.record import read_record


def range_end(prefix: bytes) -> bytes:
    """The first key after all those that begin with `prefix` (whose last byte is below 0xff)."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Keyspace:
    """The keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        """Clean the prefix as flannel does (flannel-compat 3.2). Raises `StoreSettingsError`."""
        self.prefix = codec.clean_prefix(prefix.strip())
        if not self.prefix:
            raise StoreSettingsError(
                source="etcd",
                reason=f"prefix {prefix!r} is empty",
                remedy=f"set --etcd-prefix, such as {DEFAULT_PREFIX}",
            )
        self.config = codec.config_key(self.prefix).encode()
        self.leases = codec.leases_prefix(self.prefix).encode()
        self.leases_end = range_end(self.leases)
        self.root = self.leases.removesuffix(b"subnets/")
        self.root_end = range_end(self.root)

    def lease(self, kv: Any) -> Lease | Malformed:
        """Read a record under `subnets/`."""
        return read_record(
            self.prefix,
            kv.key,
            kv.value,
            create_revision=kv.create_revision,
            mod_revision=kv.mod_revision,
            lease_id=kv.lease,
        )

    def config_record(self, kv: Any) -> ConfigRecord:
        """Read the network config, unparsed."""
        return ConfigRecord(
            text=kv.value.decode("utf-8", "replace"),
            create_revision=kv.create_revision,
            mod_revision=kv.mod_revision,
        )

    def read_one(self, key: bytes, *, keys_only: bool = False) -> Any:
        """Request one key."""
        return m.RangeRequest(key=key, keys_only=keys_only)

    def read_leases(
        self, *, after: bytes = b"", limit: int, revision: int = 0, keys_only: bool = False
    ) -> Any:
        """Request a page of leases: those after a key, in the order of keys."""
        return m.RangeRequest(
            key=after + b"\0" if after else self.leases,
            range_end=self.leases_end,
            limit=limit,
            revision=revision,
            keys_only=keys_only,
        )

    def probe(self) -> Any:
        """The cheapest request that a server can answer: no quorum, no value."""
        return m.RangeRequest(key=self.config, count_only=True, serializable=True)


def transaction(*, compare: list[Any], success: list[Any], failure: list[Any]) -> Any:
    """Put a transaction together; its operations are range, put and delete requests."""
    return m.TxnRequest(
        compare=compare,
        success=[_operation(request) for request in success],
        failure=[_operation(request) for request in failure],
    )


def _operation(request: Any) -> Any:
    if isinstance(request, m.RangeRequest):
        return m.RequestOp(request_range=request)
    if isinstance(request, m.PutRequest):
        return m.RequestOp(request_put=request)
    return m.RequestOp(request_delete_range=request)
