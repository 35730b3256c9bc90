"""FakeKernel: the kernel contract in memory, for tests of whoever uses a kernel.

It stands on a `Namespace`, whose cascades are the kernel's; what other programs do is done to
`fake.namespace` directly. Switches make operations fail, lose notifications, or hold them back.
It obeys the same suite as the real kernel does.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from backends import elements
from backends.elements import (
    BOOT_PROTOCOL,
    NEXTHOP_ID_BASE,
    ROUTE_PROTOCOL,
    Address,
    Element,
    Fdb,
    ForeignLink,
    Key,
    Kind,
    Neighbour,
    Route,
    Sysctl,
    VxlanLink,
    ip_text,
)
from flanneld_py.kernel import (
    Action,
    Changes,
    Failure,
    Features,
    HostAddress,
    HostFacts,
    HostLink,
    HostRoute,
    Observation,
    Op,
    RouteAnswer,
    Scope,
)
from flanneld_py.testing.namespace import (
    Mode,
    Namespace,
    Nexthop,
    Notice,
    Place,
    StoredRoute,
    refuse,
)

__all__ = ["FakeKernel", "Namespace", "Nexthop", "StoredRoute"]

_ABSENT = (errno.ENOENT, errno.ESRCH, errno.ENODEV)
_IN_PLACE = ("vni", "port", "gbp")


class FakeKernel:
    """A `Kernel` with switches for tests."""

    def __init__(self, *, nexthops: bool = True, default_vxlan_port: int = 8472) -> None:
        self.namespace = Namespace(self._on_notice)
        self.sysctls: dict[str, str] = {}
        """Settings that exist, by name."""
        self.host_addresses: list[HostAddress] = []
        """Addresses of links that are not ours; change them with `set_host`."""
        self.host_routes: list[HostRoute] = []
        """Default and on-link routes; change them with `set_host`."""
        self.answers: dict[bytes, RouteAnswer] = {}
        """What `route_to` says, by packed address."""
        self.suppress_notifications = False
        """Changes happen, but nobody is told."""
        self.counts: Counter[tuple[Action, Kind]] = Counter()
        """Operations that were asked for."""
        self.observations = 0
        """How often `observe` was called."""
        self.closed = False
        self._features = Features(nexthops=nexthops, default_vxlan_port=default_vxlan_port)
        self._scope = Scope()
        self._planned: dict[Kind, deque[int]] = {}
        self._seen: list[tuple[Key, Element | None]] = []
        self._host_changed = False
        self._resync = ""
        self._removing: dict[int, Key] = {}
        self._making = ""
        self._slot = 0
        self._wake: Callable[[], None] | None = None

    # -- switches

    def fail_next(self, kind: Kind, number: int, *, count: int = 1) -> None:
        """Let the next `count` operations on elements of this kind fail with this errno."""
        self._planned.setdefault(kind, deque()).extend([number] * count)

    def overrun(self) -> None:
        """Notifications are lost: the next `drain` asks for a new observation."""
        self._seen.clear()
        self._ask_resync("notifications were lost (receive buffer overrun)")

    def set_host(
        self,
        *,
        addresses: Sequence[HostAddress] | None = None,
        routes: Sequence[HostRoute] | None = None,
    ) -> None:
        """The host's addresses or routes are now these."""
        if addresses is not None:
            self.host_addresses = list(addresses)
        if routes is not None:
            self.host_routes = list(routes)
        self._host_changed = True
        self._call_wake()

    # -- the contract

    @property
    def features(self) -> Features:
        return self._features

    async def observe(self, scope: Scope) -> Observation:
        await asyncio.sleep(0)
        self.observations += 1
        self._scope = scope
        self._seen, self._host_changed, self._resync = [], False, ""
        self._removing.clear()
        return Observation(elements=tuple(self._elements()), host=self._host())

    async def apply(self, ops: Sequence[Op]) -> list[Failure]:
        await asyncio.sleep(0)
        failures = []
        for op in ops:
            self.counts[op.action, op.element.kind] += 1
            try:
                planned = self._planned.get(op.element.kind)
                if planned:
                    number = planned.popleft()
                    raise refuse(number, os.strerror(number))
                self._do(op)
            except OSError as error:
                if op.action is Action.DELETE and error.errno in _ABSENT:
                    continue
                reason = error.strerror or str(error)
                failures.append(Failure(op=op, errno=error.errno or 0, reason=reason))
        return failures

    def drain(self) -> Changes:
        changes = Changes(
            seen=tuple(self._seen), host_changed=self._host_changed, resync=self._resync
        )
        self._seen, self._host_changed, self._resync = [], False, ""
        return changes

    def on_change(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    async def host(self) -> HostFacts:
        await asyncio.sleep(0)
        return self._host()

    async def holder(self, route: Route) -> Route | None:
        await asyncio.sleep(0)
        place = (route.dst, route.prefixlen, route.metric)
        return next((self._shown(s) for s in self.namespace.routes if s.place == place), None)

    async def route_to(self, address: bytes) -> RouteAnswer | None:
        await asyncio.sleep(0)
        return self.answers.get(address)

    def close(self) -> None:
        self.closed = True

    # -- what is there

    def _host(self) -> HostFacts:
        own = [
            HostAddress(dev=a.dev, address=a.address, prefixlen=a.prefixlen)
            for a in self.namespace.addresses.values()
        ]
        return HostFacts(
            links=tuple(self.namespace.links.values()),
            addresses=(*self.host_addresses, *own),
            routes=tuple(self.host_routes),
        )

    def _elements(self) -> list[Element]:
        space, devices = self.namespace, self._scope.devices
        found: list[Element] = [self._link(n) for n in space.links if n in devices]
        found += [
            Sysctl(name=name, value=self.sysctls[name])
            for name in self._scope.sysctls
            if name in self.sysctls
        ]
        found += [a for a in space.addresses.values() if self._owns_address(a)]
        found += [entry for entry in space.fdb.values() if entry.dev in devices]
        found += [entry for entry in space.neighbours.values() if entry.dev in devices]
        found += [
            self._shown_nexthop(item)
            for item in space.nexthops.values()
            if item.protocol == ROUTE_PROTOCOL
        ]
        seen: Counter[Place] = Counter()
        for stored in space.routes:
            if self._owns_route(stored):
                found.append(replace(self._shown(stored), instance=seen[stored.place]))
                seen[stored.place] += 1
        return found

    def _link(self, name: str) -> VxlanLink | ForeignLink:
        own = self.namespace.vxlans.get(name)
        return own or ForeignLink(name=name, type=self.namespace.links[name].kind)

    def _owns_address(self, entry: Address) -> bool:
        return entry.dev in self._scope.devices and self._is_inside(entry.address, entry.prefixlen)

    def _owns_route(self, stored: StoredRoute) -> bool:
        route = stored.route
        if route.protocol == ROUTE_PROTOCOL:
            return True
        return (
            route.protocol == BOOT_PROTOCOL
            and self._shown(stored).dev in self._scope.devices
            and self._is_inside(route.dst, route.prefixlen)
        )

    def _is_inside(self, packed: bytes, prefixlen: int) -> bool:
        address = int.from_bytes(packed, "big")
        return any(
            net.max_prefixlen == len(packed) * 8
            and prefixlen >= net.prefixlen
            and int(net.network_address) <= address <= int(net.broadcast_address)
            for net in self._scope.networks
        )

    def _primary(self, dev: str, gateway: bytes, onlink: bool) -> int | None:
        """Of equal objects of ours, the first is the one in use."""
        for item in self.namespace.nexthops.values():
            if item.protocol == ROUTE_PROTOCOL and (dev, gateway, onlink) == (
                item.dev,
                item.gateway,
                item.onlink,
            ):
                return item.id
        return None

    def _instance(self, item: Nexthop) -> int:
        if item.protocol != ROUTE_PROTOCOL:
            return item.id
        primary = self._primary(item.dev, item.gateway, item.onlink)
        return 0 if primary in (None, item.id) else item.id

    def _shown_nexthop(self, item: Nexthop) -> elements.Nexthop:
        return elements.Nexthop(
            dev=item.dev,
            gateway=item.gateway,
            onlink=item.onlink,
            instance=self._instance(item),
        )

    def _shown(self, stored: StoredRoute) -> Route:
        item = self.namespace.nexthops.get(stored.nexthop_id)
        if item is None:
            return replace(stored.route, by_nexthop=False, via_instance=0, instance=0)
        return replace(
            stored.route,
            dev=item.dev,
            gateway=item.gateway,
            onlink=item.onlink,
            by_nexthop=True,
            via_instance=self._instance(item),
            instance=0,
        )

    # -- what is done

    def _do(self, op: Op) -> None:
        element, remove = op.element, op.action is Action.DELETE
        if isinstance(element, VxlanLink | ForeignLink):
            self._do_link(element, remove)
        elif isinstance(element, Sysctl):
            if element.name not in self.sysctls:
                raise refuse(errno.ENOENT, f"setting {element.name} is absent")
            if not remove:
                self.sysctls[element.name] = element.value
        elif isinstance(element, elements.Nexthop):
            self._do_nexthop(element, remove)
        elif isinstance(element, Route):
            self._do_route(element, op.action)
        else:
            self._do_entry(element, remove)

    def _do_entry(self, element: Address | Fdb | Neighbour, remove: bool) -> None:
        space = self.namespace
        if remove:
            space.remove_entry(element)
        elif isinstance(element, Fdb):
            space.put_fdb(element)
        elif isinstance(element, Neighbour):
            space.put_neighbour(element)
        elif space.addresses.get((element.dev, element.address)) != element:
            space.add_address(element)

    def _do_link(self, element: VxlanLink | ForeignLink, remove: bool) -> None:
        space = self.namespace
        if remove:
            space.remove_link(element.name)
            return
        if isinstance(element, ForeignLink):
            raise refuse(errno.EINVAL, "only VXLAN devices can be made")
        if element.parent not in space.links:
            raise refuse(errno.ENOENT, f"underlay interface {element.parent} is absent")
        present = space.vxlans.get(element.name)
        if element.name in space.links and (
            present is None
            or len(present.local) != len(element.local)
            or any(getattr(present, name) != getattr(element, name) for name in _IN_PLACE)
        ):
            space.remove_link(element.name)
        if element.name in space.links:
            space.change_vxlan(element.name, element)
            return
        self._making = element.name
        try:
            space.add_vxlan(element)
            space.change_vxlan(element.name, element)
        finally:
            self._making = ""

    def _do_nexthop(self, element: elements.Nexthop, remove: bool) -> None:
        if not self._features.nexthops:
            raise refuse(errno.EOPNOTSUPP, "no nexthop objects")
        space = self.namespace
        id_ = element.instance or self._primary(element.dev, element.gateway, element.onlink)
        if remove:
            if id_ is None or id_ not in space.nexthops:
                raise refuse(errno.ENOENT, "absent")
            self._removing[id_] = self._shown_nexthop(space.nexthops[id_]).key
            space.remove_nexthop(id_)
            del self._removing[id_]
        elif id_ is None:
            while NEXTHOP_ID_BASE + self._slot in space.nexthops:
                self._slot += 1
            item = Nexthop(
                id=NEXTHOP_ID_BASE + self._slot,
                dev=element.dev,
                gateway=element.gateway,
                onlink=element.onlink,
            )
            space.put_nexthop(item, exclusive=True)
            self._slot += 1

    def _do_route(self, element: Route, action: Action) -> None:
        id_ = 0
        if element.by_nexthop:
            held = element.via_instance if action is Action.DELETE else 0
            id_ = held or self._primary(element.dev, element.gateway, element.onlink) or 0
            if not id_:
                gateway = ip_text(element.gateway)
                raise refuse(errno.ENOENT, f"nexthop via {gateway} dev {element.dev} is absent")
        # A route by nexthop follows its nexthop, so it holds no content of its own.
        bare = replace(element, by_nexthop=False, via_instance=0, instance=0)
        if id_:
            bare = replace(bare, dev="", gateway=b"", onlink=False)
        stored = StoredRoute(route=bare, nexthop_id=id_)
        if action is Action.DELETE:
            self.namespace.remove_route(stored)
            return
        mode: Mode = "exclusive" if action is Action.CREATE else "replace"
        try:
            self.namespace.put_route(stored, mode)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
            held_by = next(s for s in self.namespace.routes if s.place == stored.place)
            if self._shown(held_by) != replace(element, via_instance=0, instance=0):
                says = f"held by {self._shown(held_by).describe()}"
                raise refuse(errno.EEXIST, says) from error

    # -- what is told

    def _on_notice(self, notice: Notice) -> None:
        if self.suppress_notifications:
            return
        thing = notice.thing
        if isinstance(thing, HostLink):
            self._link_notice(thing, notice)
        elif isinstance(thing, Nexthop):
            self._nexthop_notice(thing, notice)
        elif isinstance(thing, StoredRoute):
            self._route_notice(thing, notice)
        elif isinstance(thing, Address):
            self._host_changed = True
            if self._owns_address(thing):
                self._tell(thing.key, None if notice.gone else thing)
            if notice.gone and len(thing.address) == 4 and thing.dev in self._scope.devices:
                self._ask_resync(f"{thing.dev} lost an address")
        elif thing.dev in self._scope.devices:
            self._tell(thing.key, None if notice.gone else thing)
        self._call_wake()

    def _link_notice(self, link: HostLink, notice: Notice) -> None:
        self._host_changed = True
        carriers = {self._shown(s).dev for s in self.namespace.routes if self._owns_route(s)}
        ours = link.name in self._scope.devices
        if ours:
            self._tell((Kind.LINK, link.name), None if notice.gone else self._link(link.name))
        before = notice.before
        same = isinstance(before, HostLink) and before.up == link.up and not notice.gone
        if link.name == self._making:
            return
        if not same and (ours or link.name in carriers or not link.up or notice.gone):
            self._ask_resync(f"link {link.name} came, went, or changed its state")

    def _nexthop_notice(self, item: Nexthop, notice: Notice) -> None:
        before = notice.before
        if notice.gone and item.id not in self._removing and item.protocol == ROUTE_PROTOCOL:
            self._ask_resync(f"nexthop {item.id} was removed by another program")
        if isinstance(before, Nexthop) and before != item and before.protocol == ROUTE_PROTOCOL:
            self._ask_resync(f"nexthop {item.id} was replaced by another program")
        if item.protocol == ROUTE_PROTOCOL:
            shown = self._shown_nexthop(item)
            if notice.gone:
                self._tell(self._removing.get(item.id, shown.key), None)
            else:
                self._tell(shown.key, shown)

    def _route_notice(self, stored: StoredRoute, notice: Notice) -> None:
        key: Key = (Kind.ROUTE, *stored.place, 0)
        if notice.gone:
            self._tell(key, None)
            if any(other.place == stored.place for other in self.namespace.routes):
                self._ask_resync("one of several routes of one prefix changed")
        elif self._owns_route(stored):
            self._tell(key, self._shown(stored))
            if notice.appended:
                self._ask_resync("a second route was appended beside one of ours")
        elif notice.before is not None:
            self._tell(key, None)

    def _tell(self, key: Key, element: Element | None) -> None:
        self._seen.append((key, element))

    def _ask_resync(self, reason: str) -> None:
        self._resync = self._resync or reason
        self._call_wake()

    def _call_wake(self) -> None:
        if self._wake is not None:
            self._wake()
