"""PrefixIndex: finds the prefixes that overlap a given one among very many.

Two prefixes overlap exactly if one covers the other. Prefixes are integers made by `code`: the
network address shifted left by a byte, plus the length. Knows nothing of leases. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")

_STALE_SLACK = 1024
"""Removed prefixes that may linger in the sorted list before it is built anew."""


def code(address: int, length: int) -> int:
    """One integer for a prefix; sorts by address, then by length."""
    return address << 8 | length


def prefix_of(net: IPv4Network | IPv6Network) -> int:
    """The integer for a network."""
    return int(net.network_address) << 8 | net.prefixlen


def covers(wide: int, narrow: int, bits: int) -> bool:
    """Whether one prefix contains (or equals) another, in a family of so many bits."""
    length = wide & 0xFF
    shift = 8 + bits - length
    return length <= narrow & 0xFF and wide >> shift == narrow >> shift


class MultiMap(Generic[K, T]):
    """A dict of several items per key; a single item, the usual case, costs no container."""

    def __init__(self) -> None:
        self._items: dict[K, T | list[T]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def get(self, key: K) -> list[T]:
        """The items under `key`; do not change the list."""
        found = self._items.get(key)
        if found is None:
            return []
        return found if isinstance(found, list) else [found]

    def add(self, key: K, item: T) -> bool:
        """Add an item; True if it is the first under `key`."""
        found = self._items.setdefault(key, item)
        if found is item:
            return True
        if isinstance(found, list):
            found.append(item)
        else:
            self._items[key] = [found, item]
        return False

    def remove(self, key: K, item: T) -> bool:
        """Take an item out that is there; True if it was the last under `key`."""
        found = self._items[key]
        if isinstance(found, list):
            # By identity: items may be large values whose comparison costs.
            found[:] = [other for other in found if other is not item]
            if found:
                return False
        del self._items[key]
        return True


class PrefixIndex(Generic[T]):
    """Items by prefix, several per prefix."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._items: MultiMap[int, T] = MultiMap()
        self._lengths: Counter[int] = Counter()
        # Only asked for narrower prefixes where lengths are mixed, so built only then.
        self._sorted: list[int] | None = None
        self._fresh: list[int] = []

    def add(self, prefix: int, item: T) -> None:
        """Add an item under a prefix."""
        if self._items.add(prefix, item):
            self._lengths[prefix & 0xFF] += 1
            if self._sorted is not None:
                self._fresh.append(prefix)

    def remove(self, prefix: int, item: T) -> None:
        """Take an item out that is there."""
        if self._items.remove(prefix, item):
            length = prefix & 0xFF
            self._lengths[length] -= 1
            if not self._lengths[length]:
                del self._lengths[length]

    def overlapping(self, prefix: int) -> Iterator[T]:
        """Every item whose prefix overlaps `prefix`: those that cover it first, widest first."""
        address, length = prefix >> 8, prefix & 0xFF
        narrower = False
        for other in sorted(self._lengths):
            if other > length:
                narrower = True
                break
            shift = self._bits - other
            yield from self._items.get(code(address >> shift << shift, other))
        if narrower:
            yield from self._inside(address, length)

    def _inside(self, address: int, length: int) -> Iterator[T]:
        codes = self._in_order()
        end = code(address + (1 << self._bits - length), 0)
        position = bisect_left(codes, code(address, 0))
        last = -1
        found: list[T] = []
        while position < len(codes) and codes[position] < end:
            prefix = codes[position]
            if prefix != last and prefix & 0xFF > length:
                found.extend(self._items.get(prefix))
            last = prefix
            position += 1
        yield from found

    def _in_order(self) -> list[int]:
        """The sorted codes; may hold some that are gone, and some twice."""
        if self._sorted is None or len(self._sorted) > 2 * len(self._items) + _STALE_SLACK:
            self._sorted = sorted(self._items)
        elif self._fresh:
            # Sorting what is sorted but for its end is nearly linear.
            self._sorted.extend(self._fresh)
            self._sorted.sort()
        self._fresh.clear()
        return self._sorted
