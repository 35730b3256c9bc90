"""Applier: has operations done, and sees to what came of each.

A route that stands in the way is replaced if it is flannel's; whatever fails is noted for another
try; whatever succeeds is noted in the tracker. What to do, and when, is the loop's affair.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from typing import Protocol

from backends.elements import Key, Kind, Route
from flanneld_py.kernel import Action, Failure, Kernel, Op
from flanneld_py.reconcile.report import Report
from flanneld_py.reconcile.retry import Retries
from flanneld_py.reconcile.tracker import Tracker
from subnet.clock import Clock

log = logging.getLogger(__name__)


class Judge(Protocol):
    """Who knows whose routes may be replaced."""

    def may_replace(self, holder: Route, wanted: Route, owner: str) -> bool:
        """Whether the route that stands in the way of `owner`'s may be replaced."""
        ...


class Applier:
    """Works on operations that the tracker listed."""

    def __init__(
        self,
        *,
        kernel: Kernel,
        tracker: Tracker,
        retries: Retries,
        report: Report,
        clock: Clock,
        judge: Judge,
    ) -> None:
        self.suspicion = ""
        """Why the kernel may not be as observed; whoever observes it anew clears this."""
        self.links_changed = False
        """Whether the host's links are not as they were read; whoever reads them clears this."""
        self._kernel = kernel
        self._tracker = tracker
        self._retries = retries
        self._report = report
        self._clock = clock
        self._judge = judge
        self._excused: set[Key] = set()

    def forgive(self) -> None:
        """Let every element lose its device once more without that being its own failure."""
        self._excused.clear()

    async def apply(self, ops: Sequence[Op]) -> list[Op]:
        """Have `ops` done; returns those that were. Raises KernelError."""
        failures = {id(f.op): f for f in await self._kernel.apply(ops)}
        done: list[Op] = []
        for op in ops:
            failure = failures.get(id(op))
            if failure is not None and _route_exists(failure):
                failure = await self._adopt(failure)
            if failure is None:
                self._tracker.done(op)
                done.append(op)
                self._recovered(op)
                if op.element.kind is Kind.LINK:
                    self._link_done(op)
            else:
                self._failed(failure)
        self._report.count(done, (f.op for f in failures.values()))
        return done

    def _link_done(self, op: Op) -> None:
        """What stands on a device must not wait for news of it, which may never come."""
        self.links_changed = True
        if op.action is not Action.CREATE:
            # What is on it may have gone with the change, and the kernel tells only half of that.
            self.suspicion = self.suspicion or "a device was changed"

    async def _adopt(self, failure: Failure) -> Failure | None:
        wanted = failure.op.element
        if not isinstance(wanted, Route):
            return failure
        holder = await self._kernel.holder(wanted)
        if holder is None:
            return failure  # gone meanwhile: tried again at once
        owner = self._tracker.owner_of(wanted.key) or ""
        if not self._judge.may_replace(holder, wanted, owner):
            reason = f"blocked by {holder.describe()}: remove that route, or change the network"
            return Failure(op=failure.op, errno=errno.EEXIST, reason=reason)
        replace = Op(action=Action.REPLACE, element=wanted, before=holder)
        again = await self._kernel.apply([replace])
        return again[0] if again else None

    def _failed(self, failure: Failure) -> None:
        op, now = failure.op, self._clock.now()
        if _lacks_device(failure) and op.element.key not in self._excused:
            # Its device went a moment ago: no failure of its own. What is there tells what to do.
            self._excused.add(op.element.key)
            self.suspicion = self.suspicion or "a device is gone"
            return
        entry = self._retries.failed(op.element.key, failure.reason, now)
        if entry.attempts == 1:
            text = f"cannot {op.action.value} {op.element.describe()}"
            log.warning("%s, will retry: %s", text, failure.reason)
            self._report.note(f"{text}: {failure.reason}", now)

    def _recovered(self, op: Op) -> None:
        entry = self._retries.succeeded(op.element.key)
        if entry is not None:
            log.info("%s works again after attempts=%d", op.element.describe(), entry.attempts + 1)


def _route_exists(failure: Failure) -> bool:
    return (
        failure.errno == errno.EEXIST
        and failure.op.element.kind is Kind.ROUTE
        and failure.op.action is Action.CREATE
    )


def _lacks_device(failure: Failure) -> bool:
    on_device = failure.op.element.kind > Kind.SYSCTL
    return on_device and failure.errno in (errno.ENODEV, errno.ENOENT, errno.ENETDOWN)
