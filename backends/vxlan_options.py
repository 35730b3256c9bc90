"""The options of the vxlan backend: the config's ``Backend`` object, checked (flannel-compat 6.1).

Every refusal is a NetworkConfigError that names the key, the value and what would be valid. Plans
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from subnet import netconf
from subnet.errors import NetworkConfigError
from subnet.model import NetworkConfig

NAME = "vxlan"
MAX_VNI = 2**24 - 1
"""24 bits on the wire (RFC 7348)."""
MAX_PORT = 65535
MAX_MTU = 65535
MAX_DEVICE_NAME = 15
"""IFNAMSIZ less the terminating zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What differs between VXLAN over IPv4 and over IPv6."""

    name: str
    """For people."""
    device: str
    """Name of the device without the VNI."""
    overhead: int
    """Outer IP (20 or 40), UDP (8) and VXLAN (8) headers and the inner Ethernet header (14)."""
    min_mtu: int
    """Below this the kernel takes the family off a device (RFC 791; RFC 8200)."""
    forwarding: str
    """Kernel setting that makes the host a router."""


IPV4 = Family(
    name="IPv4",
    device="flannel.",
    overhead=50,
    min_mtu=68,
    forwarding="net/ipv4/ip_forward",
)
IPV6 = Family(
    name="IPv6",
    device="flannel-v6.",
    overhead=70,
    min_mtu=1280,
    forwarding="net/ipv6/conf/all/forwarding",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VxlanOptions:
    """The options with their defaults."""

    vni: int = 1
    """VXLAN network identifier, which is also in the devices' names."""
    port: int = 0
    """UDP destination port; 0 means the kernel's default."""
    mtu: int = 0
    """MTU of the *underlay* to reckon with, in bytes; 0 means the interface's."""
    gbp: bool = False
    """Group based policy: carries marks between nodes."""
    learning: bool = False
    """Whether the devices learn FDB entries from packets."""
    direct_routing: bool = False
    """Whether peers on the same link are reached without VXLAN."""


def device_name(family: Family, vni: int) -> str:
    """``flannel.<VNI>`` or ``flannel-v6.<VNI>``."""
    return f"{family.device}{vni}"


def fits_device_name(name: str) -> bool:
    """Whether the kernel takes a device name of this length."""
    return len(name) <= MAX_DEVICE_NAME


def read_options(config: NetworkConfig) -> VxlanOptions:
    """Read and check ``Backend``. Raises NetworkConfigError."""
    raw = config.backend_options
    families = [
        family
        for family, enabled in ((IPV4, config.enable_ipv4), (IPV6, config.enable_ipv6))
        if enabled
    ]
    options = VxlanOptions(
        vni=netconf.option(raw, "VNI", int, 1, minimum=1, maximum=MAX_VNI),
        port=netconf.option(raw, "Port", int, 0, minimum=0, maximum=MAX_PORT),
        mtu=netconf.option(raw, "MTU", int, 0, minimum=0, maximum=MAX_MTU),
        gbp=netconf.option(raw, "GBP", bool, False),
        learning=netconf.option(raw, "Learning", bool, False),
        direct_routing=netconf.option(raw, "DirectRouting", bool, False),
    )
    for family in families:
        _check_vni(options.vni, family)
        _check_mtu(options.mtu, family)
    return options


def _check_vni(vni: int, family: Family) -> None:
    name = device_name(family, vni)
    if not fits_device_name(name):
        most = "9" * (MAX_DEVICE_NAME - len(family.device))
        raise NetworkConfigError(
            key="Backend.VNI",
            value=str(vni),
            expected=f"must be at most {most} with {family.name}, because a device name has at "
            f"most {MAX_DEVICE_NAME} characters and {name} has {len(name)}",
        )


def _check_mtu(mtu: int, family: Family) -> None:
    least = family.min_mtu + family.overhead
    if mtu and mtu < least:
        raise NetworkConfigError(
            key="Backend.MTU",
            value=str(mtu),
            expected=f"must be at least {least} with {family.name}, or 0 for the MTU of the "
            "interface; it is the MTU of the nodes' network, not of the pods'",
        )
