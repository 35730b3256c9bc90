"""Our devices: made, compared with what is wanted, corrected in place, read back.

A device is corrected rather than replaced wherever the kernel allows it, because everything that
goes through it would go with it. Only another VNI, port, GBP, family or type needs a new one.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import fields

from backends.elements import ForeignLink, Kind, VxlanLink, ip_text, mac_text
from flanneld_py.kernel import Action, Failure, Op, decode, encode
from flanneld_py.kernel.batch import RequestSocket
from flanneld_py.kernel.decode import LinkFacts
from flanneld_py.kernel.reasons import reason
from flanneld_py.kernel.rtnl import DeviceRefused, Devices
from flanneld_py.kernel.view import View

_VXLAN_OVERHEAD = {4: 50, 16: 70}
"""Bytes that the outer headers take, by the size of the underlay's address."""


class LinkRefused(Exception):
    """A device could not be made as wanted; carries what a Failure needs."""

    def __init__(self, number: int, why: str) -> None:
        self.errno = number
        super().__init__(why)


class CannotChange(Exception):
    """This kernel changes a VXLAN device's parent or address only by making a new one."""


class LinkWriter:
    """Operations on devices, one at a time."""

    def __init__(
        self,
        sock: RequestSocket,
        view: View,
        take_notifications: Callable[[], None],
        devices: Devices | None = None,
    ) -> None:
        self._sock = sock
        self._view = view
        self._take_notifications = take_notifications
        self._devices = devices or Devices()

    async def write(self, op: Op) -> Failure | None:
        """Do one operation; None when the device is as wanted."""
        try:
            if op.action is Action.DELETE:
                await self._remove(op.element)
            elif isinstance(op.element, VxlanLink):
                await self._ensure(op.element)
            else:
                raise LinkRefused(errno.EINVAL, "only VXLAN devices can be made")
        except LinkRefused as refused:
            return Failure(op=op, errno=refused.errno, reason=str(refused))
        except DeviceRefused as refused:
            return Failure(op=op, errno=refused.errno, reason=reason(Kind.LINK, refused.errno))
        return None

    async def _remove(self, element: object) -> None:
        assert isinstance(element, VxlanLink | ForeignLink)
        present = await self._get(element.name)
        if present is not None:
            await self._delete(present)

    async def _delete(self, present: LinkFacts) -> None:
        try:
            await self._devices.remove(present.host.ifindex)
        except DeviceRefused as refused:
            if refused.errno != errno.ENODEV:
                raise

    async def _get(self, name: str) -> LinkFacts | None:
        answer = await self._sock.ask(encode.get_link(name))
        if isinstance(answer, bytes):
            return decode.link(answer, 0, len(answer))
        if answer.errno != errno.ENODEV:
            raise LinkRefused(answer.errno, reason(Kind.LINK, answer.errno, answer.text))
        return None

    async def _ensure(self, wanted: VxlanLink) -> None:
        parent = await self._get(wanted.parent)
        if parent is None:
            raise LinkRefused(errno.ENOENT, f"underlay interface {wanted.parent} is absent")
        names = {**self._view.names, parent.host.ifindex: wanted.parent}
        present = await self._get(wanted.name)
        if present is not None:
            state = present.element(names)
            if isinstance(state, ForeignLink) or _needs_new_device(state, wanted):
                await self._delete(present)
                present = None
        if present is None:
            await self._make(wanted, parent, names)
            return
        if present.host.ifindex not in self._view.links:
            # Somebody else made it: what is on it has never been observed.
            self._view.stale = f"link {wanted.name} has appeared"
        try:
            await self._correct(present, wanted, parent, names)
        except CannotChange:
            await self._delete(present)
            await self._make(wanted, parent, names)
        else:
            await self._read_back(wanted, names)

    async def _make(self, wanted: VxlanLink, parent: LinkFacts, names: dict[int, str]) -> None:
        """A new device has nothing on it: its first notifications ask for no observation."""
        self._view.making = wanted.name
        try:
            present = await self._create(wanted, parent.host.ifindex, names)
            await self._correct(present, wanted, parent, names)
            await self._read_back(wanted, names)
            self._take_notifications()
        finally:
            self._view.making = ""

    async def _create(self, wanted: VxlanLink, parent: int, names: dict[int, str]) -> LinkFacts:
        try:
            await self._devices.add_vxlan(wanted, parent)
        except DeviceRefused as refused:
            if refused.errno != errno.EEXIST:
                raise
            present = await self._get(wanted.name)
            if present is None:
                # Not the name, but the VNI is taken.
                raise LinkRefused(errno.EEXIST, await self._who_has(wanted, "VNI")) from refused
            self._view.stale = f"link {wanted.name} has appeared"
            state = present.element(names)
            if isinstance(state, ForeignLink) or _needs_new_device(state, wanted):
                raise LinkRefused(
                    errno.EEXIST, f"another program made {state.describe()} at the same time"
                ) from refused
            return present
        present = await self._get(wanted.name)
        if present is None:
            raise LinkRefused(errno.ENOENT, "it was removed right after it was made")
        return present

    async def _correct(
        self, present: LinkFacts, wanted: VxlanLink, parent: LinkFacts, names: dict[int, str]
    ) -> None:
        state, index = present.element(names), present.host.ifindex
        assert isinstance(state, VxlanLink)
        if (state.parent, state.local, state.learning) != (
            wanted.parent,
            wanted.local,
            wanted.learning,
        ):
            try:
                await self._devices.change_vxlan(index, wanted, parent.host.ifindex)
            except DeviceRefused as refused:
                if refused.errno == errno.EOPNOTSUPP:
                    raise CannotChange from refused
                raise
        if state.mac != wanted.mac:
            await self._devices.set_mac(index, wanted.mac)
        if state.mtu != wanted.mtu:
            await self._set_mtu(index, wanted, parent)
        if state.up != wanted.up:
            await self._set_state(index, wanted)

    async def _set_mtu(self, index: int, wanted: VxlanLink, parent: LinkFacts) -> None:
        try:
            await self._devices.set_mtu(index, wanted.mtu)
        except DeviceRefused as refused:
            if refused.errno != errno.EINVAL:
                raise
            most = parent.host.mtu - _VXLAN_OVERHEAD[len(wanted.local)]
            raise LinkRefused(
                errno.EINVAL,
                f"mtu {wanted.mtu} does not fit: {wanted.parent} has {parent.host.mtu}, which "
                f"leaves {most}",
            ) from refused

    async def _set_state(self, index: int, wanted: VxlanLink) -> None:
        try:
            await self._devices.set_state(index, wanted.up)
        except DeviceRefused as refused:
            if refused.errno != errno.EADDRINUSE:
                raise
            raise LinkRefused(errno.EADDRINUSE, await self._who_has(wanted, "port")) from refused

    async def _who_has(self, wanted: VxlanLink, what: str) -> str:
        """Which device is in the way."""
        links = await self._sock.dump(encode.dump_links(), decode.link)
        for facts in links:
            other = facts.vxlan
            if other is None or other.name == wanted.name or other.port != wanted.port:
                continue
            has = f"device {other.name} has VNI {other.vni} on port {other.port}"
            has += " with GBP" if other.gbp else " without GBP"
            if what == "VNI" and other.vni == wanted.vni:
                return f"{has}: remove it, or choose another VNI or Port"
            if what == "port" and other.gbp != wanted.gbp:
                return f"{has}: devices of one port must agree on GBP; choose another Port"
        return (
            f"{what} {wanted.vni if what == 'VNI' else wanted.port} is in use by another program "
            "or device: free it, or choose another one"
        )

    async def _read_back(self, wanted: VxlanLink, names: dict[int, str]) -> None:
        """A device counts as made when the kernel says that it is as wanted."""
        present = await self._get(wanted.name)
        if present is None:
            raise LinkRefused(errno.ENOENT, "it was removed while it was being set up")
        self._view.put_link(present)
        state = present.element(names)
        if state == wanted:
            return
        assert isinstance(state, VxlanLink)
        pairs = [(f.name, getattr(state, f.name), getattr(wanted, f.name)) for f in fields(wanted)]
        unlike = ", ".join(
            f"{name} {_shown(is_now)} instead of {_shown(should)}"
            for name, is_now, should in pairs
            if is_now != should
        )
        raise LinkRefused(errno.EAGAIN, f"the kernel, or another program, keeps {unlike}")


def _needs_new_device(state: VxlanLink, wanted: VxlanLink) -> bool:
    return (state.vni, state.port, state.gbp, len(state.local)) != (
        wanted.vni,
        wanted.port,
        wanted.gbp,
        len(wanted.local),
    )


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return mac_text(value) if len(value) == 6 else ip_text(value) if value else "none"
    return str(value)
