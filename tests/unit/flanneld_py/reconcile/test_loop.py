"""The loop on a kernel in memory and a clock that tests move."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Network
from random import Random

import pytest

from backends.elements import (
    BOOT_PROTOCOL,
    Address,
    Element,
    Fdb,
    Kind,
    Neighbour,
    Nexthop,
    Route,
    VxlanLink,
)
from flanneld_py.kernel import (
    Action,
    Failure,
    HostFacts,
    KernelError,
    Observation,
    Op,
    Scope,
)
from flanneld_py.reconcile.loop import Reconciler
from flanneld_py.reconcile.report import Report
from flanneld_py.reconcile.tracker import NODE
from flanneld_py.testing.clock import FakeClock
from flanneld_py.testing.kernel import Nexthop as StoredNexthop
from flanneld_py.testing.kernel import StoredRoute
from tests.unit.flanneld_py.agent_on_fakes import RecordingKernel, kinds

DEV = "flannel.1"
LINK = VxlanLink(
    name=DEV,
    vni=1,
    port=8472,
    parent="eth0",
    local=bytes([172, 31, 0, 1]),
    mac=bytes.fromhex("02aabbccddee"),
    mtu=1450,
)
SCOPE = Scope(devices=frozenset({DEV}), networks=(IPv4Network("10.244.0.0/16"),))


def fdb(n: int, *, mac: int | None = None, dst: int | None = None) -> Fdb:
    return Fdb(dev=DEV, mac=mac_of(n if mac is None else mac), dst=public_ip(dst or n))


def neighbour(n: int, *, mac: int | None = None) -> Neighbour:
    return Neighbour(dev=DEV, dst=subnet(n), mac=mac_of(n if mac is None else mac))


def nexthop(n: int) -> Nexthop:
    return Nexthop(dev=DEV, gateway=subnet(n), onlink=True)


def route(n: int, *, by_nexthop: bool = True) -> Route:
    return Route(
        dst=subnet(n),
        prefixlen=24,
        metric=0,
        gateway=subnet(n),
        dev=DEV,
        onlink=True,
        by_nexthop=by_nexthop,
    )


def direct(n: int) -> tuple[Element, ...]:
    """The peer on our own link, without VXLAN."""
    to = public_ip(n)
    hop = Nexthop(dev="eth0", gateway=to, onlink=False)
    way = Route(dst=subnet(n), prefixlen=24, metric=0, gateway=to, dev="eth0", by_nexthop=True)
    return (hop, way)


def peer(n: int, *, mac: int | None = None) -> tuple[Element, ...]:
    return (fdb(n, mac=mac), neighbour(n, mac=mac), nexthop(n), route(n))


def mac_of(n: int) -> bytes:
    return bytes([2, 0, 0, 0, n >> 8, n & 255])


def subnet(n: int) -> bytes:
    return bytes([10, 244 + (n >> 8), n & 255, 0])


def public_ip(n: int) -> bytes:
    return bytes([172, 31, 1 + (n >> 8), n & 255])


class Guide:
    """Plays the part of the node."""

    def __init__(self) -> None:
        self.replaceable = False
        self.hosts: list[HostFacts] = []
        self.observations = 0
        self.applied_ops: list[Op] = []

    def may_replace(self, holder: Route, wanted: Route, owner: str) -> bool:
        return self.replaceable

    def host_changed(self, host: HostFacts) -> None:
        self.hosts.append(host)

    def observed(self) -> None:
        self.observations += 1

    def applied(self, ops: Sequence[Op]) -> None:
        self.applied_ops += ops


class TroubledKernel(RecordingKernel):
    """One that cannot always be observed, and that can hold a batch back."""

    def __init__(self) -> None:
        super().__init__()
        self.blind = False
        self.mute = False
        self.gate: asyncio.Event | None = None
        self.waits_at_gate = False

    async def observe(self, scope: Scope) -> Observation:
        await self._pass()
        if self.blind:
            raise KernelError(what="dump", errno=errno.ENOBUFS, reason="no buffer space")
        return await super().observe(scope)

    async def apply(self, ops: Sequence[Op]) -> list[Failure]:
        await self._pass()
        if self.mute:
            raise KernelError(what="netlink", errno=errno.ETIMEDOUT, reason="no answer")
        return await super().apply(ops)

    async def _pass(self) -> None:
        if self.gate is not None:
            self.waits_at_gate = True
            await self.gate.wait()
            self.waits_at_gate = False


class World:
    """A reconciler at work."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.kernel = TroubledKernel()
        self.space = self.kernel.namespace
        self.space.add_link("eth0")
        self.guide = Guide()
        self.reconciler = Reconciler(
            kernel=self.kernel,
            clock=self.clock,
            random=Random(1),
            report=Report(),
            guide=self.guide,
        )
        self.reconciler.set_scope(SCOPE)

    @asynccontextmanager
    async def running(self, *, removal: bool = True, link: bool = True) -> AsyncIterator[None]:
        task = asyncio.create_task(self.reconciler.run())
        if removal:
            self.reconciler.allow_removal(self.clock.now())
        if link:
            self.reconciler.plan(NODE, [LINK])
        try:
            await self.settle()
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled():
                task.result()

    async def settle(self, seconds: float = 0.2) -> None:
        for _ in range(10):
            await self.clock.advance(seconds / 10)

    async def until(self, condition: Callable[[], bool], within: float) -> float:
        start = self.clock.now()
        await self.clock.settle()
        while not condition():
            assert self.clock.now() - start < within, f"not within {within}s"
            await self.clock.advance(0.05)
        return self.clock.now() - start

    async def have(self, *owners: int) -> None:
        """Have these peers programmed, and forget how."""
        for n in owners:
            self.reconciler.plan(f"peer-{n}", peer(n))
        await self.settle()
        assert self.reconciler.converged()
        self.kernel.done.clear()
        self.kernel.asked.clear()

    def has(self, *elements: Element) -> bool:
        present = {element.key: element for element in self.kernel._elements()}
        return all(present.get(element.key) == element for element in elements)

    def holds(self, n: int) -> Route | None:
        found = [s for s in self.space.routes if s.route.dst == subnet(n)]
        return self.kernel._shown(found[0]) if found else None


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# -- what is removed, and when


async def test_nothing_is_removed_before_it_is_allowed() -> None:
    world = World()
    world.space.add_vxlan(replace(LINK, up=False))
    world.space.change_vxlan(DEV, LINK)
    world.space.put_fdb(fdb(9))
    world.space.put_neighbour(neighbour(9))
    async with world.running(removal=False):
        world.reconciler.plan("peer-1", peer(1))
        await world.settle(30)
        world.reconciler.plan("peer-1", ())
        world.kernel.overrun()
        await world.settle(30)
        assert world.kernel.deletions() == []
        assert world.has(fdb(9), neighbour(9), *peer(1))
        world.reconciler.allow_removal(world.clock.now() + 20)
        await world.settle(19)
        assert world.kernel.deletions() == []
        await world.settle(2)
        assert world.kernel._elements() == [LINK]
        assert world.reconciler.converged()


async def test_nothing_is_removed_when_it_is_cancelled() -> None:
    world = World()
    async with world.running():
        await world.have(1, 2)
        before = world.kernel._elements()
        world.kernel.gate = asyncio.Event()
        world.reconciler.plan("peer-3", peer(3))
        await world.until(lambda: world.kernel.waits_at_gate, within=1)
    assert world.kernel._elements() == before
    assert world.kernel.done == []


# -- the order of things


async def test_a_route_is_pointed_elsewhere_before_its_old_nexthop_goes() -> None:
    world = World()
    async with world.running():
        await world.have(1)
        lost: list[Op] = []
        world.kernel.watch = lambda op: lost.append(op) if world.holds(1) is None else None
        world.reconciler.plan("peer-1", direct(1))
        await world.settle()
        assert lost == []
        assert world.holds(1) == direct(1)[1]
        assert kinds(world.kernel.done) == [
            (Action.CREATE, Kind.NEXTHOP),
            (Action.REPLACE, Kind.ROUTE),
            (Action.DELETE, Kind.NEXTHOP),
            (Action.DELETE, Kind.NEIGHBOUR),
            (Action.DELETE, Kind.FDB),
        ]


async def test_a_changed_mac_gets_its_entry_before_the_neighbour_names_it() -> None:
    world = World()
    async with world.running():
        await world.have(1)
        world.reconciler.plan("peer-1", peer(1, mac=77))
        await world.settle()
        assert [(op.action, op.element) for op in world.kernel.done] == [
            (Action.CREATE, fdb(1, mac=77)),
            (Action.REPLACE, neighbour(1, mac=77)),
            (Action.DELETE, fdb(1)),
        ]


async def test_what_one_peer_leaves_and_another_takes_is_never_missing() -> None:
    world = World()
    async with world.running():
        await world.have(1)
        lost: list[Op] = []
        world.kernel.watch = lambda op: lost.append(op) if world.holds(1) is None else None
        world.reconciler.plan("peer-1", ())
        world.reconciler.plan("peer-9", (fdb(9), neighbour(1, mac=9), nexthop(1), route(1)))
        await world.settle()
        assert lost == []
        assert world.has(fdb(9), neighbour(1, mac=9), nexthop(1), route(1))
        assert not world.has(fdb(1))


async def test_an_old_device_stays_until_the_routes_have_left_it() -> None:
    """The new device needs a moment to be ready; until then the old one still carries."""
    world = World()
    world.reconciler.set_scope(replace(SCOPE, devices=frozenset({DEV, "flannel.2"})))
    async with world.running():
        await world.have(1)
        lost: list[Op] = []
        world.kernel.watch = lambda op: lost.append(op) if world.holds(1) is None else None
        moved = replace(LINK, name="flannel.2", vni=2)
        # The host's links are read as slowly as on a large host.
        world.reconciler._next_host = world.clock.now() + 0.5
        world.reconciler.plan(NODE, [moved])
        world.reconciler.plan(
            "peer-1",
            [
                replace(fdb(1), dev="flannel.2"),
                replace(neighbour(1), dev="flannel.2"),
                replace(nexthop(1), dev="flannel.2"),
                replace(route(1), dev="flannel.2"),
            ],
        )
        await world.settle(2)
        assert lost == []
        assert world.has(moved, replace(route(1), dev="flannel.2"))
        assert DEV not in world.space.links
        assert world.reconciler.converged()


# -- failures


async def test_one_failing_element_holds_up_no_other_and_is_tried_ever_more_rarely(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    async with world.running():
        world.kernel.refused[neighbour(7).key] = OSError(errno.ENOMEM, "no memory")
        for n in range(1, 1001):
            world.reconciler.plan(f"peer-{n}", peer(n))
        took = await world.until(lambda: world.has(*(route(n) for n in range(1, 1001))), within=3)
        assert took < 3
        others = [element for n in range(1, 1001) if n != 7 for element in peer(n)]
        assert world.has(*others)
        assert not world.reconciler.converged()
        await world.settle(60)
        tries = [op for op in world.kernel.asked if op.element == neighbour(7)]
        assert 8 <= len(tries) <= 14, "not a capped back-off"
        entry = world.reconciler.retries.all()[neighbour(7).key]
        assert "no memory" in entry.reason
        assert sum("neighbour 10.244.7.0" in text for text in warnings(caplog)) == 1
        del world.kernel.refused[neighbour(7).key]
        await world.until(world.reconciler.converged, within=15)
        assert world.has(neighbour(7))


async def test_deleting_what_is_gone_is_success() -> None:
    world = World()
    async with world.running():
        await world.have(1, 2)
        world.kernel.suppress_notifications = True
        world.space.remove_entry(fdb(1))
        world.space.remove_entry(neighbour(1))
        world.space.remove_nexthop(next(i for i, h in world.space.nexthops.items()
                                        if h.gateway == subnet(1)))  # fmt: skip
        world.kernel.suppress_notifications = False
        world.reconciler.plan("peer-1", ())
        await world.settle()
        assert world.reconciler.converged()
        assert len(world.reconciler.retries) == 0
        assert world.has(*peer(2))


async def test_a_changed_plan_is_tried_at_once() -> None:
    world = World()
    async with world.running():
        world.kernel.refused[fdb(1).key] = OSError(errno.EINVAL, "invalid")
        world.reconciler.plan("peer-1", peer(1))
        await world.settle(20)
        assert world.reconciler.retries.all()[fdb(1).key].attempts > 3
        del world.kernel.refused[fdb(1).key]
        changed = (fdb(1, dst=99), *peer(1)[1:])
        world.reconciler.plan("peer-1", changed)
        assert await world.until(lambda: world.has(*changed), within=1) < 0.1
        assert world.reconciler.converged()


async def test_a_failing_key_whose_plan_vanished_is_forgotten() -> None:
    world = World()
    async with world.running():
        world.kernel.refused[fdb(1).key] = OSError(errno.EINVAL, "invalid")
        world.reconciler.plan("peer-1", peer(1))
        await world.settle(5)
        assert len(world.reconciler.retries) == 1
        world.reconciler.plan("peer-1", ())
        await world.settle()
        assert len(world.reconciler.retries) == 0
        assert world.reconciler.converged()


async def test_a_kernel_that_cannot_be_observed_is_asked_once_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    async with world.running():
        await world.have(1)
        world.kernel.blind = True
        rounds = world.reconciler.report.rounds
        await world.settle(18)
        said = [text for text in warnings(caplog) if "cannot observe" in text]
        assert 5 <= len(said) <= 12
        assert world.reconciler.report.rounds - rounds < 50, "it spins"
        assert not world.reconciler.converged()
        world.space.remove_entry(fdb(1))
        await world.settle()
        assert world.has(fdb(1)), "notifications alone are enough to heal"
        world.kernel.blind = False
        await world.until(world.reconciler.converged, within=2)


async def test_a_device_that_goes_while_we_write_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    async with world.running():
        await world.have(1)
        gate = world.kernel.gate = asyncio.Event()
        world.reconciler.plan("peer-2", peer(2))
        await world.until(lambda: world.kernel.waits_at_gate, within=1)
        # As after the observation of a large host.
        world.reconciler._next_observation = world.clock.now() + 0.5
        world.kernel.suppress_notifications = True
        world.space.remove_link(DEV)
        world.kernel.suppress_notifications = False
        gate.set()
        world.kernel.gate = None
        await world.until(lambda: world.has(LINK, *peer(1), *peer(2)), within=2)
        await world.settle()
        assert world.reconciler.converged()
        assert warnings(caplog) == []


async def test_a_kernel_that_does_not_answer_a_batch_is_looked_at_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    async with world.running():
        await world.have(1)
        world.kernel.mute = True
        world.reconciler.plan("peer-2", peer(2))
        await world.settle()
        assert not world.reconciler.converged()
        world.kernel.mute = False
        await world.until(lambda: world.has(*peer(1), *peer(2)), within=2)
        await world.settle()
        assert world.reconciler.converged()
    (said,) = warnings(caplog)
    assert "did not answer" in said


# -- what others do


async def test_an_overrun_is_followed_by_an_observation() -> None:
    world = World()
    async with world.running():
        await world.have(1, 2)
        world.kernel.suppress_notifications = True
        world.space.remove_entry(neighbour(1))
        world.space.put_fdb(fdb(50))
        world.kernel.suppress_notifications = False
        await world.settle()
        assert not world.has(neighbour(1))
        world.kernel.overrun()
        assert await world.until(lambda: world.has(neighbour(1)), within=1) < 0.5
        await world.settle()
        assert not world.has(fdb(50))


def _flush_neighbours(world: World) -> None:
    for entry in list(world.space.neighbours.values()):
        world.space.remove_entry(entry)


def _flush_fdb(world: World) -> None:
    for entry in list(world.space.fdb.values()):
        world.space.remove_entry(entry)


def _flush_nexthops(world: World) -> None:
    for id_ in list(world.space.nexthops):
        world.space.remove_nexthop(id_)


def _flush_routes(world: World) -> None:
    for stored in list(world.space.routes):
        world.space.remove_route(stored)


def _foreign_device(world: World) -> None:
    world.space.remove_link(DEV)
    world.space.add_link(DEV, kind="dummy")


BREAKAGES: dict[str, Callable[[World], object]] = {
    "device deleted": lambda world: world.space.remove_link(DEV),
    "device down": lambda world: world.space.set_link(DEV, up=False),
    "MTU": lambda world: world.space.set_link(DEV, mtu=1280),
    "MAC": lambda world: world.space.change_vxlan(DEV, replace(LINK, mac=mac_of(999))),
    "learning": lambda world: world.space.change_vxlan(DEV, replace(LINK, learning=True)),
    "a foreign device under our name": _foreign_device,
    "neighbours flushed": _flush_neighbours,
    "FDB flushed": _flush_fdb,
    "nexthops flushed": _flush_nexthops,
    "routes flushed": _flush_routes,
}


@pytest.mark.parametrize(("silent", "limit"), [(False, 0.5), (True, 10.0)])
@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_what_breaks_heals_at_once_and_when_nothing_is_told_within_10_s(
    breakage: str, silent: bool, limit: float
) -> None:
    world = World()
    async with world.running():
        await world.have(1, 2, 3)
        everything = [LINK, *(element for n in (1, 2, 3) for element in peer(n))]
        assert world.has(*everything)
        world.kernel.suppress_notifications = silent
        BREAKAGES[breakage](world)
        assert not world.has(*everything)
        await world.until(lambda: world.has(*everything), within=limit)
        await world.settle(10)
        assert world.has(*everything)
        assert world.reconciler.converged()


async def test_an_underlay_that_comes_back_heals_and_nothing_is_tried_meanwhile() -> None:
    world = World()
    async with world.running():
        await world.have(1, 2)
        world.space.remove_link("eth0")
        await world.settle(30)
        assert DEV not in world.space.links
        assert len(world.kernel.asked) <= 1, "it keeps trying without an underlay"
        assert len(world.reconciler.retries) == 0
        world.space.add_link("eth0")
        await world.until(lambda: world.has(LINK, *peer(1), *peer(2)), within=1)
        await world.settle()
        assert world.reconciler.converged()


async def test_an_underlay_bounced_many_times_heals() -> None:
    world = World()
    async with world.running():
        await world.have(1, 2)
        for _ in range(50):
            world.space.set_link("eth0", up=False)
            await world.settle(0.02)
            world.space.set_link("eth0", up=True)
            await world.settle(0.02)
        await world.until(lambda: world.has(LINK, *peer(1), *peer(2)), within=3)
        await world.settle(3)
        assert world.reconciler.converged()


async def test_flannels_route_is_replaced_without_a_moment_without_one() -> None:
    world = World()
    world.guide.replaceable = True
    async with world.running():
        theirs = replace(route(1, by_nexthop=False), protocol=BOOT_PROTOCOL)
        # The kernel tells nobody, so that the loop has to meet it by EEXIST.
        world.kernel.suppress_notifications = True
        world.space.put_route(StoredRoute(route=theirs), "exclusive")
        world.kernel.suppress_notifications = False
        lost: list[Op] = []
        world.kernel.watch = lambda op: lost.append(op) if world.holds(1) is None else None
        world.reconciler.plan("peer-1", peer(1))
        await world.settle()
        assert lost == []
        assert world.has(*peer(1))
        assert world.reconciler.converged()


async def test_a_foreign_route_blocks_one_peer_until_it_goes() -> None:
    world = World()
    async with world.running():
        foreign = StoredRoute(
            route=Route(
                dst=subnet(1), prefixlen=24, metric=0, gateway=public_ip(9), dev="eth0", protocol=4
            )
        )
        world.space.put_route(foreign, "exclusive")
        world.reconciler.plan("peer-1", peer(1))
        world.reconciler.plan("peer-2", peer(2))
        await world.settle(20)
        assert foreign in world.space.routes
        assert world.has(*peer(2), *peer(1)[:3])
        reason = world.reconciler.retries.all()[route(1).key].reason
        assert reason.startswith("blocked by route 10.244.1.0/24 via 172.31.1.9 dev eth0")
        world.space.remove_route(foreign)
        await world.until(lambda: world.has(route(1)), within=13)
        assert world.reconciler.converged()


@pytest.mark.parametrize("silent", [False, True])
async def test_a_nexthop_of_ours_that_another_program_took_over_is_healed(silent: bool) -> None:
    world = World()
    async with world.running():
        await world.have(1, 2)
        id_ = next(i for i, hop in world.space.nexthops.items() if hop.gateway == subnet(1))
        theirs = StoredNexthop(id=id_, dev="eth0", gateway=public_ip(8), onlink=False, protocol=4)
        world.kernel.suppress_notifications = silent
        world.space.put_nexthop(theirs, exclusive=False)
        await world.until(lambda: world.has(*peer(1), *peer(2)), within=10 if silent else 0.5)
        assert world.space.nexthops[id_] == theirs, "theirs is left alone"
        await world.settle(10)
        assert world.reconciler.converged()


async def test_a_fight_is_slowed_down_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    async with world.running():
        await world.have(1, 2)
        for _ in range(400):
            world.space.put_fdb(fdb(1, dst=66))
            await world.clock.advance(0.05)
        corrections = [op for op in world.kernel.done if op.element == fdb(1)]
        assert 6 + 15 <= len(corrections) <= 6 + 25, "about once a second for 20 s"
        said = [text for text in warnings(caplog) if "keeps changing" in text]
        assert len(said) == 1
        assert "fdb 02:00:00:00:00:01" in said[0]
        assert world.reconciler.fights.active(world.clock.now()) == [fdb(1).key]
        # Another key is healed at once meanwhile.
        world.space.remove_entry(fdb(2))
        await world.until(lambda: world.has(fdb(2)), within=0.2)
        await world.settle(6)
        assert world.has(fdb(1))
        assert world.reconciler.fights.active(world.clock.now()) == []
        assert world.reconciler.converged()


async def test_a_fight_over_very_much_heals_all_of_it_each_second() -> None:
    """Found by deleting a device of 100 peers again and again: one element came back a second."""
    peers = range(1, 301)
    world = World()
    async with world.running():
        await world.have(*peers)
        for _ in range(8):
            for n in peers:
                world.space.remove_entry(fdb(n))
            await world.until(lambda: world.has(*(fdb(n) for n in peers)), within=1.2)
        assert world.reconciler.fights.active(world.clock.now())


# -- what it says of itself


async def test_it_is_not_converged_while_it_works_or_looks() -> None:
    world = World()
    async with world.running():
        await world.have(1)
        gate = world.kernel.gate = asyncio.Event()
        world.reconciler.plan("peer-2", peer(2))
        await world.until(lambda: world.kernel.waits_at_gate, within=1)
        assert not world.reconciler.converged()
        gate.set()
        world.kernel.gate = None
        await world.settle()
        assert world.reconciler.converged()
        gate = world.kernel.gate = asyncio.Event()
        world.kernel.overrun()
        await world.until(lambda: world.kernel.waits_at_gate, within=1)
        assert not world.reconciler.converged(), "it looks because something is unknown"
        gate.set()
        world.kernel.gate = None
        await world.settle()
        assert world.reconciler.converged()


async def test_what_waits_for_a_device_is_counted_and_not_failing() -> None:
    world = World()
    world.space.set_link("eth0", up=False)
    async with world.running():
        world.reconciler.plan("peer-1", peer(1))
        await world.settle(5)
        assert world.reconciler.waiting == 5
        assert len(world.reconciler.retries) == 0
        assert world.kernel.asked == []
        world.reconciler.plan("peer-1", ())
        world.reconciler.plan(NODE, ())
        await world.settle()
        assert world.reconciler.waiting == 0
        assert world.reconciler.converged()


async def test_what_was_healed_and_what_was_planned_is_told_apart() -> None:
    world = World()
    async with world.running():
        await world.have(1)
        assert not world.reconciler.report.healed
        world.space.remove_entry(fdb(1))
        await world.settle()
        assert world.reconciler.report.healed[Kind.FDB] == 1
        texts = [change.text for change in world.reconciler.report.changes]
        assert texts[-1] == f"healed: create {fdb(1).describe()}"
        assert any(text.startswith("applied: create link flannel.1") for text in texts)


async def test_a_change_while_a_batch_runs_is_part_of_the_next_round() -> None:
    world = World()
    async with world.running():
        await world.have(1)
        gate = world.kernel.gate = asyncio.Event()
        world.reconciler.plan("peer-2", peer(2))
        await world.until(lambda: world.kernel.waits_at_gate, within=1)
        world.reconciler.plan("peer-2", ())
        world.reconciler.plan("peer-3", peer(3))
        world.space.remove_entry(fdb(1))
        gate.set()
        world.kernel.gate = None
        await world.settle()
        assert world.has(*peer(1), *peer(3))
        assert not world.has(fdb(2))
        assert world.holds(2) is None
        assert world.reconciler.converged()


async def test_at_rest_it_writes_nothing_and_looks_every_8_s() -> None:
    world = World()
    async with world.running():
        await world.have(1, 2)
        looks = world.kernel.observations
        await world.settle(80)
        assert world.kernel.asked == []
        assert 8 <= world.kernel.observations - looks <= 11


async def test_the_node_does_not_wait_for_a_large_batch_of_peers() -> None:
    world = World()
    address = Address(dev=DEV, address=subnet(0), prefixlen=32)

    def lease_arrives(op: Op) -> None:
        if op.element.kind is Kind.FDB:
            world.reconciler.plan(NODE, [LINK, address])

    async with world.running():
        world.kernel.watch = lease_arrives
        for n in range(1, 1501):
            world.reconciler.plan(f"peer-{n}", peer(n))
        await world.settle()
        assert world.reconciler.converged()
    done = [op.element for op in world.kernel.done]
    assert done.index(address) < 2500 < len(done)
    assert len(done) == len(set(done))
