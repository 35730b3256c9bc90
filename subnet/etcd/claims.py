"""Writing our own record: create, renew, remove. Each is one conditional transaction.

An answer that is lost is found out by reading: the etcd lease that we granted marks our write. An
etcd lease that a record still hangs on is never revoked. Chooses no subnet.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from subnet import codec
from subnet.errors import StoreDenied, StoreUnavailable
from subnet.etcd import messages as m
from subnet.etcd.channel import Channel
from subnet.etcd.failures import CallDenied, CallUnavailable, not_carried_out
from subnet.etcd.identity import OwnRecord
from subnet.etcd.keyspace import Keyspace, transaction
from subnet.etcd.line import GRANT, RANGE, REVOKE, TIME_TO_LIVE, TXN, NotConnected
from subnet.model import Lease, LeaseAttrs
from subnet.store import Conflict

logger = logging.getLogger(__name__)

REVOKE_ATTEMPTS = 4
"""An etcd lease that cannot be revoked ends by itself in time, so we do not insist."""
FAREWELL = 1.0
"""Seconds that closing waits for revocations that are under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refused:
    """The compare failed; `standing` is the record under the key."""

    standing: Any


class Claims:
    """The writes of one node."""

    def __init__(self, channel: Channel, keys: Keyspace, own: OwnRecord) -> None:
        self._channel = channel
        self._keys = keys
        self._own = own
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsure: set[int] = set()  # leases of puts that may or may not have happened

    async def create(
        self,
        *,
        subnet: IPv4Network | None,
        subnet6: IPv6Network | None,
        attrs: LeaseAttrs,
        ttl: float,
        not_after: int,
    ) -> Lease | Conflict:
        """See `SubnetStore.create`."""
        name = codec.lease_key(self._keys.prefix, subnet, subnet6)
        key = name.encode()
        absent = m.Compare(result=m.EQUAL, target=m.CREATE, key=key, create_revision=0)
        nothing_newer = m.Compare(
            result=m.LESS,
            target=m.MOD,
            key=self._keys.leases,
            range_end=self._keys.leases_end,
            mod_revision=not_after + 1,
        )
        value = codec.encode_attrs(attrs)
        granted = await self._grant(ttl)
        result: _Written | _Refused | None = None
        try:
            result = await self._put(key, value, granted, [absent, nothing_newer])
        finally:
            # Revoking also settles a put whose answer was lost: it fails, or it is undone.
            if not isinstance(result, _Written):
                self._later(self._revoke(granted), f"etcd-revoke-{granted:x}")
        if isinstance(result, _Refused):
            taken = "the key exists" if result.standing is not None else ""
            return self._conflict(
                result, taken or f"another lease was written after revision {not_after}"
            )
        self._own.key, self._own.create_revision = key, result.revision
        return Lease(
            key=name,
            subnet=subnet,
            subnet6=subnet6,
            attrs=attrs,
            create_revision=result.revision,
            mod_revision=result.revision,
            lease_id=granted,
        )

    async def update(self, lease: Lease, *, attrs: LeaseAttrs, ttl: float) -> Lease | Conflict:
        """See `SubnetStore.update`."""
        key, value = lease.key.encode(), codec.encode_attrs(attrs)
        reservation = lease.lease_id == 0
        granted = 0 if reservation else await self._grant(ttl)
        replaced, expected, create_revision = lease.lease_id, lease.mod_revision, 0
        while True:
            unchanged = m.Compare(result=m.EQUAL, target=m.MOD, key=key, mod_revision=expected)
            result: _Written | _Refused | None = None
            try:
                result = await self._put(key, value, granted, [unchanged], after=expected)
            finally:
                if result is None and granted:
                    self._unsure.add(granted)  # it may still happen: not to be revoked yet
            if isinstance(result, _Written):
                break
            standing = result.standing
            if reservation and standing is not None and standing.value == value:
                # What we want to write stands there: by a put of ours whose answer was lost.
                result = _Written(revision=standing.mod_revision)
                break
            if standing is None or not standing.lease or standing.lease not in self._unsure:
                if granted:
                    self._later(self._revoke(granted), f"etcd-revoke-{granted:x}")
                return self._conflict(result, f"its revision is not {expected} any more")
            # A put of ours whose answer was lost did happen; go on from there.
            replaced, expected = standing.lease, standing.mod_revision
            create_revision = standing.create_revision
        create_revision = create_revision or lease.create_revision
        self._own.key, self._own.create_revision = key, create_revision
        self._supersede({replaced, lease.lease_id}, by=granted)
        return Lease(
            key=lease.key,
            subnet=lease.subnet,
            subnet6=lease.subnet6,
            attrs=attrs,
            create_revision=create_revision,
            mod_revision=result.revision,
            lease_id=granted,
        )

    async def delete(self, lease: Lease) -> bool:
        """See `SubnetStore.delete`."""
        key = lease.key.encode()
        unchanged = m.Compare(
            result=m.EQUAL, target=m.MOD, key=key, mod_revision=lease.mod_revision
        )
        request = transaction(
            compare=[unchanged], success=[m.DeleteRangeRequest(key=key)], failure=[]
        )
        try:
            done = bool((await self._channel.call(TXN, request)).succeeded)
        except CallUnavailable as error:
            if isinstance(error, NotConnected) or not_carried_out(error):
                raise
            standing = await self._read(key)
            if standing is not None and standing.mod_revision == lease.mod_revision:
                raise
            done = standing is None
        if done:
            if self._own.key == key:
                self._own.key = b""
            self._supersede({lease.lease_id}, by=0)
        return done

    async def aclose(self) -> None:
        """Let revocations that are under way end, for a moment."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FAREWELL)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _put(
        self, key: bytes, value: bytes, granted: int, compare: list[Any], *, after: int = 0
    ) -> _Written | _Refused:
        put = m.PutRequest(key=key, value=value, lease=granted)
        request = transaction(compare=compare, success=[put], failure=[self._keys.read_one(key)])
        try:
            answer = await self._channel.call(TXN, request)
        except CallUnavailable as error:
            if isinstance(error, NotConnected) or not_carried_out(error):
                raise
            standing = await self._read(key)
            if standing is None or standing.mod_revision <= after:
                raise
            ours = standing.lease == granted if granted else standing.value == value
            if not ours:
                raise
            return _Written(revision=standing.mod_revision)
        if answer.succeeded:
            return _Written(revision=answer.header.revision)
        found = answer.responses[0].response_range.kvs
        return _Refused(standing=found[0] if found else None)

    async def _read(self, key: bytes) -> Any:
        answer = await self._channel.call(RANGE, self._keys.read_one(key), reads=True)
        return answer.kvs[0] if answer.kvs else None

    def _conflict(self, refused: _Refused, reason: str) -> Conflict:
        if refused.standing is None:
            return Conflict(current=None, reason=reason)
        record = self._keys.lease(refused.standing)
        return Conflict(current=record if isinstance(record, Lease) else None, reason=reason)

    async def _grant(self, ttl: float) -> int:
        """Grant an etcd lease. Its id is ours, so that one whose answer was lost can be ended.

        etcd raises a TTL below its minimum (some 2 s) by itself.
        """
        granted = secrets.randbits(62) | 1
        request = m.LeaseGrantRequest(TTL=max(1, math.ceil(ttl)), ID=granted)
        done = False
        try:
            answer = await self._channel.call(GRANT, request, reads=True)
            if answer.error:
                raise CallUnavailable(
                    source=self._channel.source, reason=answer.error, code="UNKNOWN"
                )
            done = True
        except CallUnavailable as error:
            if "lease already exists" not in error.reason:
                raise
            done = True  # by the attempt before, whose answer was lost
        finally:
            if not done:
                self._later(self._revoke(granted, certain=False), f"etcd-revoke-{granted:x}")
        return granted

    def _supersede(self, leases: set[int], *, by: int) -> None:
        """End the leases that our record hung on before; the one that it hangs on stays."""
        # Their puts cannot happen any more: the revision that they were compared with is gone.
        ended = (leases | self._unsure) - {by, 0}
        self._unsure.clear()
        for lease in ended:
            self._later(self._revoke_unused(lease), f"etcd-revoke-{lease:x}")

    def _later(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _revoke_unused(self, lease: int) -> None:
        """End a lease unless something still hangs on it."""
        request = m.LeaseTimeToLiveRequest(ID=lease, keys=True)
        try:
            answer = await self._channel.call(TIME_TO_LIVE, request, reads=True)
        except (StoreUnavailable, StoreDenied) as error:
            logger.info("old etcd lease is left to expire lease=%x reason=%r", lease, error)
            return
        if answer.keys:
            logger.info("old etcd lease holds other records lease=%x", lease)
        else:
            await self._revoke(lease)

    async def _revoke(self, lease: int, *, certain: bool = True) -> None:
        """End a lease, with what hangs on it. Its grant may still be under way if not `certain`."""
        for attempt in range(REVOKE_ATTEMPTS):
            try:
                await self._channel.call(REVOKE, m.LeaseRevokeRequest(ID=lease), reads=True)
            except CallDenied as error:
                logger.info("etcd lease is left to expire lease=%x reason=%r", lease, error)
                return
            except CallUnavailable as error:
                if error.code == "NOT_FOUND" and certain:
                    return
                await asyncio.sleep(0.2 * 2**attempt)
            else:
                return
        logger.debug("etcd lease is gone or left to expire lease=%x", lease)
