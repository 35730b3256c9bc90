"""A node between its pods, other nodes' pods and the outside, in namespaces, with real packets.

Every place can send a datagram to every other through the node; the receiver answers with the
address that it saw. Decides nothing about what is right.
"""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import count

from flanneld_py.testing.lab.namespace import Namespace, run, unique_prefix

SO_MARK = 36
PORT, MARKED_PORT = 7000, 7001
"""What comes to the node for MARKED_PORT is marked as kube-proxy marks traffic of services."""
SECONDS = 2.0
FLOW_PORTS = range(8000, 64_000)
"""Fewer than the connections that the kernel remembers by default."""
_SERIAL = count()

MARKS = f"""\
table inet marks {{
  chain prerouting {{
    type filter hook prerouting priority mangle;
    udp dport {MARKED_PORT} meta mark set 0xc001
  }}
}}
"""
MARK = 0xC001
"""kube-proxy's bit 0x4000 among others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A namespace at the end of a cable to the node."""

    name: str
    address: str
    address6: str
    gateway: str
    """The node's address on that cable."""
    gateway6: str

    def of(self, family: int) -> str:
        return self.address if family == 4 else self.address6

    def gateway_of(self, family: int) -> str:
        return self.gateway if family == 4 else self.gateway6


def _place(name: str, address: str, address6: str, gateway: str, gateway6: str) -> Place:
    return Place(name=name, address=address, address6=address6, gateway=gateway, gateway6=gateway6)


POD = _place("pod", "10.244.1.2", "fd00:10:244:1::2", "10.244.1.1", "fd00:10:244:1::1")
POD2 = _place("pod2", "10.244.1.3", "fd00:10:244:1::3", "10.244.1.254", "fd00:10:244:1::fe")
REMOTE = _place("remote", "10.244.2.2", "fd00:10:244:2::2", "192.168.9.1", "fd09::1")
REMOTE2 = _place("remote2", "10.244.3.2", "fd00:10:244:3::2", "192.168.9.5", "fd09::5")
OUTSIDE = _place("outside", "203.0.113.9", "2001:db8:113::9", "203.0.113.1", "2001:db8:113::1")
OUTSIDE2 = _place("outside2", "198.51.100.9", "2001:db8:51::9", "198.51.100.1", "2001:db8:51::1")
PLACES = (POD, POD2, REMOTE, REMOTE2, OUTSIDE, OUTSIDE2)


class World:
    """The namespaces, and sockets in them."""

    def __init__(self) -> None:
        prefix = unique_prefix(900 + next(_SERIAL))
        self.node = Namespace(f"{prefix}node")
        self.places = {place.name: Namespace(f"{prefix}{place.name}") for place in PLACES}
        self._sockets: list[socket.socket] = []
        self._receivers: dict[tuple[str, int, int], socket.socket] = {}

    def __enter__(self) -> World:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            sock.close()
        for namespace in (self.node, *self.places.values()):
            namespace.remove()

    def _build(self) -> None:
        self.node.create()
        settings = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        for name in ("all", "default"):
            settings += [f"net.ipv4.conf.{name}.rp_filter=0", f"net.ipv6.conf.{name}.accept_dad=0"]
        self.node.show("sysctl", "-q", "-w", *settings)
        for place in PLACES:
            there = self.places[place.name]
            there.create()
            # Without it a cable cannot be used for a second.
            there.show("sysctl", "-q", "-w", "net.ipv6.conf.default.accept_dad=0")
            self.node.ip(
                f"link add {place.name} type veth peer name eth0 netns {there.name}",
                f"addr add {place.gateway}/32 dev {place.name}",
                f"addr add {place.gateway6}/128 dev {place.name} nodad",
                f"link set {place.name} up",
            )
            there.ip(
                f"addr add {place.address}/32 dev eth0",
                f"addr add {place.address6}/128 dev eth0 nodad",
                "link set eth0 up",
                f"route add default via {place.gateway} dev eth0 onlink",
                f"route add ::/0 via {place.gateway6} dev eth0 onlink",
            )
            self.node.ip(
                f"route add {place.address}/32 dev {place.name}",
                f"route add {place.address6}/128 dev {place.name}",
            )
        self.nft(MARKS)

    def nft(self, text: str, *options: str) -> None:
        """Have nft read `text` on the node."""
        run(self.node.command("nft", *options, "-f", "-"), text=text)

    def send(
        self,
        family: int,
        place: Place | None,
        target: Place,
        *,
        source: str = "",
        marked: bool = False,
    ) -> str:
        """Send to `target` from a place, or from the node with `source`; the source it saw.

        Fails unless the answer finds its way back to the sender.
        """
        port = MARKED_PORT if marked else PORT
        receiver = self._receiver(family, target, port)
        namespace = self.node if place is None else self.places[place.name]
        sender = namespace.inside(lambda: _socket(family))
        with sender:
            if place is None and marked:
                sender.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK)
            sender.bind((source or (place.of(family) if place else ""), 0))
            token = os.urandom(8)
            sender.sendto(token, (target.of(family), port))
            seen = _receive(receiver, token)
            receiver.sendto(token, seen)
            _receive(sender, token)
        return str(ip_address(seen[0]))

    def send_multicast(self, family: int, source: str, via: Place) -> str:
        """Send to a group from the node; the source that a member of it saw."""
        group = "239.1.2.3" if family == 4 else "ff05::1:3"
        index = self.node.inside(lambda: socket.if_nametoindex(via.name))
        receiver = self.places[via.name].inside(lambda: _member(family, group))
        with receiver, self.node.inside(lambda: _socket(family)) as sender:
            sender.bind((source, 0))
            if family == 4:
                request = bytes(8) + index.to_bytes(4, "little")
                sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
            else:
                sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            sender.sendto(b"group", (group, PORT + 2))
            seen = _receive(receiver, b"group")
        return str(ip_address(seen[0]))

    @contextmanager
    def counting(self, source: Place, target: Place) -> Iterator[Callable[[], tuple[int, int]]]:
        """Count what arrives at `target`: all datagrams, and those from the address of `source`."""
        there = self.places[target.name]
        table = f"""\
table ip seen {{
  counter whole {{ }}
  counter unmasked {{ }}
  chain prerouting {{
    type filter hook prerouting priority raw;
    meta l4proto udp counter name whole
    meta l4proto udp ip saddr {source.address} counter name unmasked
    meta l4proto udp drop
  }}
}}
"""
        run(there.command("nft", "-f", "-"), text=table)

        def count() -> tuple[int, int]:
            listed = json.loads(there.show("nft", "-j", "list", "counters", "table", "ip", "seen"))
            found = [item["counter"] for item in listed["nftables"] if "counter" in item]
            packets = {counter["name"]: counter["packets"] for counter in found}
            return packets["whole"], packets["unmasked"]

        try:
            yield count
        finally:
            there.show("nft", "delete", "table", "ip", "seen")

    def send_flows(self, source: Place, target: Place, *, while_: Callable[[], bool]) -> int:
        """Send single datagrams, each to a port of its own and so a new connection; how many."""
        ports = iter(FLOW_PORTS)
        sent = 0
        with self.places[source.name].inside(lambda: _socket(4)) as sender:
            sender.bind((source.address, 0))
            while while_():
                port = next(ports, None)
                if port is None:
                    break
                sender.sendto(b"flow", (target.address, port))
                sent += 1
        return sent

    def _receiver(self, family: int, target: Place, port: int) -> socket.socket:
        key = (target.name, family, port)
        if key not in self._receivers:
            sock = self.places[target.name].inside(lambda: _socket(family))
            sock.bind((target.of(family), port))
            self._sockets.append(sock)
            self._receivers[key] = sock
        return self._receivers[key]


def _socket(family: int) -> socket.socket:
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    return socket.socket(kind, socket.SOCK_DGRAM)


def _member(family: int, group: str) -> socket.socket:
    sock = _socket(family)
    sock.bind(("" if family == 4 else "::", PORT + 2))
    index = socket.if_nametoindex("eth0")
    packed = ip_address(group).packed
    if family == 4:
        request = packed + bytes(4) + index.to_bytes(4, "little")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    else:
        request = packed + index.to_bytes(4, "little")
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    return sock


def _receive(sock: socket.socket, token: bytes) -> tuple[str, int]:
    """Wait for a datagram with this content; where it came from."""
    while select.select([sock], [], [], SECONDS)[0]:
        data, seen = sock.recvfrom(100)
        if data == token:
            address, port = seen[:2]
            return address, port
    raise AssertionError("the datagram did not arrive")
