"""What the user says about etcd: endpoints, prefix, TLS files, credentials, deadlines.

Checks all of it before the first connection; whatever is unusable is a `StoreSettingsError` that
names the value. Opens no connection.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from subnet.errors import StoreSettingsError

DEFAULT_ENDPOINTS = ("http://127.0.0.1:4001", "http://127.0.0.1:2379")
"""flannel-compat 1."""
DEFAULT_PREFIX = "/coreos.com/network"
"""flannel-compat 1."""
DEFAULT_PORT = 2379


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSettings:
    """How to reach etcd, as given on the command line."""

    endpoints: tuple[str, ...] = DEFAULT_ENDPOINTS
    """URLs or ``host:port``; blanks around them do not matter."""
    prefix: str = DEFAULT_PREFIX
    """Where the network config and the leases are."""
    keyfile: str = ""
    """PEM file of the client's private key; needs `certfile`."""
    certfile: str = ""
    """PEM file of the client's certificate; needs `keyfile`."""
    cafile: str = ""
    """PEM file of the authorities that may have signed the server's certificate."""
    username: str = ""
    """User of etcd's password authentication; empty for none."""
    password: str = field(default="", repr=False)
    """Its password."""
    connect_timeout: float = 1.0
    """Seconds for one endpoint to take a connection; then the next one is tried."""
    request_timeout: float = 3.0
    """Seconds for the answer to one request."""
    list_timeout: float = 10.0
    """Seconds for one page of a list, which a server that restarts under load needs."""
    probe_timeout: float = 1.0
    """Seconds for the answer to a liveness probe."""
    probe_interval: float = 1.5
    """Least seconds between two probes: with `probe_timeout` a silent network shows within 3 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One server's address."""

    host: str
    """Name or address, without brackets."""
    port: int
    secure: bool
    """Whether TLS is spoken."""

    @property
    def target(self) -> str:
        """The address as gRPC wants it."""
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return f"dns:///{self.host}:{self.port}"
        if address.version == 6:
            return f"ipv6:[{address}]:{self.port}"
        return f"ipv4:{address}:{self.port}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMaterial:
    """Contents of the TLS files, checked."""

    authorities: bytes | None
    """PEM; None where the system has no list of authorities of its own."""
    key: bytes | None
    certificate: bytes | None


def parse_endpoints(texts: Iterable[str], *, tls_files: bool) -> tuple[Endpoint, ...]:
    """Parse endpoints. One without a scheme speaks TLS if TLS files were given (`tls_files`).

    Raises `StoreSettingsError`.
    """
    cleaned = [text.strip() for text in texts]
    endpoints = tuple(_parse_endpoint(text, tls_files=tls_files) for text in cleaned if text)
    if not endpoints:
        raise StoreSettingsError(
            source="etcd", reason="no endpoint is given", remedy="set --etcd-endpoints"
        )
    if len({endpoint.secure for endpoint in endpoints}) > 1:
        # flannel lets the first one decide for all, and so drops TLS without a word (E16).
        raise StoreSettingsError(
            source="etcd",
            reason=f"endpoints mix http and https: {', '.join(map(str, endpoints))}",
            remedy="use one scheme for all of --etcd-endpoints",
        )
    return tuple(dict.fromkeys(endpoints))


def _parse_endpoint(text: str, *, tls_files: bool) -> Endpoint:
    def refuse(reason: str) -> StoreSettingsError:
        return StoreSettingsError(
            source=f"etcd endpoint {text!r}",
            reason=reason,
            remedy="write it as http://host:2379 or https://host:2379",
        )

    scheme, separator, _ = text.partition("://")
    scheme = scheme.lower() if separator else ("https" if tls_files else "http")
    if scheme not in ("http", "https"):
        raise refuse(f"scheme {scheme!r} is not supported")
    try:
        parts = urlsplit(text if separator else f"{scheme}://{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise refuse(str(error)) from error
    if not host or not re.fullmatch(r"[0-9A-Za-z_.:%-]+", host):
        raise refuse("it names no host")
    if "@" in parts.netloc:
        raise refuse("credentials do not belong here but in --etcd-username and --etcd-password")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise refuse("only scheme, host and port are used")
    if port == 0:
        raise refuse("port 0 cannot be connected to")
    return Endpoint(host=host, port=port or DEFAULT_PORT, secure=scheme == "https")


def read_tls(settings: EtcdSettings) -> TlsMaterial:
    """Read the TLS files and check that they fit together. Raises `StoreSettingsError`.

    Only an authority file is enough for TLS; without one the system's authorities count.
    """
    if bool(settings.keyfile) != bool(settings.certfile):
        given, absent = ("keyfile", "certfile") if settings.keyfile else ("certfile", "keyfile")
        raise StoreSettingsError(
            source="etcd",
            reason=f"--etcd-{given} is given without --etcd-{absent}",
            remedy="give both, or neither",
        )
    material = TlsMaterial(
        authorities=_read(settings.cafile, "cafile") if settings.cafile else _system_authorities(),
        key=_read(settings.keyfile, "keyfile") if settings.keyfile else None,
        certificate=_read(settings.certfile, "certfile") if settings.certfile else None,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if settings.cafile:
        try:
            context.load_verify_locations(cafile=settings.cafile)
        except (ssl.SSLError, OSError) as error:
            raise _unusable("cafile", settings.cafile, error) from error
    if settings.certfile:
        try:
            # The password: never ask on the terminal for one; an encrypted key is refused.
            context.load_cert_chain(settings.certfile, settings.keyfile, password="")
        except (ssl.SSLError, OSError) as error:
            files = f"{settings.certfile} and {settings.keyfile}"
            raise _unusable("certfile and --etcd-keyfile", files, error) from error
    return material


def _read(path: str, flag: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unusable(flag, path, error) from error


def _unusable(flag: str, path: str, error: OSError) -> StoreSettingsError:
    reason = error.strerror or str(error)
    if isinstance(error, ssl.SSLError):
        reason = f"not usable as PEM ({error.reason or reason})"
    return StoreSettingsError(
        source="etcd",
        reason=f"TLS file {path}: {reason}",
        remedy=f"correct --etcd-{flag}",
    )


def _system_authorities() -> bytes | None:
    """gRPC would trust a list of its own; flannel trusts the system's."""
    cafile = ssl.get_default_verify_paths().cafile
    try:
        return Path(cafile).read_bytes() if cafile else None
    except OSError:
        return None
