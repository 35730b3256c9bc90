"""ICMP echo, packed and unpacked, and sockets for it, for both address families.

Must not decide when to send, nor what a missing answer means.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

Target = IPv4Address | IPv6Address

ECHO = struct.Struct("!BBHHH")
"""Type, code, checksum, identifier, sequence number."""
RECEIVE_BUFFER = 4 << 20

_SOL_RAW = 255
_ICMP_FILTER = 1  # also the number of ICMP6_FILTER
_SO_RCVBUFFORCE = 33
_IP_MTU_DISCOVER = 10
_IPV6_MTU_DISCOVER = 23
_PMTUDISC_PROBE = 3  # sets DF and ignores what was learned about the path
_TYPES = {4: (8, 0), 6: (128, 129)}
"""Echo request and reply."""


def echo_socket(version: int, *, requests: bool = False) -> socket.socket:
    """Open a raw socket that sends echo requests and receives replies (or, a far end, requests)."""
    wanted = _TYPES[version][0 if requests else 1]
    if version == 4:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        blocked = struct.pack("I", ~(1 << wanted) & 0xFFFFFFFF)
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, blocked)
    else:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        words = [0xFFFFFFFF] * 8
        words[wanted // 32] &= ~(1 << wanted % 32)
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP_FILTER, struct.pack("8I", *words))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:  # in a user namespace
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    sock.setblocking(False)
    return sock


def forbid_fragments(sock: socket.socket) -> None:
    """Let packets larger than the path be refused or dropped, never fragmented."""
    if sock.family is socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)


def request(version: int, ident: int, sequence: int, payload: bytes = b"flanneld-py lab.") -> bytes:
    """Return an echo request; the kernel fills in the checksum of an IPv6 one."""
    kind = _TYPES[version][0]
    bare = ECHO.pack(kind, 0, 0, ident, sequence) + payload
    if version == 6:
        return bare
    return ECHO.pack(kind, 0, checksum(bare), ident, sequence) + payload


def read_all(sock: socket.socket, took: Callable[[int, int, Target], None]) -> None:
    """Hand identifier, sequence number and sender of all echoes that wait on `sock` to `took`."""
    v6 = sock.family is socket.AF_INET6
    while True:
        try:
            data, sender = sock.recvfrom(65535)
        except BlockingIOError:
            return
        message = data if v6 else data[(data[0] & 15) * 4 :]
        if len(message) < ECHO.size:
            continue
        _, _, _, ident, sequence = ECHO.unpack_from(message)
        address = sender[0].partition("%")[0]
        took(ident, sequence, IPv6Address(address) if v6 else IPv4Address(address))


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
