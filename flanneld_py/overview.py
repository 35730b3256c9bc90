"""Overview: what the agent knows about itself, gathered into a `Status` when somebody asks.

Reads what the other parts hold and judges readiness. Changes nothing and waits for nothing.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backends.elements import Kind
from flanneld_py import __version__
from flanneld_py import status as st
from flanneld_py.firewall.keeper import FirewallKeeper
from flanneld_py.node import Node
from flanneld_py.outputs import Outputs
from flanneld_py.readiness import lacking
from flanneld_py.reconcile.loop import Reconciler
from subnet.clock import Clock
from subnet.intents import KeeperState, Phase
from subnet.model import Lease, PeerKey
from subnet.session import LeaseSession

PHASES = {
    Phase.UNCLAIMED: st.LeasePhase.WAITING,
    Phase.ACQUIRING: st.LeasePhase.WAITING,
    Phase.HELD: st.LeasePhase.HELD,
    Phase.LOST: st.LeasePhase.LOST,
    Phase.CONFLICT: st.LeasePhase.LOST,
}

TABLE = "nftables"
"""What the firewall's table is called among the kinds of elements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Whom to ask."""

    node: Node
    reconciler: Reconciler
    session: LeaseSession
    outputs: Outputs
    firewall: FirewallKeeper
    masquerade: bool
    """Whether pods need our rules to reach the outside."""
    remarks: Callable[[], tuple[str, ...]]
    """What is odd about how pods are connected."""
    clock: Clock
    source: str
    """What messages call the store."""


class Overview:
    """Implements `status.StatusSource`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._started = time.time()
        self.notes: tuple[str, ...] = ()
        """Warnings that hold for the life of the process."""

    def ready(self) -> tuple[str, ...]:
        """Why this node is not ready; empty when it is."""
        parts = self._parts
        reasons = list(parts.node.problems.values())
        state = parts.session.lease_state
        if state.phase is Phase.UNCLAIMED:
            # What stands in the way of a claim says more than that there is none.
            reasons = reasons or [lacking(parts.reconciler) or "no subnet is leased yet"]
        elif not state.ready:
            reasons.append(state.reason or "no subnet is leased yet")
        elif lack := lacking(parts.reconciler):
            reasons.append(lack)
        elif parts.masquerade and not parts.firewall.complete:
            reasons.extend(parts.firewall.problems.values() or ["masquerade rules are not set yet"])
        elif not parts.outputs.complete:
            reasons.extend(parts.outputs.problems.values())
            if not parts.outputs.problems:
                reasons.append("subnet.env is not written yet")
        if not self._store().connected and not state.ready:
            reasons.append(self._store().reason or "the store has not answered yet")
        return tuple(dict.fromkeys(reasons))

    def status(self) -> st.Status:
        parts, now, wall = self._parts, self._parts.clock.now(), time.time()
        reasons = self.ready()
        return st.Status(
            version=__version__,
            pid=os.getpid(),
            started=self._started,
            now=wall,
            ready=not reasons,
            reasons=reasons,
            lease=self._lease(parts.session.lease_state, now),
            interface=self._interface(),
            backend=self._backend(),
            peers=self._peers(),
            elements=self._elements(now),
            store=self._store(),
            changes=tuple(
                st.Change(at=wall - (now - change.at), text=change.text)
                for change in list(parts.reconciler.report.changes)[-st.MAX_CHANGES :]
            ),
            warnings=self.warnings(),
        )

    def _lease(self, state: KeeperState, now: float) -> st.LeaseStatus:
        lease = state.lease
        if lease is None:
            return st.LeaseStatus(phase=PHASES[state.phase], reason=state.reason)
        return st.LeaseStatus(
            phase=PHASES[state.phase],
            key=lease.key,
            subnets=tuple(str(net) for net in (lease.subnet, lease.subnet6) if net is not None),
            expires_in=None if state.expires_at is None else state.expires_at - now,
            reason=state.reason,
        )

    def _interface(self) -> st.InterfaceStatus:
        node = self._parts.node
        choice, context = node.choice, node.context
        if choice is None:
            return st.InterfaceStatus(reason=node.problems.get("interface", ""))
        return st.InterfaceStatus(
            name=choice.underlay,
            reason=choice.why,
            addresses=tuple(str(ip) for ip in (choice.ipv4, choice.ipv6) if ip is not None),
            public_ips=tuple(
                str(ip) for ip in (choice.public_ip, choice.public_ipv6) if ip is not None
            ),
            mtu=context.underlay.mtu if context else 0,
        )

    def _backend(self) -> st.BackendStatus:
        node = self._parts.node
        if node.backend is None:
            return st.BackendStatus()
        if node.context is None:
            return st.BackendStatus(type=node.backend.name)
        links = [
            element for element in node.backend.plan_node(node.context) if element.kind is Kind.LINK
        ]
        return st.BackendStatus(
            type=node.backend.name,
            devices=tuple(link.name for link in links if hasattr(link, "name")),
            vni=next((link.vni for link in links if hasattr(link, "vni")), None),
            port=next((link.port for link in links if hasattr(link, "port")), None),
            mtu=node.backend.mtu(node.context),
            nexthops=node.context.by_nexthop,
        )

    # -- peers

    def _peers(self) -> st.PeersStatus:
        table, tracker = self._parts.session.table, self._parts.reconciler.tracker
        troubled = {peer.key: peer for peer in self._troubled()}
        programmed = 0
        for key, lease in table.peers.items():
            if key in troubled:
                continue
            if tracker.peer_state(key) and tracker.plan_of(key):
                programmed += 1
            else:
                troubled[key] = _peer(key, lease, st.PeerState.PENDING, self._pending(key))
        return st.PeersStatus.of(troubled.values(), programmed=programmed)

    def _pending(self, key: PeerKey) -> str:
        if not self._parts.reconciler.tracker.plan_of(key):
            return "about to be planned"
        return "about to be programmed"

    def _troubled(self) -> Iterator[st.PeerStatus]:
        table, node = self._parts.session.table, self._parts.node
        for key, reason in table.quarantine.reasons().items():
            yield _peer(key, table.record(key), st.PeerState.QUARANTINED, reason)
        held = table.held()
        for key in held:
            yield _peer(
                key, table.peer(key), st.PeerState.HELD, "the store lost it; kept for a grace time"
            )
        for key, problems in node.parts.planner.problems.items():
            yield _peer(key, table.peer(key), st.PeerState.NOT_PROGRAMMED, "; ".join(problems))
        tracker = self._parts.reconciler.tracker
        for element_key, failing in self._parts.reconciler.retries.all().items():
            owner = tracker.owner_of(element_key)
            if owner:
                key = PeerKey(owner)
                yield _peer(key, table.peer(key), st.PeerState.FAILING, failing.reason)

    # -- elements, store, warnings

    def _elements(self, now: float) -> st.ElementsStatus:
        reconciler = self._parts.reconciler
        tracker, failing = reconciler.tracker, reconciler.retries.all()
        desired = Counter(element.kind for element in tracker.desired.values())
        observed = Counter(
            element.kind
            for key, element in tracker.observed.items()
            # Settings are also read to be judged; only those that we set count as ours.
            if element.kind is not Kind.SYSCTL or key in tracker.desired
        )
        dirty = Counter(key[0] for key in tracker.dirty)
        failures = Counter(key[0] for key in failing)
        kinds = tuple(
            st.KindCounts(
                kind=kind.name.lower(),
                desired=desired[kind],
                observed=observed[kind],
                dirty=dirty[kind],
                failing=failures[kind],
            )
            for kind in Kind
        )
        listed = []
        for key, entry in list(failing.items())[: st.MAX_FAILING]:
            element = tracker.desired.get(key) or tracker.observed.get(key)
            if element is not None:
                listed.append(
                    st.FailingElement(
                        element=element.describe(),
                        reason=entry.reason,
                        tries=entry.attempts,
                        next_try_in=max(0.0, entry.next_try - now),
                    )
                )
        return st.ElementsStatus(
            kinds=(*kinds, table_counts(self._parts.firewall)), failing=tuple(listed)
        )

    def _store(self) -> st.StoreStatus:
        parts = self._parts
        state, table = parts.node.store, parts.session.table
        connected = table.has_snapshot if state is None else state.connected
        reason = "it has not answered yet" if state is None else state.reason
        return st.StoreStatus(
            source=parts.source,
            connected=connected,
            reason="" if connected else reason,
            revision=table.revision,
        )

    def warnings(self) -> tuple[str, ...]:
        """What looks wrong but stops nothing."""
        parts, now = self._parts, self._parts.clock.now()
        fights = [
            f"another program keeps changing {element.describe()}"
            for key in parts.reconciler.fights.active(now)
            if (element := parts.reconciler.tracker.desired.get(key)) is not None
        ]
        new_store = parts.session.table.new_store
        lost = [f"the store is not the one that was known: {new_store}"] if new_store else []
        remarks = (*parts.node.remarks.values(), *parts.remarks())
        firewall = (*parts.firewall.problems.values(), *parts.firewall.warnings)
        return (*self.notes, *firewall, *remarks, *parts.node.warnings, *lost, *fights)


def table_counts(firewall: FirewallKeeper) -> st.KindCounts:
    """The firewall's table, which is one thing: as it should be, or not."""
    complete, failing = firewall.complete, bool(firewall.problems)
    return st.KindCounts(
        kind=TABLE,
        desired=1,
        observed=int(complete),
        dirty=int(not complete and not failing),
        failing=int(failing),
    )


def _peer(key: PeerKey, lease: Lease | None, state: st.PeerState, reason: str) -> st.PeerStatus:
    if lease is None:
        return st.PeerStatus(key=key, state=state, reason=reason)
    addresses = (lease.attrs.public_ip, lease.attrs.public_ipv6)
    return st.PeerStatus(
        key=key,
        state=state,
        subnets=tuple(str(net) for net in (lease.subnet, lease.subnet6) if net is not None),
        public_ips=tuple(str(ip) for ip in addresses if ip is not None),
        reason=reason,
    )
