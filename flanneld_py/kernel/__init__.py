"""The kernel as the rest of the agent sees it: observe, apply, be told of changes.

`Kernel` is implemented by `flanneld_py.kernel.linux.LinuxKernel` and by
`flanneld_py.testing.kernel.FakeKernel`; `tests/contract/test_kernel.py` holds both to this text.

* `observe` is the truth: all *owned* elements (see `Scope`) and the facts about the host, read
  anew. It never returns an element that is not ours, so what a caller does not want, it may
  remove.
* `apply` works through operations in the order given, and goes on past a failure. It is
  idempotent: creating what is there and equal, and deleting what is absent, succeed. It never
  takes over a foreign route: `CREATE` of a route is exclusive and fails with EEXIST when another
  route holds the prefix at that metric; only `REPLACE` replaces.
* `drain` tells what changed since the last call, from the kernel's notifications, without
  waiting. Where the kernel is known to stay silent (a device that goes down or away takes its
  nexthops and routes with it, a nexthop takes its routes) or has lost notifications, `resync`
  says why another `observe` is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from backends.elements import Element, Key, Route


class Action(Enum):
    """What an operation does to its element."""

    CREATE = "create"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operation."""

    action: Action
    element: Element
    """The wanted state; for DELETE the state as observed."""
    before: Element | None = None
    """For REPLACE: the state as observed, which says what can be corrected in place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An operation that was not done."""

    op: Op
    errno: int
    """Errno of the kernel; ENOENT when something it depends on is absent."""
    reason: str
    """For people: the kernel's words, completed by what they mean and the remedy where known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is ours, exactly (ARCHITECTURE.md, 'What we own').

    Links and settings: by name. On our devices: permanent neighbours, permanent self FDB entries
    with a destination, addresses inside of `networks`, routes of protocol 241 or of protocol boot
    with a destination inside of `networks`. Elsewhere: routes and nexthops of protocol 241.
    """

    devices: frozenset[str] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    sysctls: tuple[str, ...] = ()
    """Names of the settings to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAddress:
    """An address on any interface of the host."""

    dev: str
    address: bytes
    prefixlen: int
    scope: int = 0
    """RT_SCOPE_*: 0 global, 253 link, 254 host."""
    deprecated: bool = False
    temporary: bool = False
    permanent: bool = True
    tentative: bool = False
    """Duplicate address detection has not ended: not usable yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLink:
    """Any interface of the host."""

    name: str
    ifindex: int
    mtu: int
    up: bool
    """Administratively up."""
    running: bool = True
    """Operationally up (carrier)."""
    loopback: bool = False
    kind: str = ""
    """Link type, e.g. ``veth``; empty for physical ones."""
    mac: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRoute:
    """A default route, or a route without a gateway (on-link prefix), of the main table."""

    dst: bytes
    """Packed prefix; of length 4 or 16 also for default routes."""
    prefixlen: int
    dev: str
    """Empty for a multipath route, which has no single device."""
    gateway: bytes = b""
    metric: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The host as far as the choice of the underlay and its following need it."""

    links: tuple[HostLink, ...] = ()
    addresses: tuple[HostAddress, ...] = ()
    routes: tuple[HostRoute, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What `observe` saw."""

    elements: tuple[Element, ...]
    host: HostFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What changed since the last `drain`, in the order of its happening."""

    seen: tuple[tuple[Key, Element | None], ...] = ()
    """Key and new state of owned elements; None: none of ours is there (any more). The latter is
    also told of prefixes that another program's route took or left, and of keys never seen."""
    host_changed: bool = False
    """A link, an address or a default or on-link route of the host changed: `host()` tells."""
    resync: str = ""
    """Why everything must be observed anew; empty when it need not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What this kernel can do, probed once."""

    nexthops: bool
    """Nexthop objects (Linux 5.3)."""
    default_vxlan_port: int
    """UDP port of a VXLAN device made without one (module parameter udp_port; mainline: 8472)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteAnswer:
    """Where the kernel would send a packet."""

    dev: str
    source: bytes
    """Preferred source address; empty when the kernel names none."""


class Kernel(Protocol):
    """See the module's text for the contract."""

    @property
    def features(self) -> Features: ...

    async def observe(self, scope: Scope) -> Observation:
        """Read everything that `scope` owns, and the host's facts. Sets the scope for `drain`."""
        ...

    async def apply(self, ops: Sequence[Op]) -> list[Failure]:
        """Do `ops` in order; return those that failed, in order."""
        ...

    def drain(self) -> Changes:
        """Notifications since the last call; never waits."""
        ...

    def on_change(self, wake: Callable[[], None]) -> None:
        """Call `wake` (cheaply, from the event loop) whenever `drain` may have something."""
        ...

    async def host(self) -> HostFacts:
        """The host's links, addresses and routes, read anew."""
        ...

    async def holder(self, route: Route) -> Route | None:
        """The route, whosever it is, that holds the prefix of `route` at its metric."""
        ...

    async def route_to(self, address: bytes) -> RouteAnswer | None:
        """Ask the kernel where a packet to `address` would go; None when nowhere."""
        ...

    def close(self) -> None:
        """Close sockets. Leaves all kernel state in place."""
        ...


class KernelError(Exception):
    """Base of what the kernel layer raises: `what` was attempted, `errno`, `remedy`."""

    def __init__(self, *, what: str, errno: int, reason: str, remedy: str = "") -> None:
        self.what = what
        self.errno = errno
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{what}: {reason}" + (f": {remedy}" if remedy else ""))
