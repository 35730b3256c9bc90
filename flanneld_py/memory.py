"""Memory: what this node knew before it was started, and what it remembers for the next time.

Joins the state folder's files and an existing subnet.env. A folder that cannot be read or written
costs a warning, never the start.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flanneld_py import subnetfile
from flanneld_py.settingsbefore import SettingsBefore, SettingsBeforeError
from subnet.acquisition import Previous
from subnet.cache import CachedLease, CacheError, LeaseCache
from subnet.identity import KnownStore
from subnet.intents import KeeperState

log = logging.getLogger(__name__)

MACHINE_ID = Path("/etc/machine-id")
"""machine-id(5)."""
_REMEMBER_EVERY = 60.0
"""Seconds after which a mere new store revision is worth another write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What is worth remembering now."""

    state: KeeperState
    mac: bytes
    mac6: bytes
    store: KnownStore | None
    now: float
    """Clock time, to which `state.expires_at` belongs."""


class Memory:
    """Read once at start; written whenever the lease, a MAC or the store's identity changed."""

    def __init__(self, *, state_dir: Path, subnet_file: Path, source: str) -> None:
        self._cache = LeaseCache(state_dir)
        self._source = source
        self._machine_id = _machine_id()
        self._cached = self._load()
        self._previous = _from_subnet_file(subnet_file)
        self._settings = SettingsBefore(state_dir, machine_id=self._machine_id)
        self._settings_complained = ""
        self._saved: CachedLease | None = None
        self._saved_at = 0.0
        self._complained = ""

    def _load(self) -> CachedLease | None:
        try:
            return self._cache.load(machine_id=self._machine_id)
        except CacheError as error:
            log.warning("starting without what was remembered: %s", error)
            return None

    @property
    def mac(self) -> bytes | None:
        """MAC of the IPv4 device, as remembered."""
        return (self._cached.mac or None) if self._cached else None

    @property
    def mac6(self) -> bytes | None:
        """MAC of the IPv6 device, as remembered."""
        return (self._cached.mac6 or None) if self._cached else None

    @property
    def known_store(self) -> KnownStore | None:
        """The store that we spoke to last, if it is the one that we shall speak to."""
        if self._cached is None or self._cached.source != self._source:
            return None
        return self._cached.store

    @property
    def previous(self) -> tuple[Previous, ...]:
        """Subnets that this node had, in the order of preference: subnet.env, then the cache."""
        found = [] if self._previous is None else [self._previous]
        if self._cached is not None:
            lease = self._cached.lease
            found.append(
                Previous(
                    subnet=lease.subnet, subnet6=lease.subnet6, source="the cache", lease=lease
                )
            )
        return tuple(found)

    def remember(self, present: Present) -> None:
        """Write what is worth remembering, if it is not written yet."""
        state = present.state
        if state.lease is None or not state.ready:
            return
        remaining = None if state.expires_at is None else state.expires_at - present.now
        cached = CachedLease(
            machine_id=self._machine_id,
            source=self._source,
            lease=state.lease,
            mac=present.mac,
            mac6=present.mac6,
            store=present.store,
            expires_at=None if remaining is None else time.time() + remaining,
        )
        if self._is_news(cached, present.now):
            self._save(cached, present.now)

    def remember_settings(self, before: Mapping[str, str]) -> None:
        """Keep the values that kernel settings had before we changed them; the first ones win."""
        try:
            self._settings.add(before)
        except SettingsBeforeError as error:
            if str(error) != self._settings_complained:
                self._settings_complained = str(error)
                log.warning("%s", error)
        else:
            self._settings_complained = ""

    def _is_news(self, cached: CachedLease, now: float) -> bool:
        saved = self._saved
        if saved is None or (saved.lease, saved.mac, saved.mac6) != (
            cached.lease,
            cached.mac,
            cached.mac6,
        ):
            return True
        return saved.store != cached.store and now >= self._saved_at + _REMEMBER_EVERY

    def _save(self, cached: CachedLease, now: float) -> None:
        # Also after a failure: a full disk is not asked again with every event.
        self._saved, self._saved_at = cached, now
        try:
            self._cache.save(cached)
        except CacheError as error:
            if str(error) != self._complained:
                self._complained = str(error)
                log.warning("the lease is not remembered for the next start: %s", error)
        else:
            self._complained = ""


def _machine_id() -> str:
    try:
        return MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _from_subnet_file(path: Path) -> Previous | None:
    try:
        env = subnetfile.read(path)
    except subnetfile.SubnetFileError as error:
        log.warning("starting without the earlier subnet: %s", error)
        return None
    if env is None or (env.subnet is None and env.subnet6 is None):
        return None
    return Previous(subnet=env.subnet, subnet6=env.subnet6, source=str(path))
