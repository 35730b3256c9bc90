"""Codecs round-trip, and no input makes a parser raise anything but its own error."""

import contextlib
import json
import random
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from flanneld_py import subnetfile
from subnet import codec, netconf
from subnet.allocate import choose, compatible, overlapping
from subnet.errors import CodecError, NetworkConfigError, OutOfSubnetsError
from subnet.model import Lease, LeaseAttrs, NetworkConfig, PeerKey

PREFIX = "/coreos.com/network"


@st.composite
def subnets4(draw: st.DrawFn, low: int = 1, high: int = 31) -> IPv4Network:
    length = draw(st.integers(low, high))
    return IPv4Network((draw(st.integers(0, 2**length - 1)) << (32 - length), length))


@st.composite
def subnets6(draw: st.DrawFn, low: int = 1, high: int = 127) -> IPv6Network:
    length = draw(st.integers(low, high))
    net = IPv6Network((draw(st.integers(0, 2**length - 1)) << (128 - length), length))
    assume(net.network_address.ipv4_mapped is None)
    return net


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=10,
)


@st.composite
def attributes(draw: st.DrawFn) -> LeaseAttrs:
    def data() -> str | None:
        value = draw(json_values)
        ascii_only = draw(st.booleans())
        if value is None:
            return None
        return json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only)

    ipv6 = draw(st.none() | st.ip_addresses(v=6))
    assume(ipv6 is None or (int(ipv6) != 0 and IPv6Address(ipv6).ipv4_mapped is None))
    ipv4 = draw(st.none() | st.ip_addresses(v=4).filter(lambda address: int(address) != 0))
    return LeaseAttrs(
        public_ip=IPv4Address(ipv4) if ipv4 is not None else None,
        public_ipv6=IPv6Address(ipv6) if ipv6 is not None else None,
        backend_type=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
        backend_data=data(),
        backend_v6_data=data(),
    )


# --- round trips -----------------------------------------------------------------------------


@settings(deadline=None)
@given(subnets4() | st.none(), subnets6() | st.none())
def test_lease_keys_round_trip(subnet: IPv4Network | None, subnet6: IPv6Network | None) -> None:
    assume(subnet is not None or subnet6 is not None)
    key = codec.lease_key(PREFIX, subnet, subnet6)
    assert codec.parse_lease_key(PREFIX, key.encode()) == (subnet, subnet6)
    assert codec.key_text(key.encode()) == key


@settings(deadline=None)
@given(attributes())
def test_values_round_trip(attrs: LeaseAttrs) -> None:
    encoded = codec.encode_attrs(attrs)
    decoded = codec.decode_attrs(encoded)
    assert codec.encode_attrs(decoded) == encoded
    assert not set(b"<>&").intersection(encoded)
    # Escapes may change the text of the data, never its meaning.
    assert decoded.public_ip == attrs.public_ip
    assert decoded.public_ipv6 == attrs.public_ipv6
    assert decoded.backend_type == attrs.backend_type
    for ours, theirs in (
        (decoded.backend_data, attrs.backend_data),
        (decoded.backend_v6_data, attrs.backend_v6_data),
    ):
        assert json.loads(ours or "null") == json.loads(theirs or "null")


@settings(deadline=None)
@given(attributes(), st.randoms(use_true_random=False))
def test_the_spelling_of_keys_and_spaces_do_not_matter(
    attrs: LeaseAttrs, source: random.Random
) -> None:
    encoded = codec.encode_attrs(attrs)
    fields = [
        ("".join(source.choice((c.lower(), c.upper())) for c in name), value)
        for name, value in json.loads(encoded).items()
    ]
    source.shuffle(fields)
    respelled = codec.decode_attrs(json.dumps(dict(fields), indent=1).encode())
    plain = codec.decode_attrs(encoded)
    assert respelled.public_ip == plain.public_ip
    assert respelled.public_ipv6 == plain.public_ipv6
    assert respelled.backend_type == plain.backend_type
    assert json.loads(respelled.backend_data or "0") == json.loads(plain.backend_data or "0")


@settings(deadline=None)
@given(st.integers(0, 2**24 - 1), st.binary(min_size=6, max_size=6))
def test_vxlan_data_round_trips(vni: int, mac: bytes) -> None:
    text = codec.vtep_text(vni, mac)
    assert codec.vtep(text) == codec.Vtep(vni=vni, mac=mac)
    attrs = codec.decode_attrs(codec.encode_attrs(LeaseAttrs(backend_data=text)))
    assert attrs.backend_data == text


@settings(deadline=None)
@given(
    subnets4(),
    subnets4(),
    st.none() | subnets6(),
    st.none() | subnets6(),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_subnet_env_round_trips(
    network: IPv4Network,
    subnet: IPv4Network,
    network6: IPv6Network | None,
    subnet6: IPv6Network | None,
    mtu: int,
    ip_masq: bool,
) -> None:
    env = subnetfile.SubnetEnv(
        network=network,
        subnet=subnet,
        network6=network6,
        subnet6=subnet6,
        mtu=mtu,
        ip_masq=ip_masq,
    )
    assert subnetfile.parse(subnetfile.render(env)) == env


# --- hostile input ---------------------------------------------------------------------------

near_json = st.one_of(
    st.binary(max_size=200),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(
        st.sampled_from(
            ["PublicIP", "publicip", "PublicIPv6", "BackendType", "BackendData", "BackendV6Data"]
        ),
        json_values | st.sampled_from(["1.2.3.4", "fd00::1", "0.0.0.0", "vxlan"]),
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(deadline=None)
@given(near_json)
@example(b'{"PublicIP":' * 5000)
def test_any_value_is_read_or_refused(value: bytes) -> None:
    with contextlib.suppress(CodecError):
        attrs = codec.decode_attrs(value)
        assert codec.decode_attrs(codec.encode_attrs(attrs)) is not None
        for data in (attrs.backend_data, attrs.backend_v6_data):
            with contextlib.suppress(CodecError):
                codec.vtep(data)


@settings(deadline=None)
@given(
    st.binary(max_size=80)
    | st.from_regex(r"[0-9.]{1,12}-[0-9]{1,3}(&[0-9a-f:]{2,20}-[0-9]{1,3})?").map(str.encode)
)
def test_any_key_is_read_or_refused(tail: bytes) -> None:
    key = codec.leases_prefix(PREFIX).encode() + tail
    with contextlib.suppress(CodecError):
        subnet, subnet6 = codec.parse_lease_key(PREFIX, key)
        again = codec.lease_key(PREFIX, subnet, subnet6)
        assert codec.parse_lease_key(PREFIX, again.encode()) == (subnet, subnet6)


@settings(deadline=None)
@given(st.text(max_size=100) | json_values.map(json.dumps))
def test_any_vxlan_data_is_read_or_refused(data: str) -> None:
    with contextlib.suppress(CodecError):
        vtep = codec.vtep(data)
        assert vtep is not None
        assert len(vtep.mac) == 6


config_keys = st.sampled_from(
    [
        "EnableIPv4",
        "EnableIPv6",
        "enablenftables",
        "Network",
        "IPv6Network",
        "SubnetLen",
        "SubnetMin",
        "SubnetMax",
        "IPv6SubnetLen",
        "IPv6SubnetMin",
        "IPv6SubnetMax",
        "Backend",
    ]
)
config_values = st.one_of(
    json_values,
    st.booleans(),
    st.integers(0, 130),
    subnets4().map(str),
    subnets6().map(str),
    subnets4().map(lambda net: str(net.network_address)),
    subnets6().map(lambda net: str(net.network_address)),
    st.fixed_dictionaries({"Type": st.text()}),
)


@settings(deadline=None)
@given(
    st.text(max_size=200)
    | json_values.map(json.dumps)
    | st.dictionaries(config_keys, config_values).map(json.dumps)
)
@example('{"a":' * 10000)
@example('{"Network":"10.0.0.0/8","SubnetLen":' + "9" * 20000 + "}")
def test_any_network_config_is_read_or_refused(text: str) -> None:
    refusal = ""
    try:
        check_derived(netconf.parse(text))
    except NetworkConfigError as error:
        refusal = str(error)
    assert refusal.isascii()
    assert "\n" not in refusal
    assert len(refusal) < 600


@st.composite
def valid_configs(draw: st.DrawFn) -> NetworkConfig:
    network, network6 = draw(subnets4(1, 28)), draw(subnets6(1, 124))
    document: dict[str, object] = {"Network": str(network), "EnableIPv6": draw(st.booleans())}
    if draw(st.booleans()):
        document["SubnetLen"] = draw(st.integers(network.prefixlen + 2, 30))
    document["IPv6Network"] = str(network6)
    if draw(st.booleans()):
        document["IPv6SubnetLen"] = draw(st.integers(network6.prefixlen + 2, 126))
    return netconf.parse(json.dumps(document))


def check_derived(config: NetworkConfig) -> None:
    assert config.enable_ipv4 or config.enable_ipv6
    for enabled, network, length, first, last in (
        (
            config.enable_ipv4,
            config.network,
            config.subnet_len,
            config.subnet_min,
            config.subnet_max,
        ),
        (
            config.enable_ipv6,
            config.network6,
            config.subnet6_len,
            config.subnet6_min,
            config.subnet6_max,
        ),
    ):
        if not enabled:
            assert (network, length, first, last) == (None, 0, None, None)
            continue
        assert network is not None
        assert first is not None
        assert last is not None
        size = 1 << (network.max_prefixlen - length)
        assert network.prefixlen + 2 <= length <= network.max_prefixlen - 2
        assert int(first) <= int(last)
        assert int(first) % size == int(last) % size == 0
        assert int(network.network_address) <= int(first)
        assert int(last) + size - 1 <= int(network.broadcast_address)


@settings(deadline=None)
@given(valid_configs())
def test_derived_values_are_coherent(config: NetworkConfig) -> None:
    check_derived(config)


# --- allocation ------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    valid_configs(),
    st.lists(subnets4(2, 32), max_size=30),
    st.lists(subnets6(2, 128), max_size=30),
    st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 8)), max_size=30),
    st.randoms(use_true_random=False),
)
def test_a_chosen_subnet_fits_and_overlaps_nothing(
    config: NetworkConfig,
    taken4: list[IPv4Network],
    taken6: list[IPv6Network],
    inside: list[tuple[int, int]],
    source: random.Random,
) -> None:
    assert config.network is not None
    for offset, shift in inside:
        base = int(config.network.network_address) + offset % config.network.num_addresses
        length = min(32, max(1, config.subnet_len + 4 - shift))
        taken4.append(IPv4Network((base, length), strict=False))
    leases = [Lease(key=PeerKey(str(net)), subnet=net) for net in taken4]
    leases += [Lease(key=PeerKey(str(net)), subnet6=net) for net in taken6]
    try:
        subnet, subnet6 = choose(config, taken4, taken6, source)
    except OutOfSubnetsError:
        assert some_family_is_full(config, taken4, taken6)
    else:
        assert compatible(config, subnet, subnet6) == ""
        assert overlapping(subnet, subnet6, leases) == ()


def some_family_is_full(
    config: NetworkConfig, taken4: list[IPv4Network], taken6: list[IPv6Network]
) -> bool:
    """By walking, as flannel does; a range too long to walk needs few leases to be full."""
    assert config.subnet_min is not None
    assert config.subnet_max is not None
    size = 1 << (32 - config.subnet_len)
    number = int(config.subnet_min)
    while number <= int(config.subnet_max):
        candidate = IPv4Network((number, config.subnet_len))
        blocker = next((net for net in taken4 if net.overlaps(candidate)), None)
        if blocker is None:
            break
        number = max(number + size, int(blocker.broadcast_address) + 1)
        number += -number % size
    else:
        return True
    return config.enable_ipv6 and full6(config, taken6)


def full6(config: NetworkConfig, taken6: list[IPv6Network]) -> bool:
    assert config.subnet6_min is not None
    assert config.subnet6_max is not None
    size = 1 << (128 - config.subnet6_len)
    number = int(config.subnet6_min)
    while number <= int(config.subnet6_max):
        candidate = IPv6Network((number, config.subnet6_len))
        blocker = next((net for net in taken6 if net.overlaps(candidate)), None)
        if blocker is None:
            return False
        number = max(number + size, int(blocker.broadcast_address) + 1)
        number += -number % size
    return True


# --- subnet.env ------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.text(max_size=300)
    | st.lists(
        st.tuples(
            st.sampled_from(["", "export ", "# ", " "]),
            st.sampled_from(["FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET", "FLANNEL_MTU", "X", ""]),
            st.sampled_from(["=", ":", " = ", ""]),
            st.text(max_size=20)
            | subnets4().map(str)
            | st.sampled_from(["$X", "${X}$X", "'", '"']),
        ).map("".join)
    ).map("\n".join)
)
def test_any_subnet_env_is_read(text: str) -> None:
    env = subnetfile.parse(text)
    assert subnetfile.parse(subnetfile.render(env)) == env
