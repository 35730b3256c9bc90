"""Policies as JSON for nft, and listed tables judged."""

from __future__ import annotations

import copy
import json
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest

from flanneld_py.firewall import FLANNEL_TABLES, Listing, nft
from flanneld_py.firewall.policy import Policy


def policy(*, subnet: str = "10.244.1.0/24", forward: bool = True, random: bool = True) -> Policy:
    return Policy.of(
        network=IPv4Network("10.244.0.0/16"),
        subnet=IPv4Network(subnet),
        network6=IPv6Network("fd00:10:244::/48"),
        subnet6=IPv6Network("fd00:10:244:1::/64"),
        masquerade=True,
        fully_random=random,
        forward=forward,
    )


def commands(text: str) -> list[dict[str, Any]]:
    parsed: list[dict[str, Any]] = json.loads(text)["nftables"]
    return parsed


def listed(wanted: Policy) -> Listing:
    """What nft would list: what was added, with handles."""
    objects: Listing = [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}}]
    for number, command in enumerate(commands(nft.replace(wanted))[2:]):
        ((kind, value),) = command["add"].items()
        objects.append({kind: {**value, "handle": number + 7}})
    return objects


def test_a_transaction_replaces_the_table_as_a_whole() -> None:
    table = {"table": {"family": "inet", "name": "flanneld-py"}}
    made = commands(nft.replace(policy()))
    assert made[:3] == [{"add": table}, {"delete": table}, {"add": table}]
    assert [item["add"]["chain"]["name"] for item in made[3:5]] == ["postrouting", "forward"]
    rules = [item["add"]["rule"] for item in made[5:]]
    assert [rule["chain"] for rule in rules] == ["postrouting"] * 11 + ["forward"] * 4
    assert {rule["comment"] for rule in rules[:11]} == {"flanneld masq"}
    assert {rule["comment"] for rule in rules[11:]} == {"flanneld forward"}
    assert all("delete" not in item for item in made[2:])


def test_the_mark_is_tested_by_its_bit() -> None:
    (rule, *_) = [c["add"]["rule"] for c in commands(nft.replace(policy()))[5:]]
    mark = {"&": [{"meta": {"key": "mark"}}, 0x4000]}
    assert rule["expr"] == [
        {"match": {"op": "==", "left": mark, "right": 0x4000}},
        {"return": None},
    ]


def test_nothing_is_left_of_a_policy_without_rules() -> None:
    table = {"table": {"family": "inet", "name": "flanneld-py"}}
    assert commands(nft.replace(Policy())) == [{"add": table}, {"delete": table}]


def test_flannels_tables_go_in_the_same_transaction() -> None:
    made = commands(nft.replace(policy(), FLANNEL_TABLES))
    ipv4 = {"table": {"family": "ip", "name": "flannel-ipv4"}}
    ipv6 = {"table": {"family": "ip6", "name": "flannel-ipv6"}}
    assert made[:4] == [{"add": ipv4}, {"delete": ipv4}, {"add": ipv6}, {"delete": ipv6}]
    assert made[4:] == commands(nft.replace(policy()))


@pytest.mark.parametrize("random", [True, False])
def test_fully_random_is_a_flag_of_masquerade(random: bool) -> None:
    text = nft.replace(policy(random=random))
    assert text.count('"masquerade": {"flags": "fully-random"}') == (4 if random else 0)
    assert text.count('"masquerade": null') == (0 if random else 4)


def test_a_network_of_one_address_is_written_as_nft_lists_it() -> None:
    text = nft.replace(policy(subnet="10.244.1.7/32"))
    assert '"right": "10.244.1.7"' in text
    assert '"len": 32' not in text


def test_a_listing_of_what_was_written_is_as_wanted() -> None:
    listing = listed(policy())
    assert nft.is_as_wanted(listing, policy())
    assert nft.is_ours(listing)
    newer = json.loads(json.dumps(listing).replace('"fully-random"', '["fully-random"]'))
    assert nft.is_as_wanted(newer, policy())


def altered() -> list[Listing]:
    """Everything that a single hand may have done to the table."""
    whole = listed(policy())
    found = [whole[:number] + whole[number + 1 :] for number in range(1, len(whole))]
    swapped = copy.deepcopy(whole)
    swapped[-1], swapped[-2] = swapped[-2], swapped[-1]
    extra: dict[str, Any] = {
        "family": "inet", "table": "flanneld-py", "chain": "forward", "expr": [{"drop": None}]
    }  # fmt: skip
    counting = copy.deepcopy(whole)
    counting[-1]["rule"]["expr"].insert(0, {"counter": {"packets": 0, "bytes": 0}})
    hook = copy.deepcopy(whole)
    hook[2]["chain"]["prio"] = 99
    dropping = copy.deepcopy(whole)
    dropping[3]["chain"]["policy"] = "drop"
    found += [swapped, [*whole, {"rule": extra}], counting, hook, dropping]
    found.append([*whole, {"set": {"family": "inet", "name": "s", "table": "flanneld-py"}}])
    return found


@pytest.mark.parametrize("listing", altered())
def test_an_altered_table_is_not_as_wanted(listing: Listing) -> None:
    assert not nft.is_as_wanted(listing, policy())
    assert nft.is_ours(listing)


def test_other_policies_are_told_apart() -> None:
    listing = listed(policy())
    for other in (
        policy(subnet="10.244.2.0/24"),
        policy(forward=False),
        policy(random=False),
        Policy(),
    ):
        assert not nft.is_as_wanted(listing, other)


def test_a_table_of_our_name_without_our_chains_is_not_ours() -> None:
    table: dict[str, Any] = {"table": {"family": "inet", "name": "flanneld-py", "handle": 3}}
    chain: dict[str, Any] = {"family": "inet", "table": "flanneld-py", "name": "postrouting"}
    assert nft.is_ours([table])
    assert not nft.is_ours([table, {"chain": {**chain, "handle": 4}}])
    other = {"type": "nat", "hook": "postrouting", "prio": -100, "policy": "accept"}
    assert not nft.is_ours([table, {"chain": {**chain, **other}}])
    assert nft.is_ours([table, {"chain": {**chain, **other, "prio": 100}}])
