"""Reconciler: wakes when something differs, makes it equal, and tries again what failed.

The contract of the loop:

* It acts at once when woken; whatever arrives meanwhile forms the next round. There is no queue.
* It removes nothing before `allow_removal` was called, and nothing is removed on exit.
* A failed element is tried again with its own back-off and holds up no other.
* Whatever the notifications miss is found by a full observation: after an overrun, after a change
  of which the kernel is silent, and periodically.
* An element that somebody else keeps changing is corrected more slowly and named.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from typing import Protocol

from backends.elements import Element, Key
from flanneld_py.kernel import HostFacts, Kernel, KernelError, Op, Scope
from flanneld_py.nap import nap
from flanneld_py.reconcile.applier import Applier, Judge
from flanneld_py.reconcile.fights import Fights
from flanneld_py.reconcile.report import Report, summary
from flanneld_py.reconcile.retry import Retries, Uniform
from flanneld_py.reconcile.tracker import Tracker
from subnet.clock import Clock

log = logging.getLogger(__name__)

RESYNC_FLOOR = 8.0
"""Seconds between periodic observations, at least."""
RESYNC_SHARE = 0.0015
"""Share of one core that periodic observations may take; an idle agent takes twice that besides."""
_SLICE = 2048
_MASS = 256
"""More changed elements than this in one round are counted by kind, not one by one."""
_NEVER = float("inf")


class Guide(Judge, Protocol):
    """What the loop asks of whoever composes it."""

    def host_changed(self, host: HostFacts) -> None:
        """The host's links, addresses or routes are (now) these. May plan anew."""
        ...

    def observed(self) -> None:
        """Everything in the scope was observed anew."""
        ...

    def applied(self, ops: Sequence[Op]) -> None:
        """These operations were done."""
        ...


class Reconciler:
    """Makes the kernel equal to the plans, and keeps it so."""

    def __init__(
        self, *, kernel: Kernel, clock: Clock, random: Uniform, report: Report, guide: Guide
    ) -> None:
        self.tracker = Tracker()
        self.retries = Retries(random)
        self.fights = Fights()
        self.report = report
        self.host = HostFacts()
        self.observed_scope: Scope | None = None
        self._kernel = kernel
        self._clock = clock
        self._guide = guide
        self._scope = Scope()
        self._wake = asyncio.Event()
        self._resync = "start"
        self._resync_due = 0.0
        self._next_observation = 0.0
        self._host_stale = False
        self._next_host = 0.0
        self._removal_from = _NEVER
        self._drifted: dict[Key, None] = {}
        self._paused: dict[Key, float] = {}
        self._counted: set[Key] = set()
        self._waiting = 0
        self._in_flight = 0
        self._observing = False
        self._applier = Applier(
            kernel=kernel,
            tracker=self.tracker,
            retries=self.retries,
            report=report,
            clock=clock,
            judge=guide,
        )
        kernel.on_change(self._wake.set)

    # -- what is wanted

    def plan(self, owner: str, elements: Sequence[Element]) -> None:
        """Set all that `owner` wants; an empty sequence releases it."""
        if self.retries:
            # What changes is tried at once, whatever became of the earlier plan.
            for element in set(elements).symmetric_difference(self.tracker.plan_of(owner)):
                self.retries.succeeded(element.key)
        self.tracker.plan(owner, elements)
        self._wake.set()

    def set_scope(self, scope: Scope) -> None:
        """Say what is ours. Everything is observed anew when that changed."""
        if scope != self._scope:
            self._scope = scope
            self._resync = "scope"
            self._wake.set()

    def allow_removal(self, at: float) -> None:
        """From clock time `at` on, what nobody wants may be removed."""
        self._removal_from = at
        self._wake.set()

    def converged(self) -> bool:
        """Whether nothing differs and nothing fails, as far as is known."""
        busy = self._in_flight or self._observing or self._resync or self._host_stale
        return self.observed_scope is not None and not (
            busy or self.tracker.dirty or self.retries or self._paused
        )

    @property
    def waiting(self) -> int:
        """Elements that wait for their device."""
        return self._waiting

    # -- the loop

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._wait()
            await self.round()

    async def _wait(self) -> None:
        await nap(self._wake, self._clock, self._next_due() - self._clock.now())

    def _next_due(self) -> float:
        times = [self.retries.next_due() or _NEVER]
        times.append(self._next_observation if self._resync else self._resync_due)
        if self._host_stale:
            times.append(self._next_host)
        times.extend(self._paused.values())
        if self._removal_from > self._clock.now():
            times.append(self._removal_from)
        return min(times)

    async def round(self) -> None:
        """One round: take in what changed, do what differs."""
        started = time.monotonic()
        self._wake.clear()
        now = self._clock.now()
        if now >= self._removal_from != -_NEVER:
            self._removal_from = -_NEVER
            self.tracker.mark_unwanted()
        self._take_in()
        if now >= self._resync_due:
            self._resync = self._resync or "periodic"
            self._applier.forgive()
        if self._resync and now >= self._next_observation:
            await self._observe()
        if self._host_stale and now >= self._next_host:
            await self._read_host()
        self._retry()
        self._end_pauses()
        try:
            await self._apply()
        except KernelError as error:
            # What was done is unknown: look, and go on from there.
            log.warning("the kernel did not answer, looking again in 1s: %s", error)
            self._resync = "the kernel did not answer"
            self._next_observation = self._clock.now() + 1.0
        finally:
            self._in_flight = 0
        self.report.round_took(time.monotonic() - started)

    def _take_in(self) -> None:
        changes = self._kernel.drain()
        for key, element in changes.seen:
            if self.tracker.observe(key, element):
                self._drifted[key] = None
        applier = self._applier
        self._resync = changes.resync or self._resync or applier.suspicion
        self._host_stale = self._host_stale or changes.host_changed or applier.links_changed
        applier.suspicion, applier.links_changed = "", False

    async def _observe(self) -> None:
        cause, self._resync = self._resync, ""
        scope = self._scope
        started, now = time.process_time(), self._clock.now()
        self._observing = True
        try:
            seen = await self._kernel.observe(scope)
        except KernelError as error:
            log.warning("cannot observe the kernel, trying again in 1s: %s", error)
            self._resync = self._resync or cause
            self._next_observation = now + 1.0
            return
        finally:
            self._observing = False
        equal_before = self._in_sync() if self.observed_scope == scope else None
        self.tracker.observe_all(seen.elements)
        if equal_before is not None:
            self._drifted.update((key, None) for key in self.tracker.dirty if equal_before(key))
        cost = time.process_time() - started
        self.report.observations += 1
        self.report.observe_seconds = cost
        self._resync_due = self._clock.now() + max(RESYNC_FLOOR, cost / RESYNC_SHARE)
        self._next_observation = self._clock.now() + 3 * cost
        self.observed_scope = scope
        self._set_host(seen.host)
        self._guide.observed()
        log.debug(
            "observed cause=%s elements=%d cpu_ms=%.0f", cause, len(seen.elements), cost * 1e3
        )

    def _in_sync(self) -> _InSync:
        return _InSync(self.tracker.desired, self.tracker.observed)

    async def _read_host(self) -> None:
        started = time.process_time()
        self._host_stale = False
        try:
            host = await self._kernel.host()
        except KernelError as error:
            log.warning("cannot read the host's links, trying again in 1s: %s", error)
            self._host_stale = True
            self._next_host = self._clock.now() + 1.0
            return
        # A burst of link events must not become a burst of dumps.
        self._next_host = self._clock.now() + 10 * (time.process_time() - started)
        self._set_host(host)

    def _set_host(self, host: HostFacts) -> None:
        if host != self.host:
            self.host = host
            self._guide.host_changed(host)

    def _retry(self) -> None:
        for key in self.retries.due(self._clock.now()):
            if not self._differs(key):
                self.retries.succeeded(key)  # somebody else did it, or nobody wants it any more
            else:
                self.tracker.mark((key,))

    def _end_pauses(self) -> None:
        now = self._clock.now()
        over = [key for key, until in self._paused.items() if until <= now]
        for key in over:
            del self._paused[key]
        self.tracker.mark(over)

    async def _apply(self) -> None:
        if self.observed_scope is None or not self.tracker.dirty:
            self._waiting = 0
            return
        ready = {link.name for link in self.host.links if link.up}
        now = self._clock.now()
        ops, self._waiting = self.tracker.work(
            may_remove=now >= self._removal_from, ready_devices=ready
        )
        waiting = self.tracker.node_dirty()
        self._counted.clear()
        mass = sum(op.element.key in self._drifted for op in ops) > _MASS
        ops = [op for op in ops if not self._held_back(op, now, mass)]
        healing = {op.element.key for op in ops if op.element.key in self._drifted}
        started = time.monotonic()
        self._in_flight = len(ops)
        done: list[Op] = []
        for first in range(0, len(ops), _SLICE):
            part = await self._applier.apply(ops[first : first + _SLICE])
            if part:
                done += part
                self._guide.applied(part)
            self._take_in()
            rest = ops[first + _SLICE :]
            if rest and (self._resync or self.tracker.node_dirty() - waiting):
                # What comes next was planned on what is no longer true, or the node's own elements
                # would have to wait for thousands of peers.
                self.tracker.mark(op.element.key for op in rest)
                break
        self._tell(done, healing, time.monotonic() - started)
        self._drifted = {key: None for key in self._drifted if self._differs(key)}
        if self.tracker.dirty and self._waiting < len(self.tracker.dirty):
            self._wake.set()

    def _differs(self, key: Key) -> bool:
        return self.tracker.desired.get(key) != self.tracker.observed.get(key)

    def _held_back(self, op: Op, now: float, mass: bool) -> bool:
        key = op.element.key
        if self.retries.is_waiting(key, now):
            return True
        if key not in self._drifted:
            return False
        contested: Key = (op.element.kind,) if mass else key
        if contested in self._counted:
            return False  # what is corrected at most once a second is corrected as a whole
        until = self.fights.not_before(contested, now)
        if until > now:
            self._paused[key] = until
            return True
        self._counted.add(contested)
        if self.fights.corrected(contested, now):
            what = f"many {op.element.kind.name.lower()}s" if mass else op.element.describe()
            text = f"somebody keeps changing {what}: correcting it at most once a second"
            log.warning("%s", text)
            self.report.note(text, now)
        return False

    def _tell(self, done: Sequence[Op], healing: Collection[Key], seconds: float) -> None:
        if not done:
            return
        now = self._clock.now()
        healed = [op for op in done if op.element.key in healing]
        planned = [op for op in done if op.element.key not in healing]
        for verb, ops in (("healed", healed), ("applied", planned)):
            if ops:
                text = f"{verb}: {summary(ops)}"
                log.info("%s elapsed_ms=%.1f", text, seconds * 1e3)
                self.report.note(text, now)
        for op in healed:
            self.report.healed[op.element.kind] += 1


class _InSync:
    """Which keys were as desired before an observation."""

    def __init__(self, desired: dict[Key, Element], observed: dict[Key, Element]) -> None:
        self._desired = desired
        self._observed = observed

    def __call__(self, key: Key) -> bool:
        return self._desired.get(key) == self._observed.get(key)
