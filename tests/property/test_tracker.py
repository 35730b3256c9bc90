"""Whatever is planned and observed, in whatever order: the work leaves no difference."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backends.elements import Address, Element, Fdb, Nexthop, Route
from flanneld_py.reconcile.tracker import Tracker

DEV = "flannel.1"
bytes4 = st.integers(0, 3).map(lambda n: bytes([10, 0, n, 0]))
macs = st.integers(0, 3).map(lambda n: bytes([2, 0, 0, 0, 0, n]))

elements = st.one_of(
    st.builds(Address, dev=st.just(DEV), address=bytes4, prefixlen=st.just(32)),
    st.builds(Fdb, dev=st.just(DEV), mac=macs, dst=bytes4),
    st.builds(Nexthop, dev=st.just(DEV), gateway=bytes4, onlink=st.booleans()),
    st.builds(
        Route,
        dst=bytes4,
        prefixlen=st.just(24),
        metric=st.just(0),
        gateway=bytes4,
        dev=st.just(DEV),
        protocol=st.sampled_from([3, 241]),
    ),
)
plans = st.lists(elements, max_size=6, unique_by=lambda element: element.key)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["a", "b", "c"]), plans),
        st.tuples(st.just("observe"), plans),
        st.tuples(st.just("gone"), plans),
        st.tuples(st.just("dump"), plans),
        st.tuples(st.just("work"), st.just([])),
    ),
    max_size=12,
)


def work_until_quiet(tracker: Tracker, *, may_remove: bool) -> None:
    for _ in range(4):
        ops, _ = tracker.work(may_remove=may_remove, ready_devices={DEV})
        for op in ops:
            tracker.done(op)
        if not ops:
            return
    raise AssertionError("the tracker finds work for ever")


def play(tracker: Tracker, script: list[tuple[str, list[Element]]], *, may_remove: bool) -> None:
    for step, values in script:
        if step == "observe":
            for element in values:
                tracker.observe(element.key, element)
        elif step == "gone":
            for element in values:
                tracker.observe(element.key, None)
        elif step == "dump":
            tracker.observe_all(values)
        elif step == "work":
            work_until_quiet(tracker, may_remove=may_remove)
        else:
            tracker.plan(step, values)


@given(steps)
def test_work_leaves_no_difference(script: list[tuple[str, list[Element]]]) -> None:
    tracker = Tracker()
    play(tracker, script, may_remove=True)
    work_until_quiet(tracker, may_remove=True)
    tracker.mark_unwanted()
    work_until_quiet(tracker, may_remove=True)
    assert list(tracker.differing()) == []
    assert tracker.observed == tracker.desired


@given(steps)
def test_nothing_is_removed_while_removal_is_forbidden(
    script: list[tuple[str, list[Element]]],
) -> None:
    tracker = Tracker()
    play(tracker, script, may_remove=False)
    before = set(tracker.observed)
    work_until_quiet(tracker, may_remove=False)
    assert before <= set(tracker.observed)
    assert tracker.desired.items() <= tracker.observed.items()


@given(st.permutations([("a", 0), ("b", 1), ("c", 2)]), st.lists(plans, min_size=3, max_size=3))
def test_the_order_of_plans_does_not_matter(
    order: list[tuple[str, int]], wanted: list[list[Element]]
) -> None:
    straight, shuffled = Tracker(), Tracker()
    for owner, index in sorted(order):
        straight.plan(owner, wanted[index])
    for owner, index in order:
        shuffled.plan(owner, wanted[(index + 1) % 3])
    for owner, index in order:
        shuffled.plan(owner, wanted[index])
    assert shuffled.desired == straight.desired
    assert {k: shuffled.owner_of(k) for k in shuffled.desired} == {
        k: straight.owner_of(k) for k in straight.desired
    }
    for owner, _ in order:
        shuffled.plan(owner, [])
    assert shuffled.desired == {}
