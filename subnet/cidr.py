"""Addresses and prefixes as text, read the way Go's net package does (flannel-compat 2, 7).

Stricter than `ipaddress`: a prefix must have a length in digits (no netmask, no bare address), and
zones and IPv4-mapped IPv6 addresses are refused. Every function raises ValueError with the reason.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network


def parse_ipv4(text: str) -> IPv4Address:
    """``10.3.0.1``; octets have no leading zeros."""
    return IPv4Address(text)


def parse_ipv6(text: str) -> IPv6Address:
    """``fd00::1``, without a zone and not IPv4-mapped, which the kernel would not route."""
    address = IPv6Address(text)
    if address.scope_id is not None:
        raise ValueError(f"{text!r} has a zone")
    if address.ipv4_mapped is not None:
        raise ValueError(f"{text!r} is an IPv4-mapped address")
    return address


def parse_ipv4_cidr(text: str) -> IPv4Network:
    """``10.3.0.7/16`` is 10.3.0.0/16: host bits are masked off."""
    address, length = _split(text)
    return IPv4Network((int(parse_ipv4(address)), length), strict=False)


def parse_ipv6_cidr(text: str) -> IPv6Network:
    """``fd00::7/64`` is fd00::/64: host bits are masked off."""
    address, length = _split(text)
    return IPv6Network((int(parse_ipv6(address)), length), strict=False)


def _split(text: str) -> tuple[str, int]:
    address, slash, digits = text.partition("/")
    # At most six digits: long ones cannot be a length and would be slow or refused by int().
    if not slash or not digits.isascii() or not digits.isdigit() or len(digits) > 6:
        raise ValueError(f"{text[:60]!r} has no prefix length, such as /16")
    return address, int(digits)
