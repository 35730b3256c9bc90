"""One watch that outlives whatever happens to etcd: lists, follows, notices silence, resumes.

Nothing is ever made up here: a deletion is told because etcd told it, and when continuity is lost
the next event is a snapshot. Must not interpret leases.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn

from subnet.codec import key_text
from subnet.errors import StoreDenied, StoreError, StoreUnavailable
from subnet.etcd import messages as m
from subnet.etcd.channel import Channel
from subnet.etcd.failures import CallDenied, CallUnavailable, is_too_large, watch_ended
from subnet.etcd.identity import Fingerprint, OwnRecord
from subnet.etcd.keyspace import Keyspace
from subnet.etcd.line import RANGE, TXN, Line
from subnet.etcd.listing import list_everything
from subnet.etcd.outage import Outage
from subnet.model import (
    ConfigChanged,
    Delete,
    Lease,
    LeaseEvent,
    Put,
    PutMalformed,
)

logger = logging.getLogger(__name__)

Emit = Callable[[list[LeaseEvent]], Awaitable[None]]

FIRST_DELAY, LAST_DELAY = 0.1, 3.0
"""Seconds between two rounds of attempts: the first, and the longest.

flannel goes up to 5 s (flannel-compat 3.8); we are to have caught up 5 s after the store is back.
"""
PROBES_PER_SECOND = 500
"""What the probes of all nodes together may cost the store."""


class _Relist(Exception):
    """The watch cannot be resumed where it was; `reason` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Watcher:
    """Follows everything under our prefix."""

    def __init__(self, channel: Channel, keys: Keyspace, own: OwnRecord, emit: Emit) -> None:
        self.peers = 0
        """How many nodes share the store."""
        self._channel = channel
        self._keys = keys
        self._own = own
        self._emit = emit
        self._known: Fingerprint | None = None
        self._seen = 0  # every change up to this revision was told
        self._failures = 0
        self._heard = 0.0
        self._now = asyncio.get_running_loop().time
        self._outage = Outage(now=self._now)

    async def run(self) -> NoReturn:
        """Follow for ever."""
        while True:
            try:
                # A task of its own: up to Python 3.11.3 a task in which a TaskGroup failed stays
                # marked as cancelled, and every later timeout in it would look like a cancellation.
                await asyncio.create_task(self._session(), name="etcd-session")
            except _Relist as lost:
                logger.info("store is listed anew reason=%r", lost.reason)
                self._known = None
            except (StoreUnavailable, StoreDenied) as error:
                self._failures += 1
                if state := self._outage.lost(error):
                    await self._emit([state])
                await asyncio.sleep(self._delay())

    def _delay(self) -> float:
        # One round over all servers at once, then wait.
        rounds, rest = divmod(self._failures, len(self._channel.endpoints))
        if rest:
            return 0
        longest: float = min(LAST_DELAY, FIRST_DELAY * float(2 ** min(rounds - 1, 10)))
        return longest * random.uniform(0.5, 1)

    async def _session(self) -> None:
        """Stay on one line for as long as it is good."""
        async with self._channel.line() as line:
            try:
                await line.connect()
                await self._catch_up()
                if line.retired:
                    return  # it failed meanwhile, and another server answered
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._probe(line), name="etcd-probe")
                    tasks.create_task(self._follow(line), name="etcd-watch")
            except StoreUnavailable:
                self._channel.give_up(line)
                raise
            except ExceptionGroup as group:
                if not all(isinstance(error, StoreError | _Relist) for error in group.exceptions):
                    raise
                if isinstance(group.exceptions[0], StoreUnavailable):
                    self._channel.give_up(line)
                raise group.exceptions[0] from None

    async def _catch_up(self) -> None:
        """Make sure that it is the store that we know, or take a snapshot of it."""
        if self._known is not None:
            question = self._known.question(self._keys)
            answer = await self._channel.call(TXN, question, reads=True)
            difference = self._known.difference(answer, seen=self._seen)
            if not difference:
                return
            logger.warning("store is not the one it was reason=%r", difference)
        listing = await list_everything(self._channel, self._keys)
        self._known = Fingerprint(listing, self._own)
        self._seen = listing.snapshot.identity.revision
        await self._say_connected(listing.snapshot)

    async def _say_connected(self, *events: LeaseEvent) -> None:
        state = self._outage.over(str(self._channel.endpoint))
        said = [*([state] if state else []), *events]
        if said:
            await self._emit(said)

    async def _probe(self, line: Line) -> NoReturn:
        """Ask for a sign of life on the watch's own line: a silent network tells nothing."""
        settings = self._channel.settings
        while True:
            interval = max(settings.probe_interval, self.peers / PROBES_PER_SECOND)
            await asyncio.sleep(interval * random.uniform(0.9, 1))
            asked = self._now()
            try:
                await self._channel.call_on(
                    line, RANGE, self._keys.probe(), timeout=settings.probe_timeout
                )
            except CallUnavailable:
                if self._heard < asked:
                    raise
            self._failures = 0

    async def _follow(self, line: Line) -> NoReturn:
        create = m.WatchCreateRequest(
            key=self._keys.root,
            range_end=self._keys.root_end,
            start_revision=self._seen + 1,
            progress_notify=True,
            fragment=True,
        )
        credentials = await self._channel.credentials(line)
        try:
            async with aclosing(line.watch(create, metadata=credentials)) as responses:
                async for response in responses:
                    self._heard = self._now()
                    await self._take(response, line)
        except CallUnavailable as error:
            if is_too_large(error):
                raise _Relist("a change is too large to be watched") from error
            raise
        except CallDenied as error:
            self._channel.forget_credentials(error, credentials)
            raise
        raise AssertionError("a watch ends only by raising")

    async def _take(self, response: Any, line: Line) -> None:
        if response.canceled:
            if response.compact_revision:
                raise _Relist(f"compacted up to revision {response.compact_revision}")
            raise watch_ended(response.cancel_reason, source=line.source)
        if response.created:
            await self._say_connected()
        events = [event for told in response.events if (event := self._translate(told))]
        if events:
            self._failures = 0
            await self._emit(events)
        if response.events:
            # The header may be ahead of changes that are still to come; the changes are not.
            last = response.events[-1].kv.mod_revision
            self._seen = max(self._seen, last - 1 if response.fragment else last)
        elif not response.created:
            self._seen = max(self._seen, response.header.revision)

    def _translate(self, told: Any) -> LeaseEvent | None:
        kv, keys, known = told.kv, self._keys, self._known
        gone = told.type == m.DELETE_EVENT
        if kv.key == keys.config:
            config = None if gone else keys.config_record(kv)
            if known is not None:
                known.note_config(config)
            return ConfigChanged(config=config, revision=kv.mod_revision)
        if not kv.key.startswith(keys.leases):
            return None
        if gone:
            if known is not None:
                known.note_delete(kv.key)
            return Delete(key=key_text(kv.key), revision=kv.mod_revision)
        if known is not None:
            known.note_put(kv.key, kv.create_revision)
        record = keys.lease(kv)
        return Put(lease=record) if isinstance(record, Lease) else PutMalformed(record=record)
