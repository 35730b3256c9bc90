"""The composition: what is built, what it shares, and how it ends."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from flanneld_py.daemon import Agent
from flanneld_py.memory import Memory
from flanneld_py.netif import InterfaceOptions
from flanneld_py.notify import Notifier
from flanneld_py.settings import (
    CniMode,
    CniSettings,
    FirewallSettings,
    LeaseSettings,
    NexthopMode,
    PathSettings,
    Settings,
)
from flanneld_py.testing.store import MemoryStore
from tests.unit.flanneld_py.agent_on_fakes import CONFIG, DEV, DUAL, FORWARD, Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.backend.put_config(CONFIG)
    return host


async def test_the_end_leaves_kernel_store_and_files_as_they_are(host: Host) -> None:
    host.peer(10)
    async with host.agent() as run:
        assert run.ready() == ()
        before = (host.owned(), dict(host.backend.records), host.subnet_file.read_text())
        sysctls = dict(host.kernel.sysctls)
    assert (host.owned(), dict(host.backend.records), host.subnet_file.read_text()) == before
    assert host.kernel.sysctls == sysctls
    assert host.kernel.deletions() == []


async def test_nexthops_off_gives_the_classic_form_and_changes_over_in_place(host: Host) -> None:
    host.peer(10)
    async with host.agent():
        route = host.route_to(10)
        assert route is not None
        assert route.by_nexthop
    lost: list[object] = []
    host.kernel.watch = lambda op: lost.append(op) if host.route_to(10) is None else None
    for mode in (NexthopMode.OFF, NexthopMode.AUTO):
        async with host.agent(nexthops=mode) as run:
            assert host.owned() == run.wanted()
            route = host.route_to(10)
            assert route is not None
            assert route.by_nexthop is (mode is NexthopMode.AUTO)
            assert bool(host.kernel.namespace.nexthops) is (mode is NexthopMode.AUTO)
    assert lost == []


async def test_the_ttl_of_the_flags_is_the_leases(host: Host) -> None:
    async with host.agent(ttl=120.0) as run:
        lease = run.agent.session.lease_state.lease
        assert lease is not None
        assert host.backend.leases[lease.lease_id] == pytest.approx(host.clock.now() + 120, abs=3)
        await run.settle(600)
        assert run.ready() == ()
        assert run.subnet() == lease.subnets_text()


async def test_a_reboot_brings_the_same_subnet_and_mac(host: Host) -> None:
    async with host.agent() as run:
        subnet, mac = run.subnet(), host.kernel.namespace.vxlans[DEV].mac
        lease = run.agent.session.lease_state.lease
        assert lease is not None
    host.leave(lease.key)
    host.subnet_file.unlink()
    host.kernel.namespace.remove_link(DEV)
    host.kernel.sysctls[FORWARD] = "0"
    host.seed = 77
    async with host.agent() as run:
        assert run.ready() == ()
        assert (run.subnet(), host.kernel.namespace.vxlans[DEV].mac) == (subnet, mac)


async def test_the_conflist_is_written_in_direct_mode(host: Host, tmp_path: Path) -> None:
    folder = tmp_path / "net.d"
    settings = Settings(
        paths=PathSettings(
            subnet_file=host.subnet_file, state_dir=host.state_dir, run_dir=tmp_path / "run"
        ),
        cni=CniSettings(mode=CniMode.DIRECT, conf_dir=folder),
        iface=InterfaceOptions(),
        lease=LeaseSettings(),
        firewall=FirewallSettings(ip_masq=True),
    )
    store = MemoryStore(host.backend)
    agent = Agent(
        settings,
        kernel=host.kernel,
        store=store,
        memory=Memory(state_dir=host.state_dir, subnet_file=host.subnet_file, source=store.source),
        notifier=Notifier({}),
        clock=host.clock,
        randomness=random.Random(1),
        ruleset=host.ruleset,
    )
    host.backend.put_config(DUAL)
    tasks = [asyncio.create_task(work, name=name) for name, work in agent.tasks()]
    assert len({task.get_name() for task in tasks}) == len(tasks)
    try:
        for _ in range(20):
            await host.clock.advance(0.1)
        assert agent.overview.ready() == ()
        (conflist,) = folder.glob("*.conflist")
        written = json.loads(conflist.read_text())
        assert [plugin["type"] for plugin in written["plugins"]] == ["bridge", "portmap"]
        assert "FLANNEL_IPMASQ=true\n" in host.subnet_file.read_text()
        assert "FLANNEL_IPV6_SUBNET=" in host.subnet_file.read_text()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
