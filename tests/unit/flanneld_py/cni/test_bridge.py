"""What an earlier subnet left on the bridge."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from backends.elements import Address
from flanneld_py.cni.bridge import BridgeKeeper
from flanneld_py.cni.conf import DEFAULT, CniConf, parse
from flanneld_py.kernel import HostFacts
from flanneld_py.subnetfile import SubnetEnv
from flanneld_py.testing.clock import FakeClock
from flanneld_py.testing.kernel import FakeKernel

ENV = SubnetEnv(
    network=IPv4Network("10.244.0.0/16"),
    subnet=IPv4Network("10.244.7.0/24"),
    mtu=1450,
    ip_masq=True,
)
OLD = Address(dev="cni0", address=bytes([10, 244, 3, 1]), prefixlen=24)
NOW = Address(dev="cni0", address=bytes([10, 244, 7, 1]), prefixlen=24)
FOREIGN = Address(dev="cni0", address=bytes([192, 168, 1, 1]), prefixlen=24)


def conf(folder: Path) -> CniConf:
    text = """{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [
        {"type": "flannel", "ipam": {"dataDir": "%s"}}]}"""
    return parse(text % folder)


async def keeper(kernel: FakeKernel, conf: CniConf = DEFAULT) -> BridgeKeeper:
    host: HostFacts = await kernel.host()
    return BridgeKeeper(conf=conf, kernel=kernel, host=lambda: host, clock=FakeClock())


async def test_only_the_gateway_of_an_earlier_subnet_is_removed() -> None:
    kernel = FakeKernel()
    kernel.namespace.add_link("cni0", kind="bridge")
    for address in (OLD, NOW, FOREIGN):
        kernel.namespace.add_address(address)
    await (await keeper(kernel)).look(ENV)
    assert set(kernel.namespace.addresses.values()) == {NOW, FOREIGN}


async def test_pods_with_old_addresses_are_counted_and_named(tmp_path: Path) -> None:
    book = tmp_path / "cbr0"
    book.mkdir()
    for name in ("10.244.7.2", "10.244.3.9", "10.244.3.10", "lock", "last_reserved_ip.0"):
        (book / name).touch()
    minder = await keeper(FakeKernel(), conf(tmp_path))
    await minder.look(ENV)
    (warning,) = minder.warnings
    assert warning.startswith("2 pods carry addresses of an earlier subnet")
    assert "10.244.3.9, 10.244.3.10" in warning
    await minder.look(replace(ENV, subnet=IPv4Network("10.244.0.0/20")))
    assert minder.warnings == ()
