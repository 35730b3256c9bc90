"""Direct mode with the real agent and the real plugins: what an earlier subnet left behind."""

from __future__ import annotations

from flanneld_py.testing.lab.lab import Lab
from flanneld_py.testing.lab.waiting import wait_until

OLD_GATEWAY = "10.244.200.1/24"


def test_an_old_gateway_goes_and_new_pods_start(lab: Lab) -> None:
    """The bridge plugin refuses every pod while the bridge has an earlier subnet's gateway."""
    (node,) = lab.add_nodes(1)
    node.agent.start_ready()
    node.remove_pod(node.add_pod())  # makes the bridge
    node.namespace.ip(f"addr add {OLD_GATEWAY} dev cni0", "addr add 192.168.7.1/24 dev cni0")
    wait_until(
        lambda: OLD_GATEWAY not in node.namespace.show("ip", "addr", "show", "dev", "cni0"),
        within=7,
        what="the old gateway address is gone",
    )
    assert "192.168.7.1/24" in node.namespace.show("ip", "addr", "show", "dev", "cni0")
    node.namespace.ip("addr del 192.168.7.1/24 dev cni0")
    node.add_pod()
    assert f"earlier subnet address={OLD_GATEWAY}" in node.agent.log()


def test_a_file_that_sorts_before_ours_is_left_alone_and_named(lab: Lab) -> None:
    (node,) = lab.add_nodes(1)
    folder = node.folder / "cni" / "net.d"
    folder.mkdir(parents=True, exist_ok=True)
    other = folder / "05-other.conflist"
    other.write_text("{}")
    node.agent.start_ready()
    wait_until(
        lambda: any("05-other.conflist" in text for text in node.agent.says("warnings")),
        within=5,
        what="the other file is named",
        seen=lambda: node.agent.says("warnings"),
    )
    assert other.read_text() == "{}"
