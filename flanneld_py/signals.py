"""The first SIGINT or SIGTERM ends the agent in order, the second one at once (flannel-compat 1.4).

Used by the composition root, inside of its event loop. Must not decide what ending means.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stop_on_signal(loop: asyncio.AbstractEventLoop, stop: Callable[[str], None]) -> None:
    """Call `stop` with the name of the first signal, in `loop`; from then on signals kill."""

    def first(received: signal.Signals) -> None:
        let_signals_kill(loop)
        stop(received.name)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, first, number)


def let_signals_kill(loop: asyncio.AbstractEventLoop) -> None:
    """Give the stop signals their default disposition, whoever handles them now."""
    for number in STOP_SIGNALS:
        loop.remove_signal_handler(number)
        # The loop leaves Python's handler for SIGINT behind, which would only raise.
        signal.signal(number, signal.SIG_DFL)
