"""Choose the external interface and its addresses from what is observed (flannel-compat 5).

Pure: it looks at `HostFacts` and options, and answers with a `Choice` or with `NoInterface`, which
says of every option and of every interface why it was not taken. It does not read the host and
does not decide what a changed choice means for the lease.

Where flannel crashes or fails for no reason (its faults M5) this takes what was clearly meant, or
says what is wrong; wherever flannel finds an interface, this finds the same one.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from flanneld_py.hostview import HostView, Match, address_text, is_link_local
from flanneld_py.kernel import HostAddress, HostFacts, RouteAnswer

MAX_LISTED = 20
"""A host may have thousands of pod interfaces; the error's text names so many of them."""

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceOptions:
    """What the user asked for. All empty: the interface of the default route."""

    ifaces: tuple[str, ...] = ()
    """``--iface``, in order: names or IP addresses."""
    regexes: tuple[re.Pattern[str], ...] = ()
    """``--iface-regex``, in order, from `compile_regex`; tried after `ifaces`."""
    can_reach: IPAddress | None = None
    """``--iface-can-reach``; tried last."""
    public_ip: IPv4Address | None = None
    """``--public-ip``: published instead of the interface's own; alone it also selects."""
    public_ipv6: IPv6Address | None = None
    """``--public-ipv6``, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The external interface, its own addresses and those that are published."""

    underlay: str
    """Name of the interface."""
    ipv4: IPv4Address | None = None
    """The interface's own IPv4 address; None on IPv6-only networks."""
    ipv6: IPv6Address | None = None
    """The interface's own IPv6 address; None on IPv4-only networks."""
    public_ip: IPv4Address | None = None
    """What peers are told: ``--public-ip``, else `ipv4`."""
    public_ipv6: IPv6Address | None = None
    """What peers are told: ``--public-ipv6``, else `ipv6`."""
    why: str
    """What selected it, for the log: ``it has the default route``."""

    def describe(self) -> str:
        """One line for the log."""
        own = " ".join(str(address) for address in (self.ipv4, self.ipv6) if address is not None)
        public = [
            str(published)
            for published, address in ((self.public_ip, self.ipv4), (self.public_ipv6, self.ipv6))
            if published is not None and published != address
        ]
        known_as = f", published as {' '.join(public)}" if public else ""
        return f"external interface {self.underlay} ({own}{known_as}): {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Something that was not taken."""

    subject: str
    """An option as typed (``--iface=eth9``), or an interface with its addresses."""
    reason: str
    """Why not."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}"


class NoInterface(Exception):
    """Nothing that was asked for can be used: `asked` says it by option, `seen` by interface."""

    def __init__(self, *, asked: Sequence[Rejection], seen: Sequence[Rejection]) -> None:
        self.asked = tuple(asked)
        self.seen = tuple(seen)
        listed = "; ".join(str(rejection) for rejection in self.seen[:MAX_LISTED]) or "none at all"
        more = len(self.seen) - MAX_LISTED
        super().__init__(
            f"no external interface: {'; '.join(map(str, self.asked))} (interfaces: {listed}"
            + (f"; and {more} more" if more > 0 else "")
            + "): name one with --iface"
        )


class BadRegex(ValueError):
    """A pattern of ``--iface-regex`` that cannot be used: `pattern` and the `reason`."""

    def __init__(self, *, pattern: str, reason: str) -> None:
        self.pattern = pattern
        self.reason = reason
        super().__init__(f"--iface-regex={pattern}: {reason}")


def compile_regex(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of ``--iface-regex``; raises `BadRegex`.

    flannel's patterns are Go's RE2. What interface names and addresses need is equal in both;
    RE2's POSIX classes would silently mean something else here and are refused, as is what Python
    does not know (``\\pL``, ``\\z``, ``\\Q..\\E``, flags in the middle). Look-around and
    back-references work here, but not in flannel.
    """
    if posix := re.search(r"\[\[:\^?\w+:\]", pattern):
        reason = f"the POSIX class {posix[0][1:]} is not supported: write it out, e.g. [a-z0-9]"
        raise BadRegex(pattern=pattern, reason=reason)
    try:
        with warnings.catch_warnings():
            # A pattern whose meaning is about to change is not RE2's either.
            warnings.simplefilter("error", FutureWarning)
            return re.compile(pattern)
    except (re.error, FutureWarning, OverflowError, RecursionError) as error:
        raise BadRegex(pattern=pattern, reason=f"not a regular expression: {error}") from error


Found = list[Match] | str
"""What an option selects, best first, or why it selects nothing."""


class _Search:
    """One run through the options."""

    def __init__(
        self, view: HostView, options: InterfaceOptions, reached: RouteAnswer | None, used: str
    ) -> None:
        self.view = view
        self.options = options
        self.reached = reached
        self.used = used
        self.has = {length for length, _ in view.families()}

    def steps(self) -> Iterator[tuple[str, Found]]:
        """Each option in its order, with what it selects."""
        options = self.options
        for iface in options.ifaces:
            yield self._by_iface(iface, f"--iface={iface}")
        for pattern in options.regexes:
            label = f"--iface-regex={pattern.pattern}"
            yield label, self._by_regex(pattern, label)
        if options.can_reach is not None:
            label = f"--iface-can-reach={options.can_reach}"
            yield label, self._by_route(label)
        if options.ifaces or options.regexes or options.can_reach is not None:
            return
        if 4 in self.has and options.public_ip is not None:
            yield self._by_iface(str(options.public_ip), f"--public-ip={options.public_ip}")
        elif 16 in self.has and options.public_ipv6 is not None:
            yield self._by_iface(str(options.public_ipv6), f"--public-ipv6={options.public_ipv6}")
        else:
            yield "default route", self._by_default_route()

    def _by_iface(self, text: str, label: str) -> tuple[str, Found]:
        try:
            literal = ip_address(text)
        except ValueError:
            return label, self._by_name(text, f"{label} names it", "there is no interface")
        return label, self._by_address(literal, label)

    def _by_name(self, name: str, why: str, absent: str) -> Found:
        link = self.view.link(name)
        if link is None:
            return f"{absent} {name}"
        return self.view.fault(link) or [self.view.match(link, why)]

    def _by_address(self, literal: IPAddress, label: str) -> Found:
        """Dual stack: ``--public-ipv6`` fixes the IPv6 address, and both must be of one link."""
        if len(literal.packed) not in self.has:
            return f"it is an IPv{literal.version} address, and the network has no such family"
        fixed = {len(literal.packed): literal.packed}
        if self.has == {4, 16} and self.options.public_ipv6 is not None:
            fixed[16] = self.options.public_ipv6.packed
        matches: list[Match] = []
        fault = ""
        for link in self.view.links:
            own = self.view.own(link)
            if not all(packed in own for packed in fixed.values()):
                continue
            if link_fault := self.view.fault(link):
                fault = fault or f"{link.name} has it, but {link_fault}"
                continue
            ipv4, ipv6 = ((own[fixed[n]],) if n in fixed else None for n in (4, 16))
            matches.append(self.view.match(link, f"{label} is its address", ipv4=ipv4, ipv6=ipv6))
        wanted = " and ".join(str(ip_address(packed)) for packed in fixed.values())
        return matches or fault or f"no interface has {wanted}"

    def _by_regex(self, pattern: re.Pattern[str], label: str) -> Found:
        """Addresses first; names only when no address matches anywhere."""
        able = [link for link in self.view.links if not self.view.fault(link)]
        matches: list[Match] = []
        for link in able:
            ipv4, ipv6 = (
                tuple(a for a in self.view.usable(link, n) if pattern.search(address_text(a)))
                for n in (4, 16)
            )
            if (ipv4 or 4 not in self.has) and (ipv6 or 16 not in self.has):
                why = f"{label} matches its address"
                matches.append(self.view.match(link, why, ipv4=ipv4, ipv6=ipv6))
        if not matches:
            why = f"{label} matches its name"
            matches = [self.view.match(link, why) for link in able if pattern.search(link.name)]
        return matches or "no usable interface has an address or a name that it matches"

    def _by_route(self, label: str) -> Found:
        if self.reached is None:
            return "the kernel has no route to it"
        link = self.view.link(self.reached.dev)
        if link is None:
            return f"the route to it leads to {self.reached.dev}, which is not there"
        if fault := self.view.fault(link):
            return f"the route to it leads to {link.name}, but {fault}"
        source = self.view.own(link).get(self.reached.source)
        ipv4, ipv6 = (
            (source,) if source is not None and len(source.address) == n else None for n in (4, 16)
        )
        return [self.view.match(link, f"{label} goes through it", ipv4=ipv4, ipv6=ipv6)]

    def _by_default_route(self) -> Found:
        """The best default route counts; the device in use is kept while it has any."""
        devices: dict[str, list[str]] = {}
        for length, family in self.view.families():
            found = [r for r in self.view.routes if r.prefixlen == 0 and len(r.dst) == length]
            if not found:
                return f"there is no {family} default route"
            devices[family] = [r.dev for r in sorted(found, key=lambda r: r.metric)]
        best = {family: names[0] for family, names in devices.items()}
        if self.used and all(self.used in names for names in devices.values()):
            best = dict.fromkeys(best, self.used)
        for family, name in best.items():
            if not name:
                return f"{family}'s has several next hops and so no single interface"
        if len(set(best.values())) > 1:
            return f"it leads to {best['IPv4']} for IPv4, but to {best['IPv6']} for IPv6"
        name = next(iter(best.values()))
        found_by = self._by_name(name, "it has the default route", "there is no interface")
        return f"it leads to {name}, but {found_by}" if isinstance(found_by, str) else found_by


def _kept(current: IPAddress | None, allowed: tuple[HostAddress, ...]) -> bool:
    """Whether the address in use may stay: allowed, and not link-local beside a global one."""
    if current is None:
        return not allowed
    for address in allowed:
        if address.address == current.packed:
            return not is_link_local(address) or is_link_local(allowed[0])
    return False


def _choice(match: Match, options: InterfaceOptions, current: Choice | None) -> Choice:
    """Addresses of a match: those in use where they may stay, else the best."""
    ipv4 = IPv4Address(match.ipv4[0].address) if match.ipv4 else None
    ipv6 = IPv6Address(match.ipv6[0].address) if match.ipv6 else None
    if current is not None and current.underlay == match.link.name:
        ipv4 = current.ipv4 if _kept(current.ipv4, match.ipv4) else ipv4
        ipv6 = current.ipv6 if _kept(current.ipv6, match.ipv6) else ipv6
    return Choice(
        underlay=match.link.name,
        ipv4=ipv4,
        ipv6=ipv6,
        public_ip=(options.public_ip or ipv4) if match.ipv4 else None,
        public_ipv6=(options.public_ipv6 or ipv6) if match.ipv6 else None,
        why=match.why,
    )


def _same_place(one: Choice, other: Choice) -> bool:
    return (one.underlay, one.ipv4, one.ipv6) == (other.underlay, other.ipv4, other.ipv6)


def choose(
    facts: HostFacts,
    options: InterfaceOptions,
    *,
    ipv4: bool,
    ipv6: bool,
    reached: RouteAnswer | None = None,
    current: Choice | None = None,
    ours: frozenset[str] = frozenset(),
) -> Choice:
    """Choose the external interface; raises `NoInterface`.

    `ipv4` and `ipv6` are the families that the network config enables: each needs an address.
    `reached` is the kernel's answer for ``--iface-can-reach``. `ours` names the agent's own
    devices, which are never underlay. `current` is the choice in use: it stays as long as the
    options still allow its interface and addresses, even if they would now prefer another.
    """
    in_use = (current.ipv4, current.ipv6) if current is not None else ()
    view = HostView(
        facts,
        ipv4=ipv4,
        ipv6=ipv6,
        ours=ours,
        in_use=frozenset(address.packed for address in in_use if address is not None),
    )
    matches: list[Match] = []
    asked: list[Rejection] = []
    search = _Search(view, options, reached, current.underlay if current is not None else "")
    for label, found in search.steps():
        if isinstance(found, str):
            asked.append(Rejection(subject=label, reason=found))
        else:
            matches += found
    if not matches:
        raise NoInterface(asked=asked, seen=_seen(view))
    for match in matches:
        kept = _choice(match, options, current)
        if current is not None and _same_place(kept, current):
            return kept
    return _choice(matches[0], options, current)


def _seen(view: HostView) -> list[Rejection]:
    """Every interface with the reason why it is not the one."""
    return [
        Rejection(
            subject=view.describe(link),
            reason=view.fault(link) or "it could be used, but is not what was asked for",
        )
        for link in view.links
    ]
