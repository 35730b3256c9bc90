"""Progress: writes the outputs once the node is programmed, and tells when readiness changes.

Decides when subnet.env and the conflist are due, and says 'ready' or 'not ready' once each to the
log and to systemd. What ready means is judged by `overview`; how files are written by `outputs`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from backends.base import NodeContext
from flanneld_py.node import Node
from flanneld_py.notify import Notifier
from flanneld_py.outputs import Output, Outputs
from flanneld_py.overview import Overview
from flanneld_py.readiness import lacking
from flanneld_py.reconcile.loop import Reconciler
from subnet.clock import Clock
from subnet.intents import KeeperState

log = logging.getLogger(__name__)

_MOMENT = 0.5
"""Seconds for which being not ready is not worth a line."""


class Progress:
    """Looks whenever something moved."""

    def __init__(
        self,
        *,
        make_outputs: Callable[[NodeContext, int], tuple[Output, ...]],
        notifier: Notifier,
        clock: Clock,
    ) -> None:
        self._make_outputs = make_outputs
        self._notifier = notifier
        self._clock = clock
        self._wake = asyncio.Event()
        self._made_for: tuple[NodeContext, int] | None = None
        self._said: tuple[str, ...] | None = None
        self._was_ready = False

    def poke(self) -> None:
        """Something moved."""
        self._wake.set()

    async def run(
        self,
        *,
        node: Node,
        reconciler: Reconciler,
        outputs: Outputs,
        overview: Overview,
        want_rules: Callable[[NodeContext], bool],
        lease: Callable[[], KeeperState],
        remember: Callable[[], None],
    ) -> None:
        """Look until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            context, backend = node.context, node.backend
            if context is None or backend is None or context.lease is None:
                pass
            elif lease().ready and not lacking(reconciler) and want_rules(context):
                self._want(outputs, context, backend.mtu(context))
            remember()
            await self._tell(overview.ready)

    def _want(self, outputs: Outputs, context: NodeContext, mtu: int) -> None:
        # Something moves with every peer; what is written depends on the node alone.
        if (context, mtu) != self._made_for:
            self._made_for = (context, mtu)
            for output in self._make_outputs(context, mtu):
                outputs.want(output)

    async def _tell(self, judge: Callable[[], tuple[str, ...]]) -> None:
        reasons = judge()
        if reasons and self._was_ready and reasons != self._said:
            # What is healed within a moment is told by the one who heals it.
            await self._clock.sleep(_MOMENT)
            reasons = judge()
        if reasons == self._said:
            return
        self._said = reasons
        if not reasons:
            log.info("ready")
            self._notifier.status("ready")
            if not self._was_ready:
                self._notifier.ready()
            self._was_ready = True
            return
        self._notifier.status(f"not ready: {reasons[0]}")
        if self._was_ready:
            log.warning("not ready: %s", "; ".join(reasons))
