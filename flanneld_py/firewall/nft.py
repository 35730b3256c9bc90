"""The policy as nftables: JSON for `nft -j`, and whether a listed table is what was asked for.

Pure: values to text and back (libnftables-json(5)). Runs nothing. A table is always replaced as a
whole in one transaction, which the kernel makes visible at one instant.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from flanneld_py.firewall import OWN_TABLE, Listing
from flanneld_py.firewall.policy import (
    FORWARD_COMMENT,
    MASQUERADE_COMMENT,
    Match,
    Network,
    Policy,
    Rule,
    Verdict,
)

_FAMILY, _TABLE = OWN_TABLE
_VOLATILE: Final = ("handle",)
_WHOLE: Final = {4: 32, 6: 128}
_PROTOCOL: Final = {4: "ip", 6: "ip6"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    name: str
    type: str
    hook: str
    priority: int

    def definition(self) -> dict[str, Any]:
        return {
            "family": _FAMILY,
            "table": _TABLE,
            "name": self.name,
            "type": self.type,
            "hook": self.hook,
            "prio": self.priority,
            "policy": "accept",
        }


MASQUERADE_CHAIN: Final = _Chain(name="postrouting", type="nat", hook="postrouting", priority=100)
"""Priority `srcnat`, as flannel and kube-proxy have it: of several nat chains the first that
translates a connection wins. `masquerade` is a word of nft's grammar, so nobody could type it."""
FORWARD_CHAIN: Final = _Chain(name="forward", type="filter", hook="forward", priority=0)
_CHAINS: Final = (MASQUERADE_CHAIN, FORWARD_CHAIN)


def replace(policy: Policy, remove: Iterable[tuple[str, str]] = ()) -> str:
    """A transaction after which our table holds just this policy, and `remove` are gone.

    A policy without rules has no table. Adding a table before deleting it makes the transaction
    right whether or not it exists.
    """
    own = {"family": _FAMILY, "name": _TABLE}
    commands: list[dict[str, Any]] = []
    for family, name in remove:
        table = {"family": family, "name": name}
        commands += [{"add": {"table": table}}, {"delete": {"table": table}}]
    commands += [{"add": {"table": own}}, {"delete": {"table": own}}]
    commands += [{"add": item} for item in _objects(policy)]
    return json.dumps({"nftables": commands})


def is_as_wanted(listing: Listing, policy: Policy) -> bool:
    """Whether a listed table holds this policy and nothing else."""
    return canonical(listing) == canonical(_objects(policy))


def is_ours(listing: Listing) -> bool:
    """Whether a table of our name was made by an agent: it has a chain of ours, or nothing yet."""
    objects = [item for item in canonical(listing) if "table" not in item]
    ours = [{"chain": chain.definition()} for chain in _CHAINS]
    return not objects or any(item in ours for item in objects)


def canonical(listing: Listing) -> Listing:
    """A listing without what changes by itself: handles, and how nft writes a single flag."""
    return [_plain(item) for item in listing if "metainfo" not in item]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _plain(item) for key, item in value.items() if key not in _VOLATILE}
    flags = plain.get("flags")
    if isinstance(flags, list) and len(flags) == 1:
        plain["flags"] = flags[0]
    return plain


def _objects(policy: Policy) -> Listing:
    if policy.is_empty:
        return []
    objects: Listing = [{"table": {"family": _FAMILY, "name": _TABLE}}]
    chains = (
        (MASQUERADE_CHAIN, policy.masquerade, MASQUERADE_COMMENT),
        (FORWARD_CHAIN, policy.forward, FORWARD_COMMENT),
    )
    # nft lists all chains before all rules, and rules by chain.
    objects += [{"chain": chain.definition()} for chain, rules, _ in chains if rules]
    for chain, rules, comment in chains:
        for rule in rules:
            objects.append(_rule(chain, rule, comment, fully_random=policy.fully_random))
    return objects


def _rule(chain: _Chain, rule: Rule, comment: str, *, fully_random: bool) -> dict[str, Any]:
    expressions: list[dict[str, Any]] = []
    if rule.mark is not None:
        bits = {"&": [{"meta": {"key": "mark"}}, rule.mark]}
        expressions.append({"match": {"op": "==", "left": bits, "right": rule.mark}})
    for field, match in (("saddr", rule.source), ("daddr", rule.destination)):
        if match is not None:
            expressions.append(_address(field, match))
    masquerades = rule.verdict is Verdict.MASQUERADE
    options = {"flags": "fully-random"} if masquerades and fully_random else None
    expressions.append({rule.verdict.value: options})
    return {
        "rule": {
            "family": _FAMILY,
            "table": _TABLE,
            "chain": chain.name,
            "comment": comment,
            "expr": expressions,
        }
    }


def _address(field: str, match: Match) -> dict[str, Any]:
    protocol = _PROTOCOL[match.network.version]
    return {
        "match": {
            "op": "==" if match.inside else "!=",
            "left": {"payload": {"protocol": protocol, "field": field}},
            "right": _network(match.network),
        }
    }


def _network(network: Network) -> str | dict[str, Any]:
    address = str(network.network_address)
    if network.prefixlen == _WHOLE[network.version]:
        return address  # as nft lists it
    return {"prefix": {"addr": address, "len": network.prefixlen}}
