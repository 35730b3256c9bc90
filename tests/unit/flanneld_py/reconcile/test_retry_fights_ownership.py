"""Back-off, fights and the replacement of flannel's routes."""

from __future__ import annotations

import random

import pytest

from backends.elements import Key, Kind, Route
from flanneld_py.reconcile.fights import Fights
from flanneld_py.reconcile.ownership import may_replace
from flanneld_py.reconcile.retry import Retries

KEY: Key = (Kind.ROUTE, b"\x0a\xf4\x01\x00", 24, 0, 0)
OTHER: Key = (Kind.ROUTE, b"\x0a\xf4\x02\x00", 24, 0, 0)


def test_delays_double_up_to_the_cap() -> None:
    retries = Retries(random.Random(1), first=0.1, cap=2.0)
    now, delays = 0.0, []
    for _ in range(8):
        entry = retries.failed(KEY, "no", now)
        delays.append(entry.next_try - now)
        now = entry.next_try
        assert retries.due(now) == [KEY]
        assert retries.due(now) == []
    assert 0.07 <= delays[0] <= 0.13
    assert delays[3] > delays[1]
    assert max(delays) <= 2.5
    assert retries.all()[KEY].attempts == 8
    assert retries.all()[KEY].since == 0.0


def test_one_key_does_not_hold_up_another() -> None:
    retries = Retries(random.Random(1))
    for _ in range(6):
        retries.failed(KEY, "no", 0.0)
    retries.failed(OTHER, "no", 0.0)
    assert retries.due(0.2) == [OTHER]
    assert retries.is_waiting(KEY, 0.2)
    due = retries.next_due()
    assert due is not None
    assert due > 0.2


def test_success_forgets_the_key() -> None:
    retries = Retries(random.Random(1))
    retries.failed(KEY, "no", 0.0)
    assert retries.succeeded(KEY) is not None
    assert retries.next_due() is None
    assert retries.due(100.0) == []
    assert len(retries) == 0
    assert retries.succeeded(KEY) is None


def test_six_corrections_in_five_seconds_are_a_fight_said_once() -> None:
    fights = Fights()
    assert [fights.corrected(KEY, at / 10) for at in range(8)] == [False] * 5 + [True] + [False] * 2
    assert fights.not_before(KEY, 0.8) == pytest.approx(1.7)
    assert fights.not_before(OTHER, 0.8) == 0.8
    assert fights.active(0.8) == [KEY]


def test_a_fight_goes_on_at_one_correction_a_second_and_ends_with_quiet() -> None:
    fights = Fights()
    for at in range(6):
        fights.corrected(KEY, at / 10)
    for at in range(1, 20):
        now = 0.5 + at * 1.0
        assert fights.not_before(KEY, now) == now
        assert not fights.corrected(KEY, now)
        assert fights.not_before(KEY, now + 0.1) == now + 1.0
    assert fights.not_before(KEY, 19.5 + 5.1) == 19.5 + 5.1
    assert fights.active(19.5 + 5.1) == []


def test_slow_corrections_are_no_fight() -> None:
    fights = Fights()
    assert not any(fights.corrected(KEY, at * 1.1) for at in range(50))


SUBNET = bytes([10, 244, 3, 0])
PEER = bytes([172, 31, 0, 3])
WANTED = Route(dst=SUBNET, prefixlen=24, metric=0, gateway=SUBNET, dev="flannel.1", onlink=True)


@pytest.mark.parametrize(
    ("holder", "verdict"),
    [
        ({"gateway": SUBNET, "dev": "flannel.1", "protocol": 3, "onlink": True}, True),
        ({"gateway": PEER, "dev": "eth0", "protocol": 3}, True),
        ({"gateway": SUBNET, "dev": "flannel.1", "protocol": 241}, True),
        ({"gateway": bytes([10, 244, 3, 1]), "dev": "flannel.1", "protocol": 3}, False),
        ({"gateway": SUBNET, "dev": "eth0", "protocol": 3}, False),
        ({"gateway": bytes([172, 31, 0, 4]), "dev": "eth0", "protocol": 3}, False),
        ({"gateway": PEER, "dev": "eth0", "protocol": 4}, False),
        ({"gateway": PEER, "dev": "eth0", "protocol": 186}, False),
        ({"dev": "eth0", "protocol": 2}, False),
        ({"protocol": 3, "type": "blackhole"}, False),
    ],
)
def test_only_flannels_own_routes_are_replaced(holder: dict[str, object], verdict: bool) -> None:
    route = Route(dst=SUBNET, prefixlen=24, metric=0, **holder)  # type: ignore[arg-type]
    assert may_replace(route, WANTED, devices={"flannel.1"}, public_ips={PEER}) is verdict
