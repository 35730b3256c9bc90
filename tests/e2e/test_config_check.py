"""`--config-check` says what is wrong and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from flanneld_py.testing.lab.lab import VXLAN_CONFIG, Lab
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.observed import ifindex
from tests.e2e.scenario import MakeLab


def check(node: Node, *flags: str) -> tuple[int, list[str]]:
    """The exit status and the lines of a check with the flags of the node's agent."""
    done = node.agent.ask("run", "--config-check", *node.agent.own_flags(), *flags)
    assert done.stderr == "" or done.returncode == 2
    return done.returncode, (done.stdout + done.stderr).splitlines()


def files_of(node: Node) -> set[str]:
    return {str(path) for path in node.folder.rglob("*")}


def test_a_good_configuration_is_confirmed_and_nothing_is_touched(lab: Lab) -> None:
    (node,) = lab.add_nodes(1)
    before, stored = files_of(node), lab.view.under("/coreos.com")
    status, lines = check(node, "--iface-regex=^eth|^u")
    assert (status, [line.partition(":")[0] for line in lines]) == (0, ["ok"] * 4)
    assert "10.244.0.0/16 by vxlan" in lines[2]
    assert str(node.ip) in lines[3]
    assert (files_of(node), lab.view.under("/coreos.com")) == (before, stored)
    assert ifindex(node.namespace, "flannel.1") == 0


@pytest.mark.parametrize(
    ("config", "flags", "words"),
    [
        ({"Network": "10.244.0.0/33"}, (), ["wrong", "Network", "10.244.0.0/33"]),
        ({**VXLAN_CONFIG, "Backend": {"Type": "carrier"}}, (), ["wrong", "carrier"]),
        (None, (), ["wrong", "no network config"]),
        (VXLAN_CONFIG, ("--iface=nowhere0",), ["wrong", "nowhere0"]),
        (VXLAN_CONFIG, ("--etcd-endpoints=https://127.0.0.1:1", "--etcd-cafile=/etc/hostname"),
         ["wrong", "/etc/hostname"]),
        (VXLAN_CONFIG, ("--cni-conf=/etc/hostname",), ["wrong", "/etc/hostname", "JSON"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    make_lab: MakeLab,
    config: Mapping[str, object] | None,
    flags: tuple[str, ...],
    words: list[str],
) -> None:
    (node,) = make_lab(config=config).add_nodes(1)
    status, lines = check(node, *flags)
    assert status == 1
    (wrong,) = [line for line in lines if not line.startswith("ok: ")]
    assert [word for word in words if word not in wrong] == []


def test_what_cannot_be_checked_is_no_fault(make_lab: MakeLab) -> None:
    (node,) = make_lab(with_etcd=False).add_nodes(1)
    status, lines = check(node)
    assert status == 0
    assert lines[-1].startswith("not checked: network config and interface: etcd http://")


def test_wrong_flags_are_told_as_ever(make_lab: MakeLab) -> None:
    (node,) = make_lab(with_etcd=False).add_nodes(1)
    status, lines = check(node, "--iface-regex=[")
    assert status == 2
    (line,) = lines
    assert line.startswith("flanneld-py: --iface-regex: '['")
