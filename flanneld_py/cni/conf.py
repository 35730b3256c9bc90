"""The cni-conf: a conflist as it is written for flannel's plugin, with its delegate and its chain.

Reads and checks it, whoever wrote it (flannel's manifests call it cni-conf.json), and completes it
for direct mode, after the rules by which flannel delegates (flannel-compat 10.4). Must not know
where it is installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flanneld_py.cni.shim import SPECIFICATIONS
from flanneld_py.subnetfile import SubnetEnv
from subnet import cidr

SHIM = "flannel"
"""Type of the entry that the shim, or flannel's plugin, serves."""
BRIDGE = "cni0"
"""What the bridge plugin calls its bridge unless it is told otherwise."""
HOST_LOCAL_DIR = Path("/var/lib/cni/networks")
"""Where host-local keeps the addresses in use unless it is told otherwise."""
MAX_BYTES = 64 * 1024
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_.-]*")
_OWN = {"name", "cniVersion", "plugins", "type", "delegate", "ipam", "subnetFile", "dataDir"} | {
    "runDir",
    "waitSeconds",
    "prevResult",
    "runtimeConfig",
}
"""Keys of the shim's entry that mean nothing to its delegate."""


class CniConfError(Exception):
    """The cni-conf cannot be used: `source`, `key` and `wanted` say which, where and what for."""

    def __init__(self, *, source: str, key: str, value: object, wanted: str) -> None:
        self.source = source
        self.key = key
        self.value = value
        self.wanted = wanted
        shown = json.dumps(value, default=str)[:100]
        where = f"{key} is {shown}: it must be {wanted}" if key else wanted
        super().__init__(f"cni-conf {source}: {where}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CniConf:
    """A conflist with one entry for the shim."""

    name: str
    """Of the network; host-local keeps its addresses under it."""
    cni_version: str
    """What all of the chain speaks."""
    plugins: tuple[Mapping[str, Any], ...]
    """The chain as it is written."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """Keys beside name, cniVersion and plugins, as they are written."""

    @property
    def entry(self) -> Mapping[str, Any]:
        """The shim's entry."""
        return next(plugin for plugin in self.plugins if plugin["type"] == SHIM)

    @property
    def delegate(self) -> Mapping[str, Any]:
        """What is written for the delegate."""
        return self.entry.get("delegate") or {}

    @property
    def bridge(self) -> str:
        """The name of the bridge that pods hang on; empty if the delegate is no bridge."""
        if self.delegate.get("type", "bridge") != "bridge":
            return ""
        return str(self.delegate.get("bridge") or BRIDGE)

    @property
    def book(self) -> Path:
        """The folder in which host-local keeps the addresses in use."""
        ipam = self.entry.get("ipam") or {}
        return Path(str(ipam.get("dataDir") or HOST_LOCAL_DIR)) / self.name


DEFAULT = CniConf(
    name="cbr0",
    cni_version="1.0.0",  # the newest that the plugins of Debian 12 (1.1.1) speak
    plugins=(
        {"type": SHIM, "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ),
)
"""flannel's own names, so that a node that is taken over keeps its bridge and its addresses."""


def load(path: Path) -> CniConf:
    """Read a cni-conf. Raises CniConfError."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise _refused(str(path), f"it cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise _refused(str(path), f"it has more than {MAX_BYTES} bytes: is it a cni-conf?")
    return parse(data.decode("utf-8", "replace"), source=str(path))


def parse(text: str, *, source: str = "text") -> CniConf:
    """Check a cni-conf; `source` is what messages call it. Raises CniConfError."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(source, f"it is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise _refused(source, "it is no JSON object")
    if "plugins" not in given and given.get("type") == SHIM:
        plugin = {key: value for key, value in given.items() if key not in ("name", "cniVersion")}
        given = {"plugins": [plugin], **{k: given[k] for k in ("name", "cniVersion") if k in given}}
    name, version = given.get("name"), given.get("cniVersion", SPECIFICATIONS[0])
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _bad(source, "name", name, "letters, digits, '_', '.', '-'")
    if version not in SPECIFICATIONS:
        raise _bad(source, "cniVersion", version, f"one of {', '.join(SPECIFICATIONS)}")
    plugins = _plugins(source, given.get("plugins"))
    others = {k: v for k, v in given.items() if k not in ("name", "cniVersion", "plugins")}
    return CniConf(name=name, cni_version=version, plugins=plugins, others=others)


def complete(conf: CniConf, env: SubnetEnv) -> dict[str, Any]:
    """The conflist in which the delegate stands in the shim's place, with this node's subnet."""
    plugins = [
        _delegated(plugin, env) if plugin["type"] == SHIM else dict(plugin)
        for plugin in conf.plugins
    ]
    return {**conf.others, "cniVersion": conf.cni_version, "name": conf.name, "plugins": plugins}


def _delegated(entry: Mapping[str, Any], env: SubnetEnv) -> dict[str, Any]:
    delegate = entry.get("delegate") or {}
    subnets = [subnet for subnet in (env.subnet, env.subnet6) if subnet is not None]
    networks = [network for network in (env.network, env.network6) if network is not None]
    bridged = {"bridge": BRIDGE, "isGateway": True}
    ipam = entry.get("ipam") or {}
    return {
        "type": "bridge",
        **(bridged if delegate.get("type", "bridge") == "bridge" else {}),
        "ipMasq": not env.ip_masq,
        "mtu": env.mtu,
        **delegate,
        **{key: value for key, value in entry.items() if key not in _OWN},
        "ipam": {
            "type": "host-local",
            **ipam,
            "ranges": [[{"subnet": str(subnet)}] for subnet in subnets],
            "routes": [*(ipam.get("routes") or ()), *({"dst": str(net)} for net in networks)],
        },
    }


def _plugins(source: str, given: object) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(given, list) or not all(
        isinstance(plugin, dict) and isinstance(plugin.get("type"), str) for plugin in given
    ):
        raise _bad(source, "plugins", given, "a list of objects with a type")
    types = [plugin["type"] for plugin in given]
    if types.count(SHIM) != 1:
        raise _bad(source, "plugins", types, f"a chain with one plugin of type {SHIM}")
    entry = given[types.index(SHIM)]
    delegate, ipam = entry.get("delegate") or {}, entry.get("ipam") or {}
    for key, value in (("delegate", delegate), ("ipam", ipam)):
        if not isinstance(value, dict):
            raise _bad(source, key, value, "an object")
    kind = delegate.get("type", "bridge")
    if not isinstance(kind, str) or not kind or "/" in kind or kind == SHIM:
        raise _bad(source, "delegate.type", kind, "the name of another plugin")
    for key in ("name", "ipam"):
        if key in delegate:
            where = "beside delegate" if key == "ipam" else "at the top"
            raise _bad(source, f"delegate.{key}", delegate[key], f"absent, it stands {where}")
    routes = ipam.get("routes") or []
    if not isinstance(routes, list) or not all(_is_route(route) for route in routes):
        raise _bad(source, "ipam.routes", routes, "a list of objects with a CIDR as dst")
    return tuple(given)


def _is_route(route: object) -> bool:
    dst = route.get("dst") if isinstance(route, dict) else None
    if not isinstance(dst, str):
        return False
    read = cidr.parse_ipv6_cidr if ":" in dst else cidr.parse_ipv4_cidr
    try:
        read(dst)
    except ValueError:
        return False
    return True


def _bad(source: str, key: str, value: object, wanted: str) -> CniConfError:
    return CniConfError(source=source, key=key, value=value, wanted=wanted)


def _refused(source: str, why: str) -> CniConfError:
    return CniConfError(source=source, key="", value=None, wanted=why)
