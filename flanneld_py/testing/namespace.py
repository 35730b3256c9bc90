"""A network namespace in memory: links, entries, nexthops and routes, with the kernel's cascades.

What the kernel does silently is done silently here: a device that goes down or away takes its
nexthops and routes along, a nexthop takes its routes. Everything else is told to `notify`.
Refusals are OSError with the kernel's errno. It knows nothing of who owns what.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from backends.elements import (
    ROUTE_PROTOCOL,
    Address,
    Fdb,
    Neighbour,
    Route,
    VxlanLink,
)
from flanneld_py.kernel import HostLink

Place = tuple[bytes, int, int]
Mode = Literal["exclusive", "replace", "append"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nexthop:
    """A nexthop object, whosever it is."""

    id: int
    dev: str
    gateway: bytes
    onlink: bool
    protocol: int = ROUTE_PROTOCOL


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRoute:
    """A route, whosever it is; `nexthop_id` is 0 in the classic form."""

    route: Route
    """Content; `by_nexthop`, `via_instance` and `instance` mean nothing here."""
    nexthop_id: int = 0

    @property
    def place(self) -> Place:
        return (self.route.dst, self.route.prefixlen, self.route.metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What the kernel would notify."""

    thing: HostLink | Address | Fdb | Neighbour | Nexthop | StoredRoute
    gone: bool = False
    before: HostLink | Nexthop | StoredRoute | None = None
    """The state that is replaced, where there was one."""
    appended: bool = False


def refuse(number: int, text: str) -> OSError:
    """A refusal of the kernel."""
    return OSError(number, text)


class Namespace:
    """State and its rules. Everything public may be read by tests."""

    def __init__(self, notify: Callable[[Notice], None]) -> None:
        self.links: dict[str, HostLink] = {}
        self.vxlans: dict[str, VxlanLink] = {}
        self.addresses: dict[tuple[str, bytes], Address] = {}
        self.fdb: dict[tuple[str, bytes], Fdb] = {}
        self.neighbours: dict[tuple[str, bytes], Neighbour] = {}
        self.nexthops: dict[int, Nexthop] = {}
        self.routes: list[StoredRoute] = []
        self._notify = notify
        self._next_index = 1

    # -- links

    def add_link(self, name: str, *, mtu: int = 1500, up: bool = True, kind: str = "") -> None:
        """Any link that is no VXLAN device."""
        if name in self.links:
            raise refuse(errno.EEXIST, f"link {name} exists")
        self._put_link(HostLink(name=name, ifindex=0, mtu=mtu, up=up, running=up, kind=kind))

    def add_vxlan(self, wanted: VxlanLink) -> None:
        """A VXLAN device, still down. Its MTU is cut to what the underlay leaves."""
        if wanted.name in self.links:
            raise refuse(errno.EEXIST, f"link {wanted.name} exists")
        for other in self.vxlans.values():
            if (other.vni, other.port) == (wanted.vni, wanted.port) and len(other.local) == len(
                wanted.local
            ):
                raise refuse(errno.EEXIST, f"device {other.name} has VNI {other.vni}")
        made = replace(wanted, mtu=min(wanted.mtu, self.most_mtu(wanted)), up=False)
        self.vxlans[wanted.name] = made
        self._put_link(
            HostLink(
                name=made.name, ifindex=0, mtu=made.mtu, up=False, running=False, kind="vxlan",
                mac=made.mac,
            )
        )  # fmt: skip

    def most_mtu(self, wanted: VxlanLink) -> int:
        """What the underlay leaves for this device: 50 bytes go with IPv4 outside, 70 with IPv6."""
        parent = self.links.get(wanted.parent)
        overhead = 50 if len(wanted.local) == 4 else 70
        return parent.mtu - overhead if parent is not None else wanted.mtu

    def change_vxlan(self, name: str, wanted: VxlanLink) -> None:
        """Change in place what can be, up and down included."""
        present = self.vxlans[name]
        if wanted.mtu > self.most_mtu(wanted):
            raise refuse(errno.EINVAL, f"mtu {wanted.mtu} does not fit")
        if wanted.up and not present.up:
            for other in self.vxlans.values():
                if other.up and other.port == wanted.port and other.gbp != wanted.gbp:
                    raise refuse(errno.EADDRINUSE, f"device {other.name} has port {other.port}")
        self.vxlans[name] = wanted
        link = self.links[name]
        changed = replace(link, mtu=wanted.mtu, mac=wanted.mac, up=wanted.up, running=wanted.up)
        if changed != link or wanted != present:
            self._change_link(changed)

    def set_link(self, name: str, *, up: bool | None = None, mtu: int | None = None) -> None:
        """What `ip link set` does to any link."""
        link = self.links[name]
        up = link.up if up is None else up
        changed = replace(link, up=up, running=up, mtu=link.mtu if mtu is None else mtu)
        if name in self.vxlans:
            self.vxlans[name] = replace(self.vxlans[name], up=up, mtu=changed.mtu)
        self._change_link(changed)

    def remove_link(self, name: str) -> None:
        """The link goes, with all that is on it; VXLAN devices on top of it go too."""
        if name not in self.links:
            raise refuse(errno.ENODEV, f"link {name} is absent")
        for upper in [own.name for own in self.vxlans.values() if own.parent == name]:
            self.remove_link(upper)
        self._lose_routes(name)
        for table in (self.addresses, self.fdb, self.neighbours):
            for key in [key for key in table if key[0] == name]:
                self._notify(Notice(thing=table.pop(key), gone=True))
        self.vxlans.pop(name, None)
        self._notify(Notice(thing=self.links.pop(name), gone=True))

    def _put_link(self, link: HostLink) -> None:
        stored = replace(link, ifindex=self._next_index)
        self._next_index += 1
        self.links[link.name] = stored
        self._notify(Notice(thing=stored))

    def _change_link(self, changed: HostLink) -> None:
        before = self.links[changed.name]
        self.links[changed.name] = changed
        if before.up and not changed.up:
            # FDB entries and IPv4 addresses stay; the rest goes, routes and nexthops silently.
            self._lose_routes(changed.name)
            for key in [k for k in self.addresses if k[0] == changed.name and len(k[1]) == 16]:
                self._notify(Notice(thing=self.addresses.pop(key), gone=True))
        if (before.up and not changed.up) or before.mac != changed.mac:
            for key in [key for key in self.neighbours if key[0] == changed.name]:
                self._notify(Notice(thing=self.neighbours.pop(key), gone=True))
        self._notify(Notice(thing=changed, before=before))

    def _lose_routes(self, dev: str) -> None:
        gone = {item.id for item in self.nexthops.values() if item.dev == dev}
        self.nexthops = {id_: n for id_, n in self.nexthops.items() if id_ not in gone}
        self.routes = [
            stored
            for stored in self.routes
            if stored.nexthop_id not in gone and stored.route.dev != dev
        ]

    def _require(self, dev: str, *, up: bool = False) -> None:
        link = self.links.get(dev)
        if link is None:
            raise refuse(errno.ENOENT, f"device {dev} is absent")
        if up and not link.up:
            raise refuse(errno.ENETDOWN, "its device is down")

    # -- entries

    def put_fdb(self, entry: Fdb) -> None:
        self._require(entry.dev)
        self.fdb[entry.dev, entry.mac] = entry
        self._notify(Notice(thing=entry))

    def put_neighbour(self, entry: Neighbour) -> None:
        self._require(entry.dev)
        self.neighbours[entry.dev, entry.dst] = entry
        self._notify(Notice(thing=entry))

    def add_address(self, entry: Address) -> None:
        self._require(entry.dev)
        if (entry.dev, entry.address) in self.addresses:
            raise refuse(errno.EEXIST, "the device has the address")
        self.addresses[entry.dev, entry.address] = entry
        self._notify(Notice(thing=entry))

    def remove_entry(self, entry: Fdb | Neighbour | Address) -> None:
        """Remove an entry; absent is refused."""
        removed: Fdb | Neighbour | Address | None
        if isinstance(entry, Fdb):
            removed = self.fdb.pop((entry.dev, entry.mac), None)
        elif isinstance(entry, Neighbour):
            removed = self.neighbours.pop((entry.dev, entry.dst), None)
        else:
            removed = self.addresses.pop((entry.dev, entry.address), None)
        if removed is None:
            raise refuse(errno.ENOENT, "absent")
        self._notify(Notice(thing=removed, gone=True))
        if isinstance(removed, Address) and len(removed.address) == 4:
            self._lose_ipv4(removed.dev)

    def _lose_ipv4(self, dev: str) -> None:
        """With the last IPv4 address its neighbours go, and its classic routes silently."""
        if any(key[0] == dev and len(key[1]) == 4 for key in self.addresses):
            return
        for key in [key for key in self.neighbours if key[0] == dev and len(key[1]) == 4]:
            self._notify(Notice(thing=self.neighbours.pop(key), gone=True))
        self.routes = [
            stored
            for stored in self.routes
            if stored.nexthop_id or stored.route.dev != dev or len(stored.route.dst) != 4
        ]

    # -- nexthops and routes

    def put_nexthop(self, item: Nexthop, *, exclusive: bool) -> None:
        """A nexthop object; routes that refer to its id follow its content without a word."""
        self._require(item.dev, up=True)
        before = self.nexthops.get(item.id)
        if before is not None and exclusive:
            raise refuse(errno.EEXIST, f"nexthop {item.id} exists")
        self.nexthops[item.id] = item
        self._notify(Notice(thing=item, before=before))

    def remove_nexthop(self, id_: int) -> None:
        """Its routes go with it, silently."""
        item = self.nexthops.pop(id_, None)
        if item is None:
            raise refuse(errno.ENOENT, "absent")
        self.routes = [stored for stored in self.routes if stored.nexthop_id != id_]
        self._notify(Notice(thing=item, gone=True))

    def put_route(self, stored: StoredRoute, mode: Mode) -> None:
        """A route. Only `replace` takes a prefix from whoever has it."""
        if stored.nexthop_id:
            if stored.nexthop_id not in self.nexthops:
                raise refuse(errno.EINVAL, "Nexthop id does not exist")
        elif stored.route.dev:
            self._require(stored.route.dev, up=True)
        at = next((i for i, r in enumerate(self.routes) if r.place == stored.place), None)
        if at is None or mode == "append":
            self.routes.append(stored)
            self._notify(Notice(thing=stored, appended=at is not None))
        elif mode == "exclusive":
            raise refuse(errno.EEXIST, "the prefix is held")
        else:
            before, self.routes[at] = self.routes[at], stored
            if before != stored:
                self._notify(Notice(thing=stored, before=before))

    def remove_route(self, stored: StoredRoute) -> None:
        """Remove exactly this route; a like one of another protocol or nexthop stays."""
        wanted = replace(stored, route=replace(stored.route, instance=0))
        for at, present in enumerate(self.routes):
            if present == wanted:
                self._notify(Notice(thing=self.routes.pop(at), gone=True))
                return
        raise refuse(errno.ESRCH, "absent")
