"""A container runtime in small: runs the plugins of a conflist as kubelet's runtime does (CNI 1.0).

One change is made to what the agent wrote: `ipam.dataDir`, so that the nodes of a lab, which share
one file system, do not share one book of addresses. Everything else reaches the plugins as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from flanneld_py.testing.lab.errors import CniFailed
from flanneld_py.testing.lab.icmp import Target
from flanneld_py.testing.lab.namespace import Namespace
from flanneld_py.testing.tools import cni_folder, find_tool, search_path

INTERFACE = "eth0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A pod that was connected."""

    addresses: tuple[Target, ...]
    result: dict[str, Any]
    """The last plugin's answer."""


class Runtime:
    """Connects pods of one node."""

    def __init__(self, node: Namespace, *, conf_dir: Path, data_dir: Path) -> None:
        self._node = node
        self._conf_dir = conf_dir
        self._data_dir = data_dir

    def conflist(self) -> dict[str, Any]:
        """Return the conflist that a runtime takes: the first by name. Raises `CniFailed`."""
        found = sorted(self._conf_dir.glob("*.conflist"))
        if not found:
            raise CniFailed("runtime", "ADD", f"no conflist in {self._conf_dir}")
        conflist: dict[str, Any] = json.loads(found[0].read_text())
        return conflist

    def add(self, pod: Namespace) -> Attachment:
        """Connect a pod: each plugin gets the answer of the one before it."""
        conflist = self.conflist()
        result: dict[str, Any] | None = None
        for plugin in conflist["plugins"]:
            answer = self._call("ADD", pod, self._input(conflist, plugin, result))
            result = json.loads(answer) if answer.strip() else result
        result = result or {}
        addresses = tuple(ip_interface(entry["address"]).ip for entry in result.get("ips", ()))
        return Attachment(addresses=addresses, result=result)

    def delete(self, pod: Namespace, attachment: Attachment | None = None) -> None:
        """Disconnect a pod, last plugin first."""
        conflist = self.conflist()
        result = attachment.result if attachment else None
        for plugin in reversed(conflist["plugins"]):
            self._call("DEL", pod, self._input(conflist, plugin, result))

    def _input(
        self, conflist: dict[str, Any], plugin: dict[str, Any], result: dict[str, Any] | None
    ) -> dict[str, Any]:
        config = {**plugin, "cniVersion": conflist["cniVersion"], "name": conflist["name"]}
        if "ipam" in config:
            config["ipam"] = {**config["ipam"], "dataDir": str(self._data_dir)}
        config.pop("capabilities", None)  # told to the runtime; no pod here asks for one
        if result is not None:
            config["prevResult"] = result
        return config

    def _call(self, command: str, pod: Namespace, config: dict[str, Any]) -> str:
        plugin = str(config["type"])
        done = subprocess.run(
            self._node.command(str(find_tool(f"cni/{plugin}"))),
            input=json.dumps(config),
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "PATH": search_path(),
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": pod.name,
                "CNI_NETNS": str(pod.path),
                "CNI_IFNAME": INTERFACE,
                "CNI_PATH": str(cni_folder()),
            },
        )
        if done.returncode != 0:
            raise CniFailed(plugin, command, done.stdout or done.stderr)
        return done.stdout
