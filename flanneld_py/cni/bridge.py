"""BridgeKeeper: minds what an earlier subnet of this node left on the pods' bridge (direct mode).

The bridge plugin refuses to add an address to a bridge that has another one of the same family, so
an old gateway address of ours is removed; pods that still carry addresses of the earlier subnet are
counted and named, and left alone. Which addresses these are is decided by `oldsubnet`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from backends.elements import Address, ip_text
from flanneld_py.cni.conf import CniConf
from flanneld_py.cni.oldsubnet import booked_addresses, old_gateways, pods_of_old_subnets
from flanneld_py.kernel import Action, HostFacts, Kernel, KernelError, Op
from flanneld_py.nap import nap
from flanneld_py.subnetfile import SubnetEnv
from subnet.clock import Clock

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two looks at the bridge."""
_NAMED = 5


class BridgeKeeper:
    """One bridge."""

    def __init__(
        self, *, conf: CniConf, kernel: Kernel, host: Callable[[], HostFacts], clock: Clock
    ) -> None:
        self.warnings: tuple[str, ...] = ()
        """Pods with addresses of an earlier subnet, for status."""
        self._conf = conf
        self._kernel = kernel
        self._host = host
        self._clock = clock
        self._env: SubnetEnv | None = None
        self._wake = asyncio.Event()

    def want(self, env: SubnetEnv) -> None:
        """What pods are given from now on."""
        if env != self._env:
            self._env = env
            self._wake.set()

    async def run(self) -> None:
        """Look after the bridge until cancelled."""
        await self._wake.wait()
        while True:
            self._wake.clear()
            if self._env is not None:
                await self.look(self._env)
            await nap(self._wake, self._clock, INTERVAL)

    async def look(self, env: SubnetEnv) -> None:
        """One look."""
        for old in old_gateways(self._host(), self._conf.bridge, env):
            address = Address(dev=old.dev, address=old.address, prefixlen=old.prefixlen)
            await self._remove(address)
        pods = pods_of_old_subnets(booked_addresses(self._conf.book), env)
        if not pods:
            self.warnings = ()
            return
        named = ", ".join(str(pod) for pod in pods[:_NAMED])
        more = f" and {len(pods) - _NAMED} more" if len(pods) > _NAMED else ""
        text = (
            f"{len(pods)} pods carry addresses of an earlier subnet of this node and cannot be "
            f"reached from other nodes: {named}{more}: delete them, so that they are made anew"
        )
        self.warnings = (text,)

    async def _remove(self, address: Address) -> None:
        try:
            failures = await self._kernel.apply([Op(action=Action.DELETE, element=address)])
        except KernelError as error:
            log.warning("cannot remove the old gateway address: %s", error)
            return
        for failure in failures:
            log.warning("cannot remove the old gateway address: %s", failure.reason)
        if not failures:
            log.info(
                "removed the gateway address of an earlier subnet address=%s/%d dev=%s",
                ip_text(address.address),
                address.prefixlen,
                address.dev,
            )
