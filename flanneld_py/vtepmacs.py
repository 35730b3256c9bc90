"""VtepMacs: chooses the MACs of our devices, once, from what store, disk and kernel say.

The order of preference is in `macs`; this module only gathers the candidates. What is chosen stays
for the life of the agent, for peers send to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from backends.base import Backend
from backends.elements import Element, Key, Kind, VxlanLink
from flanneld_py.macs import ChosenMac, choose_mac
from flanneld_py.netif import Choice
from subnet.acquisition import Previous, own_record
from subnet.model import NetworkConfig
from subnet.table import LeaseTable

log = logging.getLogger(__name__)


class Remembered(Protocol):
    """What an earlier run left on disk."""

    @property
    def mac(self) -> bytes | None: ...

    @property
    def mac6(self) -> bytes | None: ...

    @property
    def previous(self) -> tuple[Previous, ...]: ...


class VtepMacs:
    """The MACs of the IPv4 and the IPv6 device."""

    def __init__(self, *, memory: Remembered, random_bytes: Callable[[int], bytes]) -> None:
        self._memory = memory
        self._random_bytes = random_bytes
        self._chosen: tuple[ChosenMac, ChosenMac] | None = None

    def choose(
        self,
        *,
        table: LeaseTable,
        observed: Mapping[Key, Element],
        config: NetworkConfig,
        backend: Backend,
        choice: Choice,
    ) -> tuple[bytes, bytes]:
        """Both MACs; chosen at the first call, which needs the store's snapshot and our devices."""
        if self._chosen is None:
            own = own_record(
                table,
                config=config,
                public_ip=choice.public_ip,
                public_ipv6=choice.public_ipv6,
                previous=self._memory.previous,
            )
            stored = (None, None) if own is None else backend.stored_macs(own.attrs)
            cached = (self._memory.mac, self._memory.mac6)
            devices = [_mac_of(observed, name) for name in (*backend.devices(), "", "")]
            first, second = (
                choose_mac(
                    published=stored[index],
                    cached=cached[index],
                    device=devices[index],
                    random=self._random_bytes(6),
                )
                for index in (0, 1)
            )
            self._chosen = (first, second)
            log.info(
                "device MACs: v4=%s from=%s v6=%s from=%s",
                first.mac.hex(":"),
                first.source,
                second.mac.hex(":"),
                second.source,
            )
        return self._chosen[0].mac, self._chosen[1].mac


def _mac_of(observed: Mapping[Key, Element], name: str) -> bytes | None:
    link = observed.get((Kind.LINK, name))
    return link.mac if isinstance(link, VxlanLink) else None
