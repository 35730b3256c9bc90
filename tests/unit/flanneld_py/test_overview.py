"""What the agent says of itself, and when it calls itself ready."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from flanneld_py import status as st
from tests.unit.flanneld_py.agent_on_fakes import (
    CONFIG,
    DEV,
    OWN_IP,
    UNDERLAY,
    Host,
    RunningAgent,
    subnet_of,
)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.backend.put_config(CONFIG)
    return host


def status(run: RunningAgent) -> st.Status:
    """As a client reads it."""
    return st.decode(st.encode(run.agent.overview.status()))


async def test_a_ready_node_says_what_it_uses(host: Host) -> None:
    host.peer(10)
    host.peer(11)
    async with host.agent() as run:
        seen = status(run)
        assert (seen.ready, seen.reasons, seen.warnings) == (True, (), ())
        assert seen.lease.phase is st.LeasePhase.HELD
        assert seen.lease.subnets == (run.subnet(),)
        assert seen.lease.expires_in is not None
        assert 86000 < seen.lease.expires_in <= 86400
        assert seen.interface.name == UNDERLAY
        assert seen.interface.addresses == seen.interface.public_ips == (OWN_IP,)
        assert seen.interface.mtu == 1500
        assert "default route" in seen.interface.reason
        backend = seen.backend
        assert (backend.type, backend.devices, backend.vni, backend.port, backend.mtu) == (
            "vxlan",
            (DEV,),
            1,
            8472,
            1450,
        )
        assert backend.nexthops is True
        assert seen.peers.counts == {"programmed": 2}
        assert seen.peers.listed == ()
        assert seen.store.connected
        assert seen.store.revision == host.backend.revision
        counts = {kind.kind: kind for kind in seen.elements.kinds}
        assert counts["route"] == st.KindCounts(kind="route", desired=3, observed=3)
        assert counts["sysctl"].desired == counts["sysctl"].observed == 2
        assert any("create" in change.text for change in seen.changes)


async def test_before_anything_is_known_it_says_what_it_waits_for(tmp_path: Path) -> None:
    host = Host(tmp_path)
    async with host.agent(settle=False) as run:
        run.store.cut()
        await run.settle()
        seen = status(run)
        assert not seen.ready
        assert any("cut off" in reason for reason in seen.reasons)
        assert seen.lease.phase is st.LeasePhase.WAITING
        assert not seen.store.connected
        assert seen.interface == st.InterfaceStatus()
        assert seen.backend == st.BackendStatus()


async def test_each_peer_that_is_not_programmed_has_its_reason(host: Host) -> None:
    host.peer(10)
    host.peer(11, vni=9)
    host.peer(12, backend_type="host-gw")
    host.backend.put(f"{host.backend.prefix}/subnets/10.244.13.0-24".encode(), b"garbage")
    host.peer(14, subnet=10, ip="172.31.5.5")
    host.foreign_route(15)
    host.peer(15)
    host.peer(17)
    host.peer(16, mac_number=17)
    async with host.agent() as run:
        seen = status(run)
        assert seen.ready, "others' faults are not ours"
        by_state = {
            state: [p for p in seen.peers.listed if p.state is state] for state in st.PeerState
        }
        assert [p.reason[:7] for p in by_state[st.PeerState.FAILING]] == ["blocked"]
        wrong = {p.subnets[0]: p.reason for p in by_state[st.PeerState.NOT_PROGRAMMED]}
        assert "its VNI is 9, ours is 1" in wrong[str(subnet_of(11))]
        assert "host-gw" in wrong[str(subnet_of(12))]
        quarantined = {
            p.key.rsplit("/", 1)[-1]: p.reason for p in by_state[st.PeerState.QUARANTINED]
        }
        assert set(quarantined) >= {"10.244.13.0-24", "10.244.16.0-24"}
        assert "MAC is held by" in quarantined["10.244.16.0-24"]
        total = sum(seen.peers.counts.values())
        assert total == len(seen.peers.listed) + seen.peers.counts.get("programmed", 0)


async def test_lists_are_bounded_and_what_is_left_out_is_counted(host: Host) -> None:
    host.backend.put_config(CONFIG.replace("10.244.0.0/16", "10.128.0.0/9"))
    count = st.MAX_PEERS + 30
    for number in range(count):
        host.peer(number % 250 + 1, subnet=number + 1, mac_number=number + 1, vni=5,
                  ip=f"172.30.{number // 250}.{number % 250 + 1}")  # fmt: skip
    async with host.agent() as run:
        await run.settle(3)
        seen = status(run)
        assert len(seen.peers.listed) == st.MAX_PEERS
        assert seen.peers.counts == {"not programmed": count}
        assert seen.peers.omitted == 30


async def test_failing_elements_are_named_with_their_next_try(host: Host) -> None:
    host.peer(10)
    async with host.agent() as run:
        entry = host.kernel.namespace.fdb[next(iter(host.kernel.namespace.fdb))]
        host.kernel.refused[entry.key] = OSError(errno.ENOMEM, "no memory")
        host.kernel.namespace.remove_entry(entry)
        await run.settle(5)
        seen = status(run)
        (failing,) = seen.elements.failing
        assert failing.element == entry.describe()
        assert failing.reason == "no memory"
        assert failing.tries >= 4
        assert 0 <= failing.next_try_in <= 12.5
        assert seen.peers.counts == {"failing": 1}
        assert seen.ready
        counts = {kind.kind: kind for kind in seen.elements.kinds}
        assert (counts["fdb"].desired, counts["fdb"].observed, counts["fdb"].failing) == (1, 0, 1)


async def test_a_device_that_cannot_be_made_is_a_reason(host: Host) -> None:
    async with host.agent() as run:
        link = host.kernel.namespace.vxlans[DEV]
        host.kernel.refused[link.key] = OSError(errno.EOPNOTSUPP, "no vxlan in this kernel")
        host.kernel.namespace.remove_link(DEV)
        await run.settle(3)
        (reason,) = status(run).reasons
        assert reason == f"the kernel lacks {link.describe()}: no vxlan in this kernel"
        host.kernel.refused.clear()
        await run.until(lambda: run.ready() == (), within=12)


async def test_a_file_that_cannot_be_written_is_a_reason(host: Host) -> None:
    host.subnet_file.mkdir()
    async with host.agent() as run:
        (reason,) = status(run).reasons
        assert str(host.subnet_file) in reason
        host.subnet_file.rmdir()
        await run.until(lambda: run.ready() == (), within=5)


async def test_who_fights_us_is_named(host: Host) -> None:
    host.peer(10)
    async with host.agent() as run:
        entry = next(iter(host.kernel.namespace.fdb.values()))
        for _ in range(20):
            if entry in host.kernel.namespace.fdb.values():
                host.kernel.namespace.remove_entry(entry)
            await run.settle(0.1)
        (warning,) = status(run).warnings
        assert warning == f"another program keeps changing {entry.describe()}"
        await run.settle(8)
        assert status(run).warnings == ()


async def test_losing_the_store_is_told_and_no_reason(host: Host) -> None:
    async with host.agent() as run:
        run.store.cut()
        await run.settle()
        seen = status(run)
        assert seen.ready
        assert not seen.store.connected
        assert "cut off" in seen.store.reason
        run.store.restore()
        await run.settle()
        assert status(run).store.connected
