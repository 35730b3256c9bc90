"""MemoryStore: the store contract in memory, for tests of whoever uses a store.

One `MemoryBackend` stands for the datastore; each `MemoryStore` on it is one node's client, which
can be cut off and told to fail. It obeys the same suite as the real store does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from flanneld_py.testing.datastore import Change, MemoryBackend, Record
from subnet import codec
from subnet.errors import StoreError, StoreUnavailable
from subnet.model import (
    ConfigChanged,
    ConfigRecord,
    Delete,
    Lease,
    LeaseAttrs,
    LeaseEvent,
    Malformed,
    PeerKey,
    Put,
    PutMalformed,
    Snapshot,
    StoreIdentity,
    StoreState,
)
from subnet.record import read_record
from subnet.store import Conflict

__all__ = ["MemoryBackend", "MemoryStore", "Operation"]

Operation = Literal["snapshot", "create", "update", "delete"]


class MemoryStore:
    """One node's client of a `MemoryBackend`. A `SubnetStore`, with switches for tests."""

    def __init__(self, backend: MemoryBackend, *, name: str = "memory") -> None:
        self.backend = backend
        self.peers = 0
        """What `note_peers` was told last."""
        self._name = name
        self._cut: StoreError | None = None
        self._planned: dict[Operation, deque[tuple[StoreError, bool]]] = {}
        self._watched = False

    # --- switches ------------------------------------------------------------------------

    def cut(self, error: StoreError | None = None) -> None:
        """Cut this client off: everything it asks fails with `error` until `restore`."""
        self._cut = error or StoreUnavailable(source=self.source, reason="cut off")
        self.backend.pulse()

    def restore(self) -> None:
        """Connect this client again."""
        self._cut = None
        self.backend.pulse()

    def fail_next(
        self,
        operation: Operation,
        error: StoreError | None = None,
        *,
        times: int = 1,
        done: bool = False,
    ) -> None:
        """Let the next calls of `operation` raise; with `done` only the answer is lost."""
        planned = self._planned.setdefault(operation, deque())
        failure = error or StoreUnavailable(source=self.source, reason="told to fail")
        planned.extend([(failure, done)] * times)

    # --- SubnetStore ---------------------------------------------------------------------

    @property
    def source(self) -> str:
        """See `SubnetStore.source`."""
        return f"{self._name} {self.backend.prefix}"

    def key_of(self, subnet: IPv4Network | None, subnet6: IPv6Network | None) -> PeerKey:
        """See `SubnetStore.key_of`."""
        return codec.lease_key(self.backend.prefix, subnet, subnet6)

    def note_peers(self, count: int) -> None:
        """See `SubnetStore.note_peers`."""
        self.peers = count

    async def snapshot(self) -> Snapshot:
        """See `SubnetStore.snapshot`."""
        answered = await self._arrive("snapshot")
        result = self._snapshot()
        answered()
        return result

    async def events(self) -> AsyncIterator[LeaseEvent]:
        """See `SubnetStore.events`."""
        if self._watched:
            raise RuntimeError("the store's events have a consumer already")
        self._watched = True
        try:
            async for event in self._events():
                yield event
        finally:
            self._watched = False

    async def create(
        self,
        *,
        subnet: IPv4Network | None,
        subnet6: IPv6Network | None,
        attrs: LeaseAttrs,
        ttl: float,
        not_after: int,
    ) -> Lease | Conflict:
        """See `SubnetStore.create`."""
        name = self.key_of(subnet, subnet6)
        answered = await self._arrive("create")
        key, backend = name.encode(), self.backend
        if key in backend.records:
            return Conflict(current=self._lease(key), reason="the key exists")
        if backend.newest_lease_write() > not_after:
            reason = f"another lease was written after revision {not_after}"
            return Conflict(current=None, reason=reason)
        backend.put(key, codec.encode_attrs(attrs), lease_id=backend.grant(ttl))
        answered()
        return self._written(name, subnet, subnet6, attrs)

    async def update(self, lease: Lease, *, attrs: LeaseAttrs, ttl: float) -> Lease | Conflict:
        """See `SubnetStore.update`."""
        answered = await self._arrive("update")
        key, backend = lease.key.encode(), self.backend
        standing = backend.records.get(key)
        if standing is None or standing.mod_revision != lease.mod_revision:
            reason = f"its revision is not {lease.mod_revision} any more"
            return Conflict(current=self._lease(key), reason=reason)
        granted = backend.grant(ttl) if lease.lease_id else 0
        backend.put(key, codec.encode_attrs(attrs), lease_id=granted)
        if not any(record.lease_id == lease.lease_id for record in backend.records.values()):
            backend.revoke(lease.lease_id)
        answered()
        return self._written(lease.key, lease.subnet, lease.subnet6, attrs)

    async def delete(self, lease: Lease) -> bool:
        """See `SubnetStore.delete`."""
        answered = await self._arrive("delete")
        key, backend = lease.key.encode(), self.backend
        standing = backend.records.get(key)
        done = standing is not None and standing.mod_revision == lease.mod_revision
        if done:
            backend.delete(key)
            backend.revoke(lease.lease_id)
        answered()
        return done

    async def aclose(self) -> None:
        """See `SubnetStore.aclose`."""
        self.cut(StoreUnavailable(source=self.source, reason="closed"))

    # --- inside --------------------------------------------------------------------------

    async def _arrive(self, operation: Operation) -> _Answer:
        """A request reaches the backend, or fails; what is returned may fail the answer."""
        await asyncio.sleep(0)
        self.backend.expire_due()
        if self._cut is not None:
            raise self._cut
        planned = self._planned.get(operation)
        error, done = planned.popleft() if planned else (None, True)
        if error is not None and not done:
            raise error
        return _Answer(error)

    async def _events(self) -> AsyncIterator[LeaseEvent]:
        backend, lost = self.backend, False
        seen, epoch = -1, backend.epoch
        while True:
            backend.expire_due()
            if self._cut is not None:
                if not lost:
                    lost = True
                    yield StoreState(connected=False, reason=str(self._cut))
                else:
                    await backend.wait()
            elif lost:
                lost = False
                yield StoreState(connected=True, reason=f"connected to {self.source}")
            elif seen < 0 or epoch != backend.epoch or seen < backend.compacted:
                seen, epoch = backend.revision, backend.epoch
                yield self._snapshot()
            elif seen < backend.revision:
                told, after = seen, backend.revision
                seen = after
                for event in self._since(told):
                    yield event
            else:
                await backend.wait()

    def _since(self, revision: int) -> list[LeaseEvent]:
        changes = [change for change in self.backend.history if change.revision > revision]
        return [event for change in changes if (event := self._translate(change))]

    def _translate(self, change: Change) -> LeaseEvent | None:
        prefix, record = self.backend.prefix, change.record
        if change.key == codec.config_key(prefix).encode():
            config = _config(record) if record else None
            return ConfigChanged(config=config, revision=change.revision)
        if not change.key.startswith(codec.leases_prefix(prefix).encode()):
            return None
        if record is None:
            return Delete(key=codec.key_text(change.key), revision=change.revision)
        read = self._read(change.key, record)
        return Put(lease=read) if isinstance(read, Lease) else PutMalformed(record=read)

    def _snapshot(self) -> Snapshot:
        backend = self.backend
        start = codec.leases_prefix(backend.prefix).encode()
        read = [self._read(k, r) for k, r in sorted(backend.records.items()) if k.startswith(start)]
        standing = backend.records.get(codec.config_key(backend.prefix).encode())
        config = _config(standing) if standing else None
        return Snapshot(
            leases=tuple(record for record in read if isinstance(record, Lease)),
            malformed=tuple(record for record in read if isinstance(record, Malformed)),
            config=config,
            identity=StoreIdentity(
                cluster_id=backend.cluster_id,
                revision=backend.revision,
                config_create_revision=config.create_revision if config else 0,
            ),
        )

    def _read(self, key: bytes, record: Record) -> Lease | Malformed:
        return read_record(
            self.backend.prefix,
            key,
            record.value,
            create_revision=record.create_revision,
            mod_revision=record.mod_revision,
            lease_id=record.lease_id,
        )

    def _lease(self, key: bytes) -> Lease | None:
        record = self.backend.records.get(key)
        read = self._read(key, record) if record else None
        return read if isinstance(read, Lease) else None

    def _written(
        self,
        key: PeerKey,
        subnet: IPv4Network | None,
        subnet6: IPv6Network | None,
        attrs: LeaseAttrs,
    ) -> Lease:
        record = self.backend.records[key.encode()]
        return Lease(
            key=key,
            subnet=subnet,
            subnet6=subnet6,
            attrs=attrs,
            create_revision=record.create_revision,
            mod_revision=record.mod_revision,
            lease_id=record.lease_id,
        )


class _Answer:
    """The way back of an answer, on which it may be lost."""

    def __init__(self, error: StoreError | None) -> None:
        self._error = error

    def __call__(self) -> None:
        if self._error is not None:
            raise self._error


def _config(record: Record) -> ConfigRecord:
    return ConfigRecord(
        text=record.value.decode("utf-8", "replace"),
        create_revision=record.create_revision,
        mod_revision=record.mod_revision,
    )
