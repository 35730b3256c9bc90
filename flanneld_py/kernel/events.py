"""The kernel's notifications, turned into changes of owned elements.

Pure. It looks at a message just long enough to see whether it matters to us, keeps the view up to
date, and asks for a new observation where the kernel is known to change things without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import AF_INET, AF_INET6, AF_UNSPEC

from backends.elements import MAIN_TABLE, ROUTE_PROTOCOL, Address, Element, Key, Kind
from flanneld_py.kernel import Changes, decode
from flanneld_py.kernel import netlink as nl
from flanneld_py.kernel.view import View

_HOST_PROTOCOLS = frozenset(nl.HOST_ROUTE_PROTOCOLS)


class EventReader:
    """Collects changes from datagrams until they are taken."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._seen: list[tuple[Key, Element | None]] = []
        self._host_changed = False
        self._resync = ""
        self._handlers: dict[int, Callable[[bytes, int, int, int], None]] = {
            nl.RTM_NEWNEIGH: self._new_neighbour,
            nl.RTM_DELNEIGH: self._old_neighbour,
            nl.RTM_NEWROUTE: self._new_route,
            nl.RTM_DELROUTE: self._old_route,
            nl.RTM_NEWNEXTHOP: self._nexthop,
            nl.RTM_DELNEXTHOP: self._nexthop_gone,
            nl.RTM_NEWLINK: self._new_link,
            nl.RTM_DELLINK: self._old_link,
            nl.RTM_NEWADDR: self._new_address,
            nl.RTM_DELADDR: self._old_address,
        }

    def take(self) -> Changes:
        """What was collected since the last call."""
        changes = Changes(
            seen=tuple(self._seen),
            host_changed=self._host_changed,
            resync=self._resync or self._view.stale,
        )
        self.forget()
        return changes

    def forget(self) -> None:
        """Start anew: a full observation has said it all."""
        self._seen = []
        self._host_changed = False
        self._resync = ""

    def lost(self, reason: str) -> None:
        """Ask for a new observation."""
        self._resync = self._resync or reason

    def read(self, data: bytes) -> None:
        """One datagram."""
        size, type_, flags, _, _ = nl.HEADER.unpack_from(data)
        handler = self._handlers.get(type_)
        if size == len(data):  # as nearly always
            if handler is not None:
                handler(data, 0, size, flags)
            return
        for start, end, type_, flags, _ in nl.frames(data, len(data)):
            handler = self._handlers.get(type_)
            if handler is not None:
                handler(data, start, end, flags)

    def _new_neighbour(self, data: bytes, start: int, end: int, flags: int) -> None:
        self._neighbour(data, start, end, True)

    def _old_neighbour(self, data: bytes, start: int, end: int, flags: int) -> None:
        self._neighbour(data, start, end, False)

    def _neighbour(self, data: bytes, start: int, end: int, new: bool) -> None:
        family, index, state, flags, _ = decode.NDMSG.unpack_from(data, start + 16)
        dev = self._view.owned.get(index)
        if dev is None:
            return
        element: Element | None
        if family == nl.AF_BRIDGE:
            if flags != nl.NTF_SELF:
                return
            element = decode.fdb(data, start, end, dev)
        elif flags & nl.NTF_PROXY:
            return
        else:
            element = decode.neighbour(data, start, end, dev)
        if element is None:
            return
        # A permanent entry that is removed is first notified as a new one that has failed.
        is_there = new and bool(state & nl.NUD_PERMANENT) and not flags & ~nl.NTF_SELF
        self._seen.append((element.key, element if is_there else None))

    def _new_route(self, data: bytes, start: int, end: int, flags: int) -> None:
        protocol, table = data[start + 21], data[start + 20]
        replaces = flags & nl.NLM_F_REPLACE
        if table != MAIN_TABLE or data[start + 16] not in (AF_INET, AF_INET6):
            return
        if protocol != ROUTE_PROTOCOL and protocol not in _HOST_PROTOCOLS and not replaces:
            return
        facts = decode.route(data, start, end)
        if facts is None:
            return
        view = self._view
        if view.owns_route(facts):
            element = facts.element(view.names, view.nexthops.references)
            self._seen.append((element.key, element))
            if flags & nl.NLM_F_APPEND:
                self.lost("a second route was appended beside one of ours")
            return
        if replaces:
            self._vacant(facts)
        self._judge_host_route(facts, bool(replaces))

    def _old_route(self, data: bytes, start: int, end: int, flags: int) -> None:
        if data[start + 20] != MAIN_TABLE or data[start + 16] not in (AF_INET, AF_INET6):
            return
        facts = decode.route(data, start, end)
        if facts is not None:
            # Whosever it was: whoever wants this prefix may now have it.
            self._vacant(facts)
            if not self._view.owns_route(facts):
                self._judge_host_route(facts, False)

    def _vacant(self, facts: decode.RouteFacts) -> None:
        """No route of ours is under this key."""
        key: Key = (Kind.ROUTE, facts.dst, facts.prefixlen, facts.metric, 0)
        self._seen.append((key, None))
        if facts.key_of() in self._view.appended:
            self.lost("one of several routes of one prefix changed")

    def _judge_host_route(self, facts: decode.RouteFacts, replaces: bool) -> None:
        if facts.protocol in _HOST_PROTOCOLS and (
            replaces or decode.host_route(facts, self._view.names) is not None
        ):
            self._host_changed = True

    def _nexthop(self, data: bytes, start: int, end: int, flags: int) -> None:
        item = decode.nexthop(data, start, end)
        if item is None:
            return
        view, table = self._view, self._view.nexthops
        before = table.get(item.id)
        dev = view.names.get(item.ifindex, "")
        matters = before is not None and before.protocol == ROUTE_PROTOCOL
        if before is not None and before != item and (matters or item.id in view.borrowed):
            self.lost(f"nexthop {item.id} was replaced by another program")
        if before != item:
            table.put(item, dev)
        if item.protocol == ROUTE_PROTOCOL:
            element = table.element(item, dev)
            self._seen.append((element.key, element))

    def _nexthop_gone(self, data: bytes, start: int, end: int, flags: int) -> None:
        item = decode.nexthop(data, start, end)
        if item is None:
            return
        table = self._view.nexthops
        asked, key = table.end_removal(item.id), table.key(item.id)
        if asked is None and (key is not None or item.id in self._view.borrowed):
            self.lost(f"nexthop {item.id} was removed by another program, its routes with it")
        table.drop(item.id)
        gone = asked or key
        if gone is not None:
            self._seen.append((gone, None))

    def _old_link(self, data: bytes, start: int, end: int, flags: int) -> None:
        if data[start + 16] != AF_UNSPEC:  # a bridge tells of its ports in the same way
            return
        facts = decode.link(data, start, end)
        view, index = self._view, facts.host.ifindex
        name = view.names.get(index, facts.host.name)
        is_current = view.indices.get(name, index) == index
        view.drop_link(index)
        view.nexthops.drop_device(index)
        self._host_changed = True
        if view.is_watched(name):
            self.lost(f"link {name} is gone")
        if name in view.scope.devices and is_current:
            self._seen.append(((Kind.LINK, name), None))

    def _new_link(self, data: bytes, start: int, end: int, flags: int) -> None:
        if data[start + 16] != AF_UNSPEC:
            return
        facts = decode.link(data, start, end)
        view, index = self._view, facts.host.ifindex
        before = view.links.get(index)
        if before is None or before.host != facts.host:
            self._host_changed = True
            self._judge_link(before, facts, view.names.get(index, facts.host.name))
        view.put_link(facts)
        if index in view.owned:
            element = facts.element(view.names)
            self._seen.append((element.key, element))

    def _judge_link(
        self, before: decode.LinkFacts | None, facts: decode.LinkFacts, name: str
    ) -> None:
        """Whether what a link carries has gone or may come back."""
        is_watched = self._view.is_watched
        host = facts.host
        if host.name != name and (is_watched(name) or is_watched(host.name)):
            self.lost(f"link {name} is now named {host.name}")
        elif not is_watched(name) or name == self._view.making:
            return
        elif before is None:
            self.lost(f"link {name} has appeared")
        elif (before.host.up, before.host.running) != (host.up, host.running):
            self.lost(f"link {name} went {'up' if host.up and host.running else 'down'}")

    def _new_address(self, data: bytes, start: int, end: int, flags: int) -> None:
        element = self._address(data, start, end)
        if element is not None:
            self._seen.append((element.key, element))

    def _old_address(self, data: bytes, start: int, end: int, flags: int) -> None:
        element = self._address(data, start, end)
        if element is not None:
            self._seen.append((element.key, None))
        index, found = decode.address(data, start, end)
        name = self._view.names.get(index, "")
        if len(found.address) == 4 and self._view.is_watched(name):
            # With its last IPv4 address a device loses its classic routes, and nobody is told.
            self.lost(f"{name} lost an address")

    def _address(self, data: bytes, start: int, end: int) -> Address | None:
        index, found = decode.address(data, start, end)
        self._host_changed = True
        dev = self._view.owned.get(index)
        if dev is None or not self._view.is_inside(found.address, found.prefixlen):
            return None
        return Address(dev=dev, address=found.address, prefixlen=found.prefixlen)
