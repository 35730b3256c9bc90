"""One suite for the fake kernel and the real one: what `Kernel` promises."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

import pytest

from backends.elements import (
    BACKSTOP_METRIC,
    NEXTHOP_ID_BASE,
    ROUTE_PROTOCOL,
    Address,
    Element,
    Fdb,
    ForeignLink,
    Key,
    Kind,
    Neighbour,
    Nexthop,
    Route,
    Sysctl,
    VxlanLink,
)
from flanneld_py.kernel import Action, Changes, Failure, Kernel, Op, Scope
from tests.contract.kernel_worlds import (
    FLANNEL_PROTOCOL,
    FORWARDING,
    FORWARDING_ON,
    LOCAL,
    LOCAL6,
    STATIC_PROTOCOL,
    UNDERLAY,
    FakeWorld,
    LinuxWorld,
    World,
    fresh_namespace,
)

DEV, DEV6 = "flannel.1", "flannel-v6.1"
SCOPE = Scope(
    devices=frozenset({DEV, DEV6}),
    networks=(IPv4Network("10.244.0.0/16"), IPv6Network("fd00:10:244::/56")),
    sysctls=(FORWARDING,),
)
LINK = VxlanLink(
    name=DEV, vni=1, port=8472, parent=UNDERLAY, local=LOCAL, mac=b"\x02\0\0\0\0\x01", mtu=1450
)
LINK6 = replace(LINK, name=DEV6, local=LOCAL6, mac=b"\x02\0\0\0\0\x06", mtu=1430)


def subnet(number: int, *, v6: bool = False) -> bytes:
    if v6:
        return bytes.fromhex("fd0000100244") + number.to_bytes(2, "big") + bytes(8)
    return bytes([10, 244, number, 0])


def peer(
    number: int, *, v6: bool = False, by_nexthop: bool = True
) -> tuple[Fdb, Neighbour, Nexthop, Route]:
    """What one peer takes; without its Nexthop in the classic form."""
    dev = DEV6 if v6 else DEV
    net, mac = subnet(number, v6=v6), b"\x02\x01\0\0\0" + bytes([number])
    out = bytes.fromhex("fd00172000000000000000000000ff") if v6 else bytes([172, 31, 0])
    return (
        Fdb(dev=dev, mac=mac, dst=out + bytes([number])),
        Neighbour(dev=dev, dst=net, mac=mac),
        Nexthop(dev=dev, gateway=net, onlink=True),
        Route(
            dst=net,
            prefixlen=64 if v6 else 24,
            metric=1024 if v6 else 0,
            gateway=net,
            dev=dev,
            onlink=True,
            by_nexthop=by_nexthop,
        ),
    )


async def do(kernel: Kernel, action: Action, *elements: Element) -> list[Failure]:
    return await kernel.apply([Op(action=action, element=element) for element in elements])


async def create(kernel: Kernel, *elements: Element) -> list[Failure]:
    return await do(kernel, Action.CREATE, *elements)


async def observed(kernel: Kernel, scope: Scope = SCOPE) -> dict[Key, Element]:
    elements = (await kernel.observe(scope)).elements
    by_key = {element.key: element for element in elements}
    assert len(by_key) == len(elements)
    return by_key


async def holds(kernel: Kernel, wanted: Sequence[Element]) -> None:
    """Exactly `wanted` is there, the settings of the scope aside."""
    found = {k: e for k, e in (await observed(kernel)).items() if e.kind is not Kind.SYSCTL}
    assert found == {element.key: element for element in wanted}


async def drained(kernel: Kernel) -> Changes:
    await asyncio.sleep(0)
    return kernel.drain()


@pytest.fixture(params=["fake", pytest.param("linux", marks=pytest.mark.root)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    with fresh_namespace():
        yield LinuxWorld()


@pytest.fixture
async def kernel(world: World) -> Kernel:
    kernel = world.open()
    await kernel.observe(SCOPE)
    return kernel


@pytest.fixture(autouse=True)
async def closed(world: World, kernel: Kernel) -> object:
    yield
    world.close()


# -- creating, reading back, removing


@pytest.mark.parametrize("by_nexthop", [True, False])
@pytest.mark.parametrize("v6", [False, True])
async def test_everything_is_made_twice_read_back_and_removed_twice(
    kernel: Kernel, v6: bool, by_nexthop: bool
) -> None:
    link = LINK6 if v6 else LINK
    fdb, neighbour, nexthop, route = peer(2, v6=v6, by_nexthop=by_nexthop)
    address = Address(dev=link.name, address=subnet(0, v6=v6), prefixlen=128 if v6 else 32)
    backstop = Route(
        dst=subnet(0, v6=v6),
        prefixlen=56 if v6 else 16,
        metric=BACKSTOP_METRIC,
        type="unreachable",
    )
    wanted: list[Element] = [link, address, fdb, neighbour]
    wanted += [nexthop, route, backstop] if by_nexthop else [route, backstop]
    assert await create(kernel, *wanted) == []
    assert await create(kernel, *wanted) == []
    await holds(kernel, wanted)
    assert await create(kernel, *wanted) == []
    removed = list(reversed(wanted))
    assert await do(kernel, Action.DELETE, *removed) == []
    assert await do(kernel, Action.DELETE, *removed) == []
    await holds(kernel, [])


async def test_replacing_changes_what_a_key_holds(kernel: Kernel) -> None:
    fdb, neighbour, nexthop, route = peer(2)
    await create(kernel, LINK, fdb, neighbour, nexthop, route)
    new_fdb = replace(fdb, dst=bytes([172, 31, 0, 99]))
    new_neighbour = replace(neighbour, mac=b"\x02\x09\0\0\0\x01")
    classic = replace(route, by_nexthop=False)
    assert await do(kernel, Action.REPLACE, new_fdb, new_neighbour, classic) == []
    await holds(kernel, [LINK, new_fdb, new_neighbour, nexthop, classic])
    assert await do(kernel, Action.REPLACE, route) == []
    await holds(kernel, [LINK, new_fdb, new_neighbour, nexthop, route])


async def test_a_setting_is_set_and_never_removed(kernel: Kernel) -> None:
    assert (await observed(kernel))[FORWARDING_ON.key] == replace(FORWARDING_ON, value="0")
    assert await create(kernel, FORWARDING_ON) == []
    assert await do(kernel, Action.DELETE, FORWARDING_ON) == []
    assert (await observed(kernel))[FORWARDING_ON.key] == FORWARDING_ON


async def test_a_setting_of_an_absent_device_fails_by_itself(kernel: Kernel) -> None:
    absent = Sysctl(name=f"net/ipv6/conf/{DEV}/accept_ra", value="0")
    [failure] = await create(kernel, absent, FORWARDING_ON)
    assert (failure.op.element, failure.errno) == (absent, errno.ENOENT)
    assert (await observed(kernel))[FORWARDING_ON.key] == FORWARDING_ON


# -- devices


@pytest.mark.parametrize(
    "change",
    [
        {"mtu": 1400},
        {"mac": b"\x02\0\0\0\0\x77"},
        {"local": bytes([172, 31, 0, 9])},
        {"learning": True},
        {"up": False},
    ],
)
async def test_a_device_is_corrected_in_place(
    kernel: Kernel, world: World, change: dict[str, object]
) -> None:
    fdb = peer(2)[0]
    await create(kernel, LINK, fdb)
    wanted = replace(LINK, **change)  # type: ignore[arg-type]
    op = Op(action=Action.REPLACE, element=wanted, before=LINK)
    assert await kernel.apply([op]) == []
    assert await kernel.apply([op]) == []
    await holds(kernel, [wanted, fdb])


@pytest.mark.parametrize("change", [{"vni": 2}, {"port": 4789}, {"gbp": True}])
async def test_what_cannot_be_changed_makes_a_new_device(
    kernel: Kernel, change: dict[str, object]
) -> None:
    await create(kernel, LINK, peer(2)[0])
    wanted = replace(LINK, **change)  # type: ignore[arg-type]
    assert await do(kernel, Action.REPLACE, wanted) == []
    await holds(kernel, [wanted])


async def test_a_device_that_we_make_asks_for_no_observation(kernel: Kernel) -> None:
    await create(kernel, LINK, *peer(2))
    changes = await drained(kernel)
    assert changes.resync == ""
    assert dict(changes.seen)[LINK.key] == LINK


async def test_another_type_under_our_name_is_shown_and_replaced(
    kernel: Kernel, world: World
) -> None:
    world.add_bridge(DEV)
    foreign = ForeignLink(name=DEV, type="bridge")
    await holds(kernel, [foreign])
    op = Op(action=Action.REPLACE, element=LINK, before=foreign)
    assert await kernel.apply([op]) == []
    await holds(kernel, [LINK])


async def test_a_device_waits_for_its_underlay(kernel: Kernel) -> None:
    [failure] = await create(kernel, replace(LINK, parent="eth7"))
    assert failure.errno == errno.ENOENT
    assert "eth7" in failure.reason
    await holds(kernel, [])


async def test_a_device_that_does_not_fit_its_underlay_says_so(kernel: Kernel) -> None:
    [failure] = await create(kernel, replace(LINK, mtu=1460))
    assert failure.errno == errno.EINVAL
    assert "1460" in failure.reason


async def test_a_vni_that_is_taken_names_its_holder(kernel: Kernel) -> None:
    await create(kernel, replace(LINK, name="vx9"))
    [failure] = await create(kernel, LINK)
    assert failure.errno == errno.EEXIST
    assert "vx9" in failure.reason


async def test_a_port_that_is_taken_names_its_holder(kernel: Kernel) -> None:
    await create(kernel, replace(LINK, name="vx9", vni=9, gbp=True))
    [failure] = await create(kernel, LINK)
    assert failure.errno == errno.EADDRINUSE
    assert "vx9" in failure.reason


# -- dependencies and order


async def test_one_failure_holds_up_nothing_else(kernel: Kernel) -> None:
    fdb, neighbour, nexthop, route = peer(2)
    lost = Fdb(dev=DEV6, mac=fdb.mac, dst=fdb.dst)
    orphan = peer(3)[3]
    failures = await create(kernel, LINK, lost, fdb, neighbour, nexthop, orphan, route)
    assert [f.op.element for f in failures] == [lost, orphan]
    assert [f.errno for f in failures] == [errno.ENOENT, errno.ENOENT]
    assert all(f.reason for f in failures)
    await holds(kernel, [LINK, fdb, neighbour, nexthop, route])


async def test_nothing_goes_through_a_device_that_is_down(kernel: Kernel) -> None:
    _, _, nexthop, route = peer(2, by_nexthop=False)
    failures = await create(kernel, replace(LINK, up=False), nexthop, route)
    assert [f.errno for f in failures] == [errno.ENETDOWN, errno.ENETDOWN]


# -- foreign routes


@pytest.mark.parametrize("by_nexthop", [True, False])
async def test_a_foreign_route_is_never_taken_over(
    kernel: Kernel, world: World, by_nexthop: bool
) -> None:
    _, _, nexthop, route = peer(2, by_nexthop=by_nexthop)
    foreign = replace(route, by_nexthop=False, protocol=STATIC_PROTOCOL)
    await create(kernel, LINK, nexthop)
    world.add_route(foreign)
    for _ in range(2):
        [failure] = await create(kernel, route)
        assert failure.errno == errno.EEXIST
        assert foreign.describe() in failure.reason
        assert await kernel.holder(route) == foreign
    assert await do(kernel, Action.DELETE, route) == []
    assert await kernel.holder(route) == foreign
    assert await do(kernel, Action.REPLACE, route) == []
    assert await kernel.holder(route) == route


async def test_nobody_holds_a_free_prefix(kernel: Kernel) -> None:
    assert await kernel.holder(peer(2)[3]) is None


@pytest.mark.parametrize("v6", [False, True])
async def test_flannels_routes_are_ours_inside_of_the_network(
    kernel: Kernel, world: World, v6: bool
) -> None:
    link = LINK6 if v6 else LINK
    _, _, nexthop, route = peer(2, v6=v6)
    flannels = replace(route, by_nexthop=False, protocol=FLANNEL_PROTOCOL)
    elsewhere = bytes.fromhex("fd77") + bytes(14) if v6 else bytes([10, 99, 0, 0])
    await create(kernel, link)
    world.add_route(flannels)
    world.add_route(replace(flannels, dst=elsewhere))
    await holds(kernel, [link, flannels])
    # Adopted in place, without a moment without a route.
    assert await create(kernel, nexthop) == []
    assert await do(kernel, Action.REPLACE, route) == []
    await holds(kernel, [link, nexthop, route])


async def test_appended_routes_are_numbered_and_removed_one_by_one(
    kernel: Kernel, world: World
) -> None:
    route = peer(2, by_nexthop=False)[3]
    other = replace(route, gateway=subnet(3))
    await create(kernel, LINK, route)
    await drained(kernel)
    world.add_route(other, append=True)
    assert (await drained(kernel)).resync
    second = replace(other, instance=1)
    await holds(kernel, [LINK, route, second])
    assert await do(kernel, Action.DELETE, second) == []
    await holds(kernel, [LINK, route])


# -- nexthop ids


async def test_ids_come_from_our_block_and_taken_ones_are_skipped(
    kernel: Kernel, world: World
) -> None:
    await create(kernel, LINK)
    taken = range(NEXTHOP_ID_BASE, NEXTHOP_ID_BASE + 3)
    for id_ in taken:
        world.put_nexthop(id_, DEV, subnet(200), STATIC_PROTOCOL)
    _, _, nexthop, route = peer(2)
    _, _, nexthop3, route3 = peer(3)
    assert await create(kernel, nexthop, nexthop3, route, route3) == []
    await holds(kernel, [LINK, nexthop, nexthop3, route, route3])
    ours = [id_ for id_ in world.nexthop_ids() if id_ not in taken]
    assert all(id_ > NEXTHOP_ID_BASE for id_ in ours)
    assert len(ours) == 2


async def test_a_second_nexthop_of_equal_content_is_told_apart(
    kernel: Kernel, world: World
) -> None:
    _, _, nexthop, route = peer(2)
    await create(kernel, LINK, nexthop, route)
    await drained(kernel)
    world.put_nexthop(77, DEV, nexthop.gateway, ROUTE_PROTOCOL)
    second = replace(nexthop, instance=77)
    assert (second.key, second) in (await drained(kernel)).seen
    await holds(kernel, [LINK, nexthop, second, route])
    assert await do(kernel, Action.DELETE, second) == []
    await holds(kernel, [LINK, nexthop, route])
    assert 77 not in world.nexthop_ids()


async def test_a_nexthop_that_another_program_replaced_is_noticed(
    kernel: Kernel, world: World
) -> None:
    _, _, nexthop, route = peer(2)
    await create(kernel, LINK, nexthop, route)
    await kernel.observe(SCOPE)
    [id_] = world.nexthop_ids()
    world.put_nexthop(id_, DEV, subnet(66), STATIC_PROTOCOL, replace=True)
    assert (await drained(kernel)).resync
    stolen = replace(route, gateway=subnet(66), via_instance=id_)
    await holds(kernel, [LINK, stolen])
    # Re-pointed to a nexthop of our own.
    assert await create(kernel, nexthop) == []
    assert await do(kernel, Action.REPLACE, route) == []
    await holds(kernel, [LINK, nexthop, route])


async def test_a_nexthop_that_another_program_removed_is_noticed(
    kernel: Kernel, world: World
) -> None:
    _, _, nexthop, route = peer(2)
    await create(kernel, LINK, nexthop, route)
    await kernel.observe(SCOPE)
    world.remove_nexthop(world.nexthop_ids()[0])
    assert (await drained(kernel)).resync
    await holds(kernel, [LINK])
    assert await create(kernel, nexthop, route) == []
    await holds(kernel, [LINK, nexthop, route])


async def test_our_own_removals_are_no_surprise(kernel: Kernel) -> None:
    _, _, nexthop, route = peer(2)
    await create(kernel, LINK, nexthop, route)
    await kernel.observe(SCOPE)
    assert await do(kernel, Action.DELETE, route, nexthop) == []
    changes = await drained(kernel)
    assert changes.resync == ""
    assert dict(changes.seen) == {route.key: None, nexthop.key: None}


# -- notifications


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("by_nexthop", [True, False])
async def test_what_is_done_is_told_in_order(kernel: Kernel, v6: bool, by_nexthop: bool) -> None:
    link = LINK6 if v6 else LINK
    await create(kernel, link)
    await kernel.observe(SCOPE)
    fdb, neighbour, nexthop, route = peer(2, v6=v6, by_nexthop=by_nexthop)
    address = Address(dev=link.name, address=subnet(0, v6=v6), prefixlen=128 if v6 else 32)
    made: list[Element] = [address, fdb, neighbour]
    made += [nexthop, route] if by_nexthop else [route]
    await create(kernel, *made)
    ours: list[tuple[Key, Element | None]] = []
    async with asyncio.timeout(5):
        # The kernel tells of an IPv6 address a moment later than it has it.
        while len(ours) < len(made):
            changes = await drained(kernel)
            assert changes.resync == ""
            ours += [entry for entry in changes.seen if entry[0] in {e.key for e in made}]
    wanted: list[tuple[Key, Element | None]] = [(element.key, element) for element in made]
    assert [entry for entry in ours if entry != wanted[0]] == wanted[1:]
    assert wanted[0] in ours
    await do(kernel, Action.DELETE, *reversed(made))
    changes = await drained(kernel)
    assert bool(changes.resync) is not v6, "the last IPv4 address may have taken routes along"
    gone = [key for key, element in changes.seen if element is None]
    told = [key for key in dict.fromkeys(gone) if key in {e.key for e in made}]
    assert told == [element.key for element in reversed(made)]
    assert kernel.drain() == Changes()


async def test_what_others_change_is_told(kernel: Kernel, world: World) -> None:
    _, neighbour, nexthop, route = peer(2)
    await create(kernel, LINK, neighbour, nexthop, route)
    await kernel.observe(SCOPE)
    world.remove_neighbour(DEV, neighbour.dst)
    world.remove_route(route)
    world.set_link(DEV, mtu=1300)
    changes = await drained(kernel)
    last = dict(changes.seen)
    assert last[neighbour.key] is None
    assert last[route.key] is None
    assert last[LINK.key] == replace(LINK, mtu=1300)
    assert changes.host_changed


async def test_a_route_taken_over_by_another_program_is_told(kernel: Kernel, world: World) -> None:
    _, _, nexthop, route = peer(2)
    foreign = replace(route, by_nexthop=False, protocol=STATIC_PROTOCOL)
    await create(kernel, LINK, nexthop, route)
    await kernel.observe(SCOPE)
    world.add_route(foreign, replace=True)
    assert (route.key, None) in (await drained(kernel)).seen
    assert await kernel.holder(route) == foreign
    # When it goes, its place is told to be free.
    world.remove_route(foreign)
    assert (route.key, None) in (await drained(kernel)).seen


async def test_what_an_observation_saw_is_not_told_again(kernel: Kernel) -> None:
    await create(kernel, LINK, *peer(2))
    await kernel.observe(SCOPE)
    assert kernel.drain() == Changes()


@pytest.mark.parametrize("by_nexthop", [True, False])
async def test_a_device_that_goes_down_takes_its_routes_silently(
    kernel: Kernel, world: World, by_nexthop: bool
) -> None:
    fdb, neighbour, nexthop, route = peer(2, by_nexthop=by_nexthop)
    wanted: list[Element] = [fdb, neighbour, *([nexthop] if by_nexthop else []), route]
    await create(kernel, LINK, *wanted)
    await kernel.observe(SCOPE)
    world.set_link(DEV, up=False)
    changes = await drained(kernel)
    assert changes.resync
    assert not {route.key, nexthop.key} & {key for key, _ in changes.seen}
    await holds(kernel, [replace(LINK, up=False), fdb])
    assert await do(kernel, Action.REPLACE, LINK) == []
    assert await create(kernel, *wanted) == []
    await holds(kernel, [LINK, *wanted])


async def test_a_new_mac_of_the_device_costs_its_neighbours_and_tells_so(kernel: Kernel) -> None:
    fdb, neighbour, nexthop, route = peer(2)
    await create(kernel, LINK, fdb, neighbour, nexthop, route)
    await kernel.observe(SCOPE)
    changed = replace(LINK, mac=b"\x02\0\0\0\0\x77")
    assert await do(kernel, Action.REPLACE, changed) == []
    changes = await drained(kernel)
    assert changes.resync == ""
    last = dict(changes.seen)
    assert (last[changed.key], last[neighbour.key]) == (changed, None)
    await holds(kernel, [changed, fdb, nexthop, route])


@pytest.mark.parametrize("by_nexthop", [True, False])
async def test_the_last_address_takes_neighbours_and_classic_routes_silently(
    kernel: Kernel, by_nexthop: bool
) -> None:
    fdb, neighbour, nexthop, route = peer(2, by_nexthop=by_nexthop)
    kept: list[Element] = [nexthop, route] if by_nexthop else []
    lost: list[Element] = [neighbour] if by_nexthop else [neighbour, route]
    address = Address(dev=DEV, address=subnet(0), prefixlen=32)
    await create(kernel, LINK, address, fdb, *kept, *lost)
    await kernel.observe(SCOPE)
    assert await do(kernel, Action.DELETE, address) == []
    changes = await drained(kernel)
    assert changes.resync
    assert route.key not in {key for key, _ in changes.seen}
    await holds(kernel, [LINK, fdb, *kept])
    assert await create(kernel, address, *lost) == []
    await holds(kernel, [LINK, address, fdb, *kept, *lost])


async def test_equal_elements_in_one_call_are_one(kernel: Kernel) -> None:
    _, _, nexthop, route = peer(2)
    assert await create(kernel, LINK, nexthop, nexthop, route, route) == []
    await holds(kernel, [LINK, nexthop, route])
    lost = replace(nexthop, dev="eth7")
    assert len(await create(kernel, lost, nexthop, lost)) == 2


async def test_a_device_that_goes_takes_everything(kernel: Kernel, world: World) -> None:
    await create(kernel, LINK, *peer(2))
    await kernel.observe(SCOPE)
    world.remove_link(DEV)
    changes = await drained(kernel)
    assert changes.resync
    assert (LINK.key, None) in changes.seen
    await holds(kernel, [])
    assert await create(kernel, LINK, *peer(2)) == []
    await holds(kernel, [LINK, *peer(2)])


async def test_an_underlay_that_goes_down_is_told(kernel: Kernel, world: World) -> None:
    direct = Route(
        dst=subnet(2), prefixlen=24, metric=0, gateway=bytes([172, 31, 0, 2]), dev=UNDERLAY
    )
    assert await create(kernel, direct) == []
    await holds(kernel, [direct])
    world.set_link(UNDERLAY, up=False)
    changes = await drained(kernel)
    assert changes.resync
    assert changes.host_changed
    await holds(kernel, [])


async def test_an_overrun_asks_for_a_new_observation(kernel: Kernel, world: World) -> None:
    await create(kernel, LINK)
    await kernel.observe(SCOPE)
    world.overrun()
    resyncs = []
    while (changes := await drained(kernel)) != Changes():
        resyncs.append(changes.resync)
    assert any("lost" in reason for reason in resyncs)
    await kernel.observe(SCOPE)
    assert kernel.drain() == Changes()


async def test_whoever_listens_is_woken(kernel: Kernel, world: World) -> None:
    woken = asyncio.Event()
    kernel.on_change(woken.set)
    await create(kernel, LINK)
    async with asyncio.timeout(5):
        await woken.wait()
    assert (LINK.key, LINK) in kernel.drain().seen


# -- the host


async def test_the_host_is_told(kernel: Kernel, world: World) -> None:
    await create(kernel, LINK)
    facts = (await kernel.observe(SCOPE)).host
    assert facts == await kernel.host()
    links = {link.name: link for link in facts.links}
    assert (links[UNDERLAY].mtu, links[UNDERLAY].up, links[UNDERLAY].running) == (1500, True, True)
    assert (links[DEV].kind, links[DEV].mac) == ("vxlan", LINK.mac)
    own = [a for a in facts.addresses if a.dev == UNDERLAY and a.address == LOCAL]
    assert [(a.prefixlen, a.scope, a.permanent) for a in own] == [(24, 0, True)]
    onlink = [r for r in facts.routes if r.dev == UNDERLAY and r.dst == bytes([172, 31, 0, 0])]
    assert [(r.prefixlen, r.gateway) for r in onlink] == [(24, b"")]


async def test_asking_for_the_host_hides_no_notification(kernel: Kernel, world: World) -> None:
    await create(kernel, LINK)
    await kernel.observe(SCOPE)
    world.set_link(DEV, up=False)
    await kernel.host()
    assert (await drained(kernel)).resync


async def test_what_is_not_ours_is_not_observed(kernel: Kernel, world: World) -> None:
    _, _, nexthop, route = peer(2)
    await create(kernel, LINK, nexthop, route)
    narrow = Scope()
    found = await observed(kernel, narrow)
    assert set(found) == {nexthop.key, route.key}


def test_the_suite_runs_in_a_process_that_stays_where_it_was() -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    if os.geteuid() == 0:
        with fresh_namespace():
            assert os.readlink("/proc/thread-self/ns/net") != before
    assert os.readlink("/proc/thread-self/ns/net") == before
