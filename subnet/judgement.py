"""Judgement: what is made of a single lease, looked at beside our own node and the config.

Faults that need no other peer's lease. What two peers' leases do to each other is `claims`. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

from subnet.model import MAX_VALUE_BYTES, Lease, LeaseAttrs, NetworkConfig, PeerKey
from subnet.prefixindex import covers, prefix_of
from subnet.vtepmac import DeviceMacs, mac_text, macs_of


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnNode:
    """What is ours, so that nobody else's lease is taken for it, nor ours for a peer's."""

    key: PeerKey | None = None
    """Our record's key, once we have one."""
    subnet: IPv4Network | None = None
    """Our IPv4 subnet; also while another node has it."""
    subnet6: IPv6Network | None = None
    """Our IPv6 subnet."""
    public_ip: IPv4Address | None = None
    """The underlay IPv4 address that we publish."""
    public_ipv6: IPv6Address | None = None
    """The underlay IPv6 address that we publish."""
    mac: bytes | None = None
    """MAC of our IPv4 device."""
    mac6: bytes | None = None
    """MAC of our IPv6 device."""

    @classmethod
    def of(cls, attrs: LeaseAttrs, lease: Lease | None = None) -> OwnNode:
        """Our node as it publishes itself, with the lease that it has."""
        macs = macs_of(attrs)
        return cls(
            key=None if lease is None else lease.key,
            subnet=None if lease is None else lease.subnet,
            subnet6=None if lease is None else lease.subnet6,
            public_ip=attrs.public_ip,
            public_ipv6=attrs.public_ipv6,
            mac=macs.mac,
            mac6=macs.mac6,
        )


class Half(NamedTuple):
    """One family's half of a lease without a fault of its own: what it claims."""

    prefix: int
    """Its subnet, as `prefixindex.prefix_of` writes it."""
    mac: bytes | None
    """MAC of the node's device."""
    node: int
    """Underlay address of the node as a number; 0 if it has none."""


class Verdict(NamedTuple):
    """What is made of one lease."""

    half: Half | None
    """The IPv4 half; None if there is none, if it is not used, or if it has a fault."""
    half6: Half | None
    """The IPv6 half."""
    fault: str
    """What is wrong with the lease or with its halves, for people."""
    rival: bool
    """Whether it overlaps a subnet of ours."""


class _Family:
    """What is known of one address family."""

    def __init__(
        self,
        *,
        bits: int,
        enabled: bool,
        network: IPv4Network | IPv6Network | None,
        own: IPv4Network | IPv6Network | None,
        own_mac: bytes | None,
    ) -> None:
        self.enabled = enabled
        self._bits = bits
        self._network = None if network is None else prefix_of(network)
        self._own = None if own is None else prefix_of(own)
        self._own_mac = own_mac
        # One text for all that have the same fault: there may be very many.
        self._outside = f"its subnet is outside of the network {network}"
        self._overlaps = f"its subnet overlaps our own subnet {own}"
        self._has_our_mac = f"it has our own MAC {mac_text(own_mac)}"

    def fault(self, prefix: int, mac: bytes | None) -> str:
        if self._network is not None and not covers(self._network, prefix, self._bits):
            return self._outside
        if self.is_rival(prefix):
            return self._overlaps
        if mac is not None and mac == self._own_mac:
            return self._has_our_mac
        return ""

    def address_fault(self, node: int) -> str:
        """Packets to a peer must not go to everybody, nor to ourselves."""
        # By number: the properties of `ipaddress` take several times as long, for every lease.
        first = node >> (self._bits - 8)
        if self._bits == 32:
            loopback, group = first == 127, first >> 4 == 14 or node == 0xFFFFFFFF
        else:
            loopback, group = node == 1, first == 0xFF
        if loopback:
            return "its public address is a loopback address"
        return "its public address is a multicast or broadcast address" if group else ""

    def is_rival(self, prefix: int) -> bool:
        own = self._own
        return own is not None and (
            covers(own, prefix, self._bits) or covers(prefix, own, self._bits)
        )


class Judgement:
    """Judges one lease after the other; each family on its own."""

    def __init__(self, config: NetworkConfig | None, own: OwnNode) -> None:
        self._own = own
        # Without a config nothing is known about either family.
        self._ipv4 = _Family(
            bits=32,
            enabled=config is None or config.enable_ipv4,
            network=None if config is None else config.network,
            own=own.subnet,
            own_mac=own.mac,
        )
        self._ipv6 = _Family(
            bits=128,
            enabled=config is None or config.enable_ipv6,
            network=None if config is None else config.network6,
            own=own.subnet6,
            own_mac=own.mac6,
        )

    def judge(self, lease: Lease) -> Verdict:
        """What is made of a lease that is not our own record."""
        attrs = lease.attrs
        macs = macs_of(attrs)
        whole = self._fault(lease, macs)
        half, fault, rival = _judge_half(
            self._ipv4, lease.subnet, macs.mac, macs.fault, attrs.public_ip
        )
        half6, fault6, rival6 = _judge_half(
            self._ipv6, lease.subnet6, macs.mac6, macs.fault6, attrs.public_ipv6
        )
        if whole:
            return Verdict(None, None, whole, rival or rival6)
        if fault and fault6:
            fault = f"{fault}, and {fault6}"
        return Verdict(half, half6, fault or fault6, rival or rival6)

    def _fault(self, lease: Lease, macs: DeviceMacs) -> str:
        """What is wrong with the lease as a whole; empty if nothing is."""
        own, attrs = self._own, lease.attrs
        if not (
            (lease.subnet is not None and self._ipv4.enabled)
            or (lease.subnet6 is not None and self._ipv6.enabled)
        ):
            return "it has no subnet of a family that the network config enables"
        if len(attrs.backend_data or "") + len(attrs.backend_v6_data or "") > MAX_VALUE_BYTES:
            return f"its value is larger than {MAX_VALUE_BYTES} bytes"
        address: IPv4Address | IPv6Address
        if own.public_ip is not None and attrs.public_ip == own.public_ip:
            address = own.public_ip
        elif own.public_ipv6 is not None and attrs.public_ipv6 == own.public_ipv6:
            address = own.public_ipv6
        else:
            return ""
        if _unlike(macs.mac, own.mac) or _unlike(macs.mac6, own.mac6):
            return (
                f"another node claims our public IP {address} "
                f"(its MAC {mac_text(macs.mac or macs.mac6)}, ours {mac_text(own.mac or own.mac6)})"
            )
        return f"it is an earlier lease of this node (public IP {address})"


def _judge_half(
    family: _Family,
    subnet: IPv4Network | IPv6Network | None,
    mac: bytes | None,
    mac_fault: str,
    address: IPv4Address | IPv6Address | None,
) -> tuple[Half | None, str, bool]:
    if subnet is None:
        return None, "", False
    prefix = prefix_of(subnet)
    rival = family.is_rival(prefix)
    if not family.enabled:
        return None, "", rival
    node = 0 if address is None else int(address)
    if fault := family.fault(prefix, mac) or mac_fault or family.address_fault(node):
        return None, fault, rival
    return Half(prefix, mac, node), "", rival


def _unlike(one: bytes | None, other: bytes | None) -> bool:
    return one is not None and other is not None and one != other
