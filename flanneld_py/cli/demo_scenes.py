"""The scenes of the demo: what is done to three nodes, and what is seen from outside.

Each scene adds a step to the story, with a claim that is checked by pings, by `ip` and by etcd's
own API, never by the agent's word alone. Must not draw.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flanneld_py.cli.demo_screen import Screen
from flanneld_py.cli.demo_story import NodeView, Step, Story
from flanneld_py.testing.lab.errors import LabError
from flanneld_py.testing.lab.etcd_view import PREFIX
from flanneld_py.testing.lab.icmp import Target
from flanneld_py.testing.lab.lab import Lab, matrix
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.observed import ifindex
from flanneld_py.testing.lab.ping import Flow, Prober
from flanneld_py.testing.lab.waiting import wait_until

NODES = 3
RATE = 50
"""Pings per second and pair of pods."""
HEAL_WITHIN = 5.0
"""Seconds; the claim of the demo. Milliseconds are usual."""
OUTAGE = 4.0
"""Seconds for which etcd is silent, and then gone."""
GARBAGE_TIME = 3.0
"""Seconds for which pings flow while garbage stands in etcd."""
STATUS_WITHIN = 5.0
DEVICE = "flannel.1"


class ClaimFailed(Exception):
    """What the demo claims did not come true; the message says what was seen instead."""


class Scenes:
    """Plays the scenes in a lab."""

    def __init__(self, lab: Lab, story: Story, screen: Screen) -> None:
        self._lab = lab
        self._story = story
        self._screen = screen

    def play(self) -> None:
        """Play all of them; the first claim that fails ends the play."""
        for scene in (
            self._build,
            self._connect_pods,
            self._delete_device,
            self._freeze_etcd,
            self._kill_etcd,
            self._put_garbage,
        ):
            scene()

    def _build(self) -> None:
        with self._step(f"{NODES} nodes, an agent each") as step:
            nodes = self._lab.add_nodes(NODES)
            self._story.nodes = [NodeView(name=node.name, underlay=str(node.ip)) for node in nodes]
            began = time.monotonic()
            self._lab.start_agents()
            step.result = f"leases taken, all ready after {time.monotonic() - began:.1f} s"
            self._read_leases()
            _require(all(view.subnet for view in self._story.nodes), "a node has no lease in etcd")

    def _connect_pods(self) -> None:
        with self._step("a pod each, by CNI bridge") as step:
            for node, view in zip(self._nodes, self._story.nodes, strict=True):
                view.pod = str(node.add_pod().ip)
            wait_until(self._measure, within=HEAL_WITHIN, what="all pods ping each other")
            self._screen.show_nodes()
            pairs = len(self._story.matrix)
            step.result = f"{pairs} of {pairs} pairs ping"

    def _delete_device(self) -> None:
        node = self._nodes[1]
        with (
            self._step(f"{DEVICE} deleted on {node.name}") as step,
            self._pings() as flows,
        ):
            self._let_flow(1.0, flows)
            before = ifindex(node.namespace, DEVICE)
            others = [other.pods[0].ip for other in self._nodes if other is not node]
            with Prober(node.pods[0].namespace) as prober:
                began = time.monotonic()
                node.namespace.ip(f"link delete {DEVICE}")
                wait_until(
                    lambda: not prober.unreached(others, timeout=0.01),
                    within=HEAL_WITHIN,
                    every=0.001,
                    what=f"pods of {node.name} ping again",
                )
                healed = time.monotonic() - began
            after = ifindex(node.namespace, DEVICE)
            _require(after not in {0, before}, f"{DEVICE} is still the old one: index {after}")
            step.result = f"healed in {healed * 1000:.0f} ms"
            step.details = ["a new device, and the pods behind it ping again"]
            self._let_flow(1.5, flows)
            _require(self._measure(), "not all pairs ping after the repair")

    def _freeze_etcd(self) -> None:
        with self._step(f"etcd frozen for {OUTAGE:.0f} s") as step:
            with self._pings() as flows:
                self._lab.etcd.freeze()
                self._let_flow(OUTAGE, flows)
                says = self._store_says()
                self._lab.etcd.thaw()
                self._let_flow(0.5, flows)
            step.result = "nothing happens"
            step.details = [self._none_lost(flows), f"{self._nodes[0].name} says: {says}"]

    def _kill_etcd(self) -> None:
        with self._step(f"etcd killed for {OUTAGE:.0f} s") as step:
            with self._pings() as flows:
                self._lab.etcd.kill()
                self._let_flow(OUTAGE, flows)
                self._lab.etcd.start()
                took = wait_until(
                    lambda: all(node.agent.says("store", "connected") for node in self._nodes),
                    within=STATUS_WITHIN,
                    every=0.1,
                    what="agents are connected to etcd again",
                )
            step.result = "nothing happens"
            step.details = [self._none_lost(flows), f"all connected again after {took:.1f} s"]

    def _put_garbage(self) -> None:
        garbage = self._garbage()
        with self._step("garbage put into etcd") as step:
            with self._pings() as flows:
                self._lab.view.put_all(garbage)
                node = self._nodes[0]
                named: dict[str, str] = {}

                def all_named() -> bool:
                    named.clear()
                    named.update(self._quarantined(node))
                    return named.keys() >= garbage.keys()

                wait_until(
                    all_named,
                    within=STATUS_WITHIN,
                    every=0.1,
                    what=f"status of {node.name} names all {len(garbage)} of them",
                    seen=lambda: sorted(named),
                )
                self._let_flow(GARBAGE_TIME, flows)
            step.result = "nothing happens"
            step.details = [self._none_lost(flows), f"and status names all {len(garbage)} of them:"]
            step.details += [f"{key.rpartition('/')[2]}: {named[key]}" for key in garbage]

    def _garbage(self) -> dict[str, str]:
        """Return keys and values that would hurt an agent that believes its store."""
        folder = f"{PREFIX}/subnets"
        victim = self._nodes[0].agent.subnet_env()["FLANNEL_SUBNET"].partition("/")[0]
        lease = {"PublicIP": "172.31.0.77", "PublicIPv6": None, "BackendType": "vxlan"}
        data = {"BackendData": {"VNI": 1, "VtepMAC": "0a:00:00:00:00:77"}}
        hostile = json.dumps(lease | data, separators=(",", ":"))
        half = victim.rpartition(".")[0] + ".128-25"
        return {
            f"{folder}/10.244.250.0-24": '{"PublicIP":',
            f"{folder}/README": "please do not delete",
            f"{folder}/{half}": hostile,
            f"{folder}/192.168.0.0-24": hostile,
        }

    @property
    def _nodes(self) -> Sequence[Node]:
        return self._lab.nodes

    @contextmanager
    def _step(self, title: str) -> Iterator[Step]:
        step = self._story.begin(title)
        self._screen.show(step)
        try:
            yield step
        except (ClaimFailed, LabError) as error:
            step.held = False
            step.result = str(error)
            self._screen.show(step)
            raise ClaimFailed(str(error)) from error
        step.held = True
        self._screen.show(step)

    @contextmanager
    def _pings(self) -> Iterator[list[Flow]]:
        """Let pings flow between all pods, both ways; stop and count them in the end."""
        pairs = [(a, b) for a in self._nodes for b in self._nodes if a is not b]
        flows = [
            Flow(a.pods[0].namespace, b.pods[0].ip, far_end=b.pods[0].namespace, rate=RATE)
            for a, b in pairs
        ]
        for flow in flows:
            flow.start()
        try:
            yield flows
        finally:
            for flow in flows:
                flow.stop()
            for flow in flows:
                flow.finish()
            self._story.pings = ""

    def _let_flow(self, seconds: float, flows: Sequence[Flow]) -> None:
        """Watch the pings for some time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            answered = sum(flow.answered for flow in flows)
            self._story.pings = f"{answered} answered, {RATE * len(flows)} per second"
            time.sleep(min(left, 0.1))

    def _none_lost(self, flows: Sequence[Flow]) -> str:
        """Return the tally of all flows; raise `ClaimFailed` if a ping was lost."""
        tallies = [flow.tally() for flow in flows]
        sent = sum(tally.sent for tally in tallies)
        arrived = sum(tally.arrived for tally in tallies)
        lost = sum(tally.lost for tally in tallies)
        text = f"{sent} pings sent, {arrived} arrived, {lost} lost"
        _require(lost == 0 and arrived == sent, text)
        return text

    def _measure(self) -> bool:
        """Ping all pairs, show the matrix; say whether all answered."""
        owner: dict[Target, str] = {node.pods[0].ip: node.name for node in self._nodes}
        self._story.matrix = {
            (source, owner[target]): seconds
            for (source, target), seconds in matrix(self._nodes).items()
            if target in owner
        }
        return all(seconds is not None for seconds in self._story.matrix.values())

    def _read_leases(self) -> None:
        """Show what stands in etcd."""
        for key, text in self._lab.view.leases().items():
            value = json.loads(text)
            for view in self._story.nodes:
                if view.underlay == value["PublicIP"]:
                    view.subnet = key.replace("-", "/")
                    view.mac = value["BackendData"]["VtepMAC"]

    def _store_says(self) -> str:
        agent = self._nodes[0].agent
        ready = "ready" if agent.says("ready") else "not ready"
        connected = "store connected" if agent.says("store", "connected") else "store not connected"
        return f"{ready}, {connected} ({agent.says('store', 'reason') or 'no reason given'})"

    def _quarantined(self, node: Node) -> dict[str, str]:
        listed = node.agent.says("peers", "listed") or []
        return {peer["key"]: peer["reason"] for peer in listed if peer["state"] == "quarantined"}


def play(lab: Lab, story: Story, screen: Screen) -> None:
    """Build the cluster in `lab` and play the demo. Raises `ClaimFailed`."""
    Scenes(lab, story, screen).play()


def _require(claim: object, otherwise: str) -> None:
    if not claim:
        raise ClaimFailed(otherwise)
