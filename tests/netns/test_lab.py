"""The lab itself: a judge that cannot say no proves nothing, and one with traces is no lab."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from flanneld_py.testing.lab.icmp import Target
from flanneld_py.testing.lab.lab import Lab
from flanneld_py.testing.lab.namespace import NETNS_FOLDER, sweep
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.observed import device_mac
from flanneld_py.testing.lab.peers import StaticPeer, make_peers
from flanneld_py.testing.lab.ping import Flow, Prober
from flanneld_py.testing.lab.waiting import wait_until
from flanneld_py.testing.tools import CHECKOUT

NETWORK6 = "fd00:10:244::/48"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(with_etcd=False) as lab:
        yield lab


@pytest.fixture
def node(lab: Lab) -> Node:
    """A node with static VXLAN devices, as an agent would make them."""
    (node,) = lab.add_nodes(1)
    for device, local, own in (
        ("flannel.1", node.ip, "10.244.200.0/32"),
        ("flannel-v6.1", node.ip6, "fd00:10:244:200::/128"),
    ):
        node.namespace.ip(
            f"link add {device} type vxlan id 1 dev u0 local {local} dstport 8472 nolearning",
            f"address add {own} dev {device}" + (" nodad" if ":" in own else ""),
            f"link set {device} up",
        )
    return node


def _connect(node: Node, peer: StaticPeer) -> None:
    """Program one dual-stack peer in flannel's classic form."""
    assert peer.subnet6 is not None
    for device, subnet, mac, address in (
        ("flannel.1", peer.subnet, peer.mac.hex(":"), peer.public_ip),
        ("flannel-v6.1", peer.subnet6, peer.mac6.hex(":"), peer.public_ipv6),
    ):
        gateway = subnet[0]
        node.namespace.batch("bridge", [f"fdb replace {mac} dev {device} dst {address} self"])
        node.namespace.ip(
            f"neighbour replace {gateway} lladdr {mac} dev {device} nud permanent",
            f"route replace {subnet} via {gateway} dev {device} onlink",
        )


def test_static_peers_answer_only_what_is_right(lab: Lab, node: Node) -> None:
    (peer,) = make_peers(1, network6=NETWORK6)
    lab.responders.serve([peer])
    _connect(node, peer)
    targets: list[Target] = [peer.pod, peer.pod6]
    with Prober(node.namespace) as prober:
        assert prober.unreached(targets) == []
        faults = (
            replace(peer, mac=b"\x0a\x99\0\0\0\x01", mac6=b"\x0a\x99\0\0\0\x02"),
            replace(peer, vni=7),
            replace(peer, subnet=make_peers(2)[1].subnet, subnet6=None),
            replace(peer, public_ip=make_peers(2)[1].public_ip, public_ipv6=None),
        )
        for fault in faults:
            lab.responders.serve([fault])
            assert prober.unreached(targets, timeout=0.1) == targets, fault
        lab.responders.serve([peer])
        assert prober.unreached(targets) == []


def test_static_peers_answer_to_the_published_mac(lab: Lab, node: Node) -> None:
    """So that a rewritten MAC shows, although packets still leave."""
    (peer,) = make_peers(1, network6=NETWORK6)
    lab.responders.serve([peer])
    _connect(node, peer)
    mac = device_mac(node.namespace, "flannel.1")
    ours = replace(peer, public_ip=node.ip, mac=bytes.fromhex(mac.replace(":", "")))
    lab.responders.learn({ours.key: ours.value})
    with Prober(node.namespace) as prober:
        assert prober.unreached([peer.pod]) == []
        node.namespace.ip("link set flannel.1 address 02:00:00:00:00:01")
        assert prober.unreached([peer.pod], timeout=0.1) == [peer.pod]


def test_flows_count_what_is_lost_at_both_ends(lab: Lab) -> None:
    one, two = lab.add_nodes(2)
    with Flow(one.namespace, two.ip, far_end=two.namespace, rate=500) as flow:
        wait_until(lambda: flow.answered > 50, within=3, what="pings flow")
        lab.underlay.cut(1)
        sent = flow.tally().sent
        wait_until(lambda: flow.tally().sent > sent + 50, within=3, what="pings are lost")
        lab.underlay.mend(1)
        answered = flow.answered
        wait_until(lambda: flow.answered > answered + 50, within=3, what="pings flow again")
    tally = flow.tally()
    assert 30 < tally.lost < tally.sent
    assert tally.arrived == tally.answered
    assert tally.longest_gap > 0.05


def test_the_largest_packet_is_measured_exactly(lab: Lab) -> None:
    one, two = lab.add_nodes(2)
    with Prober(one.namespace) as prober:
        for target in (two.ip, two.ip6):
            assert prober.passes(target, packet=1500)
            assert not prober.passes(target, packet=1501)


def test_observed_state_tells_differences(lab: Lab, node: Node) -> None:
    (peer,) = make_peers(1, network6=NETWORK6)
    bare = node.observe()
    _connect(node, peer)
    state = node.observe()
    gateway6, v6 = "fd00:10:244:1::", "flannel-v6.1"
    assert bare.difference(state) == [
        f"+ fdb 0a:58:00:00:00:01 dst {peer.public_ip} dev flannel.1",
        f"+ fdb 0a:59:00:00:00:01 dst {peer.public_ipv6} dev flannel-v6.1",
        "+ neighbours 10.244.1.0 lladdr 0a:58:00:00:00:01 dev flannel.1 PERMANENT",
        "+ neighbours fd00:10:244:1:: lladdr 0a:59:00:00:00:01 dev flannel-v6.1 PERMANENT",
        "+ routes unicast 10.244.1.0/24 via 10.244.1.0 dev flannel.1 proto 3 onlink",
        f"+ routes unicast {peer.subnet6} via {gateway6} dev {v6} metric 1024 proto 3 onlink",
    ]
    node.namespace.ip(
        "nexthop add id 77 via 10.244.1.0 dev flannel.1 onlink",
        "route replace 10.244.1.0/24 nhid 77 proto 241",
    )
    assert state.difference(node.observe()) == [
        "- routes unicast 10.244.1.0/24 via 10.244.1.0 dev flannel.1 proto 3 onlink",
        "+ routes unicast 10.244.1.0/24 via 10.244.1.0 dev flannel.1 proto 241 onlink nhid",
    ]


def test_nothing_is_left_after_a_failure() -> None:
    before = {path.name for path in NETNS_FOLDER.iterdir()}

    class Broken(Exception):
        pass

    def fail() -> None:
        with Lab(with_etcd=False) as lab:
            lab.add_nodes(2)
            assert {path.name for path in NETNS_FOLDER.iterdir()} > before
            folder.append(lab.folder)
            raise Broken

    folder: list[Path] = []
    with pytest.raises(Broken):
        fail()
    assert {path.name for path in NETNS_FOLDER.iterdir()} == before
    assert [path for path in folder if path.exists()] == []


def test_what_a_killed_run_left_is_swept() -> None:
    script = (
        "import os, signal\n"
        "from flanneld_py.testing.lab.lab import Lab\n"
        "with Lab() as lab:\n"
        "    lab.add_nodes(1)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=CHECKOUT) as run:
        run.wait()
    stale = {path.name for path in NETNS_FOLDER.glob(f"fpy{run.pid}-*")}
    assert len(stale) == 2
    assert set(sweep()) >= stale
    assert not set(NETNS_FOLDER.glob(f"fpy{run.pid}-*"))


def test_addresses_of_another_lab_are_out_of_reach(lab: Lab) -> None:
    with Lab(with_etcd=False) as other:
        (here,) = lab.add_nodes(1)
        other.add_nodes(2)
        with Prober(here.namespace) as prober:
            assert prober.unreached([ip_address("172.31.0.2")], timeout=0.1)
