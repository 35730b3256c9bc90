"""R8: a running agent's masquerade rules, judged by who receives the packets and by nft."""

from __future__ import annotations

import os
import re
import select
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from flanneld_py.testing.lab.errors import CommandFailed
from flanneld_py.testing.lab.lab import Lab
from flanneld_py.testing.lab.namespace import Namespace, run
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.underlay import NODES
from flanneld_py.testing.lab.waiting import wait_until
from flanneld_py.testing.tools import find_tool
from tests.e2e.asking import get
from tests.e2e.scenario import MakeLab
from tests.e2e.test_masquerade import FLANNELS_RULES

pytestmark = pytest.mark.tools("nft")

TABLE = "inet flanneld-py"
FLANNELS = ("ip flannel-ipv4", "ip6 flannel-ipv6")
OUTSIDE = NODES[200]
PORT, HEALTH = 7000, 10256
HEALED_WITHIN = 1.0
NAMED = rf"put back table={TABLE}: it was absent by=(nft|ld-linux)"
"""By nft; one that set-up unpacked runs under the name of its loader."""
BASE_PATH = "/usr/bin:/bin"
"""Where the programs are that start an agent, and nft is not."""
MASKED = ("/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/bin/nft")


@contextmanager
def outside(lab: Lab) -> Iterator[Namespace]:
    """A host on the underlay that knows its neighbours and has no route to pods."""
    namespace = Namespace(f"{lab.prefix}out")
    namespace.create()
    try:
        lab.underlay.namespace.ip(
            f"link add out type veth peer name u0 netns {namespace.name}",
            "link set out master br0",
            "link set out up",
        )
        # What comes from pods shall arrive, so that only the answer's way decides.
        for name in ("all", "default", "u0"):
            namespace.show("sysctl", "-q", "-w", f"net.ipv4.conf.{name}.rp_filter=0")
        namespace.ip("link set u0 up", f"address add {OUTSIDE}/{NODES.prefixlen} dev u0")
        yield namespace
    finally:
        namespace.remove()


def exchange(
    source: Namespace, target: Namespace, address: IPv4Address, *, within: float = 2.0
) -> tuple[str, bool]:
    """Send a datagram: which source the receiver saw ('' for none), and whether its answer came."""
    receiver = target.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sender = source.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with receiver, sender:
        receiver.bind((str(address), PORT))
        token = os.urandom(8)
        sender.sendto(token, (str(address), PORT))
        if not select.select([receiver], [], [], within)[0]:
            return "", False
        data, seen = receiver.recvfrom(100)
        assert data == token
        try:
            receiver.sendto(token, seen)
        except OSError:
            return seen[0], False
        answered = bool(select.select([sender], [], [], within)[0])
        return seen[0], answered and sender.recv(100) == token


def tables(node: Node) -> list[str]:
    """The tables of a node, as nft names them."""
    shown = node.namespace.show("nft", "list", "tables")
    return [line.removeprefix("table ").strip() for line in shown.splitlines()]


def rules(node: Node) -> str:
    """Our table as nft shows it; empty when it is absent."""
    try:
        return node.namespace.show("nft", "list", "table", *TABLE.split())
    except CommandFailed:
        return ""


@contextmanager
def no_nft() -> Iterator[None]:
    """No nft where the system has its programs; if there is one, it is covered."""
    found = {str(Path(path).resolve()) for path in MASKED if shutil.which(path)}
    if found and "FLANNELD_PY_ISOLATED" not in os.environ:
        pytest.skip("covering the system's nft needs mounts of our own: run `make test`")
    with ExitStack() as undo:
        for path in found:
            subprocess.run(["mount", "--bind", "/dev/null", path], check=True)
            undo.callback(subprocess.run, ["umount", path], check=True)
        yield


def test_pods_reach_the_outside_masqueraded_and_each_other_as_they_are(lab: Lab) -> None:
    first, second = lab.add_nodes(2, "--ip-masq")
    lab.start_agents()
    with outside(lab) as host:
        one, two = (node.add_pod() for node in (first, second))
        assert exchange(one.namespace, host, OUTSIDE) == (str(first.ip), True)
        assert exchange(one.namespace, two.namespace, two.ip) == (str(one.ip), True)
        assert exchange(two.namespace, one.namespace, one.ip) == (str(two.ip), True)

        # The control: without the flag the same pod is seen as it is, and nothing finds back.
        assert first.agent.stop() == 0
        first.agent.flags = ()
        first.agent.start_ready()
        wait_until(
            lambda: "masquerade" not in rules(first), within=2, what="the masquerade rules are gone"
        )
        assert exchange(one.namespace, host, OUTSIDE, within=0.5) == (str(one.ip), False)
        assert exchange(two.namespace, host, OUTSIDE) == (str(second.ip), True)


def test_a_flushed_ruleset_comes_back_and_the_log_names_who(lab: Lab) -> None:
    (node,) = lab.add_nodes(1, "--ip-masq")
    lab.start_agents()
    node.namespace.show("nft", 'add table ip foreign; add chain ip foreign c { comment "x"; }')
    with outside(lab) as host:
        pod = node.add_pod()
        wanted = rules(node)
        assert "masquerade" in wanted
        for number in range(1, 4):
            node.namespace.show("nft", "flush", "ruleset")
            wait_until(lambda: rules(node) == wanted, within=HEALED_WITHIN, what="rules are back")
            assert exchange(pod.namespace, host, OUTSIDE) == (str(node.ip), True)
            wait_until(
                lambda number=number: len(re.findall(NAMED, node.agent.log())) == number,  # type: ignore[misc]
                within=1,
                what="the log names who did it",
            )
        # What is foreign is not ours to put back.
        assert tables(node) == [TABLE]

        # The control: nothing heals while the agent is frozen.
        node.agent.freeze()
        node.namespace.show("nft", "flush", "ruleset")
        assert exchange(pod.namespace, host, OUTSIDE, within=0.5) == (str(pod.ip), False)
        assert rules(node) == ""
        node.agent.thaw()
        wait_until(lambda: rules(node) == wanted, within=HEALED_WITHIN, what="rules are back")


def test_flannels_tables_go_at_takeover_and_ours_stays_at_the_end(lab: Lab) -> None:
    (node,) = lab.add_nodes(1, "--ip-masq")
    for table in (*FLANNELS, "ip foreign"):
        node.namespace.show("nft", "add", "table", *table.split())
    lab.start_agents()
    assert sorted(tables(node)) == sorted([TABLE, "ip foreign"])
    for table in FLANNELS:
        assert f"removed table={table}: flannel's" in node.agent.log()
    wanted = rules(node)
    assert node.agent.stop() == 0
    assert rules(node) == wanted != ""


@pytest.mark.tools("iptables-restore")
def test_rules_of_flannels_iptables_mode_beside_ours_change_nothing(lab: Lab) -> None:
    first, second = lab.add_nodes(2, "--ip-masq")
    lab.start_agents()
    subnet = str(IPv4Network(first.agent.subnet_env()["FLANNEL_SUBNET"], strict=False))
    text = FLANNELS_RULES.format(S=subnet, C="10.244.0.0/16", M="224.0.0.0/4")
    run(first.namespace.command("iptables-restore"), text=text)
    with outside(lab) as host:
        one, two = (node.add_pod() for node in (first, second))
        assert exchange(one.namespace, host, OUTSIDE) == (str(first.ip), True)
        assert exchange(one.namespace, two.namespace, two.ip) == (str(one.ip), True)
        assert exchange(two.namespace, one.namespace, one.ip) == (str(two.ip), True)
    assert "masquerade" in rules(first)


def test_without_nft_only_who_masquerades_is_not_ready(lab: Lab, tmp_path: Path) -> None:
    masks, plain = (*lab.add_nodes(1, "--ip-masq"), *lab.add_nodes(1))
    with no_nft():
        for node in (masks, plain):
            node.agent.environment = {"PATH": f"{tmp_path}:{BASE_PATH}"}
            node.agent.flags += (f"--healthz-port={HEALTH}",)
            node.agent.start()
        expected = "nftables: there is no program nft in PATH: install the package nftables"
        wait_until(
            lambda: expected in get(masks.namespace, HEALTH, "/readyz")[1],
            within=10,
            what="the reason names nft and the remedy",
            seen=masks.agent.log_tail,
        )
        assert get(masks.namespace, HEALTH, "/readyz")[0] == 503
        assert not masks.agent.subnet_file.exists()
        plain.agent.wait_ready()
        assert any(expected in text for text in plain.agent.says("warnings"))
        assert get(plain.namespace, HEALTH, "/readyz")[0] == 200
        assert masks.agent.log().count(expected) == 1
        # Installed meanwhile, it is found without a restart.
        (tmp_path / "nft").symlink_to(find_tool("nft"))
        masks.agent.wait_ready(within=5)
        assert "masquerade" in rules(masks)
        wait_until(lambda: not plain.agent.says("warnings"), within=5, what="no warning any more")


@pytest.mark.parametrize("key", [{}, {"EnableNFTables": False}, {"EnableNFTables": True}])
def test_a_config_for_iptables_is_accepted_and_one_line_says_what_is_used(
    make_lab: MakeLab, key: dict[str, bool]
) -> None:
    lab = make_lab(config={"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}, **key})
    (node,) = lab.add_nodes(1, "--ip-masq")
    lab.start_agents()
    assert "masquerade" in rules(node)
    said = node.agent.log().count("EnableNFTables is false: the firewall rules are those of nft")
    assert said == (0 if key.get("EnableNFTables") else 1)
