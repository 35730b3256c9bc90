"""The composition root: builds every part, runs them in one TaskGroup, ends them in order.

No decisions are made here. The first part that dies ends the process with its reason; a signal ends
it cleanly and leaves kernel, store and files as they are.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from functools import partial

from backends.base import NodeContext
from flanneld_py.clock import SystemClock
from flanneld_py.cni.bridge import BridgeKeeper
from flanneld_py.cni.conf import DEFAULT, CniConf, CniConfError
from flanneld_py.cni.conf import load as load_cni_conf
from flanneld_py.cni.direct import DirectConflist
from flanneld_py.cni.direct import render as render_conflist
from flanneld_py.figures import Counting
from flanneld_py.firewall import Ruleset
from flanneld_py.firewall.keeper import FirewallKeeper
from flanneld_py.firewall.linux import LinuxRuleset
from flanneld_py.firewall.policy import Policy
from flanneld_py.health import Front, HealthPort
from flanneld_py.kernel import Kernel, KernelError
from flanneld_py.kernel.linux import LinuxKernel
from flanneld_py.lock import AgentLock, LockError, flanneld_pids, network_namespace
from flanneld_py.memory import Memory, Present
from flanneld_py.metrics import Metrics
from flanneld_py.namespaceclaim import NamespaceClaim
from flanneld_py.node import Node, NodeParts
from flanneld_py.notify import Notifier
from flanneld_py.outputs import Output, Outputs, SubnetEnvOutput
from flanneld_py.overview import Overview, Parts
from flanneld_py.peers import PeerPlanner
from flanneld_py.progress import Progress
from flanneld_py.reconcile.loop import Reconciler
from flanneld_py.reconcile.report import Report
from flanneld_py.settings import CniMode, NexthopMode, Settings
from flanneld_py.signals import stop_on_signal
from flanneld_py.statusserver import StatusServer
from flanneld_py.subnetfile import SubnetEnv, SubnetFile
from flanneld_py.subnetfile import render as render_subnet_env
from flanneld_py.unixsocket import SocketInUse
from subnet.acquisition import Claim
from subnet.clock import Clock
from subnet.errors import StoreSettingsError
from subnet.etcd import EtcdSettings, EtcdStore
from subnet.model import LeaseAttrs, NetworkConfig
from subnet.session import LeaseSession
from subnet.store import SubnetStore

log = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Run the agent until a signal; returns the exit status."""
    # Tens of thousands of long-lived small objects: the default thresholds walk all of them
    # again and again while they are made.
    gc.set_threshold(100_000, 50, 100)
    status = 0
    try:
        asyncio.run(_run(settings))
    except* (StoreSettingsError, CniConfError) as group:
        _say(group)
        status = 2
    except* (LockError, SocketInUse, KernelError) as group:
        _say(group)
        status = 1
    return status


def _say(group: BaseExceptionGroup[Exception]) -> None:
    for error in group.exceptions:
        log.error("%s", error)


async def _run(settings: Settings) -> None:
    stopped = asyncio.Event()

    def stop(signal_name: str) -> None:
        log.info("stopping signal=%s: kernel, lease and files stay as they are", signal_name)
        stopped.set()

    stop_on_signal(asyncio.get_running_loop(), stop)
    agent = asyncio.create_task(_agent(settings), name="agent")
    ended = asyncio.create_task(stopped.wait(), name="signal")
    await asyncio.wait({agent, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if stopped.is_set():
        agent.cancel()
        await asyncio.wait({agent})
        if agent.cancelled():
            return
    await agent


async def _agent(settings: Settings) -> None:
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        notifier = Notifier(os.environ)
        stack.callback(notifier.close)
        stack.callback(notifier.stopping)
        tasks.create_task(notifier.keep_alive(), name="watchdog")
        # Whoever asks is answered from here on, whatever is waited for below.
        front = Front()
        metrics = Metrics(front)
        port = HealthPort(front, metrics, settings.health)
        tasks.create_task(port.run(), name="health")
        lock = AgentLock(settings.paths.run_dir, namespace=network_namespace())
        await lock.acquire(partial(_waits_for, notifier, front))
        stack.callback(lock.release)
        claim = NamespaceClaim()
        await claim.acquire(partial(_waits_for, notifier, front))
        stack.callback(claim.release)
        agent = _make_agent(settings, stack, notifier)
        agent.overview.notes = _notes()
        front.use(agent.overview, agent.figures)
        server = StatusServer(front, metrics, run_dir=settings.paths.run_dir)
        await server.start()
        stack.push_async_callback(server.aclose)
        for name, work in agent.tasks():
            tasks.create_task(work, name=name)


def _make_agent(settings: Settings, stack: AsyncExitStack, notifier: Notifier) -> Agent:
    kernel = LinuxKernel()
    stack.callback(kernel.close)
    store = EtcdStore(etcd_settings(settings))
    stack.push_async_callback(store.aclose)
    memory = Memory(
        state_dir=settings.paths.state_dir,
        subnet_file=settings.paths.subnet_file,
        source=store.source,
    )
    return Agent(
        settings,
        kernel=kernel,
        store=store,
        memory=memory,
        notifier=notifier,
        clock=SystemClock(),
        randomness=random.Random(),
        ruleset=LinuxRuleset(),
        cni_conf=DEFAULT if settings.cni.conf is None else load_cni_conf(settings.cni.conf),
    )


def _waits_for(notifier: Notifier, front: Front, pid: int | None) -> None:
    text = f"another agent runs in this network namespace pid={pid}: waiting for its end"
    front.reason = text
    log.warning("%s", text)
    notifier.status(f"not ready: {text}")


def _notes() -> tuple[str, ...]:
    pids = flanneld_pids()
    if not pids:
        return ()
    note = f"flanneld runs beside this agent, pid {', '.join(map(str, pids))}: stop it"
    log.warning("%s", note)
    return (note,)


def etcd_settings(settings: Settings) -> EtcdSettings:
    """What the store is told."""
    etcd = settings.etcd
    return EtcdSettings(
        endpoints=etcd.endpoints,
        prefix=etcd.prefix,
        keyfile=etcd.keyfile,
        certfile=etcd.certfile,
        cafile=etcd.cafile,
        username=etcd.username,
        password=etcd.password.reveal(),
    )


class Agent:
    """The parts of a running agent, connected; on whatever kernel, store and clock it is given."""

    def __init__(
        self,
        settings: Settings,
        *,
        kernel: Kernel,
        store: SubnetStore,
        memory: Memory,
        notifier: Notifier,
        clock: Clock,
        randomness: random.Random,
        ruleset: Ruleset,
        cni_conf: CniConf = DEFAULT,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._memory = memory
        self._file = SubnetFile(settings.paths.subnet_file)
        self.progress = Progress(make_outputs=self._make_outputs, notifier=notifier, clock=clock)
        self.outputs = Outputs(clock=clock, on_progress=self.progress.poke)
        self.firewall = FirewallKeeper(ruleset=ruleset, clock=clock, on_progress=self.progress.poke)
        self.node = Node(
            options=settings.iface,
            nexthops=settings.nexthops is NexthopMode.AUTO,
            memory=memory,
            random_bytes=randomness.randbytes,
            on_progress=self.progress.poke,
            blackhole=settings.blackhole_route,
        )
        self.session = LeaseSession(
            store=store,
            clock=clock,
            random=randomness,
            listener=self.node,
            known=memory.known_store,
        )
        self.reconciler = Reconciler(
            kernel=kernel, clock=clock, random=randomness, report=Report(), guide=self.node
        )
        self._cni_conf = cni_conf
        self._conflist: DirectConflist | None = None
        self.bridge = BridgeKeeper(
            conf=cni_conf, kernel=kernel, host=lambda: self.reconciler.host, clock=clock
        )
        self.planner = PeerPlanner(
            source=self.session.table,
            plan=self.reconciler.plan,
            on_planned=self.node.peers_planned,
        )
        self.node.connect(
            NodeParts(
                kernel=kernel,
                clock=clock,
                source=store.source,
                reconciler=self.reconciler,
                session=self.session,
                planner=self.planner,
                claim=self._claim,
            )
        )
        parts = Parts(
            node=self.node,
            reconciler=self.reconciler,
            session=self.session,
            outputs=self.outputs,
            firewall=self.firewall,
            masquerade=settings.firewall.ip_masq,
            remarks=self._cni_remarks,
            clock=clock,
            source=store.source,
        )
        self.overview = Overview(parts)
        self.figures = Counting(parts, self.overview)

    def tasks(self) -> list[tuple[str, Coroutine[None, None, None]]]:
        """Everything that runs for as long as the agent does, by name."""
        return [
            ("leases", self.session.run()),
            ("node", self.node.run()),
            ("peers", self.planner.run()),
            ("reconcile", self.reconciler.run()),
            ("outputs", self.outputs.run()),
            ("firewall", self.firewall.run()),
            ("bridge", self.bridge.run()),
            (
                "progress",
                self.progress.run(
                    node=self.node,
                    reconciler=self.reconciler,
                    outputs=self.outputs,
                    overview=self.overview,
                    want_rules=self._want_rules,
                    lease=lambda: self.session.lease_state,
                    remember=self._remember,
                ),
            ),
        ]

    def _remember(self) -> None:
        self._memory.remember_settings(self.node.settings_before)
        context = self.node.context
        if context is not None:
            self._memory.remember(
                Present(
                    state=self.session.lease_state,
                    mac=context.mac,
                    mac6=context.mac6,
                    store=self.session.table.known_store(),
                    now=self._clock.now(),
                )
            )

    def _claim(self, config: NetworkConfig, attrs: LeaseAttrs) -> Claim:
        return Claim(
            config=config,
            attrs=attrs,
            previous=self._memory.previous,
            ttl=self._settings.lease.ttl,
            renew_margin=self._settings.lease.renew_margin,
        )

    def _want_rules(self, context: NodeContext) -> bool:
        """Have the firewall's rules kept; whether pods may be started with what is there."""
        lease, config, rules = context.lease, context.config, self._settings.firewall
        if lease is None:
            return False
        self.firewall.want(
            Policy.of(
                network=config.network if config.enable_ipv4 else None,
                subnet=lease.subnet if config.enable_ipv4 else None,
                network6=config.network6 if config.enable_ipv6 else None,
                subnet6=lease.subnet6 if config.enable_ipv6 else None,
                masquerade=rules.ip_masq,
                fully_random=rules.random_fully,
                forward=rules.forward_rules,
            )
        )
        # Without masquerade pods would reach the outside with addresses that nobody answers to;
        # without forward rules they are just as reachable as the host's own rules allow.
        return self.firewall.complete or not rules.ip_masq

    def _make_outputs(self, context: NodeContext, mtu: int) -> tuple[Output, ...]:
        lease, config = context.lease, context.config
        if lease is None:
            return ()
        env = SubnetEnv(
            network=config.network if config.enable_ipv4 else None,
            subnet=lease.subnet if config.enable_ipv4 else None,
            network6=config.network6 if config.enable_ipv6 else None,
            subnet6=lease.subnet6 if config.enable_ipv6 else None,
            mtu=mtu,
            ip_masq=self._settings.firewall.ip_masq,
        )
        outputs: list[Output] = [SubnetEnvOutput(self._file, render_subnet_env(env))]
        if self._settings.cni.mode is CniMode.DIRECT:
            self.bridge.want(env)
            self._conflist = DirectConflist(
                text=render_conflist(env, self._cni_conf),
                run_dir=self._settings.paths.run_dir,
                conf_dir=self._settings.cni.conf_dir,
            )
            outputs.append(self._conflist)
        return tuple(outputs)

    def _cni_remarks(self) -> tuple[str, ...]:
        """What is odd about how pods are connected."""
        conflist = () if self._conflist is None else self._conflist.remarks()
        return (*conflist, *self.bridge.warnings)
