"""The network config: derived values, checks, and errors that name key, value and remedy."""

import json
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from subnet import netconf
from subnet.errors import NetworkConfigError

GOLDEN = Path(__file__).parents[2] / "golden"


def refused(document: object) -> NetworkConfigError:
    text = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(NetworkConfigError) as caught:
        netconf.parse(text)
    return caught.value


def ipv6(**keys: object) -> dict[str, object]:
    return {"EnableIPv4": False, "EnableIPv6": True, "IPv6Network": "fc00::/48", **keys}


def test_ipv4_defaults() -> None:
    config = netconf.parse('{"network": "10.3.0.0/16"}')
    assert config.enable_ipv4
    assert not config.enable_ipv6
    assert not config.enable_nftables
    assert config.network == IPv4Network("10.3.0.0/16")
    assert config.subnet_len == 24
    assert config.subnet_min == IPv4Address("10.3.1.0")
    assert config.subnet_max == IPv4Address("10.3.255.0")
    assert config.network6 is None
    assert config.subnet6_len == 0
    assert config.subnet6_min is None
    assert config.subnet6_max is None
    assert config.backend_type == "udp"
    assert config.backend_options == {}


def test_ipv6_defaults() -> None:
    config = netconf.parse('{"EnableIPv6": true, "IPv6Network": "fc00::/48", "enableipv4": false}')
    assert config.network is None
    assert config.subnet_min is None
    assert config.network6 == IPv6Network("fc00::/48")
    assert config.subnet6_len == 64
    assert config.subnet6_min == IPv6Address("fc00:0:0:1::")
    assert config.subnet6_max == IPv6Address("fc00:0:0:ffff::")


def test_explicit_values_are_kept() -> None:
    config = netconf.parse(
        json.dumps(
            {
                "EnableIPv6": True,
                "EnableNFTables": True,
                "Network": "10.3.0.0/16",
                "SubnetMin": "10.3.5.0",
                "SubnetMax": "10.3.8.0",
                "SubnetLen": 28,
                "IPv6Network": "fc00::/48",
                "IPv6SubnetMin": "fc00:0:0:10::",
                "IPv6SubnetMax": "fc00:0:0:20::",
                "IPv6SubnetLen": 62,
            }
        )
    )
    assert config.enable_nftables
    assert (config.subnet_len, config.subnet6_len) == (28, 62)
    assert (str(config.subnet_min), str(config.subnet_max)) == ("10.3.5.0", "10.3.8.0")
    assert str(config.subnet6_min) == "fc00:0:0:10::"
    assert str(config.subnet6_max) == "fc00:0:0:20::"


@pytest.mark.parametrize(
    ("network", "length", "first", "last"),
    [
        ("10.0.0.0/8", 24, "10.0.1.0", "10.255.255.0"),
        ("10.3.0.0/22", 24, "10.3.1.0", "10.3.3.0"),
        ("10.3.0.0/23", 25, "10.3.0.128", "10.3.1.128"),
        ("10.3.0.0/28", 30, "10.3.0.4", "10.3.0.12"),
        ("255.255.0.0/16", 24, "255.255.1.0", "255.255.255.0"),
        ("10.3.77.9/16", 24, "10.3.1.0", "10.3.255.0"),
        ("0.0.0.0/1", 24, "0.0.1.0", "127.255.255.0"),
        ("128.0.0.0/1", 24, "128.0.1.0", "255.255.255.0"),
    ],
)
def test_derived_ipv4_values(network: str, length: int, first: str, last: str) -> None:
    config = netconf.parse(json.dumps({"Network": network, "SubnetLen": 0, "SubnetMin": "0.0.0.0"}))
    assert (config.subnet_len, str(config.subnet_min), str(config.subnet_max)) == (
        length,
        first,
        last,
    )


@pytest.mark.parametrize(
    ("network", "length", "first", "last"),
    [
        ("fd00:10:244::/56", 64, "fd00:10:244:1::", "fd00:10:244:ff::"),
        ("fd00:1::/62", 64, "fd00:1:0:1::", "fd00:1:0:3::"),
        ("fd00:1::/63", 65, "fd00:1:0:0:8000::", "fd00:1:0:1:8000::"),
        ("fd00:1::/124", 126, "fd00:1::4", "fd00:1::c"),
        ("fd00:1::7/112", 114, "fd00:1::4000", "fd00:1::c000"),
    ],
)
@pytest.mark.parametrize("silent", [None, "::"])
def test_derived_ipv6_values(
    network: str, length: int, first: str, last: str, silent: str | None
) -> None:
    config = netconf.parse(
        json.dumps(ipv6(IPv6Network=network, IPv6SubnetMin=silent, IPv6SubnetMax=silent))
    )
    assert (config.subnet6_len, str(config.subnet6_min), str(config.subnet6_max)) == (
        length,
        first,
        last,
    )


@pytest.mark.parametrize(
    ("keys", "key", "part"),
    [
        ({"Network": None}, "Network", "null"),
        ({"Network": 10}, "Network", "10.244.0.0/16"),
        ({"Network": "10.3.0.0"}, "Network", '"10.3.0.0"'),
        ({"Network": "10.3.0.0/255.255.0.0"}, "Network", "IPv4 CIDR"),
        ({"Network": "10.3.0.0/33"}, "Network", "IPv4 CIDR"),
        ({"Network": "10.03.0.0/16"}, "Network", "IPv4 CIDR"),
        ({"Network": "fd00::/48"}, "Network", "IPv4 CIDR"),
        ({"Network": "0.0.0.0/0"}, "Network", "EnableIPv4"),
        ({"Network": "10.3.0.0/29"}, "Network", "at most 28"),
        ({"Network": "10.3.0.0/29", "SubnetLen": 30}, "Network", "at most 28"),
        ({"SubnetLen": 17}, "SubnetLen", "from 18 to 30"),
        ({"SubnetLen": 31}, "SubnetLen", "from 18 to 30"),
        ({"SubnetLen": 10**4000}, "SubnetLen", "from 18 to 30"),
        ({"SubnetLen": -1}, "SubnetLen", "whole number"),
        ({"SubnetLen": 24.0}, "SubnetLen", "24.0"),
        ({"SubnetLen": "24"}, "SubnetLen", '"24"'),
        ({"SubnetLen": True}, "SubnetLen", "true"),
        ({"SubnetMin": None}, "SubnetMin", "null"),
        ({"SubnetMin": "fd00::"}, "SubnetMin", "IPv4 address"),
        ({"SubnetMin": "10.4.0.0"}, "SubnetMin", "inside of 10.3.0.0/16"),
        ({"SubnetMax": "10.2.255.0"}, "SubnetMax", "inside of 10.3.0.0/16"),
        ({"SubnetMin": "10.3.1.5"}, "SubnetMin", "such as 10.3.1.0"),
        ({"SubnetMax": "10.3.1.128"}, "SubnetMax", "first address of a /24"),
        ({"SubnetMin": "10.3.9.0", "SubnetMax": "10.3.8.0"}, "SubnetMin", "10.3.8.0"),
        ({"SubnetMax": "10.3.0.0"}, "SubnetMax", "SubnetMin (10.3.1.0)"),
        ({"EnableIPv4": "yes"}, "EnableIPv4", "true or false"),
        ({"EnableIPv4": False}, "EnableIPv4", "EnableIPv6"),
        ({"EnableNFTables": 1}, "EnableNFTables", "true or false"),
        ({"IPv6Network": 7}, "IPv6Network", "IPv6 CIDR"),
        ({"EnableIPv6": True}, "IPv6Network", "EnableIPv6"),
        ({"Backend": "vxlan"}, "Backend", "a string"),
        ({"Backend": ["the psk"]}, "Backend", "an array"),
        ({"Backend": {"Type": 4}}, "Backend.Type", "must be a string"),
    ],
)
def test_refused_ipv4_config_names_key_value_and_remedy(
    keys: dict[str, object], key: str, part: str
) -> None:
    error = refused({"Network": "10.3.0.0/16", **keys})
    assert error.key == key
    assert part in str(error)
    assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("keys", "key", "part"),
    [
        ({"IPv6Network": "10.3.0.0/16"}, "IPv6Network", "belongs into Network"),
        ({"IPv6Network": "::ffff:10.3.0.0/112"}, "IPv6Network", "IPv6 CIDR"),
        ({"IPv6Network": "fe80::%eth0/64"}, "IPv6Network", "IPv6 CIDR"),
        ({"IPv6Network": None}, "IPv6Network", "null"),
        ({"IPv6Network": "::/0"}, "IPv6Network", "EnableIPv6"),
        ({"IPv6Network": "fc00::/125"}, "IPv6Network", "at most 124"),
        ({"IPv6SubnetLen": 49}, "IPv6SubnetLen", "from 50 to 126"),
        ({"IPv6SubnetLen": 127}, "IPv6SubnetLen", "from 50 to 126"),
        ({"IPv6SubnetMin": "10.3.0.0"}, "IPv6SubnetMin", "IPv6 address"),
        ({"IPv6SubnetMin": "fd00::"}, "IPv6SubnetMin", "inside of fc00::/48"),
        ({"IPv6SubnetMax": "fc00:0:0:5::1"}, "IPv6SubnetMax", "such as fc00:0:0:5::"),
        (
            {"IPv6SubnetMin": "fc00:0:0:9::", "IPv6SubnetMax": "fc00:0:0:8::"},
            "IPv6SubnetMin",
            "above",
        ),
    ],
)
def test_refused_ipv6_config_names_key_value_and_remedy(
    keys: dict[str, object], key: str, part: str
) -> None:
    error = refused(ipv6(**keys))
    assert error.key == key
    assert part in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"10.3.0.0/16"',
        "{",
        '{"Network": "10.3.0.0/16"} trailing',
        '{"Network": "10.3.0.0/16", "x": NaN}',
        '{"Network": "10.3.0.0/16", "x": -Infinity}',
        '{"Network": "10.3.0.0/16", "SubnetLen": ' + "9" * 6000 + "}",
        '{"Network": "10.3.0.0/16", "x": ' + "[" * 60000,
        '{"Network": "10.3.0.0/16", "x": ' + "[" * 900 + "]" * 900 + "}",
        '{"Network": "10.3.0.0/16", "x": "' + "a" * 70000 + '"}',
        '{"a":' * 12000,
    ],
    ids=range(13),
)
def test_broken_or_oversized_document(text: str) -> None:
    error = refused(text)
    assert error.key == "the document"
    assert len(str(error)) < 500


def test_the_content_of_a_broken_document_is_not_shown() -> None:
    assert "hunter2" not in str(refused('{"Backend": {"PSK": "hunter2"'))


def test_keys_match_in_any_case_and_the_last_one_wins() -> None:
    text = '{"NETWORK": "10.1.0.0/16", "Network": "10.2.0.0/16", "networ\u212a": "10.3.0.0/16"}'
    assert str(netconf.parse(text).network) == "10.3.0.0/16"
    text = '{"Network": "10.1.0.0/16", "network": "10.2.0.0/16", "Network": "10.3.0.0/16"}'
    assert str(netconf.parse(text).network) == "10.3.0.0/16"
    text = '{"Network": "10.1.0.0/16", "network": "10.2.0.0/16"}'
    assert str(netconf.parse(text).network) == "10.2.0.0/16"


def test_unknown_keys_are_ignored_and_null_leaves_plain_values() -> None:
    config = netconf.parse(
        '{"Network": "10.1.0.0/16", "Networks": 5, "EnableIPv4": null, "EnableIPv6": null,'
        ' "EnableNFTables": null, "SubnetLen": null, "IPv6SubnetLen": null, "Comment": [{}]}'
    )
    assert config.enable_ipv4
    assert not config.enable_ipv6
    assert config.subnet_len == 24


def test_a_disabled_family_is_typed_but_neither_checked_nor_kept() -> None:
    config = netconf.parse(
        '{"Network": "10.1.0.0/16", "IPv6Network": "fc00::/126", "IPv6SubnetLen": 3}'
    )
    assert config.network6 is None
    assert config.subnet6_len == 0


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ({"Type": "VXLAN", "VNI": 7}, "vxlan"),
        ({"type": "Host-GW"}, "host-gw"),
        ({"VNI": 1}, ""),
        ({"Type": None}, ""),
        (None, ""),
    ],
)
def test_backend_type(backend: dict[str, object] | None, expected: str) -> None:
    config = netconf.parse(json.dumps({"Network": "10.1.0.0/16", "Backend": backend}))
    assert config.backend_type == expected
    assert config.backend_options == (backend or {})


def test_a_backend_type_that_cannot_be_encoded_is_cleaned() -> None:
    config = netconf.parse('{"Network": "10.1.0.0/16", "Backend": {"Type": "vx\\ud800lan"}}')
    assert config.backend_type == "vx\ufffdlan"


def test_an_absent_network_is_refused() -> None:
    error = refused({"Backend": {"Type": "vxlan"}})
    assert error.key == "Network"
    assert "must be set" in str(error)


def test_option_reads_in_any_case_with_type_and_bounds() -> None:
    options = {"vni": 7, "GBP": True, "Name": "x", "Port": None, "MTU": 1, "mtu": 1400}
    assert netconf.option(options, "VNI", int, 1) == 7
    assert netconf.option(options, "GBP", bool, False) is True
    assert netconf.option(options, "Name", str, "") == "x"
    assert netconf.option(options, "Port", int, 0) == 0
    assert netconf.option(options, "MTU", int, 0) == 1400
    assert netconf.option(options, "Learning", bool, False) is False
    with pytest.raises(NetworkConfigError, match=r"Backend\.VNI = 7: must be from 8 to 9"):
        netconf.option(options, "VNI", int, 1, minimum=8, maximum=9)


@pytest.mark.parametrize(
    ("value", "kind", "default", "part"),
    [
        ("7", int, 1, 'Backend.VNI = "7": must be a whole number'),
        (7.0, int, 1, "Backend.VNI = 7.0: must be a whole number"),
        (True, int, 1, "Backend.VNI = true: must be a whole number"),
        (2**63, int, 1, "Backend.VNI = 9223372036854775808: must be from"),
        (1, bool, False, "Backend.VNI = 1: must be true or false"),
        (1, str, "", "Backend.VNI = 1: must be a string"),
    ],
)
def test_option_refuses_other_types(
    value: object, kind: type[object], default: object, part: str
) -> None:
    with pytest.raises(NetworkConfigError) as caught:
        netconf.option({"vni": value}, "VNI", kind, default)
    assert str(caught.value).startswith(f"network config: {part}")


def test_option_never_shows_a_secret() -> None:
    with pytest.raises(NetworkConfigError) as caught:
        netconf.option({"PSK": ["hunter2"]}, "PSK", str, "")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("folder", sorted(p.name for p in GOLDEN.glob("etcd-*")))
def test_configs_that_flannel_ran_with(folder: str) -> None:
    text = (GOLDEN / folder / "net-conf.json").read_text()
    document = json.loads(text)
    config = netconf.parse(text)
    assert str(config.network) == document["Network"]
    assert config.enable_ipv6 == document.get("EnableIPv6", False)
    assert config.enable_nftables == document.get("EnableNFTables", False)
    assert config.subnet_len == document.get("SubnetLen", 24)
    assert config.backend_type == document.get("Backend", {"Type": "udp"})["Type"]
    assert config.backend_options == document.get("Backend", {})
    if config.enable_ipv6:
        assert str(config.network6) == document["IPv6Network"]
        assert config.subnet6_len == 64
