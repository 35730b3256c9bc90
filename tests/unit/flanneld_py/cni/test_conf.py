from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from flanneld_py.cni.conf import DEFAULT, CniConfError, complete, load, parse
from flanneld_py.subnetfile import SubnetEnv
from flanneld_py.subnetfile import parse as parse_env

ENV = SubnetEnv(
    network=IPv4Network("10.1.0.0/16"),
    subnet=IPv4Network("10.1.17.0/24"),
    network6=IPv6Network("fd00:10:1::/56"),
    subnet6=IPv6Network("fd00:10:1:5::/64"),
    mtu=1450,
    ip_masq=True,
)
GOLDEN = Path(__file__).resolve().parents[3] / "golden/cni"
FLANNELS = {
    "name": "cbr0",
    "cniVersion": "0.3.1",
    "plugins": [
        {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
"""cni-conf.json of flannel's manifest (flannel-compat 11.1)."""


def text(**more: Any) -> str:
    return json.dumps({**FLANNELS, **more})


def entry(**more: Any) -> str:
    return text(plugins=[{"type": "flannel", **more}])


def test_that_of_flannels_manifest() -> None:
    conf = parse(json.dumps(FLANNELS))
    assert conf == replace(DEFAULT, cni_version="0.3.1")
    assert (conf.bridge, conf.book) == ("cni0", Path("/var/lib/cni/networks/cbr0"))


def test_names_and_folders_of_others() -> None:
    conf = parse(
        text(
            name="pods",
            plugins=[
                {"type": "flannel", "delegate": {"bridge": "br7"}, "ipam": {"dataDir": "/x"}},
                {"type": "bandwidth"},
            ],
            disableCheck=True,
        )
    )
    assert (conf.name, conf.bridge, conf.book) == ("pods", "br7", Path("/x/pods"))
    done = complete(conf, ENV)
    assert (done["disableCheck"], done["plugins"][1]) == (True, {"type": "bandwidth"})
    assert done["plugins"][0]["bridge"] == "br7"
    assert done["plugins"][0]["ipam"]["dataDir"] == "/x"


def test_another_delegate_gets_no_bridge() -> None:
    conf = parse(entry(delegate={"type": "ipvlan", "master": "eth0"}))
    delegate = complete(conf, ENV)["plugins"][0]
    assert conf.bridge == ""
    assert delegate.keys() == {"type", "master", "ipMasq", "mtu", "ipam"}


def test_what_is_set_is_kept_and_what_is_the_shims_is_not() -> None:
    conf = parse(
        entry(
            delegate={"mtu": 1300, "ipMasq": True, "isGateway": False},
            ipam={"routes": [{"dst": "192.168.7.0/24"}], "ranges": [[{"subnet": "10.9.0.0/24"}]]},
            subnetFile="/x",
            dataDir="/y",
            runDir="/z",
            waitSeconds=1,
            capabilities={"ips": True},
        )
    )
    delegate = complete(conf, ENV)["plugins"][0]
    assert delegate == {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": False,
        "ipMasq": True,
        "mtu": 1300,
        "capabilities": {"ips": True},
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.1.17.0/24"}], [{"subnet": "fd00:10:1:5::/64"}]],
            "routes": [
                {"dst": "192.168.7.0/24"},
                {"dst": "10.1.0.0/16"},
                {"dst": "fd00:10:1::/56"},
            ],
        },
    }


RECORDED = sorted(
    path.stem
    for path in GOLDEN.glob("add-*.json")
    # Several networks in subnet.env are a relic that no agent writes; runtimeConfig is of one pod.
    if path.stem not in ("add-two-networks", "add-runtimeconfig")
)


@pytest.mark.parametrize("name", RECORDED)
def test_it_delegates_as_flannels_plugin(name: str) -> None:
    recorded = json.loads((GOLDEN / f"{name}.json").read_text())
    (theirs,) = recorded["state"].values()
    conf = parse(json.dumps(recorded["input"]))
    done = complete(conf, parse_env(recorded["subnet.env"]))
    # The runtime hands name and version of the list to each plugin.
    ours = {**done["plugins"][0], "name": done["name"], "cniVersion": done["cniVersion"]}
    assert ours == {"bridge": "cni0", **json.loads(theirs)}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no JSON object"),
        (text(name=None), "name is null"),
        (text(name="../x"), 'name is "../x"'),
        (text(cniVersion="2.0"), "cniVersion"),
        (text(cniVersion=[]), "cniVersion"),
        (text(plugins={}), "plugins"),
        (text(plugins=["x"]), "plugins"),
        (text(plugins=[{"type": "portmap"}]), "type flannel"),
        (text(plugins=[{"type": "flannel"}] * 2), "type flannel"),
        (entry(delegate=[1]), "delegate"),
        (entry(delegate={"type": 5}), "delegate.type"),
        (entry(delegate={"type": "flannel"}), "delegate.type"),
        (entry(delegate={"name": "x"}), "delegate.name"),
        (entry(delegate={"ipam": {}}), "delegate.ipam"),
        (entry(ipam="x"), "ipam"),
        (entry(ipam={"routes": {"dst": 1}}), "ipam.routes"),
        (entry(ipam={"routes": [{"dst": "10.0.0.0"}]}), "ipam.routes"),
    ],
)
def test_what_cannot_be_is_named(given: str, named: str) -> None:
    with pytest.raises(CniConfError) as caught:
        parse(given, source="/etc/x.json")
    assert str(caught.value).startswith("cni-conf /etc/x.json: ")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "cni-conf.json"
    with pytest.raises(CniConfError, match="No such file"):
        load(file)
    file.write_text(json.dumps(FLANNELS))
    assert load(file).name == "cbr0"
    file.write_text(" " * 70_000)
    with pytest.raises(CniConfError, match="more than 65536 bytes"):
        load(file)
