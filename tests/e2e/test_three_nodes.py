"""Three nodes: what stands in etcd and on disk, byte for byte, and what reaches their pods."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_interface

import pytest

from flanneld_py.testing.lab.etcd_view import PREFIX
from flanneld_py.testing.lab.lab import Lab, matrix, unreached
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.observed import device_mac
from flanneld_py.testing.lab.ping import Prober
from flanneld_py.testing.lab.waiting import wait_until
from tests.e2e.scenario import MakeLab

DAY = 86400
SETTLED = 5.0


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network config, and what follows from it."""

    config: Mapping[str, object]
    v4: bool = True
    v6: bool = False
    mtu: int = 1450

    @property
    def families(self) -> tuple[int, ...]:
        return (*((4,) if self.v4 else ()), *((6,) if self.v6 else ()))


VXLAN = {"Type": "vxlan"}
NETWORKS = {
    "ipv4": Network(config={"Network": "10.244.0.0/16", "Backend": VXLAN}),
    "dual": Network(
        config={
            "EnableIPv6": True,
            "Network": "10.244.0.0/16",
            "IPv6Network": "fd00:10:244::/56",
            "Backend": VXLAN,
        },
        v6=True,
        mtu=1430,
    ),
    "ipv6": Network(
        config={
            "EnableIPv4": False,
            "EnableIPv6": True,
            "IPv6Network": "fd00:10:244::/56",
            "Backend": VXLAN,
        },
        v4=False,
        v6=True,
        mtu=1430,
    ),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_three_nodes(make_lab: MakeLab, network: Network) -> None:
    lab = make_lab(config=network.config)
    nodes = lab.add_nodes(3)
    lab.start_agents()

    assert lab.view.leases() == dict(_expected_lease(node, network) for node in nodes)
    for key in lab.view.leases():
        assert lab.view.lease_ttl(f"{PREFIX}/subnets/{key}") == DAY
    for node in nodes:
        _check_subnet_env(node, network)
        _check_conflist(node, network)

    for node in nodes:
        pod = node.add_pod()
        assert sorted(address.version for address in pod.addresses) == list(network.families)
    assert len(matrix(nodes)) == 3 * 2 * len(network.families)
    # An IPv6 address of the plugin's bridge is in use only after duplicate detection.
    wait_until(lambda: not unreached(nodes), within=SETTLED, what="all pods ping each other")
    _check_mtu(nodes, network)


def test_a_node_that_comes_later_is_reached(lab: Lab) -> None:
    first, second = lab.add_nodes(2)
    lab.start_agents()
    (third,) = lab.add_nodes(1)
    lab.start_agents([third])
    for node in (first, second, third):
        node.add_pod()
    wait_until(lambda: not unreached(lab.nodes), within=1, what="all pods ping each other")


def _expected_lease(node: Node, network: Network) -> tuple[str, str]:
    """Return the key and the value that flannel would write for this node."""
    env = node.agent.subnet_env()
    v4, v6 = "0.0.0.0-0", ""
    data = ""
    if network.v4:
        v4 = str(ip_interface(env["FLANNEL_SUBNET"]).network).replace("/", "-")
        data += f',"BackendData":{_vxlan_data(node, "flannel.1")}'
    if network.v6:
        v6 = "&" + str(ip_interface(env["FLANNEL_IPV6_SUBNET"]).network).replace("/", "-")
        data += f',"BackendV6Data":{_vxlan_data(node, "flannel-v6.1")}'
    public_ip = node.ip if network.v4 else "0.0.0.0"
    public_ipv6 = f'"{node.ip6}"' if network.v6 else "null"
    value = f'{{"PublicIP":"{public_ip}","PublicIPv6":{public_ipv6},"BackendType":"vxlan"{data}}}'
    return v4 + v6, value


def _vxlan_data(node: Node, device: str) -> str:
    return f'{{"VNI":1,"VtepMAC":"{device_mac(node.namespace, device)}"}}'


def _check_subnet_env(node: Node, network: Network) -> None:
    env = node.agent.subnet_env()
    lines = []
    if network.v4:
        subnet = ip_interface(env["FLANNEL_SUBNET"])
        assert subnet.ip == subnet.network[1]
        lines += ["FLANNEL_NETWORK=10.244.0.0/16", f"FLANNEL_SUBNET={subnet}"]
    if network.v6:
        subnet6 = ip_interface(env["FLANNEL_IPV6_SUBNET"])
        assert subnet6.ip == subnet6.network[1]
        lines += [
            "FLANNEL_IPV6_NETWORK=fd00:10:244::/56",
            f"FLANNEL_IPV6_SUBNET={subnet6}",
        ]
    lines += [f"FLANNEL_MTU={network.mtu}", "FLANNEL_IPMASQ=false", ""]
    assert node.agent.subnet_file.read_text() == "\n".join(lines)
    assert stat.S_IMODE(node.agent.subnet_file.stat().st_mode) == 0o644
    assert [path.name for path in node.agent.subnet_file.parent.iterdir()] == ["subnet.env"]


def _check_conflist(node: Node, network: Network) -> None:
    conflist = node.runtime.conflist()
    bridge, portmap = conflist["plugins"]
    assert (bridge["type"], portmap["type"]) == ("bridge", "portmap")
    assert bridge["mtu"] == network.mtu
    assert bridge["ipam"]["type"] == "host-local"


def _check_mtu(nodes: list[Node], network: Network) -> None:
    """The largest packet that FLANNEL_MTU promises gets through, one byte more does not."""
    source, target = nodes[0], nodes[1]
    with Prober(source.pods[0].namespace) as prober:
        for address in target.pods[0].addresses:
            assert prober.passes(address, packet=network.mtu)
            assert not prober.passes(address, packet=network.mtu + 1)
