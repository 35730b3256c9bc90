"""Which nexthop objects exist, which of them we use, and which ids are free.

Pure bookkeeping. Elements name a nexthop by its content; the kernel names it by an id. Other
programs choose ids too (from 1, with REPLACE), so ids of ours come from a private block, are
created exclusively, and one that is taken is skipped. An object is ours by its protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from backends.elements import NEXTHOP_ID_BASE, ROUTE_PROTOCOL, Key, Kind, Nexthop
from flanneld_py.kernel.decode import NexthopObject, NexthopReference

Content = tuple[int, bytes, bool]
"""Interface index, gateway, onlink."""
SLOTS: Final = 1 << 24


def _is_usable(item: NexthopObject) -> bool:
    return item.protocol == ROUTE_PROTOCOL and item.plain and bool(item.gateway)


class NexthopTable:
    """All nexthop objects of the namespace by id, and ours by content."""

    def __init__(self) -> None:
        self.references: dict[int, NexthopReference] = {}
        """What a route means by an id."""
        self._objects: dict[int, NexthopObject] = {}
        self._primary: dict[Content, int] = {}
        self._taken: set[int] = set()
        self._removing: dict[int, Key] = {}
        self._slot = 0

    def load(self, objects: Iterable[NexthopObject], names: Mapping[int, str]) -> None:
        """Replace everything by a dump. The object in use for a content stays the one in use."""
        before = self._primary
        self._objects = {item.id: item for item in objects}
        self._primary = {}
        self._taken.clear()
        self._removing.clear()
        for item in self._objects.values():
            if not _is_usable(item):
                continue
            content = (item.ifindex, item.gateway, item.onlink)
            if self._primary.setdefault(content, item.id) != item.id:
                kept = self._primary[content]
                self._primary[content] = self._preferred(before.get(content), kept, item.id)
        self.references = {
            item.id: self._reference(item, names.get(item.ifindex, ""))
            for item in self._objects.values()
        }

    @staticmethod
    def _preferred(before: int | None, *ids: int) -> int:
        if before in ids:
            return before
        return min(ids, key=lambda id_: (not 0 <= id_ - NEXTHOP_ID_BASE < SLOTS, id_))

    def _reference(self, item: NexthopObject, dev: str) -> NexthopReference:
        content = (item.ifindex, item.gateway, item.onlink)
        in_use = self._primary.get(content) == item.id
        return NexthopReference(dev, item.gateway, item.onlink, 0 if in_use else item.id)

    def get(self, id_: int) -> NexthopObject | None:
        return self._objects.get(id_)

    def primary(self, ifindex: int, gateway: bytes, onlink: bool) -> int | None:
        """Id of the object that we use for this content."""
        return self._primary.get((ifindex, gateway, onlink))

    def put(self, item: NexthopObject, dev: str) -> None:
        """An object was created, or is now like this."""
        if item.id in self._objects:
            self.drop(item.id)
        self._objects[item.id] = item
        if _is_usable(item):
            self._primary.setdefault((item.ifindex, item.gateway, item.onlink), item.id)
        self.references[item.id] = self._reference(item, dev)

    def drop(self, id_: int) -> None:
        """An object is gone."""
        item = self._objects.pop(id_, None)
        self.references.pop(id_, None)
        if item is not None:
            content = (item.ifindex, item.gateway, item.onlink)
            if self._primary.get(content) == id_:
                del self._primary[content]

    def drop_device(self, ifindex: int) -> None:
        """A device is gone, and all objects through it with it."""
        for item in [item for item in self._objects.values() if item.ifindex == ifindex]:
            self.drop(item.id)

    def elements(self, names: Mapping[int, str]) -> list[Nexthop]:
        """Our objects as elements."""
        return [
            self.element(item, names.get(item.ifindex, ""))
            for item in self._objects.values()
            if item.protocol == ROUTE_PROTOCOL
        ]

    def element(self, item: NexthopObject, dev: str) -> Nexthop:
        """One of our objects. What is of no use to us (a group, say) is nobody's primary."""
        primary = self._primary.get((item.ifindex, item.gateway, item.onlink))
        return Nexthop(
            dev=dev,
            gateway=item.gateway or bytes(4),
            onlink=item.onlink,
            instance=0 if primary == item.id else item.id,
        )

    def key(self, id_: int) -> Key | None:
        """Key of one of our objects."""
        item, reference = self._objects.get(id_), self.references.get(id_)
        if item is None or reference is None or item.protocol != ROUTE_PROTOCOL:
            return None
        dev, gateway, onlink, instance = reference
        return (Kind.NEXTHOP, dev, gateway or bytes(4), onlink, instance)

    def take_id(self) -> int:
        """An id of our block that nobody is known to use. Ids are not used again soon."""
        while True:
            id_ = NEXTHOP_ID_BASE + self._slot
            self._slot = (self._slot + 1) % SLOTS
            if id_ not in self._objects and id_ not in self._taken:
                return id_

    def mark_taken(self, id_: int) -> None:
        """The kernel says that somebody has this id."""
        self._taken.add(id_)

    def begin_removal(self, id_: int) -> None:
        """We are about to remove it: its notification will be no surprise."""
        key = self.key(id_)
        if key is not None:
            self._removing[id_] = key

    def end_removal(self, id_: int) -> Key | None:
        """A removal was notified, or was refused: the key, if we had asked for it."""
        return self._removing.pop(id_, None)
