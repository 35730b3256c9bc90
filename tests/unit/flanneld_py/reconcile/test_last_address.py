"""The last address of a device stays until another is wanted: routes and neighbours hang on it."""

from __future__ import annotations

from backends.elements import Address, VxlanLink
from flanneld_py.kernel import Action, Op
from flanneld_py.reconcile.tracker import NODE, Tracker

DEV = "flannel.1"
LINK = VxlanLink(
    name=DEV, vni=1, port=8472, parent="u0", local=bytes(4), mac=bytes(5) + b"\2", mtu=1450
)


def address(last: int, *, v6: bool = False) -> Address:
    packed = bytes([0xFD, *bytes(14), last]) if v6 else bytes([10, 244, last, 0])
    return Address(dev=DEV, address=packed, prefixlen=len(packed) * 8)


def work(tracker: Tracker) -> tuple[list[Op], int]:
    ops, waiting = tracker.work(may_remove=True, ready_devices={DEV, "u0"})
    for op in ops:
        tracker.done(op)
    return ops, waiting


def test_it_waits_for_the_lease_and_is_kept_if_it_is_the_leases() -> None:
    tracker = Tracker()
    tracker.plan(NODE, [LINK])
    tracker.observe_all([LINK, address(1)])
    assert work(tracker) == ([], 1)

    tracker.plan(NODE, [LINK, address(1)])
    assert work(tracker) == ([], 0)


def test_it_goes_after_the_new_one_came() -> None:
    tracker = Tracker()
    tracker.plan(NODE, [LINK])
    tracker.observe_all([LINK, address(1)])
    work(tracker)

    tracker.plan(NODE, [LINK, address(2)])
    ops, waiting = work(tracker)
    assert [(op.action, op.element) for op in ops] == [
        (Action.CREATE, address(2)),
        (Action.DELETE, address(1)),
    ]
    assert waiting == 0


def test_each_family_has_a_last_one() -> None:
    tracker = Tracker()
    tracker.plan(NODE, [LINK, address(1)])
    tracker.observe_all([LINK, address(1), address(1, v6=True), address(2)])
    ops, waiting = work(tracker)
    assert [op.element for op in ops] == [address(2)]
    assert waiting == 1


def test_it_goes_with_its_device() -> None:
    tracker = Tracker()
    tracker.observe_all([LINK, address(1)])
    ops, waiting = work(tracker)
    assert [op.element for op in ops] == [address(1), LINK]
    assert waiting == 0
