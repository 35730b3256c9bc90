"""What the kernel layer remembers between calls: names and indices of links, nexthops, the scope.

Pure. Filled by `scan`, kept up to date by `events` and by what `write` and `rtnl` have done; says
what is ours (ARCHITECTURE.md, 'What we own').
"""

from __future__ import annotations

from collections.abc import Iterable

from backends.elements import BOOT_PROTOCOL, ROUTE_PROTOCOL
from flanneld_py.kernel import Scope
from flanneld_py.kernel.decode import LinkFacts, RouteFacts
from flanneld_py.kernel.nexthops import NexthopTable

RouteKey = tuple[bytes, int, int]


class View:
    """The kernel as last seen, as far as later messages need it to be understood."""

    def __init__(self) -> None:
        self.scope = Scope()
        self.links: dict[int, LinkFacts] = {}
        self.names: dict[int, str] = {}
        self.indices: dict[str, int] = {}
        self.owned: dict[int, str] = {}
        """Devices of ours that exist, by interface index."""
        self.carriers: set[str] = set()
        """Names of links through which nexthops or routes of ours go."""
        self.appended: set[RouteKey] = set()
        """Keys under which more than one route of ours was seen."""
        self.borrowed: set[int] = set()
        """Nexthop ids of others to which routes of ours refer."""
        self.making = ""
        """Name of the device that we are just making: that it appears is no news."""
        self.nexthops = NexthopTable()
        self.stale = ""
        """Why this view is known to be wrong; ends with the next observation."""
        self._networks: list[tuple[int, int, int, int]] = []

    def set_scope(self, scope: Scope) -> None:
        self.scope = scope
        self._networks = [
            (
                net.max_prefixlen // 8,
                net.prefixlen,
                net.max_prefixlen - net.prefixlen,
                int(net.network_address) >> (net.max_prefixlen - net.prefixlen),
            )
            for net in scope.networks
        ]
        self.owned = {i: name for name, i in self.indices.items() if name in scope.devices}

    def load_links(self, links: Iterable[LinkFacts]) -> None:
        """Replace all links by a dump."""
        self.links, self.names, self.indices, self.owned = {}, {}, {}, {}
        for facts in links:
            self.put_link(facts)

    def put_link(self, facts: LinkFacts) -> None:
        """A link is now like this, maybe under a new name."""
        index, name = facts.host.ifindex, facts.host.name
        if self.names.get(index, name) != name:
            self.drop_link(index)
        self.links[index] = facts
        self.names[index] = name
        self.indices[name] = index
        if name in self.scope.devices:
            self.owned[index] = name

    def drop_link(self, index: int) -> None:
        """A link is gone."""
        self.links.pop(index, None)
        self.owned.pop(index, None)
        name = self.names.pop(index, "")
        if self.indices.get(name) == index:
            del self.indices[name]

    def is_watched(self, name: str) -> bool:
        """Whether the fate of this link is the fate of elements of ours."""
        return name in self.scope.devices or name in self.carriers

    def is_inside(self, packed: bytes, prefixlen: int) -> bool:
        """Whether a prefix lies inside of one of the scope's networks."""
        for size, net_len, shift, prefix in self._networks:
            if (
                size == len(packed)
                and prefixlen >= net_len
                and int.from_bytes(packed, "big") >> shift == prefix
            ):
                return True
        return False

    def owns_route(self, facts: RouteFacts) -> bool:
        """Whether a route is ours."""
        if facts.protocol == ROUTE_PROTOCOL:
            return True
        if facts.protocol != BOOT_PROTOCOL or not self._networks:
            return False
        index = facts.ifindex
        if facts.nexthop_id:
            item = self.nexthops.get(facts.nexthop_id)
            index = item.ifindex if item is not None else index
        return index in self.owned and self.is_inside(facts.dst, facts.prefixlen)
