"""The MACs that a lease publishes for its devices, as far as leases are judged by them.

Only vxlan's leases have any; what else a backend publishes is the backend's own affair. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from subnet import codec
from subnet.errors import CodecError
from subnet.model import LeaseAttrs

_ZERO = bytes(6)


class DeviceMacs(NamedTuple):
    """MACs of a node's devices, per family; None where there is none that can be read."""

    mac: bytes | None = None
    mac6: bytes | None = None
    fault: str = ""
    """Why the IPv4 device cannot have the MAC that is published."""
    fault6: str = ""


NO_MACS = DeviceMacs()


def macs_of(attrs: LeaseAttrs) -> DeviceMacs:
    """Read both families' MACs; total."""
    if attrs.backend_type.lower() != "vxlan":
        return NO_MACS
    mac, fault = _read(attrs.backend_data)
    mac6, fault6 = _read(attrs.backend_v6_data)
    return DeviceMacs(mac, mac6, fault, fault6)


def mac_text(mac: bytes | None) -> str:
    """``82:13:d7:9c:cf:f1``, or ``none``."""
    return "none" if mac is None else mac.hex(":")


def _read(data: str | None) -> tuple[bytes | None, str]:
    try:
        vtep = codec.vtep(data)
    except CodecError as error:
        return None, str(error)
    if vtep is None:
        return None, ""
    if vtep.mac == _ZERO:
        return vtep.mac, "its MAC is zero"
    if vtep.mac[0] & 1:
        return vtep.mac, "its MAC is a multicast address"
    return vtep.mac, ""
