"""Keys and values of the store, to the byte, and everything that must be refused."""

import json
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from subnet import codec, netconf
from subnet.allocate import compatible
from subnet.errors import CodecError
from subnet.model import MAX_VALUE_BYTES, LeaseAttrs

GOLDEN = Path(__file__).parents[2] / "golden"
PREFIX = "/coreos.com/network"
LEASES = PREFIX + "/subnets/"


def golden_records() -> list[tuple[str, str, str]]:
    records = []
    for folder in sorted(GOLDEN.glob("etcd-*")):
        lines = (folder / "etcd.txt").read_text().splitlines()
        records += [
            (folder.name, key, value)
            for key, value in zip(lines[::2], lines[1::2], strict=True)
            if "/subnets/" in key
        ]
    return records


@pytest.mark.parametrize(("folder", "key", "value"), golden_records())
def test_what_flannel_wrote_round_trips_to_the_byte(folder: str, key: str, value: str) -> None:
    subnet, subnet6 = codec.parse_lease_key(PREFIX, key.encode())
    assert codec.lease_key(PREFIX, subnet, subnet6) == key
    attrs = codec.decode_attrs(value.encode())
    assert codec.encode_attrs(attrs) == value.encode()
    config = netconf.parse((GOLDEN / folder / "net-conf.json").read_text())
    assert compatible(config, subnet, subnet6) == ""
    assert attrs.backend_type == (
        "" if config.backend_type in ("udp", "alloc") else folder_type(folder)
    )
    for data in (attrs.backend_data, attrs.backend_v6_data):
        vtep = codec.vtep(data)
        if vtep is not None:
            assert codec.vtep_text(vtep.vni, vtep.mac) == data
            assert vtep.vni == (7 if folder == "etcd-vxlan-options" else 1)
    assert (attrs.backend_data is not None) == ("vxlan" in folder)
    assert (attrs.backend_v6_data is not None) == ("vxlan-dual" in folder)


def folder_type(folder: str) -> str:
    return "host-gw" if "host-gw" in folder else "vxlan"


def test_the_golden_data_is_complete() -> None:
    assert len(golden_records()) == 20


@pytest.mark.parametrize(
    ("prefix", "config", "lease"),
    [
        ("/coreos.com/network", "/coreos.com/network/config", "/coreos.com/network/subnets/"),
        ("/coreos.com//network/", "/coreos.com/network/config", "/coreos.com/network/subnets/"),
        ("a/./b/../c", "a/c/config", "a/c/subnets/"),
        ("/../a", "/a/config", "/a/subnets/"),
        ("../a", "../a/config", "../a/subnets/"),
        ("../../a", "../../a/config", "../../a/subnets/"),
        ("/", "/config", "/subnets/"),
        ("", "config", "subnets/"),
        (".", "config", "subnets/"),
        ("/a+(b", "/a+(b/config", "/a+(b/subnets/"),
        ("/netz-ä", "/netz-ä/config", "/netz-ä/subnets/"),
    ],
)
def test_prefixes_are_cleaned_like_paths(prefix: str, config: str, lease: str) -> None:
    assert codec.config_key(prefix) == config
    subnet = IPv4Network("10.5.52.0/24")
    assert codec.leases_prefix(prefix) == lease
    key = codec.lease_key(prefix, subnet)
    assert key == lease + "10.5.52.0-24"
    assert codec.parse_lease_key(prefix, key.encode()) == (subnet, None)


@pytest.mark.parametrize(
    ("text", "subnet", "subnet6"),
    [
        ("10.12.13.0-24", "10.12.13.0/24", None),
        ("10.12.13.0-24&fd00:12:13::-56", "10.12.13.0/24", "fd00:12:13::/56"),
        ("0.0.0.0-0&fd00:10:244:1::-64", None, "fd00:10:244:1::/64"),
        ("10.12.13.4-30&fd00::4-126", "10.12.13.4/30", "fd00::4/126"),
        ("10.12.13.6-31&fd00::6-127", "10.12.13.6/31", "fd00::6/127"),
    ],
)
def test_lease_keys(text: str, subnet: str | None, subnet6: str | None) -> None:
    expected = (subnet and IPv4Network(subnet), subnet6 and IPv6Network(subnet6))
    assert codec.parse_lease_key(PREFIX, (LEASES + text).encode()) == expected
    assert codec.lease_key(PREFIX, *expected) == LEASES + text


def test_other_spellings_of_a_key_are_read() -> None:
    key = (LEASES + "10.12.13.0-024&fd00:0:0:1::0-64").encode()
    assert codec.parse_lease_key(PREFIX, key) == (
        IPv4Network("10.12.13.0/24"),
        IPv6Network("fd00:0:0:1::/64"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "10",
        "10.12.13.0",
        "10.12.13-24",
        "10.12.13.300-24",
        "10.12.13.0-24hi",
        "&2001::-56",
        "10.12.13.0-24&:12:13:-56",
        "10.12.13.0-24&20011::-56",
        "10.12.13.0-24&2001-56",
        "10.12.13.0-24&2001::",
        "10.12.13.0-24&2001::-56hi",
        # Not in flannel's tests.
        "",
        "10.12.13.0-32",
        "10.12.13.0-0",
        "0.0.0.0-0",
        "0.0.0.0-0&::-0",
        "0.0.0.0-24&",
        "10.12.13.0-24&fd00::-128",
        "10.12.13.0-24&::-0",
        "10.12.13.0-24&FD00::-64",
        "10.12.13.0-24&::ffff:a0c:d00-120",
        "10.12.13.0--24",
        "10.12.13.0-+24",
        "10.12.13.0-1000",
        "010.12.13.0-24",
        "10.12.13.0-24\n",
        "x10.12.13.0-24",
        "old/10.12.13.0-24",
        "\u0661\u0660.12.13.0-24",
        # Host bits: another key for a subnet that has one already.
        "10.12.13.1-24",
        "10.12.13.0-24&fd00::1-64",
        # Hostile length.
        "10.12.13.0-24&" + "f:" * 3000 + "-64",
    ],
)
def test_keys_that_are_no_lease(text: str) -> None:
    with pytest.raises(CodecError) as caught:
        codec.parse_lease_key(PREFIX, (LEASES + text).encode())
    assert len(str(caught.value)) < 1500
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "key",
    [
        b"/coreos.com/network/subnets_backup/10.5.1.0-24",
        b"/coreos.com/network/subnets10.5.1.0-24",
        b"/other/coreos.com/network/subnets/10.5.1.0-24",
        b"/coreos.com/network/config",
        b"\xff\xfe",
        b"",
    ],
)
def test_keys_beside_the_leases_are_no_lease(key: bytes) -> None:
    with pytest.raises(CodecError):
        codec.parse_lease_key(PREFIX, key)


def test_a_lease_needs_a_subnet_to_have_a_key() -> None:
    with pytest.raises(CodecError):
        codec.lease_key(PREFIX, None, None)


def test_key_text_is_printable_and_tells_keys_apart() -> None:
    keys = [b"/a/b", b"/a/\n", b"/a/\\x0a", b"/a/\xff", b"/a/\\xff", "/a/ä".encode(), b""]
    texts = [codec.key_text(key) for key in keys]
    assert len(set(texts)) == len(keys)
    assert all(text.isprintable() for text in texts)
    assert texts[0] == "/a/b"
    assert len(codec.key_text(b"\x00" * 1_000_000)) < 1000


@pytest.mark.parametrize(
    ("attrs", "text"),
    [
        (LeaseAttrs(), '{"PublicIP":"0.0.0.0","PublicIPv6":null}'),
        (
            LeaseAttrs(public_ip=IPv4Address("1.2.3.4")),
            '{"PublicIP":"1.2.3.4","PublicIPv6":null}',
        ),
        (
            LeaseAttrs(
                public_ip=IPv4Address("192.168.64.3"),
                backend_type="vxlan",
                backend_data='{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}',
            ),
            (
                '{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan",'
                '"BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}'
            ),
        ),
        (
            LeaseAttrs(
                public_ipv6=IPv6Address("fd00:0:0:0:1:0:0:1"),
                backend_type="vxlan",
                backend_v6_data='[ 1.0,\t1e2, "a  b" ]',
            ),
            (
                '{"PublicIP":"0.0.0.0","PublicIPv6":"fd00::1:0:0:1","BackendType":"vxlan",'
                '"BackendV6Data":[1.0,1e2,"a  b"]}'
            ),
        ),
        (
            LeaseAttrs(backend_type='a<b>&"\u2028ä\x01', backend_data='{"x":"<&>\u2029\\" \\\\"}'),
            (
                '{"PublicIP":"0.0.0.0","PublicIPv6":null,'
                '"BackendType":"a\\u003cb\\u003e\\u0026\\"\\u2028ä\\u0001",'
                '"BackendData":{"x":"\\u003c\\u0026\\u003e\\u2029\\" \\\\"}}'
            ),
        ),
    ],
)
def test_values_are_written_as_go_writes_them(attrs: LeaseAttrs, text: str) -> None:
    assert codec.encode_attrs(attrs) == text.encode()
    assert json.loads(text)["PublicIPv6"] == (attrs.public_ipv6 and str(attrs.public_ipv6))


@pytest.mark.parametrize("data", ["{", "{'a':1}", "1 2", "[" * 50000, "\ud800"])
def test_backend_data_that_is_no_json_is_not_written(data: str) -> None:
    with pytest.raises(CodecError):
        codec.encode_attrs(LeaseAttrs(backend_data=data))


@pytest.mark.parametrize(
    ("text", "attrs"),
    [
        ("{}", LeaseAttrs()),
        ('{"PublicIP":"0.0.0.0"}', LeaseAttrs()),
        (
            ' {"publicip" : "1.2.3.4", "PUBLICIPV6": "fd00::1", "backendtype":"udp"} ',
            LeaseAttrs(
                public_ip=IPv4Address("1.2.3.4"),
                public_ipv6=IPv6Address("fd00::1"),
                backend_type="udp",
            ),
        ),
        (
            '{"PublicIP":"1.1.1.1","publicip":"1.2.3.4"}',
            LeaseAttrs(public_ip=IPv4Address("1.2.3.4")),
        ),
        (
            '{"PublicIP":"1.2.3.4","NodeName":"n","x":{"y":[1]}}',
            LeaseAttrs(public_ip=IPv4Address("1.2.3.4")),
        ),
        (
            '{"PublicIP":"1.2.3.4","BackendType":null,"BackendData":null,"BackendV6Data":null}',
            LeaseAttrs(public_ip=IPv4Address("1.2.3.4")),
        ),
        (
            '{"PublicIP":"1.2.3.4","PublicIPv6":"::"}',
            LeaseAttrs(public_ip=IPv4Address("1.2.3.4")),
        ),
        (
            '{"PublicIP":"1.2.3.4","BackendData": { "VNI" : 1.0, "a b" : " \\" " } }',
            LeaseAttrs(public_ip=IPv4Address("1.2.3.4"), backend_data='{"VNI":1.0,"a b":" \\" "}'),
        ),
        (
            '{"PublicIP":"1.2.3.4","backenddata":"text","BackendV6Data":[]}',
            LeaseAttrs(
                public_ip=IPv4Address("1.2.3.4"), backend_data='"text"', backend_v6_data="[]"
            ),
        ),
    ],
)
def test_values_are_read_as_go_reads_them(text: str, attrs: LeaseAttrs) -> None:
    assert codec.decode_attrs(text.encode()) == attrs


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (b"", "no JSON"),
        (b"null", "no JSON"),
        (b"[]", "no JSON"),
        (b"{", "no JSON"),
        (b'{"PublicIP":"1.2.3.4"} x', "no JSON"),
        (b'{"PublicIP":null}', "PublicIP is null"),
        (b'{"publicip":null}', "PublicIP is null"),
        (b'{"PublicIP":7}', "PublicIP is a number"),
        (b'{"PublicIP":["1.2.3.4"]}', "PublicIP is an array"),
        (b'{"PublicIP":""}', "no IPv4 address"),
        (b'{"PublicIP":"fd00::1"}', "no IPv4 address"),
        (b'{"PublicIP":"::ffff:1.2.3.4"}', "no IPv4 address"),
        (b'{"PublicIP":"1.2.3"}', "no IPv4 address"),
        (b'{"PublicIP":"1.2.3.4/24"}', "no IPv4 address"),
        (b'{"PublicIP":"' + b"1" * 60000 + b'"}', "no IPv4 address"),
        (b'{"PublicIP":"1.2.3.4","PublicIPv6":"1.2.3.4"}', "no IPv6 address"),
        (b'{"PublicIP":"1.2.3.4","PublicIPv6":"::ffff:1.2.3.4"}', "no IPv6 address"),
        (b'{"PublicIP":"1.2.3.4","PublicIPv6":"fe80::1%eth0"}', "no IPv6 address"),
        (b'{"PublicIP":"1.2.3.4","PublicIPv6":6}', "PublicIPv6 is a number"),
        (b'{"PublicIP":"1.2.3.4","BackendType":{}}', "BackendType is an object"),
        (b'{"PublicIP":"1.2.3.4\xff"}', "no JSON"),
        (b'{"PublicIP":"1.2.3.4","BackendData":"\xff"}', "BackendData is not UTF-8"),
        (b'{"PublicIP":"1.2.3.4","BackendType":"\\ud800"}', "no JSON"),
        (b'{"PublicIP":"1.2.3.4","BackendData":' + b"[" * 60000, "nested"),
        (b'{"PublicIP":"1.2.3.4","x":' + b"[" * 60000, "nested"),
        (b'{"PublicIP":"1.2.3.4"}' + b" " * MAX_VALUE_BYTES, "more than 65536"),
    ],
)
def test_values_that_are_no_lease(value: bytes, part: str) -> None:
    with pytest.raises(CodecError) as caught:
        codec.decode_attrs(value)
    assert part in caught.value.reason
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("data", "vni", "mac"),
    [
        ('{"VNI":1,"VtepMAC":"3a:8e:9d:f3:a9:35"}', 1, "3a8e9df3a935"),
        ('{"VtepMAC":"3A:8E:9D:F3:A9:35","VNI":16777215}', 16777215, "3a8e9df3a935"),
        ('{"vni":7,"vtepmac":"3a-8e-9d-f3-a9-35","more":1}', 7, "3a8e9df3a935"),
        ('{"VNI":null,"VtepMAC":"3a8e.9df3.a935"}', 0, "3a8e9df3a935"),
        ('{"VtepMAC":"3a:8e:9d:f3:a9:35"}', 0, "3a8e9df3a935"),
    ],
)
def test_vxlan_data(data: str, vni: int, mac: str) -> None:
    assert codec.vtep(data) == codec.Vtep(vni=vni, mac=bytes.fromhex(mac))


def test_vxlan_data_is_written_with_vni_first_and_mac_last() -> None:
    text = codec.vtep_text(1, bytes.fromhex("C6D2326F8F44"))
    assert text == '{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}'


def test_no_vxlan_data_is_no_end_point() -> None:
    assert codec.vtep(None) is None


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ("", "line 1"),
        ("[]", "an array"),
        ("\ud800", "not readable"),
        ("[" * 50000, "nested deeper"),
        ("{}", "VtepMAC is missing"),
        ('{"VNI":1}', "VtepMAC is missing"),
        ('{"VNI":1,"VtepMAC":5}', "VtepMAC is a number"),
        ('{"VNI":"1","VtepMAC":"3a:8e:9d:f3:a9:35"}', "VNI is a string"),
        ('{"VNI":true,"VtepMAC":"3a:8e:9d:f3:a9:35"}', "VNI is a boolean"),
        ('{"VNI":1.0,"VtepMAC":"3a:8e:9d:f3:a9:35"}', "VNI is a number, not a whole"),
        ('{"VNI":-1,"VtepMAC":"3a:8e:9d:f3:a9:35"}', "VNI -1"),
        ('{"VNI":16777216,"VtepMAC":"3a:8e:9d:f3:a9:35"}', "VNI 16777216"),
        ('{"VNI":' + "9" * 5000 + ',"VtepMAC":"3a:8e:9d:f3:a9:35"}', ""),
        ('{"VNI":1,"VtepMAC":"3a:8e:9d:f3:a9"}', "VtepMAC"),
        ('{"VNI":1,"VtepMAC":"3a:8e:9d:f3:a9:35\\n"}', "VtepMAC"),
        ('{"VNI":1,"VtepMAC":"3a:8e-9d:f3:a9:35"}', "VtepMAC"),
        ('{"VNI":1,"VtepMAC":"3a:8e:9d:f3:a9:35:00:01"}', "VtepMAC"),
        ('{"VNI":1,"VtepMAC":"3a8e9df3a935"}', "VtepMAC"),
        ('{"VNI":1,"VtepMAC":"3a:8e:9d:f3:a9:3g"}', "VtepMAC"),
    ],
)
def test_vxlan_data_that_is_no_end_point(data: str, part: str) -> None:
    with pytest.raises(CodecError) as caught:
        codec.vtep(data)
    assert part in caught.value.reason
    assert len(str(caught.value)) < 300
