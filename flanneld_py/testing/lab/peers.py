"""Static peers: nodes that exist in the store only, a hundred or a thousand of them.

Their leases are written by hand here, not by the product's codec. `responders` answers for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from flanneld_py.testing.lab.etcd_view import PREFIX
from flanneld_py.testing.lab.underlay import PEERS, PEERS6


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticPeer:
    """A node that runs nothing."""

    public_ip: IPv4Address
    mac: bytes
    subnet: IPv4Network
    public_ipv6: IPv6Address | None = None
    mac6: bytes = b""
    subnet6: IPv6Network | None = None
    vni: int = 1

    @property
    def key(self) -> str:
        """The lease's key in etcd."""
        v6 = f"&{str(self.subnet6).replace('/', '-')}" if self.subnet6 else ""
        return f"{PREFIX}/subnets/{str(self.subnet).replace('/', '-')}{v6}"

    @property
    def value(self) -> str:
        """The lease's value in etcd, as flannel writes it."""
        value: dict[str, object] = {
            "PublicIP": str(self.public_ip),
            "PublicIPv6": str(self.public_ipv6) if self.public_ipv6 else None,
            "BackendType": "vxlan",
            "BackendData": {"VNI": self.vni, "VtepMAC": self.mac.hex(":")},
        }
        if self.mac6:
            value["BackendV6Data"] = {"VNI": self.vni, "VtepMAC": self.mac6.hex(":")}
        return json.dumps(value, separators=(",", ":"))

    @property
    def pod(self) -> IPv4Address:
        """An address of a pod of this node."""
        return self.subnet[2]

    @property
    def pod6(self) -> IPv6Address:
        """An IPv6 address of a pod of this node."""
        if self.subnet6 is None:
            raise ValueError(f"{self.key} has no IPv6 subnet")
        return self.subnet6[2]


def make_peers(
    count: int, *, network: str = "10.244.0.0/16", network6: str = "", first: int = 1
) -> list[StaticPeer]:
    """Return `count` peers with consecutive /24 (and /64) subnets, MACs and underlay addresses."""
    peers = []
    base = IPv4Network(network)
    base6 = IPv6Network(network6) if network6 else None
    for number in range(first, first + count):
        six = {}
        if base6:
            six = {
                "public_ipv6": PEERS6[number],
                "mac6": bytes([0x0A, 0x59, 0, 0, number >> 8, number & 255]),
                "subnet6": IPv6Network((int(base6.network_address) + (number << 64), 64)),
            }
        peers.append(
            StaticPeer(
                public_ip=PEERS[number],
                mac=bytes([0x0A, 0x58, 0, 0, number >> 8, number & 255]),
                subnet=IPv4Network((int(base.network_address) + (number << 8), 24)),
                **six,  # type: ignore[arg-type]
            )
        )
    return peers


def leases_of(peers: Iterable[StaticPeer]) -> dict[str, str]:
    """Return the keys and values of peers, for the store."""
    return {peer.key: peer.value for peer in peers}
