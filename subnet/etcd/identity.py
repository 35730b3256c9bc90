"""Is the store that answers still the one that we knew?

An etcd whose data was wiped and that was started with the same flags has the same cluster id and
member id, and its revision soon passes the one that we knew; a watch resumed there goes on without
an error. What it cannot have is the same create revisions of the config and of a record that we
know. Pure comparison; asking and what follows from the answer are `watch`'s part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from subnet.etcd.keyspace import Keyspace, transaction
from subnet.etcd.listing import Listing
from subnet.model import ConfigRecord, Snapshot


@dataclass(slots=True)
class OwnRecord:
    """Our own lease, shared between who writes it and who watches it."""

    key: bytes = b""
    """Its key; empty while we have none."""
    create_revision: int = 0


class Fingerprint:
    """What we know of a store, kept current by what it says."""

    def __init__(self, listing: Listing, own: OwnRecord) -> None:
        snapshot = listing.snapshot
        self._own = own
        self._cluster_id = snapshot.identity.cluster_id
        self._raft_term = listing.raft_term
        self._config = (0, 0)
        self.note_config(snapshot.config)
        self._look_for_own(snapshot)
        # Until we have a record of our own the oldest one serves: it has lasted the longest.
        oldest = min(snapshot.leases, key=lambda lease: lease.create_revision, default=None)
        self._witness = (oldest.key.encode(), oldest.create_revision) if oldest else (b"", 0)

    def _look_for_own(self, snapshot: Snapshot) -> None:
        """Take our record as this store has it, unless we wrote it after the list was taken."""
        own = self._own
        if not own.key or own.create_revision > snapshot.identity.revision:
            return
        key = own.key.decode()
        created = next((x.create_revision for x in snapshot.leases if x.key == key), 0)
        own.key, own.create_revision = (own.key, created) if created else (b"", 0)

    def note_config(self, config: ConfigRecord | None) -> None:
        """Take over what the store said about its config."""
        self._config = (config.create_revision, config.mod_revision) if config else (0, 0)

    def note_put(self, key: bytes, create_revision: int) -> None:
        """Take over that a record was written."""
        if key == self._own.key:
            self._own.create_revision = create_revision
        if not self._witness[0] or key == self._witness[0]:
            self._witness = (key, create_revision)

    def note_delete(self, key: bytes) -> None:
        """Take over that a record is gone."""
        if key == self._own.key:
            self._own.key = b""
        if key == self._witness[0]:
            self._witness = (b"", 0)

    def question(self, keys: Keyspace) -> Any:
        """What to ask the store: one transaction without values."""
        requests = [keys.read_one(keys.config, keys_only=True)]
        if key := self._expected()[0]:
            requests.append(keys.read_one(key, keys_only=True))
        return transaction(compare=[], success=requests, failure=[])

    def difference(self, answer: Any, *, seen: int) -> str:
        """Say what shows that this is another store, or that it went back; empty if nothing does.

        `seen` is the revision up to which we have seen everything.
        """
        header = answer.header
        ranges = [response.response_range for response in answer.responses]
        create, mod = _revisions(ranges[0])
        known_create, known_mod = self._config
        if header.cluster_id != self._cluster_id:
            return "its cluster id is another one"
        if header.revision < seen:
            return f"its revision went back from {seen} to {header.revision}"
        if header.raft_term < self._raft_term:
            return f"its raft term went back from {self._raft_term} to {header.raft_term}"
        appeared = not known_create and create > seen  # the watch will tell of it
        if create != known_create and not appeared:
            return f"the config's create revision is {create}, not {known_create}"
        if mod < known_mod:
            return f"the config's revision went back from {known_mod} to {mod}"
        key, expected = self._expected()
        if key and len(ranges) > 1:
            found = _revisions(ranges[1])[0]
            if found != expected:
                return f"the create revision of {key.decode()} is {found}, not {expected}"
        self._raft_term = header.raft_term
        return ""

    def _expected(self) -> tuple[bytes, int]:
        if self._own.key:
            return self._own.key, self._own.create_revision
        return self._witness


def _revisions(found: Any) -> tuple[int, int]:
    if not found.kvs:
        return 0, 0
    return found.kvs[0].create_revision, found.kvs[0].mod_revision
