"""MemoryBackend: a datastore in memory that the clients of `store.MemoryStore` share.

Records, revisions, a history that can be compacted, leases that expire by a given clock; it can be
wiped and rolled back. Knows nothing of clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from subnet import codec
from subnet.clock import Clock
from subnet.model import LeaseAttrs, PeerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What stands under one key."""

    value: bytes
    create_revision: int
    mod_revision: int
    lease_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One entry of the history; `record` is None for a deletion."""

    key: bytes
    record: Record | None
    revision: int


class MemoryBackend:
    """The datastore that several clients share."""

    def __init__(self, clock: Clock, *, prefix: str = "/coreos.com/network") -> None:
        self.prefix = codec.clean_prefix(prefix)
        self.cluster_id = 1
        self.revision = 1
        self.compacted = 0
        """Changes up to this revision cannot be asked for any more."""
        self.epoch = 0
        """Counts how often it became another store (wiped, rolled back)."""
        self.records: dict[bytes, Record] = {}
        self.history: list[Change] = []
        self.leases: dict[int, float] = {}
        """Granted leases: when each ends, by the clock."""
        self.clock = clock
        self._last_lease = 0
        self._pulse = asyncio.Event()

    # --- what a datastore does -----------------------------------------------------------

    def put(self, key: bytes, value: bytes, *, lease_id: int = 0) -> Record:
        """Write any record, well-formed or not."""
        old = self.records.get(key)
        self.revision += 1
        record = Record(
            value=value,
            create_revision=old.create_revision if old else self.revision,
            mod_revision=self.revision,
            lease_id=lease_id,
        )
        self.records[key] = record
        self._changed(key, record)
        return record

    def delete(self, *keys: bytes) -> None:
        """Remove records in one revision; absent ones are fine."""
        present = [key for key in keys if key in self.records]
        if present:
            self.revision += 1
        for key in present:
            del self.records[key]
            self._changed(key, None)

    def put_config(self, text: str) -> None:
        """Write the network config."""
        self.put(codec.config_key(self.prefix).encode(), text.encode())

    def put_lease(
        self, attrs: LeaseAttrs, *, subnet: IPv4Network | None, subnet6: IPv6Network | None = None
    ) -> PeerKey:
        """Write a peer's lease that never expires; return its key."""
        key = codec.lease_key(self.prefix, subnet, subnet6)
        self.put(key.encode(), codec.encode_attrs(attrs))
        return key

    def grant(self, ttl: float) -> int:
        """Grant a lease of whole seconds, as etcd does."""
        self._last_lease += 1
        self.leases[self._last_lease] = self.clock.now() + max(1, math.ceil(ttl))
        self.pulse()
        return self._last_lease

    def revoke(self, lease_id: int) -> None:
        """End a lease, with the records that hang on it."""
        if self.leases.pop(lease_id, None) is not None:
            self.delete(
                *(key for key, record in self.records.items() if record.lease_id == lease_id)
            )

    def expire_due(self) -> None:
        """End the leases whose time is over."""
        now = self.clock.now()
        for lease_id in [lease for lease, end in self.leases.items() if end <= now]:
            self.revoke(lease_id)

    # --- what happens to a datastore -----------------------------------------------------

    def compact(self) -> None:
        """Forget the history up to now."""
        self.compacted = self.revision
        self.history.clear()

    def wipe(self, *, revision: int = 1) -> None:
        """Lose everything; the revision goes on from `revision`, the cluster id stays."""
        self.records.clear()
        self.history.clear()
        self.leases.clear()
        self.revision = self.compacted = revision
        self.epoch += 1
        self.pulse()

    # --- for clients ---------------------------------------------------------------------

    def pulse(self) -> None:
        """Wake everybody who waits for a change."""
        self._pulse.set()
        self._pulse = asyncio.Event()

    async def wait(self) -> None:
        """Return after something may have changed: a write, a switch, the end of a lease."""
        pulse = asyncio.ensure_future(self._pulse.wait())
        waits: set[asyncio.Future[object]] = {pulse}  # type: ignore[arg-type]
        if self.leases:
            left = min(self.leases.values()) - self.clock.now()
            waits.add(asyncio.ensure_future(self.clock.sleep(left)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await wait

    def newest_lease_write(self) -> int:
        """The highest mod revision under ``subnets/``."""
        start = codec.leases_prefix(self.prefix).encode()
        return max(
            (r.mod_revision for k, r in self.records.items() if k.startswith(start)), default=0
        )

    def _changed(self, key: bytes, record: Record | None) -> None:
        self.history.append(Change(key=key, record=record, revision=self.revision))
        self.pulse()
