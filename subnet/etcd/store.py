"""EtcdStore: the store contract on etcd's v3 API, compatible with flannel (flannel-compat 3).

Puts the parts together: `channel` (calls), `listing` (snapshots), `watch` (events), `claims`
(writes). Decides nothing itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv4Network, IPv6Network

from subnet import codec
from subnet.etcd.channel import Channel
from subnet.etcd.claims import Claims
from subnet.etcd.identity import OwnRecord
from subnet.etcd.keyspace import Keyspace
from subnet.etcd.listing import list_everything
from subnet.etcd.settings import EtcdSettings
from subnet.etcd.watch import Watcher
from subnet.model import Lease, LeaseAttrs, LeaseEvent, PeerKey, Snapshot
from subnet.store import Conflict

_BACKLOG = 16
"""Responses of the watch that wait for the consumer; then etcd has to."""


class EtcdStore:
    """Leases and the network config in etcd. A `SubnetStore`."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Check the settings; the first call connects. Raises `StoreSettingsError`."""
        self._keys = Keyspace(settings.prefix)
        self._channel = Channel(settings)
        self._own = OwnRecord()
        self._claims = Claims(self._channel, self._keys, self._own)
        self._peers = 0
        self._watcher: Watcher | None = None
        self._watching: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def source(self) -> str:
        """See `SubnetStore.source`."""
        return f"{self._channel.source} {self._keys.prefix}"

    def key_of(self, subnet: IPv4Network | None, subnet6: IPv6Network | None) -> PeerKey:
        """See `SubnetStore.key_of`."""
        return codec.lease_key(self._keys.prefix, subnet, subnet6)

    async def snapshot(self) -> Snapshot:
        """See `SubnetStore.snapshot`."""
        return (await list_everything(self._channel, self._keys)).snapshot

    async def events(self) -> AsyncIterator[LeaseEvent]:
        """See `SubnetStore.events`."""
        if self._watching is not None:
            raise RuntimeError("the store's events have a consumer already")
        batches: asyncio.Queue[list[LeaseEvent]] = asyncio.Queue(_BACKLOG)
        self._watcher = Watcher(self._channel, self._keys, self._own, batches.put)
        self._watcher.peers = self._peers
        watching = asyncio.create_task(self._watcher.run(), name="etcd-events")
        self._watching = watching
        try:
            while (batch := await _next_batch(batches, watching, self._is_closed)) is not None:
                for event in batch:
                    yield event
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self._watcher = self._watching = None

    def _is_closed(self) -> bool:
        return self._closed

    def note_peers(self, count: int) -> None:
        """See `SubnetStore.note_peers`."""
        self._peers = count
        if self._watcher is not None:
            self._watcher.peers = count

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
        return await self._claims.create(
            subnet=subnet, subnet6=subnet6, attrs=attrs, ttl=ttl, not_after=not_after
        )

    async def update(self, lease: Lease, *, attrs: LeaseAttrs, ttl: float) -> Lease | Conflict:
        """See `SubnetStore.update`."""
        return await self._claims.update(lease, attrs=attrs, ttl=ttl)

    async def delete(self, lease: Lease) -> bool:
        """See `SubnetStore.delete`."""
        return await self._claims.delete(lease)

    async def aclose(self) -> None:
        """See `SubnetStore.aclose`."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._claims.aclose()
        await self._channel.aclose()


async def _next_batch(
    batches: asyncio.Queue[list[LeaseEvent]],
    watching: asyncio.Task[None],
    closed: Callable[[], bool],
) -> list[LeaseEvent] | None:
    """Wait for events; None once the store is closed. A fault that ended the watcher is raised."""
    if not batches.empty():
        return batches.get_nowait()
    waiting = asyncio.ensure_future(batches.get())
    try:
        await asyncio.wait({waiting, watching}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        try:
            watching.result()  # raises what it died of
        except asyncio.CancelledError:
            if not closed():
                raise RuntimeError("the watch of etcd was cancelled by nobody") from None
        return None
    finally:
        waiting.cancel()
