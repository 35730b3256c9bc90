"""Tracker: what the kernel shall hold, what it holds, and which keys differ.

Pure bookkeeping in dictionaries by element key. Owners (the node itself, each peer) say which
elements they want; the kernel layer says what is there; `work` lists the operations that make
both equal. It performs nothing, knows no time, and never decides *whether* something may be
removed: the caller says so. Cost follows what changed, never the number of peers, except in
`observe_all`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from backends.elements import Address, Element, ForeignLink, Key, Kind, Route, Sysctl, VxlanLink
from flanneld_py.kernel import Action, Op

NODE = ""
"""Owner of the node's own elements. They are made before all peers', for pods wait for them."""


class Tracker:
    """Desired and observed elements, and the keys in which they differ."""

    def __init__(self) -> None:
        self.desired: dict[Key, Element] = {}
        self.observed: dict[Key, Element] = {}
        self._plans: dict[str, tuple[Element, ...]] = {}
        self._owner: dict[Key, str] = {}
        self._claims: dict[Key, dict[str, Element]] = {}
        self._dirty: dict[Key, None] = {}

    # -- what is wanted

    def plan(self, owner: str, elements: Sequence[Element]) -> None:
        """Set all that `owner` wants; an empty sequence releases it.

        An element that several owners want stays while one is left. If they want it in different
        states, the owner that sorts first prevails, whatever the order of the calls.
        """
        before = self._plans.get(owner, ())
        after = tuple(elements)
        if before == after:
            return
        if after:
            self._plans[owner] = after
        else:
            self._plans.pop(owner, None)
        kept = set()
        for element in after:
            key = element.key
            kept.add(key)
            self._claim(key, owner, element)
        for element in before:
            key = element.key
            if key not in kept:
                self._release(key, owner)

    def owners(self) -> Iterable[str]:
        """Everybody who wants something."""
        return self._plans.keys()

    def plan_of(self, owner: str) -> tuple[Element, ...]:
        """What `owner` wants; empty for an unknown owner."""
        return self._plans.get(owner, ())

    def owner_of(self, key: Key) -> str | None:
        """Who wants the element; of several, the one that prevails."""
        claims = self._claims.get(key)
        return min(claims) if claims else self._owner.get(key)

    def _claim(self, key: Key, owner: str, element: Element) -> None:
        holder = self._owner.get(key)
        if holder is None or (holder == owner and key not in self._claims):
            self._owner[key] = owner
            self._want(key, element)
            return
        claims = self._claims.setdefault(key, {holder: self.desired[key]})
        claims[owner] = element
        self._want(key, claims[min(claims)])

    def _release(self, key: Key, owner: str) -> None:
        claims = self._claims.get(key)
        if claims is None:
            del self._owner[key]
            del self.desired[key]
            self._dirty[key] = None
            return
        del claims[owner]
        winner = min(claims)
        self._owner[key] = winner
        self._want(key, claims[winner])
        if len(claims) == 1:
            del self._claims[key]

    def _want(self, key: Key, element: Element) -> None:
        if self.desired.get(key) != element:
            self.desired[key] = element
            self._dirty[key] = None

    # -- what is there

    def observe_all(self, elements: Iterable[Element]) -> None:
        """Replace all that was observed; afterwards exactly the differing keys are dirty."""
        desired = self.desired
        observed: dict[Key, Element] = {}
        dirty: dict[Key, None] = {}
        for element in elements:
            key = element.key
            wanted = desired.get(key)
            if wanted is not None and wanted == element:
                observed[key] = wanted  # share the object: half the memory at 10,000 peers
            else:
                observed[key] = element
                dirty[key] = None
        if len(observed) - len(dirty) != len(desired):
            for key in desired:
                if key not in observed:
                    dirty[key] = None
        self.observed = observed
        self._dirty = dirty

    def observe(self, key: Key, element: Element | None) -> bool:
        """Note one element as seen (None: gone); True when it was as desired and is not now."""
        wanted = self.desired.get(key)
        was_equal = self.observed.get(key) == wanted
        if element is None:
            self.observed.pop(key, None)
        else:
            self.observed[key] = wanted if wanted is not None and wanted == element else element
        if wanted == element:
            self._dirty.pop(key, None)
            return False
        self._dirty[key] = None
        return was_equal

    # -- what differs

    @property
    def dirty(self) -> Collection[Key]:
        """Keys that may differ."""
        return self._dirty.keys()

    def node_dirty(self) -> frozenset[Key]:
        """The keys of the node's own elements that may differ."""
        keys = (element.key for element in self.plan_of(NODE))
        return frozenset(key for key in keys if key in self._dirty)

    def mark(self, keys: Iterable[Key]) -> None:
        """Look at these keys again in the next `work`."""
        for key in keys:
            self._dirty[key] = None

    def mark_unwanted(self) -> None:
        """Look again at all that is there but wanted by nobody: removal is allowed now."""
        self.mark([key for key in self.observed if key not in self.desired])

    def work(self, *, may_remove: bool, ready_devices: Collection[str]) -> tuple[list[Op], int]:
        """The operations for the dirty keys, in order, and how many keys have to wait.

        All creations and corrections come before all removals; creations in the order of `Kind`,
        the node's own ones first, removals in reverse. Link operations come alone: what stands on
        a link is planned when it is up, so while one is listed, nothing else is. A key whose
        device is not in `ready_devices` waits (stays dirty, gives no operation), and so does the
        removal of what a waiting route still uses. Keys that turn out to be equal leave the set;
        listed keys leave it too: the caller notes their fate by `observe` or marks them again.
        """
        makes: list[Op] = []
        removals: list[Op] = []
        waiting: dict[Key, None] = {}
        carrying: set[str] = set()
        for key in self._dirty:
            wanted, seen = self.desired.get(key), self.observed.get(key)
            if wanted == seen:
                continue
            if wanted is None:
                if seen is None or not may_remove or seen.kind is Kind.SYSCTL:
                    continue
                if isinstance(seen, Address) and self._carries(seen):
                    waiting[key] = None
                    continue
                removals.append(Op(action=Action.DELETE, element=seen))
            elif (device := device_of(wanted)) and device not in ready_devices:
                waiting[key] = None
                if isinstance(seen, Route):
                    carrying.add(seen.dev)
            elif seen is None:
                makes.append(Op(action=Action.CREATE, element=wanted))
            else:
                makes.append(Op(action=Action.REPLACE, element=wanted, before=seen))
        urgent = {element.key for element in self.plan_of(NODE)}
        blockers = [op for op in removals if _blocks(op.element, makes)]
        if carrying:
            # A route that cannot leave its old device yet needs all that is there.
            kept = [op for op in removals if _stands_on(op.element) in carrying]
            removals = [op for op in removals if _stands_on(op.element) not in carrying]
            waiting.update((op.element.key, None) for op in kept)
        makes.sort(key=lambda op: (op.element.key not in urgent, op.element.kind))
        removals.sort(key=_kind, reverse=True)
        links = [op for op in makes if op.element.kind is Kind.LINK]
        ops = [*blockers, *links] if links else makes + removals
        self._dirty = waiting
        if links:
            self.mark(op.element.key for op in makes + removals if op.element.kind is not Kind.LINK)
            removals_of_links = [op for op in removals if op.element.kind is Kind.LINK]
            self.mark(op.element.key for op in removals_of_links)
        return ops, len(waiting)

    def _carries(self, address: Address) -> bool:
        """Whether routes and neighbours of a device hang on an address that nobody wants.

        They go with the last address of their family. So one stays, as long as its device is
        wanted, until another is wanted in its place: at start, until the lease is known.
        """
        plan = self.plan_of(NODE)
        return any(
            isinstance(element, VxlanLink) and element.name == address.dev for element in plan
        ) and not any(
            isinstance(element, Address)
            and element.dev == address.dev
            and len(element.address) == len(address.address)
            for element in plan
        )

    def done(self, op: Op) -> None:
        """An operation succeeded: what was wanted is there now, or is gone."""
        key = op.element.key
        if op.action is Action.DELETE:
            self.observed.pop(key, None)
        else:
            self.observed[key] = op.element
        if self.desired.get(key) != self.observed.get(key):
            self._dirty[key] = None

    def differing(self) -> Iterator[Key]:
        """Every key in which desired and observed differ, by looking at all of them."""
        for key, wanted in self.desired.items():
            if self.observed.get(key) != wanted:
                yield key
        for key in self.observed:
            if key not in self.desired:
                yield key

    def peer_state(self, owner: str) -> bool:
        """Whether everything that `owner` wants is there as wanted."""
        observed, desired = self.observed, self.desired
        return all(
            observed.get(key := element.key) == desired.get(key) for element in self.plan_of(owner)
        )


def device_of(element: Element) -> str:
    """The device that must be there before the element can be; empty when none is needed."""
    if isinstance(element, VxlanLink):
        return element.parent
    if isinstance(element, Sysctl):
        return _device_of_setting(element.name)
    if isinstance(element, ForeignLink):
        return ""
    return element.dev


def _stands_on(element: Element) -> str:
    """The device that an element is on, or is."""
    return element.name if isinstance(element, VxlanLink | ForeignLink) else device_of(element)


def _blocks(old: Element, makes: Collection[Op]) -> bool:
    """Whether a new device cannot come up beside this one: those of one port agree on GBP."""
    return isinstance(old, VxlanLink) and any(
        isinstance(new := op.element, VxlanLink) and (new.port, not new.gbp) == (old.port, old.gbp)
        for op in makes
    )


def _device_of_setting(name: str) -> str:
    parts = name.split("/")
    per_device = len(parts) == 5 and parts[0] == "net" and parts[2] == "conf"
    return parts[3] if per_device and parts[3] not in ("all", "default") else ""


def _kind(op: Op) -> int:
    return op.element.kind
