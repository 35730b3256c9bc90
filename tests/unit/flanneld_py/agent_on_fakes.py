"""A whole agent on fakes: kernel, store and clock in memory, its files in a temporary folder.

Built by the composition root's own `Agent`, so that what is tested is what runs. The kernel keeps
every operation that it did, and can be watched after each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from random import Random

from backends.elements import BACKSTOP_METRIC, Element, Key, Kind, Route
from flanneld_py.daemon import Agent
from flanneld_py.kernel import Action, Failure, HostAddress, HostRoute, Op
from flanneld_py.memory import Memory
from flanneld_py.netif import InterfaceOptions
from flanneld_py.notify import Notifier
from flanneld_py.settings import (
    FirewallSettings,
    LeaseSettings,
    NexthopMode,
    PathSettings,
    Settings,
)
from flanneld_py.testing.clock import FakeClock
from flanneld_py.testing.firewall import FakeRuleset
from flanneld_py.testing.kernel import FakeKernel, StoredRoute
from flanneld_py.testing.store import MemoryBackend, MemoryStore
from subnet import codec
from subnet.model import LeaseAttrs, PeerKey
from tests.leases import mac

UNDERLAY = "eth0"
OWN_IP = "172.31.0.1"
OWN_IP6 = "fd99::1"
DEV, DEV6, DEV7 = "flannel.1", "flannel-v6.1", "flannel.7"
CONFIG = '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}'
DUAL = (
    '{"Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00::/48",'
    ' "Backend": {"Type": "vxlan"}}'
)
V6_ONLY = (
    '{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00::/48",'
    ' "Backend": {"Type": "vxlan"}}'
)
FORWARD, FORWARD6 = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"


class RecordingKernel(FakeKernel):
    """A FakeKernel that keeps what was done, and refuses what a test wants refused."""

    def __init__(self, *, nexthops: bool = True) -> None:
        super().__init__(nexthops=nexthops)
        self.done: list[Op] = []
        """Operations that succeeded, in order."""
        self.asked: list[Op] = []
        self.watch: Callable[[Op], None] = lambda op: None
        """Called after each operation that succeeded."""
        self.refused: dict[Key, OSError] = {}
        """Elements that cannot be made or removed, and why."""
        self.batches: list[int] = []

    async def apply(self, ops: Sequence[Op]) -> list[Failure]:
        self.batches.append(len(ops))
        return await super().apply(ops)

    def _do(self, op: Op) -> None:
        self.asked.append(op)
        error = self.refused.get(op.element.key)
        if error is not None:
            raise error
        super()._do(op)
        self.done.append(op)
        self.watch(op)

    def deletions(self) -> list[Op]:
        return [op for op in self.asked if op.action is Action.DELETE]


class Host:
    """What outlives an agent: the kernel with an interface, the store, the disk, the time."""

    def __init__(self, folder: Path, *, nexthops: bool = True, seed: int = 1) -> None:
        self.folder = folder
        self.seed = seed
        self.clock = FakeClock()
        self.kernel = RecordingKernel(nexthops=nexthops)
        self.backend = MemoryBackend(self.clock)
        self.ruleset = FakeRuleset()
        self.subnet_file = folder / "subnet.env"
        self.state_dir = folder / "state"
        self.kernel.sysctls = {
            FORWARD: "0",
            FORWARD6: "0",
            **{f"net/ipv6/conf/{dev}/accept_ra": "1" for dev in (DEV, DEV6, DEV7, UNDERLAY)},
            **{f"net/ipv6/conf/{dev}/forwarding": "0" for dev in (DEV, DEV6, UNDERLAY)},
        }
        self.kernel.namespace.add_link("lo", kind="loopback")
        self.plug_in()

    def plug_in(self, *, mtu: int = 1500, ip: str = OWN_IP, ip6: str = OWN_IP6) -> None:
        """The underlay interface with its addresses and routes."""
        if UNDERLAY not in self.kernel.namespace.links:
            self.kernel.namespace.add_link(UNDERLAY, mtu=mtu)
        self.set_address(ip, ip6)

    def set_address(self, ip: str = OWN_IP, ip6: str = OWN_IP6) -> None:
        v4, v6 = IPv4Address(ip), IPv6Address(ip6)
        self.kernel.set_host(
            addresses=[
                HostAddress(dev=UNDERLAY, address=v4.packed, prefixlen=24),
                HostAddress(dev=UNDERLAY, address=v6.packed, prefixlen=64),
            ],
            routes=[
                HostRoute(
                    dst=bytes(4), prefixlen=0, dev=UNDERLAY, gateway=IPv4Address(0xAC1F00FE).packed
                ),
                HostRoute(
                    dst=bytes(16), prefixlen=0, dev=UNDERLAY, gateway=IPv6Address("fd99::fe").packed
                ),
                HostRoute(dst=IPv4Network((int(v4), 24), strict=False)[0].packed, prefixlen=24,
                          dev=UNDERLAY),
            ],
        )  # fmt: skip

    def unplug(self) -> None:
        """The interface vanishes, and with it whatever stands on it."""
        self.kernel.namespace.remove_link(UNDERLAY)
        self.kernel.set_host(addresses=[], routes=[])

    # -- peers in the store

    def peer(
        self,
        number: int,
        *,
        ip: str | None = None,
        vni: int = 1,
        mac_number: int | None = None,
        dual: bool = False,
        v6_only: bool = False,
        subnet: int | None = None,
        backend_type: str = "vxlan",
    ) -> PeerKey:
        """Write the lease of peer number so-and-so: subnet 10.244.<number>.0/24."""
        at = subnet or number
        own_mac = mac(mac_number or number)
        data = codec.vtep_text(vni, own_mac)
        data6 = codec.vtep_text(vni, own_mac[:-1] + bytes([own_mac[-1] ^ 0x80]))
        attrs = LeaseAttrs(
            public_ip=None if v6_only else IPv4Address(ip) if ip else peer_ip(number),
            public_ipv6=IPv6Address(f"fd99::1:{number:x}") if dual or v6_only else None,
            backend_type=backend_type,
            backend_data=None if v6_only else data,
            backend_v6_data=data6 if dual or v6_only else None,
        )
        return self.backend.put_lease(
            attrs,
            subnet=None if v6_only else subnet_of(at),
            subnet6=subnet6_of(at) if dual or v6_only else None,
        )

    def leave(self, *keys: PeerKey) -> None:
        self.backend.delete(*(key.encode() for key in keys))

    # -- what the kernel holds

    def routes(self) -> dict[str, str]:
        """Destination to device of every route, the backstops aside."""
        return {_net(route): route.dev for route in self.shown() if route.metric != BACKSTOP_METRIC}

    def shown(self) -> list[Route]:
        return [self.kernel._shown(stored) for stored in self.kernel.namespace.routes]

    def route_to(self, number: int) -> Route | None:
        dst = subnet_of(number)[0].packed
        return next((route for route in self.shown() if route.dst == dst), None)

    def has_peer(self, number: int, *, dev: str = DEV) -> bool:
        """Whether packets to an IPv4 peer get all the way: route, neighbour, FDB entry."""
        route = self.route_to(number)
        if route is None:
            return False
        space = self.kernel.namespace
        neighbour = space.neighbours.get((dev, route.gateway))
        if route.dev != dev or neighbour is None:
            return False
        entry = space.fdb.get((dev, neighbour.mac))
        return entry is not None and dev in space.links and space.links[dev].up

    def owned(self) -> dict[Key, Element]:
        """Everything of ours in the kernel, the settings aside."""
        return {e.key: e for e in self.kernel._elements() if e.kind is not Kind.SYSCTL}

    def foreign_route(self, number: int, *, protocol: int = 4, dev: str = UNDERLAY) -> StoredRoute:
        """Another program's route to the subnet of a peer."""
        stored = StoredRoute(
            route=Route(
                dst=subnet_of(number)[0].packed,
                prefixlen=24,
                metric=0,
                gateway=bytes([172, 31, 0, 254]),
                dev=dev,
                protocol=protocol,
            )
        )
        self.kernel.namespace.put_route(stored, "exclusive")
        return stored

    # -- agents

    @asynccontextmanager
    async def agent(
        self,
        *,
        options: InterfaceOptions | None = None,
        nexthops: NexthopMode = NexthopMode.AUTO,
        store_name: str = "memory",
        settle: bool = True,
        ttl: float = 86400.0,
        notifier: Notifier | None = None,
        firewall: FirewallSettings | None = None,
    ) -> AsyncIterator[RunningAgent]:
        """An agent that runs until the end of the block, and a moment to come to rest."""
        settings = Settings(
            iface=options or InterfaceOptions(),
            nexthops=nexthops,
            paths=PathSettings(subnet_file=self.subnet_file, state_dir=self.state_dir),
            lease=LeaseSettings(ttl=ttl),
            firewall=firewall or FirewallSettings(),
        )
        running = RunningAgent(self, settings, store_name, notifier or Notifier({}))
        running.start()
        try:
            if settle:
                await running.settle()
            yield running
        finally:
            await running.stop()


class RunningAgent:
    """One agent and its tasks."""

    def __init__(self, host: Host, settings: Settings, store_name: str, notifier: Notifier) -> None:
        self.host = host
        self.store = MemoryStore(host.backend, name=store_name)
        self.memory = Memory(
            state_dir=host.state_dir, subnet_file=host.subnet_file, source=self.store.source
        )
        self.agent = Agent(
            settings,
            kernel=host.kernel,
            store=self.store,
            memory=self.memory,
            notifier=notifier,
            clock=host.clock,
            randomness=Random(host.seed),
            ruleset=host.ruleset,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(work, name=name) for name, work in self.agent.tasks()]

    async def stop(self) -> None:
        """End it, as a signal does; a task that died tells why."""
        died = [task for task in self._tasks if task.done() and not task.cancelled()]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for task in died:
            task.result()

    async def settle(self, seconds: float = 1.0) -> None:
        """Let time pass, in steps small enough for whatever follows from what."""
        for _ in range(20):
            await self.host.clock.advance(seconds / 20)

    async def until(self, condition: Callable[[], bool], within: float) -> float:
        """Move the time until `condition` holds; the virtual seconds that it took."""
        start = self.host.clock.now()
        await self.host.clock.settle()
        while not condition():
            passed = self.host.clock.now() - start
            assert passed < within, f"not within {within}s: {self.ready()}"
            await self.host.clock.advance(0.05)
        return self.host.clock.now() - start

    def ready(self) -> tuple[str, ...]:
        return self.agent.overview.ready()

    def wanted(self) -> dict[Key, Element]:
        """What plans made from scratch ask for: the node's, and each accepted peer's."""
        node = self.agent.node
        assert node.backend is not None
        assert node.context is not None
        elements = list(node.backend.plan_node(node.context))
        for lease in self.agent.session.table.peers.values():
            elements += node.backend.plan_peer(node.context, lease).elements
        return {e.key: e for e in elements if e.kind is not Kind.SYSCTL}

    def subnet(self) -> str:
        lease = self.agent.session.lease_state.lease
        return "" if lease is None else lease.subnets_text()


def peer_ip(number: int) -> IPv4Address:
    """Public address of peer number so-and-so, outside of the link of the node."""
    return IPv4Address(0xAC1F0100 + number)


def subnet_of(number: int) -> IPv4Network:
    return IPv4Network((0x0AF40000 + (number << 8), 24))


def subnet6_of(number: int) -> IPv6Network:
    return IPv6Network((int(IPv6Address("fd00::")) + (number << 64), 64))


def kinds(ops: Iterable[Op]) -> list[tuple[Action, Kind]]:
    return [(op.action, op.element.kind) for op in ops]


def _net(route: Route) -> str:
    network = IPv4Network if len(route.dst) == 4 else IPv6Network
    return str(network((int.from_bytes(route.dst), route.prefixlen)))
