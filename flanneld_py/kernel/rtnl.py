"""VXLAN devices, made and changed through pyroute2; the only module that imports it.

Each call is one request, made rarely, on a socket of its own. What should be, and what to do when
a request is refused, is the affair of `links`. pyroute2's exceptions end here: a refusal is a
`DeviceRefused` with the kernel's errno.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from backends.elements import VxlanLink, ip_text, mac_text


class DeviceRefused(Exception):
    """The kernel refused a change of a device."""

    def __init__(self, number: int) -> None:
        self.errno = number
        super().__init__(f"errno {number}")


class Devices:
    """Requests on devices of the current network namespace."""

    async def add_vxlan(self, wanted: VxlanLink, parent: int) -> None:
        """Create the device, still down, exactly as flannel does (flannel-compat 6.1.1).

        `local` is the exception: always an address that the interface owns. GBP is a flag: any
        value of it, false too, would switch it on.
        """
        options: dict[str, object] = {
            "vxlan_id": wanted.vni,
            "vxlan_link": parent,
            _local(wanted): ip_text(wanted.local),
            "vxlan_ttl": 0,
            "vxlan_tos": 0,
            "vxlan_learning": int(wanted.learning),
            "vxlan_proxy": 0,
            "vxlan_rsc": 0,
            "vxlan_l2miss": 0,
            "vxlan_l3miss": 0,
            "vxlan_udp_zero_csum6_tx": 0,
            "vxlan_udp_zero_csum6_rx": 0,
            "vxlan_port": wanted.port,
        }
        if wanted.gbp:
            options["vxlan_gbp"] = True
        await self._link(
            "add",
            ifname=wanted.name,
            kind="vxlan",
            mtu=wanted.mtu,
            txqlen=0,
            address=mac_text(wanted.mac),
            **options,
        )

    async def change_vxlan(self, index: int, wanted: VxlanLink, parent: int) -> None:
        """Change what the kernel lets change in place: parent, local address, learning."""
        options = {_local(wanted): ip_text(wanted.local)}
        await self._link(
            "set",
            index=index,
            kind="vxlan",
            vxlan_id=wanted.vni,
            vxlan_link=parent,
            vxlan_learning=int(wanted.learning),
            **options,
        )

    async def set_mtu(self, index: int, mtu: int) -> None:
        await self._link("set", index=index, mtu=mtu)

    async def set_mac(self, index: int, mac: bytes) -> None:
        """VXLAN devices take a new address while they are up."""
        await self._link("set", index=index, address=mac_text(mac))

    async def set_state(self, index: int, up: bool) -> None:
        await self._link("set", index=index, state="up" if up else "down")

    async def remove(self, index: int) -> None:
        """Remove a device, and with it all that goes through it."""
        await self._link("del", index=index)

    async def _link(self, command: str, **options: object) -> None:
        async with _session() as session:
            await session.link(command, **options)


def _load() -> tuple[Any, type[Exception]]:
    from pyroute2 import AsyncIPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    return AsyncIPRoute, NetlinkError


@asynccontextmanager
async def _session() -> AsyncIterator[Any]:
    # 130 ms to import, and not needed by an agent that finds its devices as they should be.
    session_type, refusal = await asyncio.to_thread(_load)
    try:
        async with session_type() as session:
            yield session
    except refusal as error:
        raise DeviceRefused(int(error.args[0])) from error


def _local(wanted: VxlanLink) -> str:
    return "vxlan_local" if len(wanted.local) == 4 else "vxlan_local6"
