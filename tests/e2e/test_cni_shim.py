"""The shim with the real plugins: bridge, host-local and portmap of both versions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flanneld_py.testing.lab.namespace import Namespace
from tests.e2e.cni_host import CniError, CniHost, address_of, cni_host

GOLDEN = Path(__file__).resolve().parents[1] / "golden/cni"
ADDS = sorted(path.stem for path in GOLDEN.glob("add-*.json"))
NEW = ("cni-1.9.1", "1.1.0")
new_plugins = pytest.mark.tools("cni-1.9.1/bridge", "cni-1.9.1/host-local")


@pytest.fixture(
    params=[
        pytest.param(("cni", "0.4.0"), id="1.1.1-CNI-0.4.0"),
        pytest.param(("cni", "1.0.0"), id="1.1.1-CNI-1.0.0"),
        pytest.param(NEW, id="1.9.1-CNI-1.1.0", marks=new_plugins),
    ]
)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CniHost]:
    plugins, version = request.param
    with cni_host(tmp_path, plugins=plugins, version=version) as made:
        yield made


@pytest.fixture
def new_host(tmp_path: Path) -> Iterator[CniHost]:
    plugins, version = NEW
    with cni_host(tmp_path, plugins=plugins, version=version) as made:
        yield made


def can_ping(source: Namespace, target: str) -> bool:
    return "1 received" in source.show("ping", "-c1", "-W2", target)


def test_the_life_of_a_pod(host: CniHost) -> None:
    first, second = host.add_pod(), host.add_pod()
    results = [host.add(host.shim_way, pod) for pod in (first, second)]
    assert host.booked() == {address_of(r): p.name for r, p in zip(results, host.pods, strict=True)}
    assert host.states() == {first.name, second.name}
    assert can_ping(first, address_of(results[1]))
    host.check(host.shim_way, first, results[0])
    host.delete(host.shim_way, first, result=results[0])
    assert "eth0" not in first.show("ip", "link", "show")
    assert (set(host.booked()), host.states()) == ({address_of(results[1])}, {second.name})
    host.delete(host.shim_way, first)
    second.remove()  # a killed container: its namespace is gone before DEL comes
    host.delete(host.shim_way, second, result=results[1])
    assert (host.booked(), host.states()) == ({}, set())


def lose_the_route(pod: Namespace, host: CniHost) -> None:
    pod.ip("route del default")


def lose_the_address(pod: Namespace, host: CniHost) -> None:
    pod.ip("address flush dev eth0")


def lose_the_veth(pod: Namespace, host: CniHost) -> None:
    pod.ip("link delete eth0")


@pytest.mark.parametrize("lose", [lose_the_route, lose_the_address, lose_the_veth])
def test_check_finds_what_is_lost(host: CniHost, lose: Any) -> None:
    """R17."""
    pod = host.add_pod()
    result = host.add(host.shim_way, pod)
    host.check(host.shim_way, pod, result)
    lose(pod, host)
    with pytest.raises(CniError) as caught:
        host.check(host.shim_way, pod, result)
    assert isinstance(caught.value.code, int)
    host.delete(host.shim_way, pod, result=result)
    assert (host.booked(), host.states()) == ({}, set())


def test_two_interfaces_of_one_pod(host: CniHost) -> None:
    pod = host.add_pod()
    host.add(host.shim_way, pod)
    host.add(host.shim_way, pod, "net1")
    assert len(host.booked()) == 2
    host.delete(host.shim_way, pod, "net1")
    assert len(host.booked()) == 1
    host.delete(host.shim_way, pod)
    assert (host.booked(), host.states()) == ({}, set())


def test_a_del_that_failed_can_be_done_again(host: CniHost) -> None:
    """Fault C1: the second one did nothing, and the address leaked."""
    pod = host.add_pod()
    host.add(host.shim_way, pod)
    plugin = host.bin / "bridge"
    target = plugin.readlink()
    plugin.unlink()
    with pytest.raises(CniError):
        host.delete(host.shim_way, pod)
    plugin.symlink_to(target)
    host.delete(host.shim_way, pod)
    assert (host.booked(), host.states()) == ({}, set())


@new_plugins
def test_status_asks_the_real_delegate(new_host: CniHost) -> None:
    conflist = new_host.shim_way
    plugin = conflist["plugins"][0]
    assert new_host.call("STATUS", conflist, plugin) is None
    new_host.env_file.unlink()
    with pytest.raises(CniError) as caught:
        new_host.call("STATUS", conflist, plugin)
    assert caught.value.code == 50
    assert "subnet.env is not there" in caught.value.answer["msg"]


@new_plugins
def test_100_containers_killed_and_collected(new_host: CniHost) -> None:
    """R17: exactly the 95 leaked addresses are freed."""
    host = new_host
    conflist = host.shim_way
    plugin = conflist["plugins"][0]
    results = {}
    for _ in range(100):
        pod = host.add_pod()
        results[pod.name] = address_of(
            host.call("ADD", conflist, conflist["plugins"][0], pod, "eth0")
        )
        pod.remove()
    valid = host.pods[::20]
    given = [{"containerID": pod.name, "ifname": "eth0"} for pod in valid]
    host.call("GC", conflist, {**plugin, "cni.dev/valid-attachments": given})
    assert host.booked() == {results[pod.name]: pod.name for pod in valid}
    assert host.states() == {pod.name for pod in valid}


@pytest.mark.parametrize("name", ADDS)
def test_the_answer_is_what_flannels_plugin_answered(name: str, tmp_path: Path) -> None:
    """The recorded calls were made with Debian's plugins."""
    recorded = json.loads((GOLDEN / f"{name}.json").read_text())
    with cni_host(tmp_path, plugins="cni", version="1.0.0") as host:
        host.env_file.write_text(recorded["subnet.env"])
        pod = host.add_pod()
        conf = recorded["input"] | {
            "subnetFile": str(host.env_file),
            "dataDir": str(host.data_dir),
            "ipam": {**recorded["input"].get("ipam", {}), "dataDir": str(host.book.parent)},
        }
        try:
            answer = host.call("ADD", conf, conf, pod, "eth0")
        except CniError as error:
            answer = error.answer
        assert comparable(answer) == comparable(recorded["stdout"])
        assert host.states() == {pod.name}
        host.call("DEL", conf, conf, pod, "eth0") if recorded["exit"] == 0 else None
        assert host.booked() == {}


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without MAC addresses, made-up names and paths.

    Intended difference: an empty `dns`, which the delegate printed, is passed on; flannel's plugin
    writes the answer anew, without it from CNI 1.0.0 on.
    """
    interfaces = [
        {**one, "mac": "", "name": one["name"][:4], "sandbox": bool(one.get("sandbox"))}
        for one in answer.get("interfaces", ())
    ]
    rest = {key: value for key, value in answer.items() if key != "dns" or value}
    return {**rest, "interfaces": interfaces}
