"""A whole agent on fakes through random mixes of events, breakages, failures and time.

Whatever happened: left alone, the kernel holds exactly what the accepted peers need, what is not
ours is untouched, and nothing was ever removed before the store had spoken.
"""

from __future__ import annotations

import asyncio
import errno
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backends.elements import Address, Element, Fdb, Key, Kind, Neighbour, Route, VxlanLink
from flanneld_py.kernel import Action, Op
from flanneld_py.testing.kernel import Nexthop, StoredRoute
from tests.leases import mac
from tests.unit.flanneld_py.agent_on_fakes import (
    CONFIG,
    DEV,
    DUAL,
    UNDERLAY,
    Host,
    RunningAgent,
    subnet_of,
)

PEERS = range(10, 16)
FOREIGN_ROUTE = StoredRoute(
    route=Route(
        dst=bytes([192, 168, 9, 0]),
        prefixlen=24,
        metric=0,
        gateway=bytes([172, 31, 0, 9]),
        dev=UNDERLAY,
        protocol=4,
    )
)
FOREIGN_NEXTHOP = Nexthop(
    id=7, dev=UNDERLAY, gateway=bytes([172, 31, 0, 9]), onlink=False, protocol=4
)
FOREIGN_ADDRESS = Address(dev=UNDERLAY, address=bytes([192, 168, 9, 1]), prefixlen=24)
FOREIGN_NEIGHBOUR = Neighbour(dev=UNDERLAY, dst=bytes([172, 31, 0, 9]), mac=mac(999))

number = st.sampled_from(PEERS)
# A peer's address: its own, another one, or one on our own link.
place = st.sampled_from([None, "172.31.7.{}", "172.31.0.{}"])
event = st.one_of(
    st.tuples(st.just("put"), number, place, st.booleans()),
    st.tuples(st.just("leave"), number),
    st.tuples(st.just("direct"), st.booleans()),
    st.tuples(st.just("garbage"), number),
    st.tuples(st.just("cut"), st.booleans()),
)
breakage = st.tuples(
    st.just("break"),
    st.sampled_from(
        ["device", "down", "mtu", "mac", "neighbours", "fdb", "nexthops", "routes", "addresses"]
    ),
    st.booleans(),
)
trouble = st.one_of(
    st.tuples(st.just("fail"), st.sampled_from(Kind), st.integers(1, 4)),
    st.tuples(st.just("overrun")),
    st.tuples(st.just("underlay"), st.sampled_from([0.0, 0.2, 3.0])),
    st.tuples(st.just("block"), number),
    st.tuples(st.just("stray"), number),
)
time = st.tuples(st.just("time"), st.sampled_from([0.0, 0.01, 0.3, 2.0, 12.0]))
restart = st.tuples(st.just("restart"))
script = st.lists(st.one_of(event, breakage, trouble, time, restart), max_size=14)


class Story:
    """Tells one script to one host."""

    def __init__(
        self, host: Host, run: RunningAgent, blockers: list[StoredRoute], *, dual: bool
    ) -> None:
        self.host = host
        self.blockers = blockers
        self.run = run
        self.dual = dual
        self.too_early: list[Op] = []
        self.to_ourselves: list[Op] = []
        host.kernel.watch = self._watch

    def _watch(self, op: Op) -> None:
        table = self.run.agent.session.table
        if op.action is Action.DELETE and not table.has_snapshot:
            self.too_early.append(op)
        own = self.run.agent.session.lease_state.lease
        dst = None if own is None or own.subnet is None else own.subnet[0].packed
        made = op.element if op.action is not Action.DELETE else None
        if isinstance(made, Route) and made.dst == dst:
            self.to_ourselves.append(op)

    async def tell(self, step: tuple[object, ...]) -> bool:
        """Let one thing happen; True when the agent is to be started anew."""
        match step:
            case ("put", int(n), where, bool(other_mac)):
                ip = str(where).format(n) if where else None
                mac_number = n + 300 if other_mac else n
                self.host.peer(n, ip=ip, mac_number=mac_number, dual=self.dual)
            case ("leave", int(n)):
                for key in [k for k in self.host.backend.records if f"/10.244.{n}.0".encode() in k]:
                    self.host.backend.delete(key)
            case ("direct", bool(on)):
                text = DUAL if self.dual else CONFIG
                self.host.backend.put_config(
                    text.replace('"vxlan"', '"vxlan", "DirectRouting": true') if on else text
                )
            case ("garbage", int(n)):
                self.host.backend.put(f"/coreos.com/network/subnets/x{n}".encode(), b"{")
            case ("cut", bool(cut)):
                if cut:
                    self.run.store.cut()
                else:
                    self.run.store.restore()
            case ("break", str(what), bool(silent)):
                self._break(what, silent)
            case ("fail", Kind() as kind, int(count)):
                self.host.kernel.fail_next(kind, errno.ENOBUFS, count=count)
            case ("overrun",):
                self.host.kernel.overrun()
            case ("underlay", float(seconds)):
                self._keeping_foreign(self.host.unplug)
                self.blockers.clear()
                await self.run.settle(seconds)
                self._keeping_foreign(self.host.plug_in)
            case ("block", int(n)):
                if self.host.route_to(n) is None:
                    self.blockers.append(self.host.foreign_route(n))
            case ("stray", int(n)):
                if DEV in self.host.kernel.namespace.links:
                    self.host.kernel.namespace.put_fdb(
                        Fdb(dev=DEV, mac=mac(700 + n), dst=bytes([10, 0, 0, n]))
                    )
            case ("time", float(seconds)):
                await self.run.settle(seconds)
            case ("restart",):
                return True
        return False

    def _keeping_foreign(self, change: Callable[[], None]) -> None:
        change()
        if UNDERLAY in self.host.kernel.namespace.links:
            add_foreign(self.host)

    def _break(self, what: str, silent: bool) -> None:
        space = self.host.kernel.namespace
        if DEV not in space.vxlans:
            return
        self.host.kernel.suppress_notifications = silent
        link: VxlanLink = space.vxlans[DEV]
        entries: dict[str, list[Element]] = {
            "neighbours": [e for e in space.neighbours.values() if e.dev == DEV],
            "fdb": [e for e in space.fdb.values() if e.dev == DEV],
            "addresses": [e for e in space.addresses.values() if e.dev == DEV],
        }
        match what:
            case "device":
                space.remove_link(DEV)
            case "down":
                space.set_link(DEV, up=False)
            case "mtu":
                space.set_link(DEV, mtu=1300)
            case "mac":
                space.change_vxlan(DEV, replace(link, mac=mac(998)))
            case "nexthops":
                for item in [n for n in space.nexthops.values() if n.protocol == 241]:
                    space.remove_nexthop(item.id)
            case "routes":
                for stored in [s for s in space.routes if s.route.protocol == 241]:
                    space.remove_route(stored)
            case _:
                for entry in entries[what]:
                    assert isinstance(entry, Fdb | Neighbour | Address)
                    space.remove_entry(entry)
        self.host.kernel.suppress_notifications = False


def add_foreign(host: Host) -> None:
    space = host.kernel.namespace
    if FOREIGN_ROUTE not in space.routes:
        space.put_nexthop(FOREIGN_NEXTHOP, exclusive=False)
        space.put_route(FOREIGN_ROUTE, "exclusive")
        space.add_address(FOREIGN_ADDRESS)
        space.put_neighbour(FOREIGN_NEIGHBOUR)


def assert_foreign_is_untouched(host: Host, blockers: list[StoredRoute]) -> None:
    space = host.kernel.namespace
    assert FOREIGN_ROUTE in space.routes
    assert space.nexthops[FOREIGN_NEXTHOP.id] == FOREIGN_NEXTHOP
    assert FOREIGN_ADDRESS in space.addresses.values()
    assert FOREIGN_NEIGHBOUR in space.neighbours.values()
    assert all(blocker in space.routes for blocker in blockers)


def blockers(host: Host) -> list[StoredRoute]:
    return [s for s in host.kernel.namespace.routes if s.route.protocol == 4 and s != FOREIGN_ROUTE]


def leave_state_of_an_earlier_life(host: Host) -> None:
    """A device, a peer that is gone, and one that flannel reached."""
    space = host.kernel.namespace
    link = VxlanLink(
        name=DEV,
        vni=1,
        port=8472,
        parent=UNDERLAY,
        local=bytes([172, 31, 0, 1]),
        mac=mac(997),
        mtu=1450,
    )
    space.add_vxlan(link)
    space.change_vxlan(DEV, link)
    for n, protocol in ((99, 241), (PEERS[0], 3)):
        first = subnet_of(n)[0].packed
        space.put_fdb(Fdb(dev=DEV, mac=mac(n), dst=bytes([172, 31, 1, n])))
        space.put_neighbour(Neighbour(dev=DEV, dst=first, mac=mac(n)))
        route = Route(
            dst=first,
            prefixlen=24,
            metric=0,
            gateway=first,
            dev=DEV,
            onlink=True,
            protocol=protocol,
        )
        space.put_route(StoredRoute(route=route), "exclusive")


async def play(
    folder: Path,
    steps: list[tuple[object, ...]],
    *,
    nexthops: bool,
    dual: bool,
    outage: bool,
) -> None:
    host = Host(folder, nexthops=nexthops)
    add_foreign(host)
    leave_state_of_an_earlier_life(host)
    host.backend.put_config(DUAL if dual else CONFIG)
    host.peer(PEERS[0], dual=dual)
    rest = iter(steps)
    ended = False
    blockers: list[StoredRoute] = []
    while not ended:
        async with host.agent(settle=False) as run:
            story = Story(host, run, blockers, dual=dual)
            if outage:
                run.store.cut()
            for step in rest:
                if await story.tell(step):
                    break
            else:
                ended = True
                run.store.restore()
                # Refusals in a row add up to 10 s of back-off each, and the lease waits for the
                # device: time for forty of them.
                await run.settle(30)
                await run.settle(60)
                await run.settle(400)
                check(host, run, blockers)
            assert story.too_early == []
            assert story.to_ourselves == []


def check(host: Host, run: RunningAgent, blockers: list[StoredRoute]) -> None:
    assert_foreign_is_untouched(host, blockers)
    blocked: set[Key] = {replace(s.route, protocol=241, instance=0).key for s in blockers}
    wanted = {key: element for key, element in run.wanted().items() if key not in blocked}
    assert host.owned() == wanted
    stored = {key.decode() for key in host.backend.records if b"/subnets/10." in key}
    own = run.agent.session.lease_state.lease
    assert own is not None
    assert set(run.agent.session.table.peers) == stored - {own.key}, "a peer is missing"
    assert own.subnet is not None
    assert not any(route.dst == own.subnet[0].packed for route in host.shown())
    assert run.ready() == ()
    blocked_now = blocked & run.wanted().keys()
    assert run.agent.reconciler.retries.all().keys() == blocked_now
    assert run.agent.reconciler.converged() is not bool(blocked_now)


_BLOCKED: list[tuple[object, ...]] = [
    ("time", 2.0),
    ("block", 12),
    ("put", 12, None, False),
    ("time", 2.0),
    ("restart",),
    ("put", 13, None, False),
]


@example(_BLOCKED, True, False, False)
@example(_BLOCKED, False, True, True)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(script, st.booleans(), st.booleans(), st.booleans())
def test_left_alone_the_kernel_is_what_the_peers_need(
    steps: list[tuple[object, ...]], nexthops: bool, dual: bool, outage: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder), steps, nexthops=nexthops, dual=dual, outage=outage))
