"""What the shim reads, from whoever wrote it: understood as others understand it, or refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from flanneld_py.cni import chained, shim
from flanneld_py.cni.conf import CniConfError, parse
from flanneld_py.subnetfile import parse as parse_env
from flanneld_py.subnetfile import render

KEYS = st.sampled_from([*shim.NETWORKS, *shim.SUBNETS, shim.MTU, shim.IPMASQ, "OTHER", ""])
SIGNS = st.sampled_from(["=", " = ", ":", "", "=="])
VALUES = st.one_of(
    st.sampled_from(["10.1.0.0/16", "10.1.2.1/24", "fd00::/48", "fd00::1/64", "1450", "true"]),
    st.text(max_size=20),
)
QUOTES = st.sampled_from(["", "'", '"'])
LINES = st.tuples(KEYS, SIGNS, QUOTES, VALUES).map(
    lambda parts: f"{parts[0]}{parts[1]}{parts[2]}{parts[3]}{parts[2]}"
)
NUMBERS = st.one_of(st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False))
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(st.characters(exclude_categories=["Cs"]))),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@given(VALUE)
def test_json_is_read_and_written_without_the_json_module(value: object) -> None:
    written = shim._encode(value)
    assert json.loads(written) == value
    assert shim._decode(json.dumps(value).encode()) == value
    assert not set(b"<>& \n") & set(written) or b'"' in written


@given(st.binary(max_size=200))
def test_bytes_are_json_for_both_or_for_none(data: bytes) -> None:
    text = data.decode("utf-8", "replace").strip(" \t\r\n")
    assert understood(lambda: shim._decode(data)) == understood(
        lambda: json.loads(text, parse_constant=int)
    )


def understood(read: Callable[[], object]) -> object:
    try:
        return "understood", read()
    except ValueError:
        return "refused"


@given(st.lists(LINES, max_size=12).map("\n".join))
def test_a_subnet_env_of_any_form(text: str) -> None:
    try:
        found = shim._checked(shim._statements(text), "subnet.env")
    except shim.CniError:
        return
    for key in (*shim.NETWORKS, *shim.SUBNETS):
        for one in found[key]:
            assert str(ip_network(one)) == one
    assert int(found[shim.MTU][0]) < 2**32


@given(st.lists(LINES, max_size=12).map("\n".join))
def test_the_shim_reads_what_the_agent_writes(text: str) -> None:
    env = parse_env(text)
    if not (env.network or env.network6) or not (env.subnet or env.subnet6):
        return
    found = shim._checked(shim._statements(render(env)), "subnet.env")
    nets = (env.network, env.network6, env.subnet, env.subnet6)
    wanted = [[str(net)] if net else [] for net in nets]
    assert [found[key] for key in (*shim.NETWORKS, *shim.SUBNETS)] == wanted
    assert found[shim.MTU] == [str(env.mtu)]
    assert (found[shim.IPMASQ] == ["true"]) == env.ip_masq


@given(st.one_of(VALUE.map(json.dumps), st.text(max_size=100)))
def test_a_cni_conf_of_any_form(text: str) -> None:
    with contextlib.suppress(CniConfError):
        parse(text)


CHAINS = st.lists(st.sampled_from("abcdef"), unique=True)


@given(CHAINS, CHAINS)
def test_what_others_chained_in_stays_in_order(ours: list[str], seen: list[str]) -> None:
    def chain(types: list[str]) -> dict[str, object]:
        return {"plugins": [{"type": kind} for kind in types]}

    wanted = chained.marked(chain(ours))
    merged = chained.with_others(wanted, chain(seen))
    types = [plugin["type"] for plugin in merged["plugins"]]
    assert [kind for kind in types if kind in ours] == ours
    assert sorted(types) == sorted({*ours, *seen})
    assert chained.with_others(wanted, merged) == merged
