"""Which store answers: tells a wiped or rolled-back store from the one we knew.

A store whose data was lost answers at the same address, often under the same cluster id, and its
revision may soon have passed ours. What its snapshot lacks was not deleted by anybody. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from subnet.model import PeerKey, Snapshot, StoreIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStore:
    """What we know of the store that we spoke to last."""

    identity: StoreIdentity
    """Its cluster id, the newest revision we saw, and the create revision of its config."""
    own_key: PeerKey | None = None
    """Our own record's key, while we have one."""
    own_create_revision: int = 0
    """Revision at which our own record was created; 0 if unknown."""


def difference(known: KnownStore, snapshot: Snapshot) -> str:
    """Why the store of `snapshot` is not the one we knew, for people; empty if it may well be.

    Our own record being absent proves nothing, for it may have expired. A record or a config
    that was deleted and created again while nobody watched looks like a new store; that only
    makes peers be held that would otherwise have gone at once.
    """
    before, after = known.identity, snapshot.identity
    if before.cluster_id and after.cluster_id and before.cluster_id != after.cluster_id:
        return f"its cluster id is {after.cluster_id:x}, it was {before.cluster_id:x}"
    if after.revision < before.revision:
        return f"its revision went back from {before.revision} to {after.revision}"
    if before.config_create_revision:
        if not after.config_create_revision:
            return "its network config is gone"
        if after.config_create_revision != before.config_create_revision:
            return (
                f"its network config was created at revision {after.config_create_revision}, "
                f"not {before.config_create_revision}"
            )
    if known.own_key is not None and known.own_create_revision:
        created = _create_revision(snapshot, known.own_key)
        if created and created != known.own_create_revision:
            return (
                f"our own record was created at revision {created}, not {known.own_create_revision}"
            )
    return ""


def _create_revision(snapshot: Snapshot, key: PeerKey) -> int:
    return next((lease.create_revision for lease in snapshot.leases if lease.key == key), 0)
