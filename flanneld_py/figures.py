"""Figures: everything about the agent that is counted, gathered cheaply when somebody asks.

Responsible for the numbers behind the metrics; their names and formats are `metrics`' affair.
Walks neither peers nor leases one by one: at 10,000 peers it costs a few milliseconds. Changes
nothing and waits for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Protocol

from backends.elements import Key, Kind, Sysctl
from flanneld_py import status as st
from flanneld_py.kernel import Action
from flanneld_py.overview import PHASES, TABLE, Overview, Parts, table_counts
from flanneld_py.reconcile.report import Durations
from flanneld_py.reconcile.tracker import NODE
from subnet.model import PeerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The agent in numbers, now. The defaults are those of an agent that has not begun yet."""

    ready: bool = False
    lease_phase: st.LeasePhase = st.LeasePhase.WAITING
    lease_seconds_left: float | None = None
    """None for a reservation, or without a lease."""
    leases: int = 0
    """Records of the store that are leases, our own and refused ones included."""
    peers: Mapping[st.PeerState, int] = field(default_factory=dict)
    kinds: tuple[st.KindCounts, ...] = ()
    waiting: int = 0
    """Elements that wait for their device."""
    contested: int = 0
    """Elements that another program keeps changing."""
    operations: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Done, by kind and action."""
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Refused by the kernel, by kind and action."""
    heals: Mapping[str, int] = field(default_factory=dict)
    """Elements that somebody else had changed, by kind."""
    rounds: Durations = field(default_factory=Durations)
    """Rounds of the reconcile loop."""
    observations: int = 0
    observe_cpu_seconds: float = 0.0
    """Of the last full observation."""
    store_connected: bool = False
    store_revision: int = 0
    store_lag_seconds: float = 0.0
    """For how long nothing was heard of the store; 0 while connected."""
    config_generation: int = 0
    """Network configs that were put into force since the start."""
    config_refused: bool = False
    """Whether the network config in the store is missing or cannot be used."""


class FigureSource(Protocol):
    """Who knows the figures."""

    def figures(self) -> Figures: ...


class Counting:
    """Implements `FigureSource` from the parts of an agent."""

    def __init__(self, parts: Parts, overview: Overview) -> None:
        self._parts = parts
        self._overview = overview
        self._started = parts.clock.now()

    def figures(self) -> Figures:
        parts, now = self._parts, self._parts.clock.now()
        reconciler, node = parts.reconciler, parts.node
        report, lease = reconciler.report, parts.session.lease_state
        connected = parts.session.table.has_snapshot if node.store is None else node.store.connected
        silent_since = self._started if node.store_lost_at is None else node.store_lost_at
        operations = {(k.name.lower(), a.value): n for (k, a), n in report.applied.items()}
        heals = {kind.name.lower(): number for kind, number in report.healed.items()}
        if parts.firewall.writes:
            operations[TABLE, Action.REPLACE.value] = parts.firewall.writes
        if parts.firewall.heals:
            heals[TABLE] = parts.firewall.heals
        return Figures(
            ready=not self._overview.ready(),
            lease_phase=PHASES[lease.phase],
            lease_seconds_left=None if lease.expires_at is None else lease.expires_at - now,
            leases=len(parts.session.table.records()),
            peers=self._peers(),
            kinds=(*self._kinds(), table_counts(parts.firewall)),
            waiting=reconciler.waiting,
            contested=len(reconciler.fights.active(now)),
            operations=operations,
            errors={(k.name.lower(), a.value): n for (k, a), n in report.failed.items()},
            heals=heals,
            rounds=report.durations(),
            observations=report.observations,
            observe_cpu_seconds=report.observe_seconds,
            store_connected=connected,
            store_revision=parts.session.table.revision,
            store_lag_seconds=0.0 if connected else max(0.0, now - silent_since),
            config_generation=node.config_generation,
            config_refused="config" in node.problems or "config" in node.remarks,
        )

    def _peers(self) -> dict[st.PeerState, int]:
        """How many peers are in each state; the first that fits counts, as in the status."""
        table, reconciler = self._parts.session.table, self._parts.reconciler
        planner, quarantine = self._parts.node.parts.planner, table.quarantine
        failing = self._owners(reconciler.retries.all())
        unreachable = planner.problems.keys() - failing
        held = table.held().keys() - unreachable - failing
        troubled = failing | unreachable | held
        refused = len(quarantine) - sum(1 for key in troubled if quarantine.reason(key))
        accepted = table.peers
        sound = len(accepted) - sum(1 for key in troubled if key in accepted)
        if self._parts.node.context is None:
            pending = sound
        else:
            tracker = reconciler.tracker
            wanted, seen = tracker.desired, tracker.observed
            differing = (key for key in tracker.dirty if wanted.get(key) != seen.get(key))
            waiting = self._owners(differing) - troubled
            pending = min(sound, planner.pending + sum(1 for key in waiting if key in accepted))
        return {
            st.PeerState.FAILING: len(failing),
            st.PeerState.NOT_PROGRAMMED: len(unreachable),
            st.PeerState.QUARANTINED: refused,
            st.PeerState.HELD: len(held),
            st.PeerState.PENDING: pending,
            st.PeerState.PROGRAMMED: sound - pending,
        }

    def _owners(self, keys: Iterable[Key]) -> set[PeerKey]:
        """The peers to whom elements belong."""
        owner_of = self._parts.reconciler.tracker.owner_of
        return {PeerKey(owner) for key in keys if (owner := owner_of(key)) not in (None, NODE)}

    def _kinds(self) -> tuple[st.KindCounts, ...]:
        reconciler = self._parts.reconciler
        tracker, scope = reconciler.tracker, reconciler.observed_scope
        # The first part of a key is its kind: counted in C.
        desired, observed, dirty, failing = (
            Counter(map(itemgetter(0), keys))
            for keys in (
                tracker.desired, tracker.observed, tracker.dirty, reconciler.retries.all(),
            )
        )  # fmt: skip
        # Settings are also read to be judged; only those that we set count as ours.
        read = {Sysctl(name=name, value="").key for name in (scope.sysctls if scope else ())}
        judged = sum(1 for key in read if key in tracker.observed and key not in tracker.desired)
        observed[Kind.SYSCTL] -= judged
        return tuple(
            st.KindCounts(
                kind=kind.name.lower(),
                desired=desired[kind],
                observed=observed[kind],
                dirty=dirty[kind],
                failing=failing[kind],
            )
            for kind in Kind
        )
