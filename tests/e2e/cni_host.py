"""A host for CNI: a namespace, folders, real plugins, the installed shim, a runtime in small.

The runtime does what the specification asks of one: it hands name and version of the conflist to
each plugin of the chain, and each plugin gets the answer of the one before it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from flanneld_py.cni.conf import complete
from flanneld_py.cni.conf import parse as parse_conf
from flanneld_py.cni.install import Installation
from flanneld_py.subnetfile import SubnetEnv, parse
from flanneld_py.testing.lab.namespace import Namespace, unique_prefix
from flanneld_py.testing.tools import search_path, tools_folder

ENV = (
    "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n"
    "FLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n"
)
_serials = count(700)


class CniError(Exception):
    """A plugin failed; `code` and `answer` are what it said."""

    def __init__(self, command: str, plugin: str, stdout: str, stderr: str) -> None:
        self.answer: dict[str, Any] = json.loads(stdout) if stdout.strip() else {}
        self.code = self.answer.get("code")
        super().__init__(f"{command} {plugin}: {stdout or stderr}")


class CniHost:
    """`plugins` is a folder of the toolbox: ``cni`` (Debian's 1.1.1) or ``cni-1.9.1``."""

    def __init__(self, folder: Path, *, plugins: str, version: str) -> None:
        self.prefix = unique_prefix(next(_serials))
        self.namespace = Namespace(f"{self.prefix}host")
        self.pods: list[Namespace] = []
        self.folder = folder
        self.bin = folder / "bin"
        self.conf_dir = folder / "net.d"
        self.env_file = folder / "subnet.env"
        self.data_dir = folder / "flannel"
        self.book = folder / "networks/cbr0"
        for place in (self.bin, self.conf_dir):
            place.mkdir()
        for plugin in (tools_folder() / plugins).iterdir():
            (self.bin / plugin.name).symlink_to(plugin.resolve())
        self.env_file.write_text(ENV)
        self.conf = parse_conf(
            json.dumps(
                {
                    "name": "cbr0",
                    "cniVersion": version,
                    "plugins": [
                        {
                            "type": "flannel",
                            "subnetFile": str(self.env_file),
                            "dataDir": str(self.data_dir),
                            "waitSeconds": 0,
                            "delegate": {"hairpinMode": True, "isDefaultGateway": True},
                            "ipam": {"dataDir": str(self.book.parent)},
                        },
                        {"type": "portmap", "capabilities": {"portMappings": True}},
                    ],
                }
            )
        )
        self.install()

    def install(self, run_dir: Path | None = None) -> None:
        """Run the installer: shim and conflist."""
        installation = Installation(
            bin_dir=self.bin,
            conf_dir=self.conf_dir,
            conf=self.conf,
            subnet_file=self.env_file,
            run_dir=run_dir or self.folder / "run",
            python=Path(sys.executable),
        )
        installation.install()

    @property
    def env(self) -> SubnetEnv:
        return parse(self.env_file.read_text())

    @property
    def shim_way(self) -> dict[str, Any]:
        """The conflist that the installer wrote."""
        found: dict[str, Any] = json.loads((self.conf_dir / "10-flannel.conflist").read_text())
        return found

    @property
    def direct_way(self) -> dict[str, Any]:
        """The conflist that the agent would write for the same cni-conf."""
        return complete(self.conf, self.env)

    def add_pod(self) -> Namespace:
        """Make the namespace of a pod; its name is the container's id."""
        pod = Namespace(f"{self.prefix}p{len(self.pods)}")
        pod.create()
        self.pods.append(pod)
        return pod

    def add(self, conflist: Mapping[str, Any], pod: Namespace, ifname: str = "eth0") -> Any:
        """ADD of the whole chain; the result."""
        result: dict[str, Any] | None = None
        for plugin in conflist["plugins"]:
            result = self.call("ADD", conflist, plugin, pod, ifname, result)
        return result

    def check(self, conflist: Mapping[str, Any], pod: Namespace, result: Any) -> None:
        for plugin in conflist["plugins"]:
            self.call("CHECK", conflist, plugin, pod, "eth0", result)

    def delete(
        self, conflist: Mapping[str, Any], pod: Namespace, ifname: str = "eth0", result: Any = None
    ) -> None:
        for plugin in reversed(conflist["plugins"]):
            self.call("DEL", conflist, plugin, pod, ifname, result)

    def call(
        self,
        command: str,
        conflist: Mapping[str, Any],
        plugin: Mapping[str, Any],
        pod: Namespace | None = None,
        ifname: str = "",
        result: Any = None,
    ) -> Any:
        """Run one plugin. Raises `CniError`."""
        conf = {**plugin, "name": conflist["name"], "cniVersion": conflist["cniVersion"]}
        if result is not None:
            conf["prevResult"] = result
        environment = {"CNI_COMMAND": command, "CNI_PATH": str(self.bin), "PATH": search_path()}
        if pod is not None:
            environment |= {
                "CNI_CONTAINERID": pod.name,
                "CNI_NETNS": str(pod.path) if pod.path.exists() else "",
                "CNI_IFNAME": ifname,
            }
        done = subprocess.run(
            self.namespace.command(str(self.bin / plugin["type"])),
            input=json.dumps(conf),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, **environment},
        )
        if done.returncode != 0:
            raise CniError(command, plugin["type"], done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else None

    def booked(self) -> dict[str, str]:
        """Container by address, as host-local has it."""
        if not self.book.exists():
            return {}
        files = [path for path in self.book.iterdir() if path.name[0].isdigit()]
        return {path.name: path.read_text().split()[0] for path in files}

    def states(self) -> set[str]:
        return {path.name for path in self.data_dir.iterdir()} if self.data_dir.exists() else set()


def address_of(result: Any) -> str:
    return str(result["ips"][0]["address"]).partition("/")[0]


@contextmanager
def cni_host(folder: Path, *, plugins: str, version: str) -> Iterator[CniHost]:
    """Make a host, and remove it with its pods."""
    host = CniHost(folder, plugins=plugins, version=version)
    host.namespace.create()
    try:
        yield host
    finally:
        for pod in host.pods:
            pod.remove()
        host.namespace.remove()
