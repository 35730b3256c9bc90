"""The lab as a whole: a switch, etcd, some nodes, all in a folder and names of their own.

A context manager that leaves nothing behind, however its block ends. Must hold no scenario.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from flanneld_py.testing.lab.etcd import Etcd
from flanneld_py.testing.lab.etcd_view import EtcdView
from flanneld_py.testing.lab.icmp import Target
from flanneld_py.testing.lab.namespace import PREFIX, sweep, unique_prefix
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.peers import StaticPeer, leases_of
from flanneld_py.testing.lab.ping import Prober
from flanneld_py.testing.lab.responders import Responders
from flanneld_py.testing.lab.underlay import Underlay

VXLAN_CONFIG: Mapping[str, object] = {
    "Network": "10.244.0.0/16",
    "Backend": {"Type": "vxlan"},
}

_labs = itertools.count(1)


class Lab:
    """Nodes on one underlay. Enter it to build the switch and etcd; add nodes afterwards."""

    def __init__(
        self,
        *,
        config: Mapping[str, object] | None = VXLAN_CONFIG,
        etcd_program: str = "etcd",
        with_etcd: bool = True,
        prefix: str | None = None,
        folder: Path | None = None,
    ) -> None:
        """Prepare a lab; `prefix` and `folder` are for who has a machine's namespaces alone."""
        self.prefix = unique_prefix(next(_labs)) if prefix is None else prefix
        self.folder = folder or Path(
            tempfile.mkdtemp(prefix=f"{PREFIX}-{_pid_namespace()}-{os.getpid()}-")
        )
        self.underlay = Underlay(self.prefix)
        self.etcd = Etcd(self.underlay.namespace, self.folder / "etcd", program=etcd_program)
        self.view = EtcdView(self.underlay.namespace)
        self.nodes: list[Node] = []
        self._config = config
        self._with_etcd = with_etcd
        self._responders: Responders | None = None
        self._peers: tuple[StaticPeer, ...] = ()

    def __enter__(self) -> Self:
        sweep()
        _sweep_folders()
        try:
            self.underlay.create()
            if self._with_etcd:
                self.etcd.start()
                if self._config is not None:
                    self.view.configure(self._config)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            for node in self.nodes:
                error.add_note(f"--- {node.name}{node.agent.log_tail(40)}")
        self.remove()

    def remove(self) -> None:
        """Remove all that was made; what one step leaves is tried by the others all the same."""
        with contextlib.ExitStack() as steps:
            steps.callback(shutil.rmtree, self.folder, ignore_errors=True)
            steps.callback(self.underlay.remove)
            steps.callback(self.etcd.stop)
            for node in self.nodes:
                steps.callback(node.remove)
            if self._responders is not None:
                steps.callback(self._responders.close)
                self._responders = None

    def add_nodes(self, count: int, *flags: str) -> list[Node]:
        """Make `count` more nodes, whose agents get `flags`; start none of them."""
        made = []
        for _ in range(count):
            node = Node(
                len(self.nodes) + 1,
                prefix=self.prefix,
                folder=self.folder,
                underlay=self.underlay,
            )
            node.agent.flags = flags
            self.nodes.append(node)
            node.create()
            made.append(node)
        return made

    def start_agents(self, nodes: Iterable[Node] = ()) -> None:
        """Start the agents of some nodes, or all, at once, and wait until they are ready."""
        chosen = list(nodes) or self.nodes
        for node in chosen:
            node.agent.start()
        for node in chosen:
            node.agent.wait_ready()

    def populate(self, peers: Iterable[StaticPeer]) -> None:
        """Put the leases of static peers into etcd and let them answer pings."""
        self._peers = tuple(peers)
        self.view.put_all(leases_of(self._peers))
        self.responders.serve(self._peers)

    @property
    def responders(self) -> Responders:
        """What answers for static peers."""
        if self._responders is None:
            self._responders = Responders(self.underlay.namespace)
        return self._responders

    def publish(self) -> None:
        """Tell static peers the MACs that nodes have published."""
        self.responders.learn(self.view.leases())


def matrix(
    nodes: Iterable[Node], *, timeout: float = 0.5
) -> dict[tuple[str, Target], float | None]:
    """Ping from each node's first pod to those of all others: seconds by (node, address)."""
    chosen = list(nodes)
    found: dict[tuple[str, Target], float | None] = {}
    for source in chosen:
        targets = [ip for node in chosen if node is not source for ip in node.pods[0].addresses]
        with Prober(source.pods[0].namespace) as prober:
            answered = prober.round(targets, timeout=timeout)
        found |= {(source.name, target): answered.get(target) for target in targets}
    return found


def unreached(nodes: Iterable[Node]) -> list[tuple[str, Target]]:
    """Return the pairs of `matrix` that do not ping."""
    return [pair for pair, seconds in matrix(nodes).items() if seconds is None]


def _sweep_folders() -> None:
    """Remove the folders of labs whose process is gone, as far as this process can see that."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}-{_pid_namespace()}-*-*"):
        pid = folder.name.split("-")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _pid_namespace() -> int:
    """Which pid namespace this is: a pid of another one looks dead from here."""
    return os.stat("/proc/self/ns/pid").st_ino
