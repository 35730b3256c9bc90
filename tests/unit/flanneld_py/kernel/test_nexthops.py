"""Bookkeeping of nexthop ids: which is in use, which is free, what a route means by one."""

from __future__ import annotations

from backends.elements import NEXTHOP_ID_BASE, ROUTE_PROTOCOL
from flanneld_py.kernel.decode import NexthopObject
from flanneld_py.kernel.nexthops import NexthopTable

NAMES = {7: "flannel.1"}
GATEWAY = bytes([10, 244, 1, 0])


def an_object(id_: int, *, protocol: int = ROUTE_PROTOCOL, plain: bool = True) -> NexthopObject:
    return NexthopObject(id_, protocol, 7, GATEWAY, True, plain)


def test_free_ids_skip_what_exists_and_what_was_taken() -> None:
    table = NexthopTable()
    table.load([an_object(NEXTHOP_ID_BASE, protocol=4)], NAMES)
    table.mark_taken(NEXTHOP_ID_BASE + 1)
    assert table.take_id() == NEXTHOP_ID_BASE + 2
    assert table.take_id() == NEXTHOP_ID_BASE + 3


def test_the_one_in_use_stays_in_use_when_another_like_it_appears() -> None:
    table = NexthopTable()
    table.load([an_object(900)], NAMES)
    table.load([an_object(5), an_object(900), an_object(NEXTHOP_ID_BASE)], NAMES)
    assert table.primary(7, GATEWAY, True) == 900
    assert table.references[5].instance == 5
    assert table.references[900].instance == 0
    assert sorted(element.instance for element in table.elements(NAMES)) == [
        0,
        5,
        NEXTHOP_ID_BASE,
    ]


def test_of_several_unknown_ones_that_of_our_block_is_used() -> None:
    table = NexthopTable()
    table.load([an_object(5), an_object(NEXTHOP_ID_BASE + 9), an_object(6)], NAMES)
    assert table.primary(7, GATEWAY, True) == NEXTHOP_ID_BASE + 9


def test_objects_of_others_are_never_used() -> None:
    table = NexthopTable()
    table.load([an_object(5, protocol=4), an_object(6, plain=False)], NAMES)
    assert table.primary(7, GATEWAY, True) is None
    assert table.references[5].instance == 5
    [element] = table.elements(NAMES)
    assert element.instance == 6


def test_a_device_takes_its_objects_along() -> None:
    table = NexthopTable()
    table.load([an_object(5)], NAMES)
    table.drop_device(7)
    assert table.primary(7, GATEWAY, True) is None
    assert table.references == {}


def test_our_removals_are_known_by_key_once() -> None:
    table = NexthopTable()
    table.load([an_object(5)], NAMES)
    [element] = table.elements(NAMES)
    table.begin_removal(5)
    table.drop(5)
    assert table.end_removal(5) == element.key
    assert table.end_removal(5) is None
