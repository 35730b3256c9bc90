"""The tracker: claims, differences, and the order of work."""

from __future__ import annotations

from dataclasses import replace

from backends.elements import (
    Address,
    Element,
    Fdb,
    Kind,
    Neighbour,
    Nexthop,
    Route,
    Sysctl,
    VxlanLink,
)
from flanneld_py.kernel import Action, Op
from flanneld_py.reconcile.tracker import NODE, Tracker

DEV = "flannel.1"
READY = {DEV, "eth0"}
MAC = bytes.fromhex("02aabbccddee")


def link(mtu: int = 1450) -> VxlanLink:
    return VxlanLink(name=DEV, vni=1, port=8472, parent="eth0", local=bytes(4), mac=MAC, mtu=mtu)


def fdb(n: int, dst: int = 1) -> Fdb:
    return Fdb(dev=DEV, mac=bytes([2, 0, 0, 0, 0, n]), dst=bytes([172, 31, 0, dst]))


def route(n: int) -> Route:
    subnet = bytes([10, 244, n, 0])
    return Route(dst=subnet, prefixlen=24, metric=0, gateway=subnet, dev=DEV, onlink=True)


def run(tracker: Tracker, *, may_remove: bool = True) -> list[Op]:
    ops, _ = tracker.work(may_remove=may_remove, ready_devices=READY)
    for op in ops:
        tracker.done(op)
    return ops


def elements(ops: list[Op]) -> list[tuple[Action, Element]]:
    return [(op.action, op.element) for op in ops]


def test_what_is_wanted_and_absent_is_created() -> None:
    tracker = Tracker()
    tracker.plan("a", [route(1)])
    assert elements(run(tracker)) == [(Action.CREATE, route(1))]
    assert run(tracker) == []


def test_what_is_equal_is_left_alone() -> None:
    tracker = Tracker()
    tracker.plan("a", [route(1)])
    tracker.observe_all([route(1)])
    assert run(tracker) == []


def test_what_differs_is_replaced_and_says_what_stood_there() -> None:
    tracker = Tracker()
    tracker.observe_all([fdb(1, dst=9)])
    tracker.plan("a", [fdb(1)])
    (op,) = run(tracker)
    assert (op.action, op.element, op.before) == (Action.REPLACE, fdb(1), fdb(1, dst=9))


def test_nothing_is_removed_until_removal_is_allowed() -> None:
    tracker = Tracker()
    tracker.observe_all([route(1)])
    assert run(tracker, may_remove=False) == []
    assert run(tracker) == [], "an unwanted key must be marked again"
    tracker.mark_unwanted()
    assert elements(run(tracker)) == [(Action.DELETE, route(1))]


def test_a_setting_is_never_removed() -> None:
    tracker = Tracker()
    tracker.plan("node", [Sysctl(name="net/ipv4/ip_forward", value="1")])
    run(tracker)
    tracker.plan("node", [])
    assert run(tracker) == []


def test_creations_precede_removals_and_both_have_their_order() -> None:
    tracker = Tracker()
    old: list[Element] = [
        Nexthop(dev=DEV, gateway=bytes([10, 244, 9, 0]), onlink=True),
        fdb(9),
        Neighbour(dev=DEV, dst=bytes([10, 244, 9, 0]), mac=MAC),
        route(9),
        Address(dev=DEV, address=bytes([10, 244, 7, 0]), prefixlen=32),
    ]
    tracker.observe_all(old)
    tracker.plan(
        "a",
        [
            route(1),
            Nexthop(dev=DEV, gateway=bytes([10, 244, 1, 0]), onlink=True),
            Neighbour(dev=DEV, dst=bytes([10, 244, 1, 0]), mac=MAC),
            fdb(1),
        ],
    )
    ops = run(tracker)
    assert [(op.action, op.element.kind) for op in ops] == [
        (Action.CREATE, Kind.FDB),
        (Action.CREATE, Kind.NEIGHBOUR),
        (Action.CREATE, Kind.NEXTHOP),
        (Action.CREATE, Kind.ROUTE),
        (Action.DELETE, Kind.ROUTE),
        (Action.DELETE, Kind.NEXTHOP),
        (Action.DELETE, Kind.NEIGHBOUR),
        (Action.DELETE, Kind.FDB),
        (Action.DELETE, Kind.ADDRESS),
    ]


def test_links_come_alone_and_the_rest_follows() -> None:
    tracker = Tracker()
    tracker.observe_all([route(9)])
    tracker.plan("node", [link()])
    tracker.plan("a", [route(1)])
    assert elements(run(tracker)) == [(Action.CREATE, link())]
    assert elements(run(tracker)) == [(Action.CREATE, route(1)), (Action.DELETE, route(9))]


def test_elements_wait_for_their_device() -> None:
    tracker = Tracker()
    tracker.plan("a", [route(1), fdb(1)])
    ops, waiting = tracker.work(may_remove=True, ready_devices={"eth0"})
    assert (ops, waiting) == ([], 2)
    assert len(run(tracker)) == 2


def test_an_element_of_two_owners_stays_while_one_is_left() -> None:
    tracker = Tracker()
    tracker.plan("a", [fdb(1), route(1)])
    tracker.plan("b", [fdb(1), route(2)])
    run(tracker)
    tracker.plan("a", [])
    assert elements(run(tracker)) == [(Action.DELETE, route(1))]
    tracker.plan("b", [])
    assert {op.element for op in run(tracker)} == {fdb(1), route(2)}
    assert tracker.desired == {}
    assert tracker.observed == {}


def test_of_disagreeing_owners_the_first_in_order_prevails_whoever_came_first() -> None:
    for owners in (("a", "b"), ("b", "a")):
        tracker = Tracker()
        for owner in owners:
            tracker.plan(owner, [fdb(1, dst=1 if owner == "a" else 2)])
        assert tracker.desired[fdb(1).key] == fdb(1, dst=1)
        assert tracker.owner_of(fdb(1).key) == "a"
        tracker.plan("a", [])
        assert tracker.desired[fdb(1).key] == fdb(1, dst=2)
        assert tracker.owner_of(fdb(1).key) == "b"


def test_an_owner_may_change_its_mind_about_a_shared_element() -> None:
    tracker = Tracker()
    tracker.plan("a", [fdb(1, dst=1)])
    tracker.plan("b", [fdb(1, dst=1)])
    tracker.plan("a", [fdb(1, dst=3)])
    assert tracker.desired[fdb(1).key] == fdb(1, dst=3)
    tracker.plan("b", [fdb(1, dst=4)])
    assert tracker.desired[fdb(1).key] == fdb(1, dst=3)


def test_observe_tells_drift_and_ignores_echoes() -> None:
    tracker = Tracker()
    tracker.plan("a", [route(1)])
    run(tracker)
    assert not tracker.observe(route(1).key, route(1))
    assert tracker.observe(route(1).key, None)
    assert elements(run(tracker)) == [(Action.CREATE, route(1))]
    assert tracker.observe(route(5).key, route(5)), "a stranger of ours is drift too"
    assert elements(run(tracker)) == [(Action.DELETE, route(5))]


def test_a_peer_is_programmed_when_all_of_it_is() -> None:
    tracker = Tracker()
    tracker.plan("a", [route(1), fdb(1)])
    assert not tracker.peer_state("a")
    tracker.observe(route(1).key, route(1))
    assert not tracker.peer_state("a")
    tracker.observe(fdb(1).key, fdb(1))
    assert tracker.peer_state("a")


def test_observing_all_shares_the_objects_of_the_plan() -> None:
    tracker = Tracker()
    wanted = route(1)
    tracker.plan("a", [wanted])
    tracker.observe_all([route(1)])
    assert tracker.observed[wanted.key] is wanted


def test_a_setting_of_a_device_waits_for_the_device() -> None:
    tracker = Tracker()
    tracker.plan(
        "node",
        [
            Sysctl(name="net/ipv6/conf/flannel.9/accept_ra", value="0"),
            Sysctl(name="net/ipv6/conf/all/forwarding", value="1"),
        ],
    )
    ops, waiting = tracker.work(may_remove=True, ready_devices=READY)
    assert [op.element.key for op in ops] == [(Kind.SYSCTL, "net/ipv6/conf/all/forwarding")]
    assert waiting == 1


def test_the_nodes_own_elements_come_before_all_peers() -> None:
    tracker = Tracker()
    tracker.plan("a", [fdb(1), route(1)])
    backstop = Route(dst=bytes([10, 244, 0, 0]), prefixlen=16, metric=9, type="unreachable")
    address = Address(dev=DEV, address=bytes([10, 244, 7, 0]), prefixlen=32)
    tracker.plan(NODE, [backstop, address])
    assert [op.element for op in run(tracker)] == [address, backstop, fdb(1), route(1)]


def test_an_old_device_that_keeps_the_new_one_from_its_port_goes_first() -> None:
    """Devices of one port must agree on GBP: waiting for the routes would be for ever."""
    tracker = Tracker()
    old = replace(link(), name="flannel.7", vni=7)
    new = replace(link(), gbp=True)
    tracker.observe_all([old, route(1)])
    tracker.plan(NODE, [new])
    tracker.plan("a", [route(1)])
    tracker.mark_unwanted()
    ops, _ = tracker.work(may_remove=True, ready_devices={"flannel.7", "eth0"})
    assert elements(ops) == [(Action.DELETE, old), (Action.CREATE, new)]
    tracker.observe_all([replace(old, gbp=True)])
    ops, _ = tracker.work(may_remove=True, ready_devices={"flannel.7", "eth0"})
    assert elements(ops) == [(Action.CREATE, new)]
