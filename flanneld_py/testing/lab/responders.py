"""Answers pings for static peers, in one thread that speaks VXLAN itself.

They live behind the switch's address ranges and are strict: a ping is answered only if it came to
the peer's own underlay address, with its MAC, its VNI and an address of its subnet, and the answer
goes to the MAC that the sending node *published*. Must not know how peers get into the store.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

from flanneld_py.testing.lab import icmp
from flanneld_py.testing.lab.icmp import Target
from flanneld_py.testing.lab.namespace import Namespace
from flanneld_py.testing.lab.peers import StaticPeer

VXLAN_PORT = 8472
_VXLAN = struct.Struct("!B3xI")
_ETHERNET = struct.Struct("!6s6sH")
_IPV4, _IPV6 = 0x0800, 0x86DD
_IP_PKTINFO = 8
_IPV6_FREEBIND = 78


class Responders:
    """Answers for static peers, in one thread. A context manager."""

    def __init__(self, switch: Namespace) -> None:
        self.refused: Counter[str] = Counter()
        """Packets that were not answered, by reason."""
        self._by_address: Mapping[Target, StaticPeer] = {}
        self._macs: Mapping[Target, bytes] = {}
        self._sockets = [switch.inside(partial(_listen, family)) for family in _FAMILIES]
        self._wake, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="static peers", daemon=True)
        self._thread.start()

    def serve(self, peers: Iterable[StaticPeer]) -> None:
        """Answer for these peers from now on, and for no others."""
        by_address: dict[Target, StaticPeer] = {}
        for peer in peers:
            by_address[peer.public_ip] = peer
            if peer.public_ipv6 is not None:
                by_address[peer.public_ipv6] = peer
        self._by_address = by_address

    def learn(self, leases: Mapping[str, str]) -> None:
        """Learn from the values in etcd which MAC each node published."""
        macs: dict[Target, bytes] = {}
        for text in leases.values():
            value = json.loads(text)
            for ip, data in (("PublicIP", "BackendData"), ("PublicIPv6", "BackendV6Data")):
                if value.get(ip) and value.get(data):
                    macs[ip_address(value[ip])] = bytes.fromhex(
                        value[data]["VtepMAC"].replace(":", "")
                    )
        self._macs = macs

    def close(self) -> None:
        """End the thread."""
        self._stop.send(b"x")
        self._thread.join()
        for sock in (*self._sockets, self._wake, self._stop):
            sock.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for sock in (*self._sockets, self._wake):
                selector.register(sock, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._wake:
                        return
                    self._answer_all(key.fileobj)  # type: ignore[arg-type]

    def _answer_all(self, sock: socket.socket) -> None:
        while True:
            try:
                frame, ancillary, _, sender = sock.recvmsg(65535, 128)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error for an earlier answer
            to = _destination(ancillary)
            answer = self._answer(frame, _plain(sender[0]), to)
            if isinstance(answer, str):
                self.refused[answer] += 1
                continue
            try:
                sock.sendmsg([answer], [_source(to)], 0, (sender[0], VXLAN_PORT))
            except OSError as error:
                self.refused[f"cannot send: {error.strerror}"] += 1

    def _answer(self, frame: bytes, sender: Target, to: Target) -> bytes | str:
        """Return the frame that answers, or why there is none."""
        peer = self._by_address.get(to)
        if peer is None:
            return f"no peer lives at {to}"
        if len(frame) < 50:
            return "short"
        flags, vni = _VXLAN.unpack_from(frame)
        mac = peer.mac if to.version == 4 else peer.mac6
        target, source, kind = _ETHERNET.unpack_from(frame, 8)
        if flags != 8 or vni >> 8 != peer.vni:
            return f"VNI {vni >> 8} with flags {flags:#x}"
        if target[0] & 1:
            return "broadcast or multicast"
        if target != mac:
            return f"{to} is not {target.hex(':')}"
        inner = _echo_reply(frame[22:], kind, peer)
        if isinstance(inner, str):
            return inner
        back = self._macs.get(sender, source)
        return frame[:8] + _ETHERNET.pack(back, mac, kind) + inner


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def _listen(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family is socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        # The ranges are local by a route, and no single address of them is configured.
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, icmp.RECEIVE_BUFFER)
    sock.bind(("", VXLAN_PORT))
    sock.setblocking(False)
    return sock


def _plain(address: str) -> Target:
    return ip_address(address.partition("%")[0])


def _destination(ancillary: list[tuple[int, int, bytes]]) -> Target:
    """Return the address that a packet was sent to."""
    for level, _, data in ancillary:
        if level == socket.IPPROTO_IPV6:
            return IPv6Address(data[:16])
        if level == socket.IPPROTO_IP:
            return IPv4Address(data[8:12])
    raise ValueError("a packet without a destination")


def _source(address: Target) -> tuple[int, int, bytes]:
    """Return the control message that sends a packet from `address`."""
    if isinstance(address, IPv6Address):
        return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, address.packed + bytes(4)
    return socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + address.packed + bytes(4)


def _echo_reply(packet: bytes, kind: int, peer: StaticPeer) -> bytes | str:
    """Return the IP packet that answers an echo request to a pod of `peer`, or why none does."""
    if kind == _IPV4 and packet[9] == socket.IPPROTO_ICMP:
        length = (packet[0] & 15) * 4
        total = int.from_bytes(packet[2:4], "big")
        message = packet[length:total]
        if message[0] != 8:
            return "no echo request"
        if IPv4Address(packet[16:20]) not in peer.subnet:
            return f"{IPv4Address(packet[16:20])} is not in {peer.subnet}"
        message = b"\0\0\0\0" + message[4:]
        message = message[:2] + icmp.checksum(message).to_bytes(2, "big") + message[4:]
        # Sums do not care for the order of addresses, so the header's checksum stays right.
        return packet[:12] + packet[16:20] + packet[12:16] + packet[20:length] + message
    if kind == _IPV6 and packet[6] == socket.IPPROTO_ICMPV6:
        message = packet[40 : 40 + int.from_bytes(packet[4:6], "big")]
        if message[0] != 128:
            return "no echo request"
        if peer.subnet6 is None or IPv6Address(packet[24:40]) not in peer.subnet6:
            return f"{IPv6Address(packet[24:40])} is not in {peer.subnet6}"
        addresses = packet[24:40] + packet[8:24]
        pseudo = addresses + len(message).to_bytes(4, "big") + bytes([0, 0, 0, 58])
        message = bytes([129, 0, 0, 0]) + message[4:]
        total = icmp.checksum(pseudo + message)
        return packet[:8] + addresses + message[:2] + total.to_bytes(2, "big") + message[4:]
    return f"ethertype {kind:#06x}, neither ICMP nor ICMPv6"
