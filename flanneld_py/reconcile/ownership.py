"""Ownership: may a route that stands in our way be replaced? Pure.

A route is only ever added exclusively. When another one holds the prefix, it is replaced in place
if it is what flannel would have put there for the same lease, and left alone otherwise
(ARCHITECTURE.md, rules that keep clusters alive).
"""

from __future__ import annotations

from collections.abc import Collection

from backends.elements import BOOT_PROTOCOL, ROUTE_PROTOCOL, Route


def may_replace(
    holder: Route, wanted: Route, *, devices: Collection[str], public_ips: Collection[bytes]
) -> bool:
    """Whether `holder`, which stands at the prefix of `wanted`, is ours or flannel's.

    `devices` are our devices, `public_ips` the packed underlay addresses of the peer whose subnet
    the prefix is.
    """
    if holder.protocol == ROUTE_PROTOCOL:
        return True
    if holder.protocol != BOOT_PROTOCOL or holder.type != "unicast":
        return False
    through_overlay = holder.dev in devices and holder.gateway == wanted.dst
    through_underlay = holder.gateway in public_ips
    return through_overlay or through_underlay
