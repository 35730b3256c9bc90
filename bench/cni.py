"""`cni`: what it costs to connect a pod, through the shim and in direct mode.

The yardstick is the bridge plugin alone, run with a configuration written by hand. The three take
turns, ADD and DEL each, so that whatever slows the machine slows all of them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from bench.figures import Figure, Yardstick
from bench.table import amount
from bench.world import World
from flanneld_py.cni.conf import DEFAULT, complete
from flanneld_py.cni.install import Installation, choose_python
from flanneld_py.subnetfile import SubnetEnv, render
from flanneld_py.testing.lab.namespace import Namespace, unique_prefix
from flanneld_py.testing.tools import cni_folder, search_path

NAME = "cni"
PAIRS = 60
"""ADD and DEL of each way in a round."""
SHIM_TARGET_MS = 25.0
DIRECT_TARGET_MS = 1.0
"""Noise: the same plugin runs with the same configuration, but for names."""
ENV = SubnetEnv(
    network=IPv4Network("10.1.0.0/16"), subnet=IPv4Network("10.1.17.0/24"), mtu=1450, ip_masq=True
)
WAYS = ("bare", "shim", "direct")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A plugin and its configuration."""

    plugin: Path
    conf: Mapping[str, Any]


def run(world: World, rounds: int) -> list[Figure]:
    """Measure in a namespace of its own; the lab's nodes have no part in it."""
    prefix = unique_prefix(900)
    host, pod = Namespace(f"{prefix}host"), Namespace(f"{prefix}pod")
    adds: list[dict[str, float]] = []
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="fpy-bench-")))
        for namespace in (host, pod):
            namespace.create()
            undo.callback(namespace.remove)
        ways = make_ways(folder)
        for number in range(1, rounds + 1):
            adds.append(once := host.inside(lambda: measure(ways, pod)))
            shown = ", ".join(f"{way} {amount(once[way], 'ms')}" for way in WAYS)
            world.say(f"{NAME} {number}/{rounds}: ADD {shown}")
    bare = Yardstick(name="bridge plugin alone", values=tuple(one["bare"] for one in adds))
    figures = [
        Figure(
            bench=NAME,
            name=f"ADD {text}",
            unit="ms",
            values=tuple(one[way] for one in adds),
            yardstick=bare,
        )
        for way, text in (("shim", "through the shim"), ("direct", "in direct mode"))
    ]
    return figures + [
        Figure(
            bench=NAME,
            name=f"ADD {text}, more than the bridge plugin",
            unit="ms",
            values=tuple(one[way] - one["bare"] for one in adds),
            target=target,
        )
        for way, text, target in (
            ("shim", "through the shim", SHIM_TARGET_MS),
            ("direct", "in direct mode", DIRECT_TARGET_MS),
        )
    ]


def make_ways(folder: Path) -> dict[str, Way]:
    """Install the shim and write the configurations; all use one bridge and one book."""
    binaries, env_file = folder / "bin", folder / "subnet.env"
    for place in (binaries, folder / "net.d"):
        place.mkdir()
    for plugin in cni_folder().iterdir():
        (binaries / plugin.name).symlink_to(plugin.resolve())
    env_file.write_text(render(ENV))
    ipam = {"dataDir": str(folder / "networks")}
    entry = {**DEFAULT.entry, "dataDir": str(folder / "state"), "ipam": ipam}
    conf = replace(DEFAULT, plugins=(entry,))
    installation = Installation(
        bin_dir=binaries,
        conf_dir=folder / "net.d",
        conf=conf,
        subnet_file=env_file,
        run_dir=folder / "run",
        python=choose_python(sys.executable),
    )
    installation.install()
    bridge = binaries / "bridge"
    named = {"name": conf.name, "cniVersion": conf.cni_version}
    by_hand = {
        "type": "bridge",
        "bridge": "cni0",
        "isDefaultGateway": True,
        "hairpinMode": True,
        "mtu": ENV.mtu,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": str(ENV.subnet)}]],
            "routes": [{"dst": str(ENV.network)}],
            **ipam,
        },
    }
    through = json.loads(installation.conflist())["plugins"][0]
    direct = complete(conf, ENV)["plugins"][0]
    return {
        "bare": Way(plugin=bridge, conf={**by_hand, **named}),
        "shim": Way(plugin=binaries / "flannel", conf={**through, **named}),
        "direct": Way(plugin=bridge, conf={**direct, **named}),
    }


def measure(ways: Mapping[str, Way], pod: Namespace) -> dict[str, float]:
    """Milliseconds of an ADD, the median of `PAIRS`, by way. Raises RuntimeError."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(PAIRS):
        for name, way in ways.items():
            container = f"{name}{number}"
            found[name].append(call("ADD", way, pod, container) * 1000)
            call("DEL", way, pod, container)
    return {name: statistics.median(values) for name, values in found.items()}


def call(command: str, way: Way, pod: Namespace, container: str) -> float:
    """Run a plugin as a runtime does; return seconds."""
    environment = {
        **os.environ,
        "PATH": search_path(),
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": str(pod.path),
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(way.plugin.parent),
    }
    data = json.dumps(way.conf).encode()
    began = time.perf_counter()
    done = subprocess.run(
        [way.plugin], input=data, capture_output=True, check=False, env=environment
    )
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"{way.plugin.name} {command}: {done.stdout.decode()}")
    return took
