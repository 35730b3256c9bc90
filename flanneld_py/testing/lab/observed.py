"""The kernel state of a node as `ip` and `bridge` show it, in a form that can be compared.

An independent witness: nothing here is shared with the agent's own reading of netlink. Ids of
nexthop objects and interface indices are left out, because they may differ after each repair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flanneld_py.testing.lab.errors import CommandFailed
from flanneld_py.testing.lab.namespace import Namespace, run
from flanneld_py.testing.tools import find_tool

DEVICES = ("flannel.1", "flannel-v6.1")
OUR_PROTOCOL = "241"
BOOT = "3"  # what `ip` leaves unsaid


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelState:
    """What stands on the overlay devices of a node, as sorted lines of text by kind."""

    links: tuple[str, ...]
    addresses: tuple[str, ...]
    routes: tuple[str, ...]
    neighbours: tuple[str, ...]
    fdb: tuple[str, ...]

    def difference(self, other: KernelState) -> list[str]:
        """Return what `other` lacks (-) and has beyond us (+)."""
        ours = {f"{kind} {line}" for kind in self.__slots__ for line in getattr(self, kind)}
        theirs = {f"{kind} {line}" for kind in self.__slots__ for line in getattr(other, kind)}
        return [f"- {line}" for line in sorted(ours - theirs)] + [
            f"+ {line}" for line in sorted(theirs - ours)
        ]


def observe(node: Namespace, devices: Iterable[str] = DEVICES) -> KernelState:
    """Read the state of a node's overlay devices, and the routes of our protocol anywhere."""
    names = set(devices)
    links = [link for link in _ip(node, "-d", "address", "show") if link.get("ifname") in names]
    nexthops = {entry["id"]: entry for entry in _ip(node, "nexthop", "show")}
    routes = [
        _route_line(route, nexthops)
        for family in ("-4", "-6")
        for route in _ip(node, "-N", family, "route", "show")
        if _is_ours(route, names, nexthops)
    ]
    neighbours = [
        f"{entry['dst']} lladdr {entry.get('lladdr')} dev {entry['dev']} {entry['state'][0]}"
        for family in ("-4", "-6")
        for entry in _ip(node, family, "neighbour", "show", "nud", "permanent")
        if entry.get("dev") in names
    ]
    return KernelState(
        links=_sorted(map(_link_line, links)),
        addresses=_sorted(
            f"{address['local']}/{address['prefixlen']} dev {link['ifname']}"
            for link in links
            for address in link["addr_info"]
            if address.get("scope") != "link"
        ),
        routes=_sorted(routes),
        neighbours=_sorted(neighbours),
        fdb=_sorted(
            f"{entry['mac']} dst {entry['dst']} dev {entry['ifname']}"
            for entry in _read(node, "bridge", "-j", "fdb", "show")
            if entry.get("ifname") in names and "dst" in entry
        ),
    )


def ifindex(node: Namespace, device: str) -> int:
    """Return an interface's index, 0 when it is absent."""
    try:
        found = _ip(node, "link", "show", "dev", device)
    except CommandFailed:
        return 0
    return int(found[0]["ifindex"]) if found else 0


def device_mac(node: Namespace, device: str) -> str:
    """Return an interface's MAC as text."""
    return str(_ip(node, "link", "show", "dev", device)[0]["address"])


def routes_to(node: Namespace, prefix: str) -> list[str]:
    """Return the routes of the main table to exactly `prefix`, in iproute2's words."""
    family = "-6" if ":" in prefix else "-4"
    shown = _show(node, "ip", "-N", family, "route", "show", "exact", prefix)
    return [re.sub(r"nhid \d+ ", "", line).strip() for line in shown.splitlines()]


def _is_ours(route: dict[str, Any], names: set[str], nexthops: dict[int, dict[str, Any]]) -> bool:
    device = route.get("dev") or nexthops.get(route.get("nhid", 0), {}).get("dev")
    protocol = route.get("protocol", BOOT)
    return protocol == OUR_PROTOCOL or (protocol == BOOT and device in names)


def _route_line(route: dict[str, Any], nexthops: dict[int, dict[str, Any]]) -> str:
    hop = nexthops.get(route.get("nhid", 0), {})
    gateway = route.get("gateway") or hop.get("gateway", "")
    device = route.get("dev") or hop.get("dev", "")
    flags = {flag for flag in (*route.get("flags", ()), *hop.get("flags", ())) if flag == "onlink"}
    words = [route.get("type", "unicast"), route["dst"]]
    words += [f"via {gateway}"] if gateway else []
    words += [f"dev {device}"] if device and route.get("type") != "unreachable" else []
    words += [f"metric {route['metric']}"] if route.get("metric") else []
    words += [f"proto {route.get('protocol', BOOT)}", *sorted(flags)]
    return " ".join(words) + (" nhid" if "nhid" in route else "")


def _link_line(link: dict[str, Any]) -> str:
    data = link.get("linkinfo", {}).get("info_data", {})
    return " ".join(
        [
            f"{link['ifname']} {link.get('linkinfo', {}).get('info_kind', '?')}",
            f"id {data.get('id')} dev {data.get('link')}",
            f"local {data.get('local') or data.get('local6')} port {data.get('port')}",
            f"{'learning' if data.get('learning') else 'nolearning'}",
            f"address {link['address']} mtu {link['mtu']}",
            "up" if "UP" in link["flags"] else "down",
        ]
    )


def _ip(node: Namespace, *arguments: str) -> list[dict[str, Any]]:
    found = _read(node, "ip", "-j", *arguments)
    return [entry for entry in found if entry]


def _read(node: Namespace, program: str, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_show(node, program, *arguments) or "[]")
    return found


def _show(node: Namespace, program: str, *arguments: str) -> str:
    return run([str(find_tool(program)), "-n", node.name, *arguments])


def _sorted(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(lines))
