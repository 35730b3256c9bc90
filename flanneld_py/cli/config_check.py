"""`flanneld-py --config-check`: would the agent start with these flags, on this host?

Judges what `settings` has not judged yet: TLS material, the network config in etcd (if it answers
within a few seconds), and the interface. Reads only; nothing is changed in the kernel, the store
or any file. Exit status 0: fine, 1: something named is wrong; wrong flags ended before, with 2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from backends.registry import make_backend
from flanneld_py.cni.conf import CniConfError, load
from flanneld_py.daemon import etcd_settings
from flanneld_py.flagtable import AGENT_FLAGS
from flanneld_py.kernel import KernelError
from flanneld_py.kernel.linux import LinuxKernel
from flanneld_py.log import escape
from flanneld_py.netif import NoInterface, choose
from flanneld_py.settings import Settings
from subnet.errors import (
    NetworkConfigError,
    StoreDenied,
    StoreError,
    StoreSettingsError,
    StoreUnavailable,
)
from subnet.etcd import EtcdStore
from subnet.model import NetworkConfig
from subnet.netconf import parse

PATIENCE = 5.0
"""Seconds for etcd to answer."""


def check(settings: Settings, say: Callable[[str], None] = print) -> int:
    """Say one line per finding; the exit status."""
    for note in settings.notes:
        say(escape(f"note: {note}"))
    say(f"ok: {len(AGENT_FLAGS)} flags and their environment variables, files and patterns")
    return asyncio.run(_Check(settings, say).run())


class _Check:
    """One run of the checks that need more than the flags."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._status = 0

    async def run(self) -> int:
        self._cni_conf()
        try:
            store = EtcdStore(etcd_settings(self._settings))
        except StoreSettingsError as error:
            self._wrong(error)
            return self._status
        tls = any((self._settings.etcd.cafile, self._settings.etcd.certfile))
        self._ok(f"etcd's endpoints{' and TLS material' if tls else ''}")
        try:
            config = await self._network_config(store)
        finally:
            await store.aclose()
        if config is not None:
            await self._interface(config)
        return self._status

    def _cni_conf(self) -> None:
        path = self._settings.cni.conf
        if path is None:
            return
        try:
            load(path)
        except CniConfError as error:
            self._wrong(error)
        else:
            self._ok(f"the cni-conf {path}")

    async def _network_config(self, store: EtcdStore) -> NetworkConfig | None:
        try:
            async with asyncio.timeout(PATIENCE):
                snapshot = await store.snapshot()
        except (TimeoutError, StoreUnavailable) as error:
            reason = str(error) or f"{store.source}: no answer within {PATIENCE:g} s"
            self._skip(f"network config and interface: {reason}")
            return None
        except StoreDenied as error:
            self._wrong(error)
            return None
        except StoreError as error:
            self._skip(f"network config and interface: {error}")
            return None
        if snapshot.config is None:
            self._wrong(f"{store.source}: no network config: put one under its key config")
            return None
        try:
            config = parse(snapshot.config.text)
            backend = make_backend(config)
        except NetworkConfigError as error:
            self._wrong(error)
            return None
        networks = [str(net) for net in (config.network, config.network6) if net is not None]
        self._ok(f"network config: {', '.join(networks)} by {backend.name}")
        return config

    async def _interface(self, config: NetworkConfig) -> None:
        options = self._settings.iface
        try:
            kernel = LinuxKernel()
        except (KernelError, OSError) as error:
            self._skip(f"interface: {error}")
            return
        try:
            host = await kernel.host()
            reached = None
            if options.can_reach is not None:
                reached = await kernel.route_to(options.can_reach.packed)
            choice = choose(
                host,
                options,
                ipv4=config.enable_ipv4,
                ipv6=config.enable_ipv6,
                reached=reached,
                current=None,
                ours=frozenset(),
            )
        except NoInterface as error:
            self._wrong(error)
        except KernelError as error:
            self._skip(f"interface: {error}")
        else:
            self._ok(choice.describe())
        finally:
            kernel.close()

    def _ok(self, text: str) -> None:
        self._say(escape(f"ok: {text}"))

    def _skip(self, text: str) -> None:
        self._say(escape(f"not checked: {text}"))

    def _wrong(self, reason: Exception | str) -> None:
        self._say(escape(f"wrong: {reason}"))
        self._status = 1
