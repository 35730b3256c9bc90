"""What cannot work is said in one line with the remedy; what may pass is waited for."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from flanneld_py.testing.lab.agent import COMMAND
from flanneld_py.testing.lab.lab import VXLAN_CONFIG, Lab
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.observed import ifindex
from flanneld_py.testing.lab.waiting import wait_until
from tests.e2e.scenario import MakeLab

NOTICED_WITHIN = 8.0
RECOVERS_WITHIN = 5.0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--no-such-flag"], ["no-such-flag"]),
        (["--etcd-endpoint=http://a:1"], ["etcd-endpoint", "etcd-endpoints"]),
        (["--nexthops=perhaps"], ["nexthops", "perhaps", "auto", "off"]),
        (["--cni-mode=maybe"], ["cni-mode", "maybe", "direct"]),
        (["--public-ip=300.1.1.1"], ["public-ip", "300.1.1.1"]),
        (["--iface-regex=("], ["iface-regex", "("]),
        (["--subnet-lease-renew-margin=2000"], ["subnet-lease-renew-margin", "2000", "1439"]),
        (["--etcd-cafile=/does/not/exist"], ["etcd-cafile", "/does/not/exist"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_wrong_flags(lab: Lab, flags: list[str], words: list[str]) -> None:
    """Exit status 2, one line, and nothing was changed."""
    (node,) = lab.add_nodes(1)
    done = node.agent.ask("run", *flags)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert [word for word in words if word not in line] == []
    assert ifindex(node.namespace, "flannel.1") == 0
    assert lab.view.leases() == {}


BAD_CONFIGS: Mapping[str, tuple[Mapping[str, object] | str, list[str]]] = {
    "broken JSON": ('{"Network": ', ["config"]),
    "no network": ({"Backend": {"Type": "vxlan"}}, ["Network"]),
    "bad network": (
        {"Network": "10.244.0.0/33", "Backend": {"Type": "vxlan"}},
        ["Network", "10.244.0.0/33"],
    ),
    "bad SubnetLen": (
        {"Network": "10.244.0.0/16", "SubnetLen": 31, "Backend": {"Type": "vxlan"}},
        ["SubnetLen", "31"],
    ),
    "bad VNI": (
        {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan", "VNI": -1}},
        ["VNI", "-1"],
    ),
    "backend udp": ({"Network": "10.244.0.0/16", "Backend": {"Type": "udp"}}, ["udp", "Type"]),
    "no backend": ({"Network": "10.244.0.0/16"}, ["Backend", "udp"]),
    "unknown backend": (
        {"Network": "10.244.0.0/16", "Backend": {"Type": "carrier-pigeon"}},
        ["carrier-pigeon", "vxlan"],
    ),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_bad_network_config_waits_and_recovers(make_lab: MakeLab, name: str) -> None:
    config, words = BAD_CONFIGS[name]
    lab = make_lab(config=None)
    lab.view.configure(config)
    (node,) = lab.add_nodes(1)
    node.agent.start()
    _wait_for_words(node, words)
    assert lab.view.leases() == {}
    assert ifindex(node.namespace, "flannel.1") == 0
    assert not node.agent.subnet_file.exists()

    lab.view.configure(VXLAN_CONFIG)
    node.agent.wait_ready(within=RECOVERS_WITHIN)
    assert len(lab.view.leases()) == 1


def test_no_network_config_waits_and_recovers(make_lab: MakeLab) -> None:
    lab = make_lab(config=None)
    (node,) = lab.add_nodes(1)
    node.agent.start()
    _wait_for_words(node, ["/coreos.com/network", "no network config"])
    lab.view.configure(VXLAN_CONFIG)
    node.agent.wait_ready(within=RECOVERS_WITHIN)


def test_no_etcd_waits_and_recovers(make_lab: MakeLab) -> None:
    lab = make_lab(with_etcd=False)
    (node,) = lab.add_nodes(1)
    node.agent.start()
    _wait_for_words(node, ["172.31.0.254:2379"])
    assert ifindex(node.namespace, "flannel.1") == 0
    lab.etcd.start()
    lab.view.configure(VXLAN_CONFIG)
    node.agent.wait_ready(within=RECOVERS_WITHIN)


def test_unknown_interface_lists_every_candidate(lab: Lab) -> None:
    (node,) = lab.add_nodes(1, "--iface=eth7")
    node.namespace.ip(
        "link add name spare type veth peer name other",
        "link set other up",
        "address add 192.0.2.7/24 dev spare",
    )
    node.agent.start()
    _wait_for_words(node, ["eth7", "u0", "lo", "spare"])
    assert lab.view.leases() == {}
    assert ifindex(node.namespace, "flannel.1") == 0
    # What may pass, passes.
    node.namespace.ip("link set spare name eth7", "link set eth7 up")
    node.agent.wait_ready(within=RECOVERS_WITHIN)
    (value,) = lab.view.leases().values()
    assert json.loads(value)["PublicIP"] == "192.0.2.7"


def test_no_capability(lab: Lab) -> None:
    """Without CAP_NET_ADMIN it says so, and takes no lease that peers would send packets to."""
    (node,) = lab.add_nodes(1)
    drop = ("setpriv", "--inh-caps=-net_admin", "--bounding-set=-net_admin", "--")
    log_file = node.agent.log_file
    with log_file.open("ab") as log:
        process = node.namespace.popen([*drop, *COMMAND, "run", *node.agent.own_flags()], log=log)
    try:
        wait_until(
            lambda: "CAP_NET_ADMIN" in log_file.read_text(),
            within=NOTICED_WITHIN,
            what="the missing capability is named",
            seen=log_file.read_text,
        )
        assert process.poll() != 0
        assert not node.agent.says("ready")
        assert lab.view.leases() == {}
        assert ifindex(node.namespace, "flannel.1") == 0
    finally:
        process.kill()
        process.wait()


def test_a_second_agent_waits_for_the_first(lab: Lab) -> None:
    """One agent per network namespace: the second is not ready, and names the holder's pid."""
    (node,) = lab.add_nodes(1)
    lab.start_agents()
    with (node.folder / "second.log").open("ab") as log:
        second = node.namespace.popen([*COMMAND, "run", *node.agent.own_flags()], log=log)
    try:
        wait_until(
            lambda: str(node.agent.pid) in (node.folder / "second.log").read_text(),
            within=NOTICED_WITHIN,
            what="the second agent names the first one's pid",
            seen=(node.folder / "second.log").read_text,
        )
        assert second.poll() is None
    finally:
        second.kill()
        second.wait()
    assert node.agent.is_ready()


def _wait_for_words(node: Node, words: list[str]) -> None:
    """Wait until one line of the log, at WARNING or above, and the status hold all `words`."""

    def named() -> bool:
        lines = [line for line in node.agent.log().splitlines() if " INFO " not in line]
        said = " ".join(node.agent.says("reasons") or [])
        in_log = any(all(word in line for word in words) for line in lines)
        return in_log and all(word in said for word in words)

    wait_until(
        named,
        within=NOTICED_WITHIN,
        what=f"log and status name {words}",
        seen=lambda: f"{node.agent.log_tail()}\nstatus: {node.agent.says('reasons')}",
    )
    assert node.agent.running
    assert not node.agent.is_ready()
