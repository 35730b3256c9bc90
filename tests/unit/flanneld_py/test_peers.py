"""The planner: slices, problems, and what makes it plan everybody anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from backends.base import NodeContext, Underlay
from backends.elements import Element, Route
from backends.vxlan import VxlanBackend
from flanneld_py.peers import PeerPlanner
from subnet.codec import vtep_text
from subnet.model import Lease, LeaseAttrs, NetworkConfig, PeerKey

CONFIG = NetworkConfig(
    network=IPv4Network("10.244.0.0/16"),
    subnet_len=24,
    backend_type="vxlan",
    backend_options={"Type": "vxlan"},
)
CONTEXT = NodeContext(
    config=CONFIG,
    underlay=Underlay(name="eth0", mtu=1500, ipv4=IPv4Address("172.31.0.1")),
    public_ip=IPv4Address("172.31.0.1"),
    mac=bytes.fromhex("02aabbccddee"),
)


def lease(n: int, *, vni: int = 1) -> Lease:
    return Lease(
        key=PeerKey(f"peer-{n}"),
        subnet=IPv4Network((0x0AF40000 + (n << 8), 24)),
        attrs=LeaseAttrs(
            public_ip=IPv4Address(0xAC1F0100 + n),
            backend_type="vxlan",
            backend_data=vtep_text(vni, bytes([2, 0, 0, 0, n >> 8, n & 255])),
        ),
    )


class Source:
    def __init__(self, *leases: Lease) -> None:
        self.peers = {lease.key: lease for lease in leases}

    def peer(self, key: PeerKey) -> Lease | None:
        return self.peers.get(key)


class Plans(dict[str, tuple[Element, ...]]):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def plan(self, owner: str, elements: tuple[Element, ...]) -> None:
        self.calls += 1
        if elements:
            self[owner] = elements
        else:
            self.pop(owner, None)


@asynccontextmanager
async def running(planner: PeerPlanner) -> AsyncIterator[None]:
    task = asyncio.create_task(planner.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_quiet(planner: PeerPlanner) -> None:
    async with asyncio.timeout(5):
        await asyncio.sleep(0)
        while planner.pending:
            await asyncio.sleep(0)


async def test_peers_are_planned_once_backend_and_context_are_known() -> None:
    source, plans = Source(lease(1), lease(2)), Plans()
    planner = PeerPlanner(source=source, plan=plans.plan)
    async with running(planner):
        planner.changed(source.peers)
        await until_quiet(planner)
        assert plans == {}
        planner.use(VxlanBackend(CONFIG), CONTEXT)
        await until_quiet(planner)
    assert set(plans) == {"peer-1", "peer-2"}
    assert {type(element).__name__ for element in plans["peer-1"]} == {
        "Fdb",
        "Neighbour",
        "Nexthop",
        "Route",
    }


async def test_a_peer_that_left_is_released() -> None:
    source, plans = Source(lease(1), lease(2)), Plans()
    planner = PeerPlanner(source=source, plan=plans.plan)
    async with running(planner):
        planner.use(VxlanBackend(CONFIG), CONTEXT)
        await until_quiet(planner)
        del source.peers[PeerKey("peer-1")]
        planner.changed([PeerKey("peer-1")])
        await until_quiet(planner)
    assert set(plans) == {"peer-2"}


async def test_why_a_peer_is_not_programmed_is_kept_until_it_is() -> None:
    source, plans = Source(lease(1, vni=7)), Plans()
    planner = PeerPlanner(source=source, plan=plans.plan)
    async with running(planner):
        planner.use(VxlanBackend(CONFIG), CONTEXT)
        await until_quiet(planner)
        (problem,) = planner.problems[PeerKey("peer-1")]
        assert "7" in problem
        source.peers[PeerKey("peer-1")] = lease(1)
        planner.changed([PeerKey("peer-1")])
        await until_quiet(planner)
    assert planner.problems == {}
    assert plans["peer-1"]


async def test_our_own_lease_is_no_reason_to_plan_peers_anew() -> None:
    source, plans = Source(lease(1)), Plans()
    planner = PeerPlanner(source=source, plan=plans.plan)
    backend = VxlanBackend(CONFIG)
    async with running(planner):
        planner.use(backend, CONTEXT)
        await until_quiet(planner)
        calls = plans.calls
        planner.use(backend, replace(CONTEXT, lease=lease(9)))
        await until_quiet(planner)
        assert plans.calls == calls
        planner.use(backend, replace(CONTEXT, by_nexthop=False))
        await until_quiet(planner)
    assert plans.calls == calls + 1
    (route,) = [element for element in plans["peer-1"] if isinstance(element, Route)]
    assert not route.by_nexthop


async def test_many_peers_are_planned_in_slices_that_let_others_run() -> None:
    source, plans = Source(*(lease(n) for n in range(1, 2000))), Plans()
    planner = PeerPlanner(source=source, plan=plans.plan)
    seen: list[int] = []
    async with running(planner):
        planner.use(VxlanBackend(CONFIG), CONTEXT)
        while len(plans) < 1999:
            seen.append(len(plans))
            await asyncio.sleep(0)
    assert len(set(seen)) > 4, "the planner did not yield"


async def test_it_says_when_all_are_planned_and_not_before() -> None:
    source, plans = Source(*(lease(n) for n in range(1, 1001))), Plans()
    planned: list[int] = []
    planner = PeerPlanner(
        source=source, plan=plans.plan, on_planned=lambda: planned.append(len(plans))
    )
    async with running(planner):
        planner.changed(source.peers)
        await until_quiet(planner)
        assert planned == []
        planner.use(VxlanBackend(CONFIG), CONTEXT)
        await until_quiet(planner)
    assert planned == [1000]
