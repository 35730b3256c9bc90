"""The watcher's life between sessions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from subnet.errors import StoreUnavailable
from subnet.etcd import watch


class _Done(Exception):
    pass


async def test_a_failed_session_leaves_no_cancellation_to_the_next() -> None:
    """Up to Python 3.11.3 a failed TaskGroup leaves its task marked as cancelled."""
    cancelling: list[int] = []

    class Watcher(watch.Watcher):
        def __init__(self) -> None:
            async def emit(events: Any) -> None:
                pass

            super().__init__(channel=None, keys=None, own=None, emit=emit)  # type: ignore[arg-type]

        def _delay(self) -> float:
            return 0

        async def _session(self) -> None:
            task = asyncio.current_task()
            if task is None:
                raise AssertionError("no task")
            cancelling.append(task.cancelling())
            if len(cancelling) == 2:
                raise _Done
            task.cancel()
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                raise StoreUnavailable(source="etcd", reason="gone") from None

    with pytest.raises(_Done):
        await Watcher().run()
    assert cancelling == [0, 0]
