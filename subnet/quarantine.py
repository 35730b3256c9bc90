"""Quarantine: the records that are refused, why, and which of them nobody has heard of yet.

It only keeps the list; `table` decides who is on it. Pure.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType

from subnet.model import PeerKey


class Quarantine:
    """Reasons by key. Equal reasons are one text, since there may be very many records."""

    def __init__(self) -> None:
        self._reasons: dict[PeerKey, str] = {}
        self._unsaid: dict[PeerKey, None] = {}

    def __len__(self) -> int:
        return len(self._reasons)

    def reasons(self) -> Mapping[PeerKey, str]:
        """Why each record is refused."""
        return MappingProxyType(self._reasons)

    def reason(self, key: PeerKey) -> str:
        """Why one record is refused; empty if it is not."""
        return self._reasons.get(key, "")

    def put(self, key: PeerKey, reason: str) -> None:
        """Refuse a record, or with an empty reason no longer."""
        if not reason:
            if self._reasons.pop(key, None) is not None:
                self._unsaid.pop(key, None)
            return
        if key not in self._reasons:
            self._unsaid[key] = None
        self._reasons[key] = sys.intern(reason)

    def take_unsaid(self, limit: int) -> tuple[list[tuple[PeerKey, str]], int]:
        """What came since the last call: up to `limit` records, and how many there were."""
        total = len(self._unsaid)
        said = [
            (key, self._reasons[key]) for key, _ in zip(self._unsaid, range(limit), strict=False)
        ]
        self._unsaid.clear()
        return said, total
