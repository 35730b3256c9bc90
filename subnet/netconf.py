"""The network config: JSON text becomes a checked `NetworkConfig`, with all that is derived.

Follows flannel-compat 2 and adds the checks that flannel forgot. Every refusal is a
NetworkConfigError naming key, value and what would be valid. The content of ``Backend`` belongs to
the backends, which read it by `option`; this module knows only ``Type``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

from subnet import cidr, gojson
from subnet.errors import NetworkConfigError
from subnet.model import NetworkConfig

MAX_CONFIG_CHARACTERS = 64 * 1024
"""A config larger than this is refused unread."""
DEFAULT_BACKEND = "udp"
"""Backend type when the key ``Backend`` is absent; the documentation of flannel says vxlan."""

_SECRETS = ("psk", "password", "secret", "token")
_INT_LIMIT = 2**63

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """The names and numbers in which the two address families differ."""

    bits: int
    network: str
    length: str
    minimum: str
    maximum: str
    usual: int
    """Length of a node's subnet where the network has room for it."""


_IPV4 = _Family(
    bits=32,
    network="Network",
    length="SubnetLen",
    minimum="SubnetMin",
    maximum="SubnetMax",
    usual=24,
)
_IPV6 = _Family(
    bits=128,
    network="IPv6Network",
    length="IPv6SubnetLen",
    minimum="IPv6SubnetMin",
    maximum="IPv6SubnetMax",
    usual=64,
)


def parse(text: str) -> NetworkConfig:
    """Parse, derive and check. Raises NetworkConfigError and nothing else."""
    document = _load(text)
    enable_ipv4 = _read(document, "EnableIPv4", _boolean, True)
    enable_ipv6 = _read(document, "EnableIPv6", _boolean, False)
    # Read also where the family is off: a wrong type is an error in any case, as in flannel.
    network = _read(document, "Network", _network4, IPv4Network((0, 0)))
    network6 = _read(document, "IPv6Network", _network6, IPv6Network((0, 0)))
    asked = _read(document, "SubnetLen", _length, 0)
    asked6 = _read(document, "IPv6SubnetLen", _length, 0)
    low, high = (_read(document, k, _address4, IPv4Address(0)) for k in ("SubnetMin", "SubnetMax"))
    low6, high6 = (
        _read(document, k, _address6, IPv6Address(0)) for k in ("IPv6SubnetMin", "IPv6SubnetMax")
    )
    backend_type, options = _backend(document)
    if not enable_ipv4 and not enable_ipv6:
        raise _error("EnableIPv4", False, "EnableIPv4 or EnableIPv6 must be true")
    length = length6 = 0
    if enable_ipv4:
        length, first, last = _range(_IPV4, network, asked, int(low), int(high))
        low, high = IPv4Address(first), IPv4Address(last)
    if enable_ipv6:
        length6, first, last = _range(_IPV6, network6, asked6, int(low6), int(high6))
        low6, high6 = IPv6Address(first), IPv6Address(last)
    return NetworkConfig(
        enable_ipv4=enable_ipv4,
        enable_ipv6=enable_ipv6,
        enable_nftables=_read(document, "EnableNFTables", _boolean, False),
        network=network if enable_ipv4 else None,
        network6=network6 if enable_ipv6 else None,
        subnet_len=length,
        subnet_min=low if enable_ipv4 else None,
        subnet_max=high if enable_ipv4 else None,
        subnet6_len=length6,
        subnet6_min=low6 if enable_ipv6 else None,
        subnet6_max=high6 if enable_ipv6 else None,
        backend_type=backend_type,
        backend_options=options,
    )


def option(
    options: Mapping[str, object],
    name: str,
    kind: type[T],
    default: T,
    *,
    minimum: int | None = None,
    maximum: int | None = None,
) -> T:
    """One key of ``Backend``, matched without regard to case; null and absent give `default`.

    `kind` is bool, int or str (dict and list work too); `minimum` and `maximum` bound an int.
    Raises NetworkConfigError that calls the key ``Backend.<name>``.
    """
    result = default
    for value in gojson.lookup(options, name):
        if value is None:
            continue
        # bool is a subclass of int for Python, but not for JSON.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise _error(f"Backend.{name}", value, f"must be {_KINDS.get(kind, kind.__name__)}")
        if isinstance(value, int) and not isinstance(value, bool):
            least = -_INT_LIMIT if minimum is None else minimum
            most = _INT_LIMIT - 1 if maximum is None else maximum
            if not least <= value <= most:
                raise _error(f"Backend.{name}", value, f"must be from {least} to {most}")
        result = gojson.clean(value) if isinstance(value, str) else value  # type: ignore[assignment]
    return result


_KINDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    str: "a string",
    dict: "an object",
    list: "an array",
}


def _load(text: str) -> dict[str, object]:
    if len(text) > MAX_CONFIG_CHARACTERS:
        raise NetworkConfigError(
            key="the document",
            value=f"{len(text)} characters",
            expected=f"must have at most {MAX_CONFIG_CHARACTERS}",
        )
    try:
        return gojson.parse_object(text)
    except ValueError as error:
        raise NetworkConfigError(
            key="the document",
            value=str(error)[:200],
            expected='must be a JSON object, such as {"Network": "10.244.0.0/16", '
            '"Backend": {"Type": "vxlan"}}',
        ) from error


def _read(
    document: Mapping[str, object], key: str, convert: Callable[[str, object], T | None], default: T
) -> T:
    """The last value of `key` that counts; `convert` answers None for one that changes nothing."""
    result = default
    for value in gojson.lookup(document, key):
        converted = convert(key, value)
        if converted is not None:
            result = converted
    return result


def _boolean(key: str, value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise _error(key, value, "must be true or false")


def _length(key: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise _error(key, value, "must be a prefix length as a whole number, such as 24; 0 derives it")


def _network4(key: str, value: object) -> IPv4Network:
    try:
        return cidr.parse_ipv4_cidr(_string(value))
    except ValueError:
        raise _error(key, value, "must be an IPv4 CIDR such as 10.244.0.0/16") from None


def _network6(key: str, value: object) -> IPv6Network:
    try:
        return cidr.parse_ipv6_cidr(_string(value))
    except ValueError:
        hint = "must be an IPv6 CIDR such as fd00:10:244::/56"
        if _is_ipv4_cidr(value):
            hint += "; an IPv4 network belongs into Network"
        raise _error(key, value, hint) from None


def _address4(key: str, value: object) -> IPv4Address:
    try:
        return cidr.parse_ipv4(_string(value))
    except ValueError:
        raise _error(key, value, "must be an IPv4 address; 0.0.0.0 derives it") from None


def _address6(key: str, value: object) -> IPv6Address:
    if value is None:
        return IPv6Address(0)
    try:
        return cidr.parse_ipv6(_string(value))
    except ValueError:
        raise _error(key, value, "must be an IPv6 address; :: or null derives it") from None


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a string")
    return value


def _is_ipv4_cidr(value: object) -> bool:
    try:
        cidr.parse_ipv4_cidr(_string(value))
    except ValueError:
        return False
    return True


def _backend(document: Mapping[str, object]) -> tuple[str, Mapping[str, object]]:
    """Type in lower case and the raw object. ``null`` and an object without Type have type ""."""
    given = list(gojson.lookup(document, "Backend"))
    if not given:
        return DEFAULT_BACKEND, {}
    options = given[-1]
    if options is None:
        return "", {}
    if not isinstance(options, dict):
        # Only its kind is shown: what stands there may hold a key.
        raise NetworkConfigError(
            key="Backend",
            value=gojson.kind_of(options),
            expected='must be an object with a Type, such as {"Type": "vxlan"}',
        )
    return option(options, "Type", str, "").lower(), options


def _range(
    family: _Family, network: IPv4Network | IPv6Network, asked: int, low: int, high: int
) -> tuple[int, int, int]:
    """Subnet length, first and last subnet of one family. `low` and `high` are 0 to derive them."""
    prefix = network.prefixlen
    base = int(network.network_address)
    if prefix == 0 and base == 0:
        raise _error(
            family.network,
            str(network),
            f"must be set to the pods' network when {_enabler(family)} is true",
        )
    if prefix > family.bits - 4:
        raise _error(
            family.network,
            str(network),
            f"must have a prefix length of at most {family.bits - 4} to hold four subnets",
        )
    if asked and not prefix + 2 <= asked <= family.bits - 2:
        raise _error(
            family.length,
            asked,
            f"must be from {prefix + 2} to {family.bits - 2}, so that {network} holds at least "
            "four subnets",
        )
    length = asked or (family.usual if prefix <= family.usual - 2 else prefix + 2)
    size = 1 << (family.bits - length)
    end = base + (1 << (family.bits - prefix))
    for key, value in ((family.minimum, low), (family.maximum, high)):
        _check_bound(key, value, network, length)
    first, last = low or base + size, high or end - size
    if first > last:
        key, value = (family.minimum, first) if low else (family.maximum, last)
        raise _error(
            key,
            _address(value, network),
            f"{family.minimum} ({_address(first, network)}) must not be above {family.maximum} "
            f"({_address(last, network)})",
        )
    return length, first, last


def _check_bound(key: str, value: int, network: IPv4Network | IPv6Network, length: int) -> None:
    if not value:
        return
    text = _address(value, network)
    if not 0 <= value - int(network.network_address) < network.num_addresses:
        raise _error(key, text, f"must be inside of {network}")
    size = 1 << (network.max_prefixlen - length)
    if value % size:
        raise _error(
            key,
            text,
            f"must be the first address of a /{length}, such as "
            f"{_address(value - value % size, network)}",
        )


def _address(value: int, like: IPv4Network | IPv6Network) -> str:
    return str(IPv4Address(value) if like.version == 4 else IPv6Address(value))


def _enabler(family: _Family) -> str:
    return "EnableIPv4" if family.bits == 32 else "EnableIPv6"


def _error(key: str, value: object, expected: str) -> NetworkConfigError:
    secret = any(word in key.casefold() for word in _SECRETS)
    shown = "(not shown)" if secret else gojson.excerpt(value)
    return NetworkConfigError(key=key, value=shown, expected=expected)
