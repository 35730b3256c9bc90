"""The node on fakes: what it waits for, what it follows, and what it leaves alone."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from backends.elements import Address, Route, Sysctl, VxlanLink
from flanneld_py.kernel import Action
from flanneld_py.netif import InterfaceOptions
from flanneld_py.testing.kernel import StoredRoute
from subnet import codec
from subnet.model import LeaseAttrs
from tests.leases import mac
from tests.unit.flanneld_py.agent_on_fakes import (
    CONFIG,
    DEV,
    DEV6,
    DUAL,
    FORWARD,
    OWN_IP,
    OWN_IP6,
    UNDERLAY,
    V6_ONLY,
    Host,
    RunningAgent,
    peer_ip,
    subnet6_of,
    subnet_of,
)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def config(text: str = CONFIG, /, **backend: object) -> str:
    """A network config with these backend options."""
    document = json.loads(text)
    document["Backend"].update(backend)
    return json.dumps(document)


def own_lease(run: RunningAgent) -> LeaseAttrs | None:
    """What the store holds under our key."""
    lease = run.agent.session.lease_state.lease
    record = None if lease is None else run.host.backend.records.get(lease.key.encode())
    return None if record is None else codec.decode_attrs(record.value)


def own_mac(run: RunningAgent) -> bytes:
    attrs = own_lease(run)
    assert attrs is not None
    vtep = codec.vtep(attrs.backend_data)
    assert vtep is not None
    return vtep.mac


def device(host: Host, name: str = DEV) -> VxlanLink:
    return host.kernel.namespace.vxlans[name]


def lines(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if part in r.getMessage()]


def is_as_wanted(run: RunningAgent) -> bool:
    return run.host.owned() == run.wanted() and run.ready() == ()


# -- the way to be ready


async def test_a_node_becomes_ready_with_all_its_peers(host: Host) -> None:
    host.backend.put_config(CONFIG)
    host.peer(10)
    host.peer(11)
    async with host.agent() as run:
        assert is_as_wanted(run)
        assert host.has_peer(10)
        assert host.has_peer(11)
        host.peer(12)
        await run.settle()
        assert host.has_peer(12)
        assert run.subnet() not in host.routes()
        first = run.subnet().removesuffix("0/24")
        assert f"FLANNEL_SUBNET={first}1/24\n" in host.subnet_file.read_text()
        assert "FLANNEL_MTU=1450\n" in host.subnet_file.read_text()
        attrs = own_lease(run)
        assert attrs is not None
        assert attrs.public_ip == IPv4Address(OWN_IP)
        assert own_mac(run) == device(host).mac


async def test_nothing_is_claimed_or_written_before_each_step_has_its_ground(host: Host) -> None:
    """No config, then no interface: neither store nor kernel see anything of us."""
    async with host.agent() as run:
        await run.settle(30)
        assert any("holds no network config" in reason for reason in run.ready())
        assert not host.backend.records
        assert host.kernel.asked == []
        host.unplug()
        await run.settle()
        host.backend.put_config(CONFIG)
        await run.settle(30)
        assert any("no external interface" in reason for reason in run.ready())
        assert len(host.backend.records) == 1, "the config only"
        assert host.kernel.asked == []
        host.plug_in()
        await run.until(lambda: is_as_wanted(run), within=5)


async def test_no_claim_before_the_store_has_told_all(host: Host) -> None:
    host.backend.put_config(CONFIG)
    async with host.agent(settle=False) as run:
        run.store.cut()
        await run.settle(20)
        assert run.ready()
        assert host.kernel.asked == []
        assert len(host.backend.records) == 1
        run.store.restore()
        await run.until(lambda: is_as_wanted(run), within=5)


# -- MACs


@pytest.mark.parametrize("source", ["lease", "cache", "device", "random"])
async def test_the_mac_is_the_leases_else_the_caches_else_the_devices_else_random(
    host: Host, source: str
) -> None:
    host.backend.put_config(CONFIG)
    lease_mac, cache_mac, device_mac = mac(501), mac(502), mac(503)
    known = {"lease": lease_mac, "cache": cache_mac, "device": device_mac}.get(source)
    if source in ("lease", "cache"):
        # An earlier life leaves a cache, whose MAC is then exchanged for a known one.
        async with host.agent() as run:
            own = run.agent.session.lease_state.lease
            assert own is not None
            born = own_mac(run)
        cache = host.state_dir / "lease.json"
        cache.write_text(cache.read_text().replace(born.hex(":"), cache_mac.hex(":")))
        host.leave(own.key)
        host.kernel.namespace.remove_link(DEV)
        if source == "lease":
            attrs = replace(own.attrs, backend_data=codec.vtep_text(1, lease_mac))
            host.backend.put_lease(attrs, subnet=own.subnet)
    if source != "random":
        link = VxlanLink(
            name=DEV, vni=1, port=8472, parent=UNDERLAY, local=IPv4Address(OWN_IP).packed,
            mac=device_mac, mtu=1450,
        )  # fmt: skip
        host.kernel.namespace.add_vxlan(link)
        host.kernel.namespace.change_vxlan(DEV, link)
    async with host.agent() as run:
        assert run.ready() == ()
        assert device(host).mac == own_mac(run), "published and used are one"
        if known is None:
            assert own_mac(run) not in (lease_mac, cache_mac, device_mac)
            assert own_mac(run)[0] & 3 == 2, "local and unicast"
        else:
            assert own_mac(run) == known


# -- configs that cannot be


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{", "network config"),
        ('{"Network": "10.244.0.0/99", "Backend": {"Type": "vxlan"}}', "Network"),
        ('{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan", "VNI": "x"}}', "VNI"),
        ('{"Network": "10.244.0.0/16"}', "Backend"),
        ('{"Network": "10.244.0.0/16", "Backend": {"Type": "udp"}}', "Backend.Type"),
    ],
    ids=["broken", "network", "option", "no backend", "udp"],
)
async def test_an_unusable_config_changes_nothing_and_is_said_once(
    host: Host, text: str, names: str, caplog: pytest.LogCaptureFixture
) -> None:
    host.backend.put_config(text)
    host.peer(10)
    records = len(host.backend.records)
    async with host.agent() as run:
        await run.settle(30)
        (reason,) = [reason for reason in run.ready() if names in reason]
        assert len(lines(caplog, reason)) == 1
        assert len(host.backend.records) == records, "no lease is taken"
        assert host.kernel.asked == []
        assert not host.subnet_file.exists()
        host.backend.put_config(CONFIG)
        await run.until(lambda: is_as_wanted(run), within=5)


async def test_a_running_node_keeps_its_config_when_the_new_one_is_unusable(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.backend.put_config(CONFIG)
    host.peer(10)
    async with host.agent() as run:
        before = host.owned()
        asked = len(host.kernel.asked)
        host.backend.put_config('{"Network": "nonsense"}')
        await run.settle(20)
        assert run.ready() == (), "a typo must not take every node out of service"
        (warning,) = [w for w in run.agent.overview.status().warnings if "nonsense" in w]
        assert "the earlier one stays in force" in warning
        assert len(lines(caplog, "nonsense")) == 1
        host.backend.delete(codec.config_key(host.backend.prefix).encode())
        await run.settle(20)
        assert host.owned() == before
        assert len(host.kernel.asked) == asked
        host.backend.put_config(config(MTU=1400))
        await run.until(lambda: device(host).mtu == 1350, within=2)
        await run.settle()
        assert is_as_wanted(run)
        assert not any("nonsense" in w for w in run.agent.overview.status().warnings)


async def test_an_mtu_that_the_interface_does_not_have_is_a_remark(host: Host) -> None:
    host.backend.put_config(config(MTU=9000))
    async with host.agent() as run:
        assert run.ready() == ()
        assert any("9000" in w for w in run.agent.overview.status().warnings)
        assert device(host).mtu == 1450


# -- configs that change


@pytest.mark.parametrize(
    ("options", "check"),
    [
        ({"MTU": 1400}, lambda host: device(host).mtu == 1350),
        ({"Learning": True}, lambda host: device(host).learning),
        ({"GBP": True}, lambda host: device(host).gbp),
        ({"Port": 4789}, lambda host: device(host).port == 4789),
        ({"DirectRouting": True}, lambda host: host.routes()["10.244.20.0/24"] == UNDERLAY),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_an_option_that_changes_is_followed(
    host: Host, options: dict[str, object], check: Callable[[Host], bool]
) -> None:
    host.backend.put_config(CONFIG)
    host.peer(10)
    host.peer(20, ip="172.31.0.20")
    async with host.agent() as run:
        subnet = run.subnet()
        for text, holds in ((config(**options), True), (CONFIG, False)):
            host.backend.put_config(text)
            await run.settle(3)
            assert check(host) is holds
            assert is_as_wanted(run)
            assert host.has_peer(10)
            assert run.subnet() == subnet
        assert run.agent.reconciler.converged()


async def test_direct_routing_follows_what_is_on_link(host: Host) -> None:
    host.backend.put_config(config(DirectRouting=True))
    host.peer(20, ip="172.31.0.20")
    async with host.agent() as run:
        assert host.routes()["10.244.20.0/24"] == UNDERLAY
        lost: list[object] = []
        host.kernel.watch = lambda op: lost.append(op) if host.route_to(20) is None else None
        onlink = host.kernel.host_routes.pop()
        host.kernel.set_host(routes=host.kernel.host_routes)
        await run.settle()
        assert host.has_peer(20)
        host.kernel.set_host(routes=[*host.kernel.host_routes, onlink])
        await run.settle()
        assert host.routes()["10.244.20.0/24"] == UNDERLAY
        assert lost == []
        assert is_as_wanted(run)


async def test_another_vni_means_other_devices_and_the_old_ones_go(host: Host) -> None:
    host.backend.put_config(CONFIG)
    host.peer(10)
    host.peer(11, vni=7)
    async with host.agent() as run:
        old_mac = device(host).mac
        assert not host.has_peer(11)
        host.backend.put_config(config(VNI=7))
        await run.settle(3)
        assert DEV not in host.kernel.namespace.links
        assert device(host, "flannel.7").mac == old_mac
        assert host.has_peer(11, dev="flannel.7")
        assert host.route_to(10) is None, "it still speaks VNI 1"
        assert is_as_wanted(run)
        attrs = own_lease(run)
        assert attrs is not None
        vtep = codec.vtep(attrs.backend_data)
        assert vtep is not None
        assert vtep.vni == 7


# -- the interface


async def test_an_underlay_that_vanishes_keeps_lease_and_context_and_heals(host: Host) -> None:
    host.backend.put_config(CONFIG)
    host.peer(10)
    async with host.agent() as run:
        subnet, published, text = run.subnet(), own_lease(run), host.subnet_file.read_text()
        host.unplug()
        await run.settle(30)
        assert any(UNDERLAY in reason for reason in run.ready())
        assert (run.subnet(), own_lease(run)) == (subnet, published)
        assert host.subnet_file.read_text() == text
        host.plug_in()
        await run.until(lambda: is_as_wanted(run), within=3)
        assert host.has_peer(10)
        assert own_lease(run) == published


async def test_a_smaller_underlay_mtu_reaches_device_and_file(host: Host) -> None:
    host.backend.put_config(CONFIG)
    async with host.agent() as run:
        index = host.kernel.namespace.links[DEV].ifindex
        for mtu in (1400, 9000):
            host.kernel.namespace.set_link(UNDERLAY, mtu=mtu)
            await run.settle(3)
            assert device(host).mtu == mtu - 50
            assert f"FLANNEL_MTU={mtu - 50}\n" in host.subnet_file.read_text()
        assert host.kernel.namespace.links[DEV].ifindex == index


async def test_a_new_address_of_the_interface_is_published_under_the_same_subnet(
    host: Host,
) -> None:
    host.backend.put_config(CONFIG)
    host.peer(10)
    async with host.agent() as run:
        subnet, old_mac = run.subnet(), own_mac(run)
        host.set_address("172.31.0.77")
        await run.settle(3)
        attrs = own_lease(run)
        assert attrs is not None
        assert attrs.public_ip == IPv4Address("172.31.0.77")
        assert device(host).local == IPv4Address("172.31.0.77").packed
        assert (run.subnet(), own_mac(run)) == (subnet, old_mac)
        assert is_as_wanted(run)
        assert host.has_peer(10)


async def test_a_published_address_need_not_be_the_interfaces_own(host: Host) -> None:
    host.backend.put_config(CONFIG)
    options = InterfaceOptions(ifaces=(UNDERLAY,), public_ip=IPv4Address("203.0.113.9"))
    async with host.agent(options=options) as run:
        attrs = own_lease(run)
        assert attrs is not None
        assert attrs.public_ip == IPv4Address("203.0.113.9")
        assert device(host).local == IPv4Address(OWN_IP).packed


# -- the store


async def test_losing_the_store_changes_nothing_and_what_it_missed_follows(host: Host) -> None:
    host.backend.put_config(CONFIG)
    host.peer(10)
    gone = host.peer(11)
    async with host.agent() as run:
        asked = len(host.kernel.asked)
        run.store.cut()
        host.leave(gone)
        host.peer(12)
        await run.settle(300)
        assert len(host.kernel.asked) == asked
        assert run.ready() == ()
        assert not run.agent.overview.status().store.connected
        run.store.restore()
        await run.until(lambda: host.has_peer(12) and not host.route_to(11), within=5)
        assert is_as_wanted(run)


async def test_peers_that_a_wiped_store_lacks_are_held_for_a_while(host: Host) -> None:
    host.backend.put_config(CONFIG)
    host.peer(10)
    host.peer(11)
    async with host.agent() as run:
        subnet, before = run.subnet(), host.kernel.deletions()
        host.backend.wipe()
        host.backend.put_config(CONFIG)
        host.peer(10)
        await run.settle(20)
        assert run.subnet() == subnet
        assert own_lease(run) is not None, "claimed again"
        assert host.has_peer(10)
        assert host.has_peer(11), "its node may come back"
        assert host.kernel.deletions() == before
        status = run.agent.overview.status()
        assert status.peers.counts.get("held") == 1
        assert any("not the one that was known" in warning for warning in status.warnings)
        await run.settle(300)
        assert host.route_to(11) is None
        assert host.has_peer(10)


async def test_a_store_that_was_wiped_while_we_were_away_removes_nothing_for_a_while(
    host: Host,
) -> None:
    host.backend.put_config(CONFIG)
    host.peer(10)
    host.peer(11)
    async with host.agent() as run:
        subnet = run.subnet()
        await run.settle(70)
    host.backend.wipe()
    host.backend.put_config(CONFIG)
    host.peer(10)
    async with host.agent() as run:
        await run.settle(20)
        assert run.subnet() == subnet
        assert host.has_peer(10)
        assert host.has_peer(11)
        assert host.kernel.deletions() == []
        await run.settle(300)
        assert host.route_to(11) is None
        assert is_as_wanted(run)


async def test_our_lease_deleted_is_claimed_again(host: Host) -> None:
    host.backend.put_config(CONFIG)
    host.peer(10)
    async with host.agent() as run:
        subnet, lease = run.subnet(), run.agent.session.lease_state.lease
        assert lease is not None
        asked = len(host.kernel.asked)
        host.leave(lease.key)
        await run.settle(5)
        assert own_lease(run) is not None
        assert run.subnet() == subnet
        assert len(host.kernel.asked) == asked
        assert is_as_wanted(run)


async def test_a_subnet_lost_to_another_node_keeps_its_pods_and_is_not_stolen(host: Host) -> None:
    host.backend.put_config(CONFIG)
    host.peer(10)
    async with host.agent() as run:
        lease = run.agent.session.lease_state.lease
        assert lease is not None
        assert lease.subnet is not None
        run.store.cut()
        host.leave(lease.key)
        number = lease.subnet[0].packed[2]
        key = host.peer(200, subnet=number)
        before, text = host.owned(), host.subnet_file.read_text()
        run.store.restore()
        await run.settle(60)
        assert any("is overwritten" in r or "now held by" in r for r in run.ready())
        assert host.owned() == before, "our pods' state stays, the new owner gets no route"
        assert host.route_to(number) is None
        assert host.subnet_file.read_text() == text
        attrs = codec.decode_attrs(host.backend.records[key.encode()].value)
        assert attrs.public_ip == peer_ip(200)
        host.leave(key)
        await run.until(lambda: run.ready() == (), within=10)
        assert run.subnet() == lease.subnets_text()


# -- families


async def test_both_families_of_a_dual_stack_node(host: Host) -> None:
    host.backend.put_config(DUAL)
    host.peer(10, dual=True)
    host.peer(11)
    async with host.agent() as run:
        assert is_as_wanted(run)
        assert host.routes()[str(subnet6_of(10))] == DEV6
        assert host.routes()[str(subnet_of(10))] == DEV
        assert device(host, DEV6).mac != device(host).mac
        assert "FLANNEL_MTU=1430\n" in host.subnet_file.read_text()
        assert host.kernel.sysctls["net/ipv6/conf/all/forwarding"] == "1"
        assert host.kernel.sysctls[f"net/ipv6/conf/{UNDERLAY}/accept_ra"] == "2"
        host.kernel.namespace.remove_link(DEV6)
        await run.until(lambda: is_as_wanted(run), within=2)
        # Nothing of one family waits for the other.
        host.kernel.refused[device(host, DEV6).key] = OSError(95, "not supported")
        host.kernel.namespace.remove_link(DEV6)
        host.peer(12, dual=True)
        await run.settle(3)
        assert host.has_peer(12)


async def test_an_ipv6_only_node(host: Host) -> None:
    host.backend.put_config(V6_ONLY)
    host.peer(10, v6_only=True)
    async with host.agent() as run:
        assert is_as_wanted(run)
        assert set(host.kernel.namespace.vxlans) == {DEV6}
        assert host.routes() == {str(subnet6_of(10)): DEV6}
        attrs = own_lease(run)
        assert attrs is not None
        assert (attrs.public_ip, str(attrs.public_ipv6)) == (None, OWN_IP6)
        assert host.kernel.sysctls[FORWARD] == "0", "not asked for"


async def test_a_family_that_is_switched_off_leaves_nothing(host: Host) -> None:
    host.backend.put_config(DUAL)
    host.peer(10, dual=True)
    async with host.agent() as run:
        host.backend.put_config(CONFIG)
        await run.settle(5)
        assert DEV6 not in host.kernel.namespace.links
        assert host.has_peer(10)
        left = host.owned().values()
        assert [e for e in left if isinstance(e, Route) and len(e.dst) == 16] == []


# -- restarts


@pytest.mark.parametrize("text", [CONFIG, DUAL, V6_ONLY], ids=["v4", "dual", "v6"])
@pytest.mark.parametrize("nexthops", [True, False], ids=["nexthops", "classic"])
async def test_a_restart_adopts_everything_without_a_write(
    tmp_path: Path, text: str, nexthops: bool
) -> None:
    host = Host(tmp_path, nexthops=nexthops)
    host.backend.put_config(text)
    for number in range(10, 30):
        host.peer(number, dual=text == DUAL, v6_only=text == V6_ONLY)
    async with host.agent() as run:
        assert is_as_wanted(run)
        subnet, before = run.subnet(), host.owned()
    assert host.owned() == before, "nothing is removed on exit"
    host.kernel.asked.clear()
    host.seed = 2
    async with host.agent() as run:
        await run.settle(30)
        assert run.subnet() == subnet
        assert is_as_wanted(run)
    assert host.kernel.asked == []
    assert host.owned() == before


async def test_what_happened_while_we_were_away_is_made_good(host: Host) -> None:
    host.backend.put_config(CONFIG)
    keys = {number: host.peer(number) for number in range(10, 20)}
    async with host.agent():
        pass
    host.leave(keys[10])
    host.peer(11, mac_number=211)
    host.peer(12, ip="172.31.9.12")
    space = host.kernel.namespace
    foreign = StoredRoute(
        route=Route(
            dst=bytes([192, 168, 9, 0]), prefixlen=24, metric=0, dev=DEV, onlink=True, protocol=4,
            gateway=bytes([10, 9, 9, 9]),
        )
    )  # fmt: skip
    space.put_route(foreign, "exclusive")
    outside = Address(dev=DEV, address=bytes([192, 168, 77, 1]), prefixlen=32)
    space.add_address(outside)
    async with host.agent() as run:
        assert is_as_wanted(run)
        assert host.route_to(10) is None
        assert all(host.has_peer(number) for number in range(11, 20))
        assert foreign in space.routes
        assert outside in space.addresses.values()


async def test_routes_of_flannel_are_taken_over_without_a_moment_without_one(host: Host) -> None:
    host.backend.put_config(CONFIG)
    host.peer(10)
    async with host.agent():
        pass
    space = host.kernel.namespace
    theirs = Route(dst=subnet_of(10)[0].packed, prefixlen=24, metric=0, dev=DEV, onlink=True,
                   gateway=subnet_of(10)[0].packed, protocol=3)  # fmt: skip
    space.put_route(StoredRoute(route=theirs), "replace")
    lost: list[object] = []
    host.kernel.watch = lambda op: lost.append(op) if host.route_to(10) is None else None
    async with host.agent() as run:
        assert is_as_wanted(run)
        route = host.route_to(10)
        assert route is not None
        assert route.protocol == 241
        assert lost == []


async def test_flannels_direct_route_is_taken_over_too(host: Host) -> None:
    """It is not ours by scope, for it is on another device: met by EEXIST."""
    host.backend.put_config(CONFIG)
    host.peer(20, ip="172.31.0.20")
    theirs = Route(dst=subnet_of(20)[0].packed, prefixlen=24, metric=0, dev=UNDERLAY,
                   gateway=IPv4Address("172.31.0.20").packed, protocol=3)  # fmt: skip
    host.kernel.namespace.put_route(StoredRoute(route=theirs), "exclusive")
    async with host.agent() as run:
        assert is_as_wanted(run)
        assert host.has_peer(20)


async def test_a_foreign_route_is_named_as_what_blocks_the_peer(host: Host) -> None:
    host.backend.put_config(CONFIG)
    host.peer(10)
    host.peer(11)
    foreign = host.foreign_route(10)
    async with host.agent() as run:
        await run.settle(5)
        assert run.ready() == ()
        peers = run.agent.overview.status().peers
        (blocked,) = peers.listed
        assert blocked.state.value == "failing"
        assert blocked.reason.startswith("blocked by route 10.244.10.0/24 via 172.31.0.254")
        assert peers.counts == {"programmed": 1, "failing": 1}
        assert foreign in host.kernel.namespace.routes
        host.kernel.namespace.remove_route(foreign)
        await run.until(lambda: host.has_peer(10), within=13)
        assert is_as_wanted(run)
        assert run.agent.overview.status().peers.counts == {"programmed": 2}


async def test_settings_are_set_and_what_they_were_is_remembered(host: Host) -> None:
    host.backend.put_config(CONFIG)
    async with host.agent() as run:
        assert host.kernel.sysctls[FORWARD] == "1"
        assert run.agent.node.settings_before[FORWARD] == "0"
        host.kernel.sysctls[FORWARD] = "0"
        await run.settle(10)
        assert host.kernel.sysctls[FORWARD] == "1"
    kept = json.loads((host.state_dir / "settings-before.json").read_text())["settings"]
    assert kept[FORWARD] == "0"
    assert kept[f"net/ipv6/conf/{DEV}/accept_ra"] == "1"


async def test_a_host_without_ipv6_is_as_good(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.kernel.sysctls = {FORWARD: "0"}
    host.backend.put_config(CONFIG)
    async with host.agent() as run:
        assert run.ready() == ()
        assert host.subnet_file.exists()
        await run.settle(60)
        assert len(lines(caplog, "accept_ra")) == 1


async def test_forwarding_that_cannot_be_set_is_a_reason(host: Host) -> None:
    host.backend.put_config(CONFIG)
    host.kernel.refused = {Sysctl(name=FORWARD, value="1").key: OSError(30, "read-only")}
    async with host.agent() as run:
        (reason,) = run.ready()
        assert reason == f"the kernel lacks sysctl {FORWARD} = 1: read-only"
        assert not host.subnet_file.exists()
        host.kernel.sysctls[FORWARD] = "1"
        await run.until(lambda: run.ready() == (), within=10)


async def test_the_agents_own_lease_is_never_planned(host: Host) -> None:
    host.backend.put_config(CONFIG)
    async with host.agent() as run:
        assert run.subnet() not in host.routes()
        assert not [op for op in host.kernel.asked if op.action is Action.DELETE]
        lease = run.agent.session.lease_state.lease
        assert lease is not None
        assert run.agent.reconciler.tracker.plan_of(lease.key) == ()
        run.agent.planner.changed([lease.key])
        await run.settle()
        assert run.subnet() not in host.routes()


async def test_said_lines_are_few(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """A quiet start and a quiet hour."""
    caplog.set_level(logging.INFO)
    host.backend.put_config(CONFIG)
    for number in range(10, 60):
        host.peer(number)
    async with host.agent() as run:
        started = len(caplog.records)
        assert started < 20
        await run.settle(3600)
        assert [r.getMessage() for r in caplog.records[started:]] == []
