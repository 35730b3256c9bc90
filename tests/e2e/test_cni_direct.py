"""Direct mode beside the flannel way, with the real plugins: nothing duplicated, nothing leaked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from flanneld_py.cni.oldsubnet import booked_addresses, old_gateways, pods_of_old_subnets
from flanneld_py.kernel import HostAddress, HostFacts
from flanneld_py.testing.lab.lab import Lab
from tests.e2e.cni_host import ENV, CniError, CniHost, address_of, cni_host


@pytest.fixture(
    params=[
        pytest.param(("cni", "1.0.0"), id="1.1.1-CNI-1.0.0"),
        pytest.param(
            ("cni-1.9.1", "1.1.0"),
            id="1.9.1-CNI-1.1.0",
            marks=pytest.mark.tools("cni-1.9.1/bridge", "cni-1.9.1/portmap"),
        ),
    ]
)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CniHost]:
    plugins, version = request.param
    with cni_host(tmp_path, plugins=plugins, version=version) as made:
        yield made


def bridges(host: CniHost) -> list[str]:
    shown = host.namespace.show("ip", "-o", "link", "show", "type", "bridge")
    return [line.split(":")[1].strip() for line in shown.splitlines()]


def test_pods_of_the_flannel_way_then_direct(host: CniHost) -> None:
    """A node changes to direct mode while pods run."""
    old = [host.add_pod() for _ in range(3)]
    results = {pod.name: host.add(host.shim_way, pod) for pod in old}
    new = [host.add_pod() for _ in range(3)]
    for pod in new:
        results[pod.name] = host.add(host.direct_way, pod)
    assert host.booked() == {address_of(result): name for name, result in results.items()}
    assert len(host.booked()) == 6
    assert bridges(host) == ["cni0"]
    assert "1 received" in new[0].show("ping", "-c1", "-W2", address_of(results[old[0].name]))
    for pod in (*old, *new):
        host.delete(host.direct_way, pod, result=results[pod.name])
        assert "eth0" not in pod.show("ip", "link", "show")
    assert host.booked() == {}
    assert "veth" not in host.namespace.show("ip", "link", "show")


def test_pods_of_direct_mode_then_the_flannel_way(host: CniHost) -> None:
    """And back: the shim has no state of them."""
    pods = [host.add_pod() for _ in range(2)]
    results = [host.add(host.direct_way, pod) for pod in pods]
    pods[1].remove()
    host.check(host.shim_way, pods[0], results[0])
    for pod, result in zip(pods, results, strict=True):
        host.delete(host.shim_way, pod, result=result)
    assert (host.booked(), host.states()) == ({}, set())
    assert "veth" not in host.namespace.show("ip", "link", "show")


def test_a_pod_that_flannels_own_plugin_made(host: CniHost) -> None:
    """Its state file, byte for byte as recorded, and the pod that goes with it."""
    pod = host.add_pod()
    recorded = json.loads((Path(__file__).parents[1] / "golden/cni/add-hairpin.json").read_text())
    state = json.loads(next(iter(recorded["state"].values())))
    state["ipam"]["dataDir"] = str(host.book.parent)
    result = host.call("ADD", state, state, pod, "eth0")
    host.data_dir.mkdir(mode=0o700)
    (host.data_dir / pod.name).write_text(json.dumps(state))
    assert list(host.booked().values()) == [pod.name]
    host.delete(host.shim_way, pod, result=result)
    assert (host.booked(), host.states()) == ({}, set())


def test_a_node_whose_subnet_changed(host: CniHost) -> None:
    """The bridge plugin refuses every pod until the old gateway's address is gone."""
    old = host.add_pod()
    host.add(host.direct_way, old)
    host.env_file.write_text(ENV.replace("10.1.17.1", "10.1.18.1"))
    assert [str(ip) for ip in pods_of_old_subnets(booked_addresses(host.book), host.env)] == list(
        host.booked()
    )
    new = host.add_pod()
    with pytest.raises(CniError, match="already has an IP address different from"):
        host.add(host.direct_way, new)
    host.delete(host.direct_way, new)
    stale = old_gateways(facts_of(host), host.conf.bridge, host.env)
    assert [(one.address, one.prefixlen) for one in stale] == [(bytes([10, 1, 17, 1]), 24)]
    host.namespace.ip("address delete 10.1.17.1/24 dev cni0")
    assert address_of(host.add(host.direct_way, new)).startswith("10.1.18.")
    assert old_gateways(facts_of(host), host.conf.bridge, host.env) == ()


def facts_of(host: CniHost) -> HostFacts:
    shown: list[dict[str, Any]] = json.loads(host.namespace.show("ip", "-j", "address", "show"))
    return HostFacts(
        addresses=tuple(
            HostAddress(
                dev=link["ifname"],
                address=ip_interface(one["local"]).ip.packed,
                prefixlen=one["prefixlen"],
                scope={"global": 0, "link": 253, "host": 254}[one["scope"]],
            )
            for link in host_links(shown)
            for one in link["addr_info"]
        )
    )


def host_links(shown: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield from (link for link in shown if "addr_info" in link)


def waiting_add(host: CniHost, seconds: float, run_dir: Path, env_file: Path) -> Any:
    """ADD by the shim as it is configured beside an agent."""
    plugin = {
        **host.shim_way["plugins"][0],
        "waitSeconds": seconds,
        "runDir": str(run_dir),
        "subnetFile": str(env_file),
    }
    return host.call("ADD", host.shim_way, plugin, host.pods[0], "eth0")


def test_add_before_the_agent_is_ready(lab: Lab, tmp_path: Path) -> None:
    """R12: it waits, and then succeeds; or it fails with the agent's own reason."""
    (node,) = lab.add_nodes(1)
    agent = node.agent
    with cni_host(tmp_path, plugins="cni", version="1.0.0") as host:
        host.add_pod()
        with pytest.raises(CniError, match="no flanneld-py answers at"):
            waiting_add(host, 0, agent.run_dir, agent.subnet_file)
        lab.etcd.stop()
        agent.start()
        with pytest.raises(CniError) as caught:
            waiting_add(host, 3, agent.run_dir, agent.subnet_file)
        assert caught.value.code == 11
        assert "after 3 s: flanneld-py is not ready: " in caught.value.answer["msg"]
        assert "etcd" in caught.value.answer["msg"]
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(waiting_add, host, 50, agent.run_dir, agent.subnet_file)
            lab.etcd.start()  # in this thread: the kernel ends it with the one that started it
            result = waiting.result()
        subnet = ip_interface(agent.subnet_env()["FLANNEL_SUBNET"]).network
        assert ip_interface(address_of(result)).ip in subnet
