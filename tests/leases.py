"""Makes leases, snapshots and configs for tests, each from as few words as it takes."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from subnet.codec import vtep_text
from subnet.model import (
    ConfigRecord,
    Lease,
    LeaseAttrs,
    Malformed,
    NetworkConfig,
    PeerKey,
    Snapshot,
    StoreIdentity,
)

CONFIG = NetworkConfig(
    network=IPv4Network("10.244.0.0/16"),
    subnet_len=24,
    subnet_min=IPv4Address("10.244.1.0"),
    subnet_max=IPv4Address("10.244.255.0"),
    backend_type="vxlan",
)
DUAL_CONFIG = NetworkConfig(
    enable_ipv6=True,
    network=IPv4Network("10.244.0.0/16"),
    subnet_len=24,
    subnet_min=IPv4Address("10.244.1.0"),
    subnet_max=IPv4Address("10.244.255.0"),
    network6=IPv6Network("fd00::/48"),
    subnet6_len=64,
    subnet6_min=IPv6Address("fd00:0:0:1::"),
    subnet6_max=IPv6Address("fd00:0:0:ffff::"),
    backend_type="vxlan",
)
V6_CONFIG = NetworkConfig(
    enable_ipv4=False,
    enable_ipv6=True,
    network6=IPv6Network("fd00::/48"),
    subnet6_len=64,
    subnet6_min=IPv6Address("fd00:0:0:1::"),
    subnet6_max=IPv6Address("fd00:0:0:ffff::"),
    backend_type="vxlan",
)


def mac(number: int) -> bytes:
    """A unicast MAC, locally administered."""
    return bytes((2, 0)) + number.to_bytes(4, "big")


def attrs(
    node: int, *, ip: str | None = None, ip6: str | None = None, mac_number: int | None = None
) -> LeaseAttrs:
    """What node number so-and-so publishes; its IPv6 half is there if `ip6` is given."""
    number = node if mac_number is None else mac_number
    return LeaseAttrs(
        public_ip=IPv4Address(ip) if ip else None if ip6 else IPv4Address(0xAC1F0000 + node),
        public_ipv6=IPv6Address(ip6) if ip6 else None,
        backend_type="vxlan",
        backend_data=vtep_text(1, mac(number)) if ip or not ip6 else None,
        backend_v6_data=vtep_text(1, mac(number + 0x10000)) if ip6 else None,
    )


def dual_attrs(node: int) -> LeaseAttrs:
    """What a dual-stack node publishes."""
    return attrs(node, ip=str(IPv4Address(0xAC1F0000 + node)), ip6=f"fd99::{node:x}")


def key_of(subnet: IPv4Network | None, subnet6: IPv6Network | None) -> PeerKey:
    """The key that a store would use."""
    parts = [str(net).replace("/", "-") for net in (subnet, subnet6) if net is not None]
    return PeerKey("/net/subnets/" + "&".join(parts))


def lease(
    subnets: str,
    *,
    node: int = 1,
    rev: int = 10,
    mod: int = 0,
    key: str = "",
    published: LeaseAttrs | None = None,
    lease_id: int = 77,
) -> Lease:
    """A lease of ``10.244.1.0/24``, ``fd00:0:0:1::/64``, or both, with a blank between."""
    subnet: IPv4Network | None = None
    subnet6: IPv6Network | None = None
    for text in subnets.split():
        if ":" in text:
            subnet6 = IPv6Network(text)
        else:
            subnet = IPv4Network(text)
    if published is None:
        published = dual_attrs(node) if subnet6 is not None else attrs(node)
    return Lease(
        key=PeerKey(key) if key else key_of(subnet, subnet6),
        subnet=subnet,
        subnet6=subnet6,
        attrs=published,
        create_revision=rev,
        mod_revision=mod or rev,
        lease_id=lease_id,
    )


def snapshot(
    *leases: Lease,
    rev: int = 100,
    malformed: Iterable[Malformed] = (),
    cluster: int = 7,
    config_rev: int = 1,
) -> Snapshot:
    """All records of a store; `config_rev` 0 means that it has no config."""
    config = ConfigRecord(text="{}", create_revision=config_rev, mod_revision=config_rev)
    return Snapshot(
        leases=leases,
        malformed=tuple(malformed),
        config=config if config_rev else None,
        identity=StoreIdentity(cluster_id=cluster, revision=rev, config_create_revision=config_rev),
    )
