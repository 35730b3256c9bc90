from __future__ import annotations

import pytest

from backends.errors import BackendNotYet, UnknownBackend
from backends.registry import BACKENDS, NOT_YET, make_backend
from backends.vxlan import VxlanBackend
from subnet import netconf
from subnet.errors import NetworkConfigError

FLANNELS = {
    "vxlan",
    "host-gw",
    "udp",
    "ipip",
    "ipsec",
    "wireguard",
    "alloc",
    "extension",
    "tencent-vpc",
}


def refused(backend: str) -> NetworkConfigError:
    config = netconf.parse(f'{{"Network": "10.244.0.0/16"{backend}}}')
    with pytest.raises(NetworkConfigError) as caught:
        make_backend(config)
    return caught.value


def test_every_name_of_flannel_is_known() -> None:
    assert set(BACKENDS) | set(NOT_YET) == FLANNELS
    assert not set(BACKENDS) & set(NOT_YET)


def test_vxlan_in_any_case() -> None:
    config = netconf.parse('{"Network": "10.244.0.0/16", "backend": {"type": "VXLAN"}}')
    assert isinstance(make_backend(config), VxlanBackend)


@pytest.mark.parametrize("name", sorted(NOT_YET))
def test_a_backend_of_flannel_that_is_still_missing(name: str) -> None:
    error = refused(f', "Backend": {{"Type": "{name}"}}')
    assert isinstance(error, BackendNotYet)
    assert error.backend == name
    assert str(error) == (
        f"network config: Backend.Type = {name}: this release has no {name} backend yet: "
        "set Backend.Type to vxlan"
    )


def test_an_absent_backend_means_udp_and_says_so() -> None:
    error = refused("")
    assert isinstance(error, BackendNotYet)
    assert "absent (no key Backend, which means udp)" in str(error)
    assert "set Backend.Type to vxlan" in str(error)


@pytest.mark.parametrize("backend", [', "Backend": {"VNI": 1}', ', "Backend": null'])
def test_a_backend_without_a_type(backend: str) -> None:
    error = refused(backend)
    assert isinstance(error, UnknownBackend)
    assert "Backend.Type = absent" in str(error)
    assert "set Backend.Type to vxlan" in str(error)


@pytest.mark.parametrize(
    ("name", "nearest"), [("vxlam", "vxlan"), ("hostgw", "host-gw"), ("quantum", "")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    error = refused(f', "Backend": {{"Type": "{name}"}}')
    assert isinstance(error, UnknownBackend)
    assert error.nearest == nearest
    assert f'Backend.Type = "{name}"' in str(error)
    assert (f"the nearest is {nearest}" in str(error)) == bool(nearest)


def test_a_hostile_name_stays_one_short_line() -> None:
    text = str(refused(', "Backend": {"Type": "' + "x" * 5000 + '\\n\\u001b[31m"}'))
    assert len(text) < 300
    assert text.isprintable()


def test_options_of_the_backend_are_checked() -> None:
    assert refused(', "Backend": {"Type": "vxlan", "VNI": 0}').key == "Backend.VNI"
