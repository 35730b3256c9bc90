"""One agent per network namespace, whatever its run folder."""

from __future__ import annotations

import asyncio
import os
from uuid import uuid4

import pytest

from flanneld_py.namespaceclaim import NamespaceClaim


@pytest.fixture
def name() -> str:
    return f"flanneld-py-test/{uuid4()}"


def test_the_name_is_held_once_and_its_holder_is_known(name: str) -> None:
    first, second = NamespaceClaim(name=name), NamespaceClaim(name=name)
    assert first.try_acquire()
    assert first.try_acquire()
    assert not second.try_acquire()
    assert second.holder() == (os.getpid(), os.geteuid())
    first.release()
    first.release()
    assert second.holder() is None
    assert second.try_acquire()
    second.release()


async def test_whoever_waits_is_told_once_by_whom_and_comes_next(name: str) -> None:
    first, second = NamespaceClaim(name=name), NamespaceClaim(name=name, poll=0.01)
    assert first.try_acquire()
    told: list[int | None] = []
    waiting = asyncio.create_task(second.acquire(told.append))
    async with asyncio.timeout(5):
        while not told:
            await asyncio.sleep(0.01)
    first.release()
    await asyncio.wait_for(waiting, 5)
    assert told == [os.getpid()]
    second.release()


async def test_somebody_without_our_rights_hinders_nobody(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = NamespaceClaim(name=name)
    assert first.try_acquire()
    second = NamespaceClaim(name=name, poll=0.01)
    monkeypatch.setattr(second, "holder", lambda: (4711, 65534))
    told: list[int | None] = []
    await asyncio.wait_for(second.acquire(told.append), 5)
    assert told == []
    assert "pid=4711 uid=65534" in caplog.text
    first.release()
