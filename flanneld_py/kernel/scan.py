"""Reading the kernel: dumps, filtered by the kernel where it can, made into elements and facts.

It reads only. The same dumps also refresh the view by which notifications are understood.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from socket import AF_INET, AF_INET6
from typing import Final

from backends.elements import ROUTE_PROTOCOL, Address, Element, Route
from flanneld_py.kernel import (
    HostAddress,
    HostFacts,
    HostLink,
    Observation,
    RouteAnswer,
    decode,
    encode,
)
from flanneld_py.kernel import netlink as nl
from flanneld_py.kernel.batch import RequestSocket
from flanneld_py.kernel.decode import RouteFacts
from flanneld_py.kernel.sysctl import read_sysctls
from flanneld_py.kernel.view import RouteKey, View

FAMILIES: Final = ((AF_INET, 4), (AF_INET6, 16))


class Scanner:
    """Dumps of one network namespace."""

    def __init__(self, sock: RequestSocket, view: View, *, nexthops: bool) -> None:
        self._sock = sock
        self._view = view
        self._nexthops = nexthops

    async def observe(self) -> Observation:
        """All owned elements and the host's facts; refreshes the view."""
        view = self._view
        view.stale = ""
        elements: list[Element] = []
        view.load_links(await self._sock.dump(encode.dump_links(), decode.link))
        elements += [
            facts.element(view.names) for index, facts in view.links.items() if index in view.owned
        ]
        elements += read_sysctls(view.scope.sysctls)
        addresses = await self._addresses(view.names)
        elements += owned_addresses(addresses, view)
        for index, name in list(view.owned.items()):
            elements += await self._sock.dump(
                encode.dump_fdb(index), decode.permanent(name, decode.fdb, nl.NTF_SELF)
            )
            elements += await self._sock.dump(
                encode.dump_neighbours(index), decode.permanent(name, decode.neighbour, 0)
            )
        if self._nexthops:
            objects = await self._sock.dump(encode.dump_nexthops(), decode.nexthop)
            view.nexthops.load(objects, view.names)
            await asyncio.sleep(0)
            elements += view.nexthops.elements(view.names)
        ours = await self._routes(ROUTE_PROTOCOL)
        others = await self._host_routes()
        ours += [facts for facts in others if view.owns_route(facts)]
        routes = number_routes(
            facts.element(view.names, view.nexthops.references) for facts in ours
        )
        await asyncio.sleep(0)
        self._remember(routes, ours)
        elements += routes
        links = [facts.host for facts in view.links.values()]
        host = self._facts(links, addresses, others, view.names)
        return Observation(elements=tuple(elements), host=host)

    async def host(self) -> HostFacts:
        """The host's facts alone. The view stays as it is, or notifications would be no news."""
        links = [facts.host for facts in await self._sock.dump(encode.dump_links(), decode.link)]
        names = {link.ifindex: link.name for link in links}
        addresses = await self._addresses(names)
        return self._facts(links, addresses, await self._host_routes(), names)

    async def holders(self, keys: set[RouteKey]) -> dict[RouteKey, Route]:
        """The first route of table main, whosever it is, under each of `keys`."""
        found: dict[RouteKey, Route] = {}
        for family, size in FAMILIES:
            if not any(len(dst) == size for dst, _, _ in keys):
                continue

            def wanted(data: bytes, start: int, end: int) -> RouteFacts | None:
                facts = decode.route(data, start, end)
                return facts if facts is not None and facts.key_of() in keys else None

            for facts in await self._sock.dump(encode.dump_routes(family), wanted):
                element = facts.element(self._view.names, self._view.nexthops.references)
                found.setdefault(facts.key_of(), element)
        return found

    async def has_address(self, ifindex: int, wanted: Address) -> int | None:
        """Prefix length under which a device has this address; None when it has it not."""
        for index, address in await self._sock.dump(encode.dump_addresses(), decode.address):
            if index == ifindex and address.address == wanted.address:
                return address.prefixlen
        return None

    async def route_to(self, packed: bytes) -> RouteAnswer | None:
        """Where the kernel would send a packet to this address."""
        answer = await self._sock.ask(encode.get_route(packed))
        if not isinstance(answer, bytes) or answer[23] not in (nl.RTN_UNICAST, nl.RTN_LOCAL):
            return None
        found = nl.attributes(answer, 28, len(answer))
        index = nl.u32(found.get(nl.RTA_OIF))
        name = self._view.names.get(index)
        if name is None:
            links = await self._sock.dump(encode.dump_links(), decode.link)
            name = {facts.host.ifindex: facts.host.name for facts in links}.get(index, "")
        return RouteAnswer(dev=name, source=found.get(nl.RTA_PREFSRC, b""))

    async def _addresses(self, names: Mapping[int, str]) -> list[HostAddress]:
        dumped = await self._sock.dump(encode.dump_addresses(), decode.address)
        return [decode.named(address, names.get(index, "")) for index, address in dumped]

    async def _routes(self, protocol: int) -> list[RouteFacts]:
        found: list[RouteFacts] = []
        for family, size in FAMILIES:
            # Without IPv6 the kernel answers for all families instead, and a kernel that does not
            # filter answers everything: what was not asked for is left out here too.
            dumped = await self._sock.dump(encode.dump_routes(family, protocol), decode.route)
            found += [f for f in dumped if len(f.dst) == size and f.protocol == protocol]
        return found

    async def _host_routes(self) -> list[RouteFacts]:
        found: list[RouteFacts] = []
        for protocol in nl.HOST_ROUTE_PROTOCOLS:
            found += await self._routes(protocol)
        return found

    def _facts(
        self,
        links: list[HostLink],
        addresses: list[HostAddress],
        routes: list[RouteFacts],
        names: Mapping[int, str],
    ) -> HostFacts:
        ours = self._view.owns_route
        host_routes = [decode.host_route(facts, names) for facts in routes if not ours(facts)]
        return HostFacts(
            links=tuple(links),
            addresses=tuple(addresses),
            routes=tuple(route for route in host_routes if route is not None),
        )

    def _remember(self, routes: list[Route], facts: list[RouteFacts]) -> None:
        view = self._view
        view.appended = {(r.dst, r.prefixlen, r.metric) for r in routes if r.instance}
        view.borrowed = {r.via_instance for r in routes if r.via_instance}
        view.carriers = {r.dev for r in routes if r.dev}
        view.carriers |= {element.dev for element in view.nexthops.elements(view.names)}


def owned_addresses(addresses: Iterable[HostAddress], view: View) -> list[Address]:
    """Addresses on devices of ours inside of the scope's networks."""
    return [
        Address(dev=a.dev, address=a.address, prefixlen=a.prefixlen)
        for a in addresses
        if a.dev in view.scope.devices and view.is_inside(a.address, a.prefixlen)
    ]


def number_routes(routes: Iterable[Route]) -> list[Route]:
    """Give routes of an equal key numbers, in the kernel's order."""
    seen: dict[RouteKey, int] = {}
    numbered = []
    for route in routes:
        place = (route.dst, route.prefixlen, route.metric)
        count = seen.get(place, 0)
        seen[place] = count + 1
        numbered.append(decode.appended(route, count) if count else route)
    return numbered
