"""Node: joins network config, interface and lease into plans, whenever one of them changes.

It is told what changed (by the lease session, the reconciler and the host) and lets backend,
planner, session and reconciler draw the consequences. It makes no system call and performs no I/O
of its own; what to program is the backend's affair, how is the reconciler's.

Each step needs the one before it: a usable config, the host observed, an interface, our devices
observed, the MACs, the claim. What is missing is kept in `problems`, for log and status, and
comes by itself when its cause is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from backends.base import Backend, NodeContext, Underlay
from backends.elements import Element, Kind, Route, Sysctl
from backends.registry import make_backend
from flanneld_py.blackhole import blackhole_routes
from flanneld_py.kernel import HostFacts, Kernel, KernelError, Op, Scope
from flanneld_py.netif import Choice, InterfaceOptions, NoInterface, choose
from flanneld_py.nodefacts import accepts_ra, underlay_of
from flanneld_py.peers import PeerPlanner
from flanneld_py.problems import Problems
from flanneld_py.reconcile.loop import Reconciler
from flanneld_py.reconcile.ownership import may_replace
from flanneld_py.reconcile.tracker import NODE
from flanneld_py.vtepmacs import Remembered, VtepMacs
from subnet.acquisition import Claim
from subnet.clock import Clock
from subnet.errors import NetworkConfigError
from subnet.intents import KeeperState
from subnet.model import ConfigRecord, Lease, LeaseAttrs, NetworkConfig, PeerKey, StoreState
from subnet.netconf import parse
from subnet.session import LeaseSession
from subnet.table import GRACE

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """What a node works with."""

    kernel: Kernel
    clock: Clock
    source: str
    """What messages call the store."""
    reconciler: Reconciler
    session: LeaseSession
    planner: PeerPlanner
    claim: Callable[[NetworkConfig, LeaseAttrs], Claim]
    """Builds the claim of a subnet; knows earlier subnets and times."""


class Node:
    """Implements `reconcile.loop.Guide` and `subnet.session.SessionListener`."""

    def __init__(
        self,
        *,
        options: InterfaceOptions,
        nexthops: bool,
        memory: Remembered,
        random_bytes: Callable[[int], bytes],
        on_progress: Callable[[], None],
        blackhole: bool = False,
    ) -> None:
        self._problems = Problems()
        self.warnings: tuple[str, ...] = ()
        self.config: NetworkConfig | None = None
        self.backend: Backend | None = None
        self.choice: Choice | None = None
        self.context: NodeContext | None = None
        self.settings_before: dict[str, str] = {}
        """Values that kernel settings had before we changed them."""
        self._options = options
        self._nexthops = nexthops
        self._blackhole = blackhole
        self._macs = VtepMacs(memory=memory, random_bytes=random_bytes)
        self._on_progress = on_progress
        self.store: StoreState | None = None
        """What the store's connection was last."""
        self.store_lost_at: float | None = None
        """Clock time at which the store stopped answering; None while it answers."""
        self.config_generation = 0
        """Network configs that were put into force."""
        self._record: ConfigRecord | None = None
        self._read: ConfigRecord | None = None
        self._devices: set[str] = set()
        self._lease: Lease | None = None
        self._removal_from: float | None = None
        self._asked = False
        self._accepts_ra: dict[str, bool] = {}
        self._claimed: Claim | None = None
        self._wake = asyncio.Event()
        self._parts: NodeParts | None = None

    def connect(self, parts: NodeParts) -> None:
        """Give the parts, which in turn were given this node."""
        self._parts = parts

    @property
    def parts(self) -> NodeParts:
        """The parts that `connect` gave."""
        if self._parts is None:
            raise RuntimeError("connect() was not called")
        return self._parts

    @property
    def problems(self) -> Mapping[str, str]:
        """What stands in the way of being ready, by subject; each is one line."""
        return self._problems.blocking

    @property
    def remarks(self) -> Mapping[str, str]:
        """What is wrong too, but keeps no pod from its network."""
        return self._problems.remarks

    # -- what the lease session tells

    def config_changed(self, config: ConfigRecord | None) -> None:
        self._record, self._asked = config, True
        # At once, for the leases of the same snapshot are judged by it.
        self._read_config()
        self._wake.set()

    def peers_changed(self, keys: Collection[PeerKey]) -> None:
        self.parts.planner.changed(keys)

    def snapshot_seen(self) -> None:
        """The gate of removal opens; after a grace time if the store is not the one we knew."""
        now = self.parts.clock.now()
        self._removal_from = now + GRACE if self.parts.session.table.new_store else now
        self.peers_planned()

    # -- what the planner tells

    def peers_planned(self) -> None:
        """All peers of the snapshot are planned: what nobody wants by now may go."""
        # Before that, what serves a peer whose turn has not come would look like nobody's.
        if self._removal_from is not None and not self.parts.planner.pending:
            self.parts.reconciler.allow_removal(self._removal_from)
            self._removal_from = None

    def lease_changed(self, state: KeeperState) -> None:
        # A lost lease keeps its pods: what was planned for it stays.
        self._lease = state.lease or self._lease
        self._wake.set()
        self._on_progress()

    def store_state(self, state: StoreState) -> None:
        self.store = state
        if state.connected:
            self.store_lost_at = None
        elif self.store_lost_at is None:
            self.store_lost_at = self.parts.clock.now()
        self._on_progress()

    # -- what the reconciler tells and asks

    def host_changed(self, host: HostFacts) -> None:
        self._wake.set()

    def observed(self) -> None:
        self._wake.set()

    def applied(self, ops: Sequence[Op]) -> None:
        for op in ops:
            if isinstance(op.element, Sysctl) and isinstance(op.before, Sysctl):
                self.settings_before.setdefault(op.before.name, op.before.value)
            elif op.element.kind is Kind.LINK:
                self._wake.set()
        self._on_progress()

    def may_replace(self, holder: Route, wanted: Route, owner: str) -> bool:
        lease = self.parts.session.table.peer(PeerKey(owner))
        addresses = (lease.attrs.public_ip, lease.attrs.public_ipv6) if lease else ()
        public_ips = {address.packed for address in addresses if address is not None}
        return may_replace(holder, wanted, devices=self._devices, public_ips=public_ips)

    # -- the steps

    async def run(self) -> None:
        """Draw consequences until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.advance()
            self._on_progress()

    async def advance(self) -> None:
        """Go as far as what is known allows. Doing it twice changes nothing."""
        self._read_config()
        if self.config is None or self.backend is None or not self.parts.session.table.has_snapshot:
            return
        if self.parts.reconciler.observed_scope is None:
            return
        await self._choose_interface(self.config)
        if self.choice is None or not self._watch_devices(self.config, self.backend, self.choice):
            return
        context = self._make_context(self.config, self.backend, self.choice)
        if context is not None:
            self._use(self.backend, context)

    def _read_config(self) -> None:
        if self._record is None:
            if self._asked and self.config is None:
                source = self.parts.source
                self._problems.note(
                    "config", f"{source} holds no network config: put one under its key config"
                )
            return
        if self._record == self._read:
            return
        self._read = self._record
        try:
            config = parse(self._record.text)
            backend = make_backend(config)
        except NetworkConfigError as error:
            kept = "" if self.config is None else "; the earlier one stays in force"
            self._problems.note("config", f"{error}{kept}", blocks=self.config is None)
            return
        self._problems.note("config", "")
        if self.config == config:
            return
        nftables_before = self.config is None or self.config.enable_nftables
        self.config, self.backend = config, backend
        self.config_generation += 1
        log.info(
            "network config: network=%s network6=%s backend=%s",
            config.network,
            config.network6,
            config.backend_type,
        )
        if nftables_before and not config.enable_nftables:
            log.info(
                "EnableNFTables is false: the firewall rules are those of nftables all the same"
            )
        for warning in _warnings(config):
            log.warning("%s", warning)
        self.parts.session.use_config(config)

    async def _choose_interface(self, config: NetworkConfig) -> None:
        host = self.parts.reconciler.host
        reached = None
        if self._options.can_reach is not None:
            try:
                reached = await self.parts.kernel.route_to(self._options.can_reach.packed)
            except KernelError as error:
                log.warning("cannot ask for the route to %s: %s", self._options.can_reach, error)
        try:
            choice = choose(
                host,
                self._options,
                ipv4=config.enable_ipv4,
                ipv6=config.enable_ipv6,
                reached=reached,
                current=self.choice,
                ours=frozenset(self._devices),
            )
        except NoInterface as error:
            # An interface that vanished comes back; until then what it was stays in force.
            self._problems.note("interface", str(error))
            return
        self._problems.note("interface", "")
        if choice != self.choice:
            self.choice = choice
            log.info("%s", choice.describe())

    def _watch_devices(self, config: NetworkConfig, backend: Backend, choice: Choice) -> bool:
        """Have our devices and settings observed; whether they are."""
        # Devices of an earlier config stay in scope until the agent ends, so that they are removed.
        self._devices.update(backend.devices())
        settings = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"]
        settings += [f"net/ipv6/conf/{choice.underlay}/{name}" for name in _RA_SETTINGS]
        settings += [f"net/ipv6/conf/{device}/accept_ra" for device in sorted(self._devices)]
        if self.context is not None:
            settings += backend.settings_to_judge(self.context)
        networks = tuple(net for net in (config.network, config.network6) if net is not None)
        scope = Scope(
            devices=frozenset(self._devices),
            networks=networks,
            sysctls=tuple(dict.fromkeys(settings)),
        )
        self.parts.reconciler.set_scope(scope)
        return self.parts.reconciler.observed_scope == scope

    def _make_context(
        self, config: NetworkConfig, backend: Backend, choice: Choice
    ) -> NodeContext | None:
        underlay = underlay_of(
            self.parts.reconciler.host, choice, accepts_ra=self._takes_ra(choice.underlay)
        )
        if underlay is None:
            self._problems.note("underlay", f"interface {choice.underlay} is gone: waiting for it")
            underlay = self._last_underlay(choice)
            if underlay is None:
                return None
        else:
            self._problems.note("underlay", "")
        features = self.parts.kernel.features
        mac, mac6 = self._macs.choose(
            table=self.parts.session.table,
            observed=self.parts.reconciler.tracker.observed,
            config=config,
            backend=backend,
            choice=choice,
        )
        return NodeContext(
            config=config,
            underlay=underlay,
            public_ip=choice.public_ip,
            public_ipv6=choice.public_ipv6,
            mac=mac,
            mac6=mac6,
            lease=self._lease,
            by_nexthop=self._nexthops and features.nexthops,
            default_vxlan_port=features.default_vxlan_port,
        )

    def _last_underlay(self, choice: Choice) -> Underlay | None:
        if self.context is None or self.context.underlay.name != choice.underlay:
            return None
        return self.context.underlay

    def _takes_ra(self, name: str) -> bool:
        """Whether the interface took router advertisements before we touched anything."""
        if name not in self._accepts_ra:
            accept_ra, forwarding = (
                self._setting(f"net/ipv6/conf/{name}/{setting}") for setting in _RA_SETTINGS
            )
            self._accepts_ra[name] = accepts_ra(accept_ra=accept_ra, forwarding=forwarding)
        return self._accepts_ra[name]

    def _setting(self, name: str) -> str:
        key = Sysctl(name=name, value="").key
        seen = self.parts.reconciler.tracker.observed.get(key)
        return seen.value if isinstance(seen, Sysctl) else ""

    def _has_device(self, plan: Sequence[Element]) -> bool:
        """Whether a device of the plan stands, one family's at least."""
        observed = self.parts.reconciler.tracker.observed
        links = [element for element in plan if element.kind is Kind.LINK]
        return any(observed.get(link.key) == link for link in links)

    def _use(self, backend: Backend, context: NodeContext) -> None:
        plan = backend.plan_node(context)
        if self._blackhole:
            plan = (*plan, *blackhole_routes(context))
        if context != self.context:
            self.context = context
            problems = "; ".join(backend.node_problems(context))
            # Each family stands on its own: one that works makes the node useful.
            able = any(element.kind is Kind.LINK for element in plan)
            self._problems.note("device", problems, blocks=bool(backend.devices()) and not able)
        values = {name: self._setting(name) for name in backend.settings_to_judge(context)}
        self.warnings = (*_warnings(context.config), *backend.judge_settings(values))
        self.parts.reconciler.plan(NODE, plan)
        self.parts.planner.use(backend, context)
        if self._claimed is None and not self._has_device(plan):
            # Whoever cannot make the device takes no subnet that peers would send packets to.
            return
        claim = self.parts.claim(context.config, backend.attrs(context))
        if claim != self._claimed:
            self._claimed = claim
            self.parts.session.claim(claim)


_RA_SETTINGS = ("accept_ra", "forwarding")


def _warnings(config: NetworkConfig) -> tuple[str, ...]:
    """What is unusual about a network config, and stops nothing."""
    if config.enable_ipv4 or not config.enable_ipv6:
        return ()
    text = (
        "the network is IPv6-only: flanneld nodes cannot share it, for they take all of its "
        "leases for one (flannel's fault E7)"
    )
    return (text,)
