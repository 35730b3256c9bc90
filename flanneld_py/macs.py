"""The MAC addresses of our devices: where each comes from. Pure.

A VTEP's MAC is what peers send to, so it must outlive restarts, re-creations and reboots. Order:
the lease that we own in the store, else what was remembered on disk, else the existing device,
else a random one (ARCHITECTURE.md, rules that keep clusters alive).
"""

from __future__ import annotations

from dataclasses import dataclass

_LOCAL, _GROUP = 0x02, 0x01


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenMac:
    """A MAC and its origin."""

    mac: bytes
    """6 bytes."""
    source: str
    """``lease``, ``cache``, ``device`` or ``random``."""


def usable(mac: bytes | None) -> bool:
    """Whether it can be a device's address: 6 bytes, not zero, no group address."""
    return mac is not None and len(mac) == 6 and any(mac) and not mac[0] & _GROUP


def choose_mac(
    *, published: bytes | None, cached: bytes | None, device: bytes | None, random: bytes
) -> ChosenMac:
    """The first usable one; `random` is six random bytes, made a local unicast address."""
    for source, mac in (("lease", published), ("cache", cached), ("device", device)):
        if mac is not None and usable(mac):
            return ChosenMac(mac=mac, source=source)
    first = (random[0] | _LOCAL) & ~_GROUP
    return ChosenMac(mac=bytes([first]) + random[1:6], source="random")
