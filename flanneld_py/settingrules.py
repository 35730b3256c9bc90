"""The rules for single settings: text -> value, or a ValueError that names value and remedy.

Responsible for one value at a time; how values go together is `settings`' affair. The only thing
they do outside is to look whether a file can be read.
"""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TypeVar

from flanneld_py.netif import BadRegex, compile_regex

AnyAddress = TypeVar("AnyAddress", IPv4Address, IPv6Address)

SOCKET_PATH_BYTES = 107
"""A unix socket's path may have 108 bytes, the last of them 0 (unix(7))."""
LONGEST_SOCKET_NAME = "/agent.sock.4194304"
"""What is appended to the run folder at most (see `unixsocket`)."""
INTERFACE_NAME_BYTES = 15
"""IFNAMSIZ without its final 0."""

_ENDPOINT = re.compile(
    r"(?:(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*)://)?(?P<host>\[[0-9a-fA-F:.%]+\]|[^\[\]:/?#@\s]+)"
    r"(?P<port>:[^/?#]*)?/?"
)


def endpoints(text: str) -> tuple[str, ...]:
    """etcd's endpoints, each ``[scheme://]host:port`` without a trailing slash."""
    found = tuple(_endpoint(entry.strip()) for entry in text.split(",") if entry.strip())
    if not found:
        raise ValueError("no endpoint is given: write for example http://192.0.2.1:2379")
    return found


def _endpoint(text: str) -> str:
    """One endpoint. What may be a password within it is not repeated in the error."""
    if "@" in text:
        raise ValueError(
            f"{text.rpartition('@')[2]!r}: no user or password belongs into an endpoint: "
            "give --etcd-username and FLANNELD_ETCD_PASSWORD"
        )
    match = _ENDPOINT.fullmatch(text)
    example = "write for example http://192.0.2.1:2379 or https://[2001:db8::1]:2379"
    if match is None:
        raise ValueError(f"{text!r} is no endpoint: {example}")
    if match["scheme"] is not None and match["scheme"].lower() not in ("http", "https"):
        raise ValueError(f"{text!r}: the scheme must be http or https: {example}")
    port = (match["port"] or "").removeprefix(":")
    if not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise ValueError(f"{text!r} has no port from 1 to 65535: etcd's own is 2379: {example}")
    if match["host"].startswith("["):
        address(match["host"][1:-1])
    return text.rstrip("/")


def etcd_prefix(text: str) -> str:
    """The key under which everything stands."""
    if not text.strip("/"):
        raise ValueError(f"{text!r} is no key prefix: write for example /coreos.com/network")
    return text


def address(text: str) -> IPv4Address | IPv6Address:
    """An address of either family."""
    try:
        return ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is no IP address: write for example 192.0.2.1") from None


def ipv4_address(text: str) -> IPv4Address:
    """An IPv4 address that can be published."""
    found = address(text)
    if found.version == 6:
        raise ValueError(f"{text!r} is an IPv6 address: give it as --public-ipv6")
    return _of_a_node(found)


def ipv6_address(text: str) -> IPv6Address:
    """An IPv6 address that can be published."""
    found = address(text)
    if found.version == 4:
        raise ValueError(f"{text!r} is an IPv4 address: give it as --public-ip")
    if found.scope_id is not None:
        raise ValueError(f"{text!r}: a zone means nothing to other nodes: leave it out")
    return _of_a_node(found)


def _of_a_node(found: AnyAddress) -> AnyAddress:
    """The address, unless no node can have it."""
    if found.is_unspecified or found.is_multicast or str(found) == "255.255.255.255":
        raise ValueError(f"'{found}' is no address of a node: give the one that others send to")
    return found


def interface(text: str) -> str:
    """A name or an address of an interface."""
    if len(text.encode()) > INTERFACE_NAME_BYTES and not _is_address(text):
        raise ValueError(
            f"{text!r} is neither an IP address nor an interface name (at most "
            f"{INTERFACE_NAME_BYTES} bytes): `ip link` lists the names"
        )
    if "/" in text or any(letter.isspace() for letter in text):
        raise ValueError(
            f"{text!r} is no interface name: give one name or address, without a prefix length, "
            "and repeat --iface for more"
        )
    return text


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def regex(text: str) -> re.Pattern[str]:
    """A pattern that compiles, and that means the same as in Go."""
    try:
        return compile_regex(text)
    except BadRegex as error:
        raise ValueError(f"{text!r}: {error.reason}: write for example ^eth[0-9]+$") from None


def readable_file(text: str) -> Path:
    """A file that exists and can be read now."""
    found = path(text)
    try:
        with found.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ValueError(
            f"{text!r} cannot be read ({error.strerror}): give a file that this user may read"
        ) from error
    return found


def path(text: str) -> Path:
    """A path, made absolute, so that it means the same for ever and in every message."""
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is no path: give one such as /var/lib/flanneld-py")
    return Path(os.path.abspath(text))


def run_dir(text: str) -> Path:
    """A folder whose path leaves room for the name of a unix socket."""
    found = path(text)
    spare = SOCKET_PATH_BYTES - len(LONGEST_SOCKET_NAME)
    if len(os.fsencode(found)) > spare:
        raise ValueError(
            f"{text!r} is too long for a unix socket in it: give a path of at most {spare} bytes"
        )
    return found
