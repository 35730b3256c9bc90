"""LinuxKernel against the real kernel: what only the real one can show, judged by iproute2."""

from __future__ import annotations

import asyncio
import errno
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from backends.elements import (
    BACKSTOP_METRIC,
    Address,
    Element,
    Fdb,
    Neighbour,
    Nexthop,
    Route,
    VxlanLink,
    ip_text,
)
from flanneld_py.kernel import Action, Failure, Op, Scope
from flanneld_py.kernel.batch import RequestSocket
from flanneld_py.kernel.links import LinkWriter
from flanneld_py.kernel.linux import LinuxKernel
from flanneld_py.kernel.rtnl import DeviceRefused, Devices
from flanneld_py.kernel.view import View
from tests.contract.kernel_worlds import (
    LOCAL,
    LOCAL6,
    UNDERLAY,
    LinuxWorld,
    fresh_namespace,
    ip,
    ip_json,
    sh,
)

CHECKOUT = Path(__file__).resolve().parents[2]
GOLDEN = CHECKOUT / "tests/golden/etcd-vxlan-dual/link.json"
DEV, DEV6 = "flannel.1", "flannel-v6.1"
SCOPE = Scope(
    devices=frozenset({DEV, DEV6}),
    networks=(IPv4Network("10.0.0.0/8"), IPv6Network("fd00:10:244::/48")),
)
LINK = VxlanLink(
    name=DEV, vni=1, port=8472, parent=UNDERLAY, local=LOCAL, mac=b"\x02\0\0\0\0\x01", mtu=1450
)
LINK6 = replace(LINK, name=DEV6, local=LOCAL6, mac=b"\x02\0\0\0\0\x06", mtu=1430)


@pytest.fixture
def world() -> Iterator[LinuxWorld]:
    with fresh_namespace():
        yield LinuxWorld()


@pytest.fixture
async def kernel(world: LinuxWorld) -> AsyncIterator[LinuxKernel]:
    world.open()
    assert isinstance(world.kernel, LinuxKernel)
    await world.kernel.observe(SCOPE)
    yield world.kernel
    world.close()


async def do(kernel: LinuxKernel, action: Action, *elements: Element) -> list[Failure]:
    return await kernel.apply([Op(action=action, element=element) for element in elements])


async def create(kernel: LinuxKernel, *elements: Element) -> list[Failure]:
    return await do(kernel, Action.CREATE, *elements)


async def owned(kernel: LinuxKernel) -> set[Element]:
    return set((await kernel.observe(SCOPE)).elements)


def many(count: int, *, by_nexthop: bool = True) -> list[Element]:
    """Elements of `count` peers, sorted by kind."""
    kinds: tuple[list[Element], ...] = ([], [], [], [])
    for number in range(1, count + 1):
        net = (0x0A000000 + (number << 8)).to_bytes(4, "big")
        mac = b"\x02\x01" + number.to_bytes(4, "big")
        out = (0xAC1F0000 + number).to_bytes(4, "big")
        kinds[0].append(Fdb(dev=DEV, mac=mac, dst=out))
        kinds[1].append(Neighbour(dev=DEV, dst=net, mac=mac))
        if by_nexthop:
            kinds[2].append(Nexthop(dev=DEV, gateway=net, onlink=True))
        kinds[3].append(
            Route(
                dst=net, prefixlen=24, metric=0, gateway=net, dev=DEV, onlink=True,
                by_nexthop=by_nexthop,
            )
        )  # fmt: skip
    return [element for part in kinds for element in part]


def _comparable(link: dict[str, Any]) -> dict[str, Any]:
    """What flannel decides about a device; not what iproute2's versions say beside it."""
    data = link["linkinfo"]["info_data"]
    keys = ("ifname", "mtu", "qdisc", "link_type", "num_tx_queues", "flags", "txqlen")
    return {**{key: link.get(key) for key in keys}, **data}


async def test_devices_are_exactly_flannels(kernel: LinuxKernel) -> None:
    golden = {link["ifname"]: link for link in json.loads(GOLDEN.read_text())}
    local = bytes([172, 31, 0, 1])
    local6 = bytes.fromhex("fd000172000000000000000000000001")
    ip("addr add fd00:172::1/64 dev u0 nodad")
    assert await create(kernel, replace(LINK, local=local), replace(LINK6, local=local6)) == []
    for name in (DEV, DEV6):
        [ours] = ip_json(f"link show {name}")
        assert _comparable(ours) == _comparable(golden[name])


async def test_a_device_with_all_options(kernel: LinuxKernel) -> None:
    wanted = replace(LINK, vni=42, port=4789, gbp=True, learning=True, mtu=1300)
    assert await create(kernel, wanted) == []
    [link] = ip_json(f"link show {DEV}")
    data = link["linkinfo"]["info_data"]
    assert (data["id"], data["port"], data["gbp"], data["learning"]) == (42, 4789, True, True)
    assert (link["mtu"], link["address"]) == (1300, "02:00:00:00:00:01")


async def test_a_device_follows_its_underlay_in_place(kernel: LinuxKernel) -> None:
    await create(kernel, LINK, *many(3))
    [before] = ip_json(f"link show {DEV}")
    ip("link add u2 type veth peer name far2")
    ip("link set u2 up")
    moved = replace(LINK, parent="u2", local=bytes([172, 31, 9, 1]), learning=True)
    assert await do(kernel, Action.REPLACE, moved) == []
    [after] = ip_json(f"link show {DEV}")
    assert after["ifindex"] == before["ifindex"]
    assert after["linkinfo"]["info_data"]["link"] == "u2"
    assert await owned(kernel) == {moved, *many(3)}


async def test_a_kernel_that_cannot_move_a_device_gets_a_new_one(world: LinuxWorld) -> None:
    class Rigid(Devices):
        async def change_vxlan(self, index: int, wanted: VxlanLink, parent: int) -> None:
            raise DeviceRefused(errno.EOPNOTSUPP)

    world.open()
    world.close()
    sock, view = RequestSocket(), View()
    links = LinkWriter(sock, view, lambda: None, Rigid())
    moved = replace(LINK, local=bytes([172, 31, 0, 9]))
    indices = []
    for wanted in (LINK, moved):
        assert await links.write(Op(action=Action.REPLACE, element=wanted)) is None
        [shown] = ip_json(f"link show {DEV}")
        indices.append(shown["ifindex"])
        local = shown["linkinfo"]["info_data"]["local"]
        assert local == ip_text(wanted.local)
    sock.close()
    assert indices[0] != indices[1]


async def test_addresses_can_be_used_at_once(kernel: LinuxKernel) -> None:
    v4 = Address(dev=DEV, address=bytes([10, 244, 1, 0]), prefixlen=32)
    v6 = Address(dev=DEV6, address=bytes.fromhex("fd000010024400010000000000000000"), prefixlen=128)
    assert await create(kernel, LINK, LINK6, v4, v6) == []
    [link] = ip_json(f"addr show dev {DEV6}")
    [shown] = [a for a in link["addr_info"] if a["local"] == "fd00:10:244:1::"]
    assert shown["prefixlen"] == 128
    assert "tentative" not in shown
    assert await create(kernel, v4, v6) == []
    [failure] = await create(kernel, replace(v6, prefixlen=64))
    assert failure.errno == errno.EEXIST
    assert "128" in failure.reason


async def test_what_iproute2_shows_of_a_peer(kernel: LinuxKernel) -> None:
    backstop = Route(
        dst=bytes([10, 0, 0, 0]), prefixlen=8, metric=BACKSTOP_METRIC, type="unreachable"
    )
    assert await create(kernel, LINK, *many(1), backstop) == []
    route, stop = sorted(_routes(), key=lambda shown: shown.get("metric", 0))
    assert (route["dst"], route["gateway"], route["dev"]) == ("10.0.1.0/24", "10.0.1.0", DEV)
    assert (route["protocol"], route["flags"]) == ("241", ["onlink"])
    assert (stop["type"], stop["dst"], stop["metric"]) == (
        "unreachable",
        "10.0.0.0/8",
        BACKSTOP_METRIC,
    )
    [nexthop] = ip_json("nexthop show")
    assert nexthop["protocol"] == "241"
    assert route["nhid"] == nexthop["id"]
    [neighbour] = ip_json(f"neigh show dev {DEV} nud permanent")
    assert (neighbour["dst"], neighbour["lladdr"]) == ("10.0.1.0", "02:01:00:00:00:01")
    [fdb] = json.loads(sh("bridge", "-j", "fdb", "show", "dev", DEV))
    assert (fdb["mac"], fdb["dst"]) == ("02:01:00:00:00:01", "172.31.0.1")
    assert (fdb["flags"], fdb["state"]) == (["self"], "permanent")


def _routes() -> list[dict[str, Any]]:
    return [r for r in ip_json("route show") if r["protocol"] == "241"]


async def test_what_is_foreign_on_our_device_is_not_ours(kernel: LinuxKernel) -> None:
    await create(kernel, LINK, *many(1))
    ip(f"neigh add 10.0.9.9 lladdr 02:00:00:00:00:77 dev {DEV} nud reachable")
    ip(f"neigh add proxy 10.0.9.8 dev {DEV}")
    ip(f"addr add 192.168.7.1/24 dev {DEV}")
    ip(f"route add 10.77.0.0/16 dev {DEV} proto static")
    ip(f"route add 192.168.99.0/24 via 192.168.7.2 dev {DEV}")
    sh("bridge", *f"fdb add 02:00:00:00:00:78 dev {DEV} dst 172.31.0.9 dynamic".split())
    ip(f"nexthop add id 5 via 10.0.9.9 dev {DEV} onlink")
    ip("route add 10.88.0.0/16 via 172.31.0.2 proto 241 table 99")
    assert await owned(kernel) == {LINK, *many(1)}


async def test_what_administrators_add_permanently_is_ours_to_judge(kernel: LinuxKernel) -> None:
    await create(kernel, LINK)
    ip(f"neigh add 10.0.9.9 lladdr 02:00:00:00:00:77 dev {DEV} nud permanent")
    for target in ("172.31.0.9", "172.31.0.10"):
        sh("bridge", *f"fdb append 00:00:00:00:00:00 dev {DEV} dst {target}".split())
    sh("bridge", *f"fdb add 02:00:00:00:00:78 dev {DEV} dst 172.31.0.9 port 1234".split())
    odd = Fdb(dev=DEV, mac=b"\x02\0\0\0\0\x78", dst=bytes(4))
    found = await owned(kernel)
    assert odd in found
    neighbour = Neighbour(dev=DEV, dst=bytes([10, 0, 9, 9]), mac=b"\x02\0\0\0\0\x77")
    assert neighbour in found
    right = replace(odd, dst=bytes([172, 31, 0, 9]))
    assert await do(kernel, Action.REPLACE, right) == []
    assert right in await owned(kernel)
    rest = await owned(kernel) - {LINK}
    assert await do(kernel, Action.DELETE, *rest) == []
    assert await owned(kernel) == {LINK}


async def test_nexthops_that_are_of_no_use_are_removed(kernel: LinuxKernel) -> None:
    await create(kernel, LINK, *many(2))
    ip("nexthop add id 7 blackhole proto 241")
    ip(f"nexthop add id 8 dev {DEV} proto 241")
    ip("nexthop add id 9 group 8 proto 241")
    rest = await owned(kernel) - {LINK, *many(2)}
    assert sorted(element.key[-1] for element in rest) == [7, 8, 9]
    for element in rest:
        assert element.describe()
    assert await do(kernel, Action.DELETE, *rest) == []
    assert await owned(kernel) == {LINK, *many(2)}


async def test_multipath_routes_of_our_protocol_are_seen_and_removed(kernel: LinuxKernel) -> None:
    await create(kernel, LINK)
    ip("route add 10.9.0.0/24 proto 241 nexthop via 172.31.0.2 nexthop via 172.31.0.3")
    ip("route add blackhole 10.8.0.0/24 proto 241")
    ip("route add 10.7.0.0/24 dev u0 proto 241")
    rest = await owned(kernel) - {LINK}
    assert len(rest) == 3
    assert await do(kernel, Action.DELETE, *rest) == []
    assert await owned(kernel) == {LINK}


async def test_a_device_that_others_rename_or_make_is_noticed(
    kernel: LinuxKernel,
) -> None:
    await create(kernel, LINK)
    await kernel.observe(SCOPE)
    ip(f"link set {DEV} down")
    assert kernel.drain().resync
    await kernel.observe(SCOPE)
    ip(f"link set {DEV} name other")
    assert kernel.drain().resync
    assert await owned(kernel) == set()
    ip(f"link add {DEV} type vxlan id 2 dev u0 dstport 8472")
    changes = kernel.drain()
    assert changes.resync
    assert any(key == LINK.key for key, _ in changes.seen)


async def test_a_device_made_between_two_looks_is_corrected(kernel: LinuxKernel) -> None:
    ip(f"link add {DEV} mtu 1400 type vxlan id 1 dev u0 local 172.31.0.1 dstport 8472")
    assert await create(kernel, LINK) == []
    assert kernel.drain().resync
    assert await owned(kernel) == {LINK}


async def test_ipv6_routes_are_replaced_in_place(kernel: LinuxKernel) -> None:
    net = bytes.fromhex("fd000010024400020000000000000000")
    nexthop = Nexthop(dev=DEV6, gateway=net, onlink=True)
    route = Route(
        dst=net, prefixlen=64, metric=1024, gateway=net, dev=DEV6, onlink=True, by_nexthop=True
    )
    classic = replace(route, by_nexthop=False)
    await create(kernel, LINK6, nexthop)
    ip(f"route add fd00:10:244:2::/64 via fd00:10:244:2:: dev {DEV6} onlink")
    for wanted in (route, classic, route):
        assert await do(kernel, Action.REPLACE, wanted) == []
        assert len(ip_json("-6 route show fd00:10:244:2::/64")) == 1
        assert wanted in await owned(kernel)


async def test_where_a_packet_would_go(kernel: LinuxKernel) -> None:
    answer = await kernel.route_to(bytes([172, 31, 0, 77]))
    assert answer is not None
    assert (answer.dev, answer.source) == (UNDERLAY, LOCAL)
    assert await kernel.route_to(bytes([8, 8, 8, 8])) is None
    answer = await kernel.route_to(LOCAL6[:15] + b"\x77")
    assert answer is not None
    assert (answer.dev, answer.source) == (UNDERLAY, LOCAL6)


@pytest.mark.parametrize("by_nexthop", [True, False])
async def test_thousands_of_peers_without_stalling_the_loop(
    kernel: LinuxKernel, by_nexthop: bool
) -> None:
    await create(kernel, LINK)
    await kernel.observe(SCOPE)
    kernel.on_change(lambda: None)
    peers = many(3000, by_nexthop=by_nexthop)
    stalls: list[float] = []

    async def watch() -> None:
        before = perf_counter()
        while True:
            await asyncio.sleep(0)
            now = perf_counter()
            stalls.append(now - before)
            before = now

    ops = [Op(action=Action.CREATE, element=element) for element in peers]
    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(watch())
        assert await kernel.apply(ops) == []
        changes = kernel.drain()
        assert {key for key, element in changes.seen if element is not None} >= {
            element.key for element in peers
        }
        found = await kernel.observe(SCOPE)
        watcher.cancel()
    assert set(found.elements) == {LINK, *peers}
    # The machine may be busy: the promise is 50 ms for what we do, so nearly all turns keep it.
    assert sorted(stalls)[-3] < 0.15
    assert await do(kernel, Action.DELETE, *reversed(peers)) == []
    assert await owned(kernel) == {LINK}


async def test_errors_in_the_middle_of_a_large_batch(kernel: LinuxKernel) -> None:
    await create(kernel, LINK)
    peers = many(700)
    broken = [replace(e, gateway=bytes([224, 0, 0, 1])) for e in peers if isinstance(e, Nexthop)]
    mixed = [*broken[:5], *peers, *broken[5:10]]
    failures = await create(kernel, *mixed)
    assert [failure.op.element for failure in failures] == broken[:10]
    assert all(failure.reason for failure in failures)
    assert await owned(kernel) == {LINK, *peers}


def test_without_rights_everything_says_so_and_nothing_changes(
    world: LinuxWorld,
) -> None:
    world.open()
    world.close()
    script = (
        "import asyncio, errno\n"
        "from backends.elements import Sysctl\n"
        "from tests.netns.test_kernel_linux import *\n"
        "async def main():\n"
        "    kernel = LinuxKernel()\n"
        "    await kernel.observe(SCOPE)\n"
        "    failures = await create(kernel, LINK, *many(1),\n"
        "        Sysctl(name='net/ipv4/ip_forward', value='1'))\n"
        "    for failure in failures:\n"
        "        print(failure.errno, failure.reason)\n"
        "    kernel.close()\n"
        "asyncio.run(main())\n"
    )
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", script]
    done = subprocess.run(command, cwd=CHECKOUT, text=True, capture_output=True, check=False)
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    assert lines[0].startswith(f"{errno.EPERM} ")
    assert "CAP_NET_ADMIN" in lines[0]
    assert ip_json("link show type vxlan") == []


def test_everything_works_in_a_user_namespace() -> None:
    script = (
        "import asyncio\n"
        "from tests.netns.test_kernel_linux import *\n"
        "async def main():\n"
        "    world = LinuxWorld()\n"
        "    kernel = world.open()\n"
        "    await kernel.observe(SCOPE)\n"
        "    assert await create(kernel, LINK, *many(1200)) == []\n"
        "    assert await owned(kernel) == {LINK, *many(1200)}\n"
        "    world.close()\n"
        "    print('done')\n"
        "asyncio.run(main())\n"
    )
    command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", script]
    done = subprocess.run(command, cwd=CHECKOUT, text=True, capture_output=True, check=False)
    assert done.stdout == "done\n", done.stderr


def test_a_setting_that_is_read_only_names_itself(world: LinuxWorld) -> None:
    script = (
        "import asyncio\n"
        "from backends.elements import Sysctl\n"
        "from tests.netns.test_kernel_linux import *\n"
        "async def main():\n"
        "    kernel = LinuxKernel()\n"
        "    wanted = Sysctl(name='net/ipv4/ip_forward', value='1')\n"
        "    for failure in await create(kernel, wanted):\n"
        "        print(failure.errno, failure.reason)\n"
        "    kernel.close()\n"
        "asyncio.run(main())\n"
    )
    mount = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && "
    command = ["unshare", "--mount", "--net", "sh", "-c", mount + 'exec "$0" "$@"']
    command += [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=CHECKOUT, text=True, capture_output=True, check=False)
    assert done.stdout.startswith(f"{errno.EROFS} "), done.stderr
    assert "net/ipv4/ip_forward=1" in done.stdout
