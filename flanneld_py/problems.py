"""Problems: what is wrong at present, by subject, said once when it comes and once when it goes.

Keeps what blocks readiness apart from what is merely worth knowing. Judges nothing itself.
"""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class Problems:
    """One line for each subject."""

    def __init__(self) -> None:
        self.blocking: dict[str, str] = {}
        """What stands in the way of being ready."""
        self.remarks: dict[str, str] = {}
        """What is wrong too, but keeps no pod from its network."""

    def note(self, subject: str, text: str, *, blocks: bool = True) -> None:
        """Note what is wrong with a subject. Empty: nothing any more."""
        before = self.blocking.pop(subject, "") or self.remarks.pop(subject, "")
        if text:
            (self.blocking if blocks else self.remarks)[subject] = text
            if text != before:
                log.warning("%s", text)
        elif before:
            log.info("%s: no longer a problem", subject)
