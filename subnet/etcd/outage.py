"""Whether the store can be reached, as it is told: one event per change, and few log lines.

Must not decide what is done about it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from subnet.errors import StoreDenied, StoreError
from subnet.model import StoreState

logger = logging.getLogger(__name__)

QUIET = 8.0
"""Least seconds between two logged losses; each may be followed by one line of its end."""
RETOLD = 10.0
"""Least seconds after which an outage that goes on is told again, with its present reason."""
REMINDER = 60.0
"""Seconds after which an outage that goes on is logged again."""


class Outage:
    """The story of one connection."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        self._reason: str | None = None
        self._began = 0.0
        self._logged = float("-inf")
        self._loss_was_logged = False
        self._unlogged = 0
        self._told = 0.0
        self._met = False

    @property
    def ongoing(self) -> bool:
        """Whether the store is out of reach, as far as was told."""
        return self._reason is not None

    def lost(self, error: StoreError) -> StoreState | None:
        """Note a failed attempt; return what to tell, unless it was told already."""
        reason = str(error)
        now = self._now()
        news = self._reason is None
        if news:
            self._began = now
            self._loss_was_logged = False
        self._reason = reason
        quiet = QUIET if not self._loss_was_logged else REMINDER
        if now - self._logged >= quiet:
            level = logging.ERROR if isinstance(error, StoreDenied) else logging.WARNING
            logger.log(
                level,
                "store unreachable, trying again for_s=%.1f unlogged=%d reason=%r",
                now - self._began,
                self._unlogged,
                reason,
            )
            self._logged, self._loss_was_logged, self._unlogged = now, True, 0
        else:
            self._unlogged += 1
        if not news and now - self._told < RETOLD:
            return None
        self._told = now
        return StoreState(connected=False, reason=reason)

    def over(self, where: str) -> StoreState | None:
        """Note that the store answers; return what to tell, if it was out of reach."""
        if self._reason is None:
            if not self._met:
                self._met = True
                logger.info("store reached endpoint=%s", where)
            return None
        self._reason, self._met = None, True
        if self._loss_was_logged:
            logger.info(
                "store reached again for_s=%.1f endpoint=%s", self._now() - self._began, where
            )
        return StoreState(connected=True, reason=f"connected to {where}")
