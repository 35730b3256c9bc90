from __future__ import annotations

import pytest

from backends.vxlan_options import VxlanOptions, read_options
from subnet import netconf
from subnet.errors import NetworkConfigError

V4 = '"Network": "10.244.0.0/16"'
DUAL = f'{V4}, "EnableIPv6": true, "IPv6Network": "fd00:10:244::/56"'
V6 = '"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:10:244::/56"'


def read(backend: str, network: str = V4) -> VxlanOptions:
    return read_options(netconf.parse(f'{{{network}, "Backend": {{"Type": "vxlan"{backend}}}}}'))


def test_defaults() -> None:
    assert read("") == VxlanOptions(
        vni=1, port=0, mtu=0, gbp=False, learning=False, direct_routing=False
    )


def test_all_options_in_any_case() -> None:
    wanted = VxlanOptions(vni=7, port=4789, mtu=1400, gbp=True, learning=True, direct_routing=True)
    exact = (
        ', "VNI": 7, "Port": 4789, "MTU": 1400, "GBP": true, "Learning": true, '
        '"DirectRouting": true'
    )
    assert read(exact) == wanted
    assert read(exact.lower()) == wanted


def test_null_and_unknown_options_change_nothing() -> None:
    assert read(', "VNI": null, "Port": null, "MacPrefix": "0E-2A", "Name": "x"') == read("")


@pytest.mark.parametrize(("network", "vni"), [(V4, 1), (V4, 9_999_999), (DUAL, 9999), (V6, 9999)])
def test_vni_within_its_bounds(network: str, vni: int) -> None:
    assert read(f', "VNI": {vni}', network).vni == vni


@pytest.mark.parametrize(
    ("network", "backend", "key", "value", "expected"),
    [
        (V4, '"VNI": 0', "Backend.VNI", "0", "from 1 to 16777215"),
        (V4, '"VNI": -1', "Backend.VNI", "-1", "from 1 to 16777215"),
        (V4, '"vni": 16777216', "Backend.VNI", "16777216", "from 1 to 16777215"),
        (V4, '"VNI": 10000000', "Backend.VNI", "10000000", "at most 9999999 with IPv4"),
        (DUAL, '"VNI": 10000', "Backend.VNI", "10000", "at most 9999 with IPv6"),
        (V6, '"VNI": 10000', "Backend.VNI", "10000", "at most 9999 with IPv6"),
        (V4, '"VNI": "1"', "Backend.VNI", '"1"', "a whole number"),
        (V4, '"VNI": true', "Backend.VNI", "true", "a whole number"),
        (V4, '"VNI": 1.5', "Backend.VNI", "1.5", "a whole number"),
        (V4, '"Port": 65536', "Backend.Port", "65536", "from 0 to 65535"),
        (V4, '"Port": -1', "Backend.Port", "-1", "from 0 to 65535"),
        (V4, '"MTU": -1', "Backend.MTU", "-1", "from 0 to 65535"),
        (V4, '"MTU": 70000', "Backend.MTU", "70000", "from 0 to 65535"),
        (V4, '"MTU": 117', "Backend.MTU", "117", "at least 118 with IPv4"),
        (DUAL, '"MTU": 1349', "Backend.MTU", "1349", "at least 1350 with IPv6"),
        (V4, '"GBP": 1', "Backend.GBP", "1", "true or false"),
        (V4, '"Learning": "yes"', "Backend.Learning", '"yes"', "true or false"),
        (V4, '"DirectRouting": []', "Backend.DirectRouting", "[]", "true or false"),
    ],
)
def test_what_is_wrong_is_named(
    network: str, backend: str, key: str, value: str, expected: str
) -> None:
    with pytest.raises(NetworkConfigError) as caught:
        read(f", {backend}", network)
    assert caught.value.key == key
    assert caught.value.value == value
    assert expected in caught.value.expected
