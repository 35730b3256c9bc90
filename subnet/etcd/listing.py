"""Reading everything at one revision: in pages, within bounded memory, whatever stands there.

Must not watch, and must not judge what it reads beyond what a lease is.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from subnet.etcd.channel import Channel
from subnet.etcd.failures import CallUnavailable, is_too_large
from subnet.etcd.keyspace import Keyspace, transaction
from subnet.etcd.line import MAX_MESSAGE_BYTES, RANGE, TXN
from subnet.model import ConfigRecord, Lease, Malformed, Snapshot, StoreIdentity
from subnet.record import oversized

logger = logging.getLogger(__name__)

PAGE = 1000
"""Records per page: some 200 kB on the wire, and 10 ms to decode."""
_SHRINK = 4
"""A page that is too large is sent in full before we refuse it, so shrink in large steps."""
_ATTEMPTS = 3


class CompactedMeanwhile(Exception):
    """The revision that we read at was compacted before the last page."""


@dataclass(slots=True, kw_only=True)
class Listing:
    """What one list read."""

    snapshot: Snapshot
    raft_term: int
    """Raft term of the server that answered; it goes back only in another store."""


@dataclass(slots=True, kw_only=True)
class _Progress:
    """A list that is under way."""

    limit: int = PAGE
    header: Any = None
    config: ConfigRecord | None = None
    last: bytes = b""
    leases: list[Lease] = field(default_factory=list)
    malformed: list[Malformed] = field(default_factory=list)


async def list_everything(channel: Channel, keys: Keyspace) -> Listing:
    """Read the network config and every lease at one revision.

    Raises `StoreUnavailable`, `StoreDenied`.
    """
    for _ in range(_ATTEMPTS):
        try:
            return await _list(channel, keys)
        except CompactedMeanwhile:
            logger.info("etcd list begins anew reason=compacted source=%r", channel.source)
    raise CallUnavailable(
        source=channel.source,
        reason="compacted again and again while it was being listed",
        code="OUT_OF_RANGE",
    )


async def _list(channel: Channel, keys: Keyspace) -> Listing:
    progress = _Progress()
    more = True
    while more:
        try:
            more = await _page(channel, keys, progress)
        except CallUnavailable as error:
            if error.code == "OUT_OF_RANGE" and progress.header is not None:
                raise CompactedMeanwhile from error
            if not is_too_large(error):
                raise
            if progress.limit > 1:
                progress.limit = max(1, progress.limit // _SHRINK)
                continue
            more = await _skip_value(channel, keys, progress)
        await asyncio.sleep(0)  # decoding a page takes a while; others have their turn
    header = progress.header
    return Listing(
        snapshot=Snapshot(
            leases=tuple(progress.leases),
            malformed=tuple(progress.malformed),
            config=progress.config,
            identity=StoreIdentity(
                cluster_id=header.cluster_id,
                revision=header.revision,
                config_create_revision=progress.config.create_revision if progress.config else 0,
            ),
        ),
        raft_term=header.raft_term,
    )


async def _page(channel: Channel, keys: Keyspace, progress: _Progress) -> bool:
    """Read the next page, the first one together with the config; True if there are more."""
    timeout = channel.settings.list_timeout
    if progress.header is None:
        both = transaction(
            compare=[],
            success=[keys.read_one(keys.config), keys.read_leases(limit=progress.limit)],
            failure=[],
        )
        answer = await channel.call(TXN, both, reads=True, timeout=timeout)
        config, page = (response.response_range for response in answer.responses)
        progress.header = answer.header
        if config.kvs:
            progress.config = keys.config_record(config.kvs[0])
    else:
        request = keys.read_leases(
            after=progress.last, limit=progress.limit, revision=progress.header.revision
        )
        page = await channel.call(RANGE, request, reads=True, timeout=timeout)
    for kv in page.kvs:
        record = keys.lease(kv)
        if isinstance(record, Lease):
            progress.leases.append(record)
        else:
            progress.malformed.append(record)
    if page.kvs:
        progress.last = page.kvs[-1].key
    if page.ByteSize() < MAX_MESSAGE_BYTES // 8:
        progress.limit = min(PAGE, progress.limit * 2)
    return bool(page.more)


async def _skip_value(channel: Channel, keys: Keyspace, progress: _Progress) -> bool:
    """Name the next record, whose value alone is larger than an answer may be."""
    timeout = channel.settings.list_timeout
    if progress.header is None:
        # The config itself, or the first lease: read the config alone, which must fit.
        request = keys.read_one(keys.config)
        answer = await channel.call(RANGE, request, reads=True, timeout=timeout)
        progress.header = answer.header
        if answer.kvs:
            progress.config = keys.config_record(answer.kvs[0])
    request = keys.read_leases(
        after=progress.last, limit=1, revision=progress.header.revision, keys_only=True
    )
    page = await channel.call(RANGE, request, reads=True, timeout=timeout)
    for kv in page.kvs:
        progress.malformed.append(oversized(kv.key, mod_revision=kv.mod_revision))
        progress.last = kv.key
    progress.limit = 1
    return bool(page.more)
