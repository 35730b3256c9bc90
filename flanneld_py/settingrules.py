"""The rules for single settings: text -> value, or a ValueError that names value and remedy.

Responsible for one value at a time; how values go together is `settings`' affair. Pure; what
concerns paths is in `pathrules`.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar

from flanneld_py.netif import BadRegex, compile_regex
from subnet.errors import StoreSettingsError

AnyAddress = TypeVar("AnyAddress", IPv4Address, IPv6Address)

INTERFACE_NAME_BYTES = 15
"""IFNAMSIZ without its final 0."""


def endpoints(text: str) -> tuple[str, ...]:
    """etcd's endpoints as the store takes them; what may be a password is not repeated."""
    if "@" in text:
        raise ValueError(
            "no user or password belongs into an endpoint: "
            "give --etcd-username and FLANNELD_ETCD_PASSWORD"
        )
    # Imported here: the package loads gRPC, which help and wrong flags need not wait for.
    from subnet.etcd.settings import parse_endpoints

    found = tuple(entry.strip() for entry in text.split(",") if entry.strip())
    try:
        parse_endpoints(found, tls_files=False)
    except StoreSettingsError as error:
        subject = error.source.removeprefix("etcd endpoint ").removeprefix("etcd")
        raise ValueError(": ".join(filter(None, (subject, error.reason, error.remedy)))) from None
    return found


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


def listen_address(text: str) -> str:
    """Where a server may listen: an address, ``localhost``, or empty for all addresses."""
    if text in ("", "localhost"):
        return text
    return str(address(text.removeprefix("[").removesuffix("]")))


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
