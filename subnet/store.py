"""SubnetStore: what the agent asks of a datastore. etcd, Kubernetes and the in-memory fake obey it.

The contract, which `tests/contract/test_store.py` holds every implementation to:

* `events()` begins with one `Snapshot` (as soon as the store answers; before that `StoreState`
  events say why not), goes on with `Put`, `PutMalformed`, `Delete` and `ConfigChanged` in the
  order of revisions, and never ends by itself. Whenever continuity is lost (compaction, another
  or a rolled-back store, a restart of the watch at a revision that is gone) the next event is a
  new `Snapshot`. It never invents a deletion. Losing and regaining the connection is said by
  `StoreState`, and an outage is noticed within 3 s, also when packets vanish silently.
* Writes are conditional. A write that lost a race returns `Conflict`; it does not raise.
* `StoreUnavailable`, `StoreDenied` and `StoreSettingsError` are the only exceptions that leave a
  store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from subnet.model import Lease, LeaseAttrs, LeaseEvent, PeerKey, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A conditional write was not done."""

    current: Lease | None
    """The record that stands under the key now; None when the key is absent or unreadable."""
    reason: str
    """For people."""


class SubnetStore(Protocol):
    """A datastore of leases. See the module's text for the contract."""

    @property
    def source(self) -> str:
        """What messages call this store, e.g. ``etcd http://10.0.0.1:2379 /coreos.com/network``."""
        ...

    def key_of(self, subnet: IPv4Network | None, subnet6: IPv6Network | None) -> PeerKey:
        """The key under which a lease of these subnets stands."""
        ...

    async def snapshot(self) -> Snapshot:
        """Read everything at one revision (bounded memory; pages where there are many)."""
        ...

    def events(self) -> AsyncIterator[LeaseEvent]:
        """The stream described in the module's text. One consumer at a time."""
        ...

    def note_peers(self, count: int) -> None:
        """Tell how many nodes share the store, so that liveness probes stay cheap in sum."""
        ...

    async def create(
        self,
        *,
        subnet: IPv4Network | None,
        subnet6: IPv6Network | None,
        attrs: LeaseAttrs,
        ttl: float,
        not_after: int,
    ) -> Lease | Conflict:
        """Create our lease, expiring in `ttl` seconds.

        Done only if the key is absent and no lease at all was written after revision `not_after`
        (the revision of the snapshot from which the subnet was chosen), so that no two nodes can
        create overlapping subnets.
        """
        ...

    async def update(self, lease: Lease, *, attrs: LeaseAttrs, ttl: float) -> Lease | Conflict:
        """Write `attrs` to our record and renew it for `ttl` seconds, in one put.

        Done only if the record's mod revision is still `lease.mod_revision`. A reservation
        (`lease.lease_id` 0) stays a reservation. The superseded etcd lease is revoked afterwards.
        """
        ...

    async def delete(self, lease: Lease) -> bool:
        """Remove our record if its mod revision is still `lease.mod_revision`; True when done."""
        ...

    async def aclose(self) -> None:
        """Close connections. Leaves every record in place."""
        ...
