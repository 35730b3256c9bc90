"""LeaseSession: one node's dealings with the store, from start to end.

The thin shell around `table` and `keeper`: it feeds them what the store says, does what the keeper
wants, and tells a listener what came of it. It decides nothing itself, and on its end it leaves
every record in place.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from subnet.acquisition import Claim
from subnet.clock import Clock
from subnet.errors import StoreConfigMissing, StoreDenied, StoreUnavailable
from subnet.identity import KnownStore
from subnet.intents import CreateLease, DeleteLease, Intent, KeeperState, UpdateLease, Wait
from subnet.keeper import Answer, LeaseKeeper, Randomness
from subnet.model import (
    ConfigChanged,
    ConfigRecord,
    LeaseAttrs,
    LeaseEvent,
    NetworkConfig,
    PeerKey,
    Snapshot,
    StoreState,
)
from subnet.store import SubnetStore
from subnet.table import GRACE, LeaseTable

_log = logging.getLogger(__name__)

_NAMED_AT_ONCE = 20
"""Quarantined records that are named in the log after one event; status lists them all."""
_EACH_IS_NEWS = {"burst": 100}
"""Lines of this kind that the log may take within its window (flanneld_py.log)."""


class SessionListener(Protocol):
    """Who is told. Calls are synchronous and in order, and come from the event loop's thread."""

    def config_changed(self, config: ConfigRecord | None) -> None:
        """The network config is this now; None: the store has none.

        May call `use_config`, `claim` and `publish`. Comes before the peers of the same snapshot.
        """
        ...

    def peers_changed(self, keys: frozenset[PeerKey]) -> None:
        """These peers appeared, changed or went; what they are now is in the table.

        Comes only after `claim`, for before it nobody knows which lease is our own.
        """
        ...

    def snapshot_seen(self) -> None:
        """The store has told everything once and we know what is ours: absent peers are gone."""
        ...

    def lease_changed(self, state: KeeperState) -> None:
        """Our lease, or what is to be said about it, is this now."""
        ...

    def store_state(self, state: StoreState) -> None:
        """The connection to the store came or went."""
        ...


class LeaseSession:
    """See the module's text. `run` once."""

    def __init__(
        self,
        *,
        store: SubnetStore,
        clock: Clock,
        listener: SessionListener,
        random: Randomness,
        grace: float = GRACE,
        known: KnownStore | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._listener = listener
        self.table = LeaseTable(grace=grace, known=known)
        """The leases of all nodes; to be read only."""
        self._keeper = LeaseKeeper(table=self.table, key_of=store.key_of, random=random)
        self._wake = asyncio.Event()
        self._claimed = False
        self._snapshot_told = False
        self._config: ConfigRecord | None = None
        self._config_told = False
        self._untold: set[PeerKey] = set()
        self._told_state = KeeperState()
        self._noted_peers = -1

    @property
    def lease_state(self) -> KeeperState:
        """Our lease, as the listener was told last."""
        return self._told_state

    # What the daemon says

    def use_config(self, config: NetworkConfig | None) -> None:
        """Judge leases by this network config."""
        self._changed(self.table.set_config(config))

    def claim(self, claim: Claim) -> None:
        """Ask for a lease, or ask for something else than before."""
        self._keeper.claim(claim)
        self._claimed = True
        self._changed(self.table.set_own(self._keeper.own))

    def publish(self, attrs: LeaseAttrs) -> None:
        """Publish other attributes in our lease."""
        self._keeper.publish(attrs)
        self._changed(self.table.set_own(self._keeper.own))

    # The two tasks

    async def run(self) -> None:
        """Run until cancelled. Raises StoreSettingsError when the store cannot be used at all."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="lease-events")
            group.create_task(self._keep(), name="lease-keeper")

    async def _listen(self) -> None:
        async for event in self._store.events():
            self._fold(event)

    async def _keep(self) -> None:
        while True:
            self._wake.clear()
            self._expire()
            intent = self._keeper.step(self._clock.now())
            self._tell()
            if isinstance(intent, Wait):
                await self._rest(intent.until)
                continue
            try:
                answer = await self._carry_out(intent)
            except (StoreUnavailable, StoreDenied, StoreConfigMissing) as error:
                self._keeper.failed(intent, error, self._clock.now())
                continue
            for event in self._keeper.done(intent, answer, self._clock.now()):
                self._fold(event)
            self._changed(self.table.set_own(self._keeper.own))

    async def _carry_out(self, intent: Intent) -> Answer:
        match intent:
            case CreateLease():
                return await self._store.create(
                    subnet=intent.subnet,
                    subnet6=intent.subnet6,
                    attrs=intent.attrs,
                    ttl=intent.ttl,
                    not_after=intent.not_after,
                )
            case UpdateLease():
                return await self._store.update(intent.lease, attrs=intent.attrs, ttl=intent.ttl)
            case DeleteLease():
                return await self._store.delete(intent.lease)
        return await self._store.snapshot()

    async def _rest(self, until: float | None) -> None:
        """Return when something happened, or when it is time."""
        times = [time for time in (until, self.table.next_expiry()) if time is not None]
        if not times:
            await self._wake.wait()
            return
        pause = min(times) - self._clock.now()
        waits = {
            asyncio.create_task(self._wake.wait(), name="lease-wake"),
            asyncio.create_task(self._sleep(pause), name="lease-timer"),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _sleep(self, seconds: float) -> bool:
        await self._clock.sleep(seconds)
        return True

    # What the store says

    def _fold(self, event: LeaseEvent) -> None:
        now = self._clock.now()
        match event:
            case StoreState():
                if event.connected:
                    self._keeper.store_answers(now)
                self._listener.store_state(event)
            case ConfigChanged():
                self._configure(event.config)
            case Snapshot():
                self._configure(event.config)
        changed = self.table.apply(event, now)
        if isinstance(event, Snapshot) and self.table.new_store:
            _log.warning(
                "the store is not the one we knew source=%s reason=%s held_peers=%d: peers that it "
                "lacks are kept for a while, so that their nodes can claim their subnets again",
                self._store.source,
                self.table.new_store,
                len(self.table.held()),
            )
        self._changed(changed)

    def _configure(self, config: ConfigRecord | None) -> None:
        if self._config_told and config == self._config:
            return
        self._config, self._config_told = config, True
        self._listener.config_changed(config)

    def _expire(self) -> None:
        gone = self.table.expire(self._clock.now())
        if gone:
            _log.warning("held peers let go count=%d", len(gone))
            self._untold |= gone

    def _changed(self, keys: frozenset[PeerKey]) -> None:
        self._untold |= keys
        self._tell()
        self._wake.set()

    # What the listener hears

    def _tell(self) -> None:
        state = self._keeper.state
        if state != self._told_state:
            self._told_state = state
            self._listener.lease_changed(state)
        if not self._claimed:
            return
        if self._untold:
            keys, self._untold = frozenset(self._untold), set()
            self._listener.peers_changed(keys)
        if self.table.has_snapshot and not self._snapshot_told:
            self._snapshot_told = True
            self._listener.snapshot_seen()
        if state.lease is not None:
            self._name_quarantined()
        if len(self.table.peers) != self._noted_peers:
            self._noted_peers = len(self.table.peers)
            self._store.note_peers(self._noted_peers)

    def _name_quarantined(self) -> None:
        named, total = self.table.quarantine.take_unsaid(_NAMED_AT_ONCE)
        for key, reason in named:
            _log.warning("lease quarantined key=%s reason=%s", key, reason, extra=_EACH_IS_NEWS)
        if total > len(named):
            _log.warning(
                "leases quarantined, see status count=%d of_which_named=%d", total, len(named)
            )
