"""LeaseCache: the last known lease in `--state-dir`, so that a node finds its subnet again.

One small JSON file, replaced as a whole. What it holds is a memory, not a fact: the store decides.
A file of another machine (a cloned disk) or a damaged one is set aside under another name, never
used and never deleted. Errors say what to do; nobody has to stop for them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from subnet.errors import SubnetError
from subnet.identity import KnownStore
from subnet.model import Lease, LeaseAttrs, PeerKey, StoreIdentity

_log = logging.getLogger(__name__)

FILE_NAME = "lease.json"
VERSION = 1
_MAX_BYTES = 1 << 20


class CacheError(SubnetError):
    """The cache could not be written or read; `path` is the file, `reason` says why."""

    def __init__(self, *, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"{path}: {reason}: the lease is not remembered over a reboot; make {path.parent} a "
            "writable folder on a local disk, or choose another one with --state-dir"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedLease:
    """What a node remembers of itself."""

    machine_id: str
    """Content of /etc/machine-id; empty where there is none."""
    source: str
    """Which store it belongs to (`SubnetStore.source`)."""
    lease: Lease
    """Our lease, with what we published."""
    mac: bytes = b""
    """MAC of our IPv4 device; empty if there is none."""
    mac6: bytes = b""
    """MAC of our IPv6 device."""
    store: KnownStore | None = None
    """How to tell whether the store is still the same."""
    expires_at: float | None = None
    """End of the lease as Unix time; None for a reservation."""


class LeaseCache:
    """The file of one node."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        """The file that holds it all."""

    def load(self, *, machine_id: str) -> CachedLease | None:
        """What was saved on this machine; None if nothing can be used. Raises CacheError.

        A file of another machine or a damaged one is said once and set aside.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CacheError(path=self.path, reason=error.strerror or str(error)) from error
        try:
            cached = _decode(data)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            self._set_aside("damaged", f"it is damaged ({error!r:.200})")
            return None
        if cached.machine_id != machine_id:
            self._set_aside(
                "foreign",
                f"it belongs to the machine {cached.machine_id or 'without an id'}, this one is "
                f"{machine_id or 'without an id'}: a cloned disk brings neither subnet nor MAC",
            )
            return None
        return cached

    def save(self, cached: CachedLease) -> None:
        """Replace the file, so that it is whole at any moment. Raises CacheError."""
        temporary = self.path.with_name(f".{FILE_NAME}.{os.getpid()}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                _write(temporary, _encode(cached))
                temporary.replace(self.path)
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink()
            _sync_folder(self.path.parent)
        except OSError as error:
            raise CacheError(path=self.path, reason=error.strerror or str(error)) from error

    def _set_aside(self, word: str, reason: str) -> None:
        aside = self.path.with_name(f"{FILE_NAME}.{word}")
        _log.warning(
            "cached lease not used path=%s reason=%s set_aside=%s", self.path, reason, aside
        )
        try:
            self.path.replace(aside)
        except OSError as error:
            # It is refused again at the next start, which does no harm.
            _log.warning("cached lease not set aside path=%s error=%s", self.path, error.strerror)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        # A left-over of an earlier process keeps its own mode.
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encode(cached: CachedLease) -> bytes:
    lease, attrs, store = cached.lease, cached.lease.attrs, cached.store
    document: dict[str, object] = {
        "version": VERSION,
        "machine_id": cached.machine_id,
        "source": cached.source,
        "mac": cached.mac.hex(":"),
        "mac6": cached.mac6.hex(":"),
        "expires_at": cached.expires_at,
        "lease": {
            "key": lease.key,
            "subnet": _text(lease.subnet),
            "subnet6": _text(lease.subnet6),
            "create_revision": lease.create_revision,
            "mod_revision": lease.mod_revision,
            "lease_id": lease.lease_id,
            "public_ip": _text(attrs.public_ip),
            "public_ipv6": _text(attrs.public_ipv6),
            "backend_type": attrs.backend_type,
            "backend_data": attrs.backend_data,
            "backend_v6_data": attrs.backend_v6_data,
        },
    }
    if store is not None:
        document["store"] = {
            "cluster_id": store.identity.cluster_id,
            "revision": store.identity.revision,
            "config_create_revision": store.identity.config_create_revision,
            "own_key": store.own_key,
            "own_create_revision": store.own_create_revision,
        }
    return json.dumps(document, indent=1).encode() + b"\n"


def _decode(data: bytes) -> CachedLease:
    if len(data) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES} bytes")
    document = _Fields(json.loads(data))
    if document.number("version") != VERSION:
        raise ValueError(f"version is {document.number('version')}, not {VERSION}")
    fields = document.fields("lease")
    subnet, subnet6 = fields.optional("subnet"), fields.optional("subnet6")
    public_ip, public_ipv6 = fields.optional("public_ip"), fields.optional("public_ipv6")
    lease = Lease(
        key=PeerKey(fields.text("key")),
        subnet=None if subnet is None else IPv4Network(subnet),
        subnet6=None if subnet6 is None else IPv6Network(subnet6),
        attrs=LeaseAttrs(
            public_ip=None if public_ip is None else IPv4Address(public_ip),
            public_ipv6=None if public_ipv6 is None else IPv6Address(public_ipv6),
            backend_type=fields.text("backend_type"),
            backend_data=fields.optional("backend_data"),
            backend_v6_data=fields.optional("backend_v6_data"),
        ),
        create_revision=fields.number("create_revision"),
        mod_revision=fields.number("mod_revision"),
        lease_id=fields.number("lease_id"),
    )
    return CachedLease(
        machine_id=document.text("machine_id"),
        source=document.text("source"),
        lease=lease,
        mac=_mac(document.text("mac")),
        mac6=_mac(document.text("mac6")),
        store=_store(document.fields("store")) if document.has("store") else None,
        expires_at=document.time("expires_at"),
    )


def _store(fields: _Fields) -> KnownStore:
    own_key = fields.optional("own_key")
    return KnownStore(
        identity=StoreIdentity(
            cluster_id=fields.number("cluster_id"),
            revision=fields.number("revision"),
            config_create_revision=fields.number("config_create_revision"),
        ),
        own_key=None if own_key is None else PeerKey(own_key),
        own_create_revision=fields.number("own_create_revision"),
    )


class _Fields:
    """A JSON object whose fields are read with their types checked."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise TypeError(f"an object was expected, not {value!r:.40}")
        self._value = value

    def has(self, name: str) -> bool:
        return name in self._value

    def fields(self, name: str) -> _Fields:
        return _Fields(self._value[name])

    def text(self, name: str) -> str:
        value = self._value[name]
        if not isinstance(value, str):
            raise TypeError(f"{name} is no text: {value!r:.40}")
        return value

    def optional(self, name: str) -> str | None:
        return None if self._value[name] is None else self.text(name)

    def number(self, name: str) -> int:
        value = self._value[name]
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} is no whole number: {value!r:.40}")
        return value

    def time(self, name: str) -> float | None:
        value = self._value[name]
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"{name} is no number: {value!r:.40}")
        return float(value)


def _mac(text: str) -> bytes:
    mac = bytes.fromhex(text.replace(":", ""))
    if len(mac) not in (0, 6):
        raise ValueError(f"{text!r:.40} is no MAC")
    return mac


def _text(value: object) -> str | None:
    return None if value is None else str(value)
