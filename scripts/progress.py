"""What set-up says while it works: one line per step, with the seconds since its start.

Must not decide anything: it only prints.
"""

from __future__ import annotations

import sys
import time

_START = time.monotonic()


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"setup [{time.monotonic() - _START:5.1f} s] {text}", flush=True)


def complain(text: str) -> None:
    """Print one line about something that went wrong."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


class SetupError(Exception):
    """Set-up cannot go on. The message says what happened and what to do about it."""
