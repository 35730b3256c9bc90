"""Revisions: which event is news, and which tells what we know already.

Events may come twice, late, or in another order than the store made them: a watch that is resumed,
a list that is read beside it, our own writes. Knows revisions only, no leases. Pure.
"""

from __future__ import annotations

from subnet.model import PeerKey

MAX_DELETIONS = 10_000
"""Deletions that are remembered since the last snapshot."""


class Revisions:
    """How far we know a store's history."""

    def __init__(self) -> None:
        self._floor = 0
        self._deleted: dict[PeerKey, int] = {}
        self.newest = 0
        """The newest revision seen."""
        self.any_snapshot = False
        """Whether the store has told everything once."""
        self.exact: int | None = None
        """The revision up to which everything is known; None while events may be outstanding.

        Several events can share a revision, so that after one of them nothing is sure.
        """

    def snapshot(self, revision: int) -> None:
        """Everything is known at `revision`, whatever was known before."""
        self._floor = self.newest = self.exact = revision
        self._deleted.clear()
        self.any_snapshot = True

    def is_news(self, key: PeerKey, revision: int, known: int) -> bool:
        """Whether an event at `revision` tells more of `key` than the record at `known`."""
        if revision <= max(self._floor, known, self._deleted.get(key, 0)):
            return False
        self.newest = max(self.newest, revision)
        self.exact = None
        self._deleted.pop(key, None)
        return True

    def deleted(self, key: PeerKey, revision: int) -> None:
        """Remember a deletion, so that an older event does not bring the record back."""
        self._deleted[key] = revision
        if len(self._deleted) > MAX_DELETIONS:
            oldest = next(iter(self._deleted))
            # Order was kept for so long that nothing older is to be expected for any key.
            self._floor = max(self._floor, self._deleted.pop(oldest))
