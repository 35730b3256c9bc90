from __future__ import annotations

import logging

import pytest

from subnet.errors import StoreDenied, StoreUnavailable
from subnet.etcd.outage import Outage


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def outage(time: Time) -> Outage:
    return Outage(now=time)


def gone(reason: str = "no answer") -> StoreUnavailable:
    return StoreUnavailable(source="etcd", reason=reason)


def test_each_loss_and_each_return_is_told_once(outage: Outage, time: Time) -> None:
    assert outage.over("a") is None
    for _ in range(3):
        lost = outage.lost(gone())
        assert lost is not None
        assert not lost.connected
        assert "no answer" in lost.reason
        assert outage.lost(gone()) is None
        assert outage.ongoing
        back = outage.over("http://a:1")
        assert back is not None
        assert back.connected
        assert "http://a:1" in back.reason
        assert outage.over("http://a:1") is None
        time.now += 1


def test_a_long_outage_is_told_again_with_its_present_reason(outage: Outage, time: Time) -> None:
    outage.lost(gone())
    time.now += 5
    assert outage.lost(gone("refused")) is None
    time.now += 6
    again = outage.lost(gone("refused"))
    assert again is not None
    assert "refused" in again.reason


@pytest.mark.parametrize("flapping", [False, True])
def test_at_most_twenty_lines_a_minute_are_logged(
    outage: Outage, time: Time, caplog: pytest.LogCaptureFixture, flapping: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    for attempt in range(600):
        outage.lost(gone(f"reason {attempt % 7}"))
        if flapping:
            outage.over("a")
        time.now += 0.1
    assert 1 <= len(caplog.records) <= 20
    assert "reason 0" in caplog.records[0].getMessage()


def test_what_was_not_logged_is_counted(
    outage: Outage, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        outage.lost(gone())
        time.now += 1
    assert "unlogged=59" in caplog.text


def test_a_denial_needs_a_person(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    outage.lost(StoreDenied(source="etcd", reason="permission denied"))
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
