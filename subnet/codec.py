"""Keys and values of the store: text becomes model values and back, byte-exact with flannel.

Formats: flannel-compat 3.2 (keys), 3.3 (values), 6.1.2 and 14.5 (vxlan's backend data). Whatever is
read comes from a store that others write to: it is bounded, and refused by CodecError and nothing
else. Decides nothing about a lease; whether it fits the network is the table's question.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

from subnet import cidr, gojson
from subnet.errors import CodecError
from subnet.model import MAX_VALUE_BYTES, LeaseAttrs, PeerKey

MAX_KEY_BYTES = 1024
"""A key longer than this is no lease: the longest valid one is its prefix and 66 characters."""

_UNSET_IPV4 = "0.0.0.0"
_LEASE = re.compile(
    r"([0-9]{1,3}(?:\.[0-9]{1,3}){3})-([0-9]{1,3})(?:&([0-9a-f:]{2,39})-([0-9]{1,3}))?", re.ASCII
)
_MAC = re.compile(
    r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}|[0-9a-f]{2}(?:-[0-9a-f]{2}){5}|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}",
    re.ASCII | re.IGNORECASE,
)
_MAX_VNI = 2**24 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Vtep:
    """A VXLAN tunnel end point as a lease publishes it."""

    vni: int
    """VXLAN network identifier; 0 also when the peer does not name one (old flannel releases)."""
    mac: bytes
    """MAC address of the peer's device, 6 bytes."""


class _Value(msgspec.Struct, forbid_unknown_fields=True):
    """A value exactly as flannel spells it; anything else takes the slower, lenient way."""

    PublicIP: str
    PublicIPv6: str | None = None
    BackendType: str = ""
    BackendData: msgspec.Raw = msgspec.Raw()
    BackendV6Data: msgspec.Raw = msgspec.Raw()


class _VtepValue(msgspec.Struct, forbid_unknown_fields=True):
    VNI: int
    VtepMAC: str


_decode_value = msgspec.json.Decoder(_Value).decode
_decode_vtep = msgspec.json.Decoder(_VtepValue).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder(object).decode


# --- keys ------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def clean_prefix(prefix: str) -> str:
    """The prefix as Go's path.Join leaves it: one slash where there are many, ``.`` and ``..``
    resolved, no slash at the end; none is added in front."""
    rooted = prefix.startswith("/")
    parts: list[str] = []
    for part in prefix.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", ".") and not (part == ".." and rooted):
            parts.append(part)
    return ("/" if rooted else "") + "/".join(parts)


@lru_cache(maxsize=8)
def leases_prefix(prefix: str) -> str:
    """What every lease key begins with, its last slash included, so that siblings such as
    ``subnets_old/`` stay outside."""
    return _join(prefix, "subnets/")


def config_key(prefix: str) -> str:
    """The key of the network config."""
    return _join(prefix, "config")


def lease_key(
    prefix: str, subnet: IPv4Network | None, subnet6: IPv6Network | None = None
) -> PeerKey:
    """The key of a lease; without an IPv4 subnet that part is ``0.0.0.0-0``, as flannel has it."""
    if subnet is None and subnet6 is None:
        raise CodecError(subject="lease key", reason="a lease without any subnet has no key")
    text = leases_prefix(prefix)
    text += "0.0.0.0-0" if subnet is None else f"{subnet.network_address}-{subnet.prefixlen}"
    if subnet6 is not None:
        text += f"&{subnet6.network_address}-{subnet6.prefixlen}"
    return PeerKey(text)


def parse_lease_key(prefix: str, key: bytes) -> tuple[IPv4Network | None, IPv6Network | None]:
    """The subnets that a key names; None for an absent family.

    Unlike flannel's, the match covers the whole key, and host bits are refused: two keys must not
    name one subnet. Raises CodecError.
    """
    try:
        text = key.decode()
    except UnicodeDecodeError:
        raise _refused_key(key, "is not UTF-8 text") from None
    start = leases_prefix(prefix)
    if len(key) > MAX_KEY_BYTES or not text.startswith(start):
        raise _refused_key(key, f"is not under {start}")
    match = _LEASE.fullmatch(text, len(start))
    if match is None:
        raise _refused_key(key, "does not read <IPv4>-<length>[&<IPv6>-<length>]")
    address, length, address6, length6 = match.groups()
    try:
        subnet6 = None if address6 is None else _subnet6(address6, int(length6))
        if subnet6 is not None and address == _UNSET_IPV4 and int(length) == 0:
            return None, subnet6
        return _subnet4(address, int(length)), subnet6
    except ValueError as error:
        raise _refused_key(key, str(error)) from None


def key_text(key: bytes) -> PeerKey:
    r"""Any key as the identity of its record: its text, or escaped like ``\x00`` where that is not
    printable. Keys that differ stay different unless they are too long to be leases."""
    if len(key) > MAX_KEY_BYTES:
        return PeerKey(f"{_escape(key[:200])}... ({len(key)} bytes)")
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return PeerKey(_escape(key))
    return PeerKey(text if text.isprintable() and "\\" not in text else _escape(key))


def _escape(key: bytes) -> str:
    return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in key)


def _join(prefix: str, name: str) -> str:
    cleaned = clean_prefix(prefix)
    return f"{cleaned}{name}" if cleaned in ("", "/") else f"{cleaned}/{name}"


def _subnet4(address: str, length: int) -> IPv4Network:
    if not 0 < length < 32:
        raise ValueError(f"IPv4 length {length} is not from 1 to 31")
    packed = int(IPv4Address(address))
    if packed & ((1 << (32 - length)) - 1):
        raise ValueError(f"{address} is not the first address of a /{length}")
    return IPv4Network((packed, length))


def _subnet6(address: str, length: int) -> IPv6Network:
    if not 0 < length < 128:
        raise ValueError(f"IPv6 length {length} is not from 1 to 127")
    packed = int(cidr.parse_ipv6(address))
    if packed & ((1 << (128 - length)) - 1):
        raise ValueError(f"{address} is not the first address of a /{length}")
    return IPv6Network((packed, length))


def _refused_key(key: bytes, reason: str) -> CodecError:
    return CodecError(subject=f"key {key_text(key)}", reason=reason)


# --- values ----------------------------------------------------------------------------------


def encode_attrs(attrs: LeaseAttrs) -> bytes:
    """The value of a lease. Raises CodecError when its backend data is no JSON."""
    public_ip = _UNSET_IPV4 if attrs.public_ip is None else str(attrs.public_ip)
    public_ipv6 = "null" if attrs.public_ipv6 is None else f'"{attrs.public_ipv6}"'
    text = f'{{"PublicIP":"{public_ip}","PublicIPv6":{public_ipv6}'
    if attrs.backend_type:
        text += f',"BackendType":{gojson.string(attrs.backend_type)}'
    for name, data in (
        ("BackendData", attrs.backend_data),
        ("BackendV6Data", attrs.backend_v6_data),
    ):
        if data:
            text += f',"{name}":{gojson.escaped(gojson.compact(_checked_json(name, data)))}'
    return f"{text}}}".encode()


def decode_attrs(value: bytes) -> LeaseAttrs:
    """What a node published. Raises CodecError; the reason never quotes the value at length."""
    if len(value) > MAX_VALUE_BYTES:
        raise _refused_value(f"has {len(value)} bytes, more than {MAX_VALUE_BYTES}")
    try:
        record = _decode_value(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        record = _decode_leniently(value)
    except RecursionError:
        raise _refused_value("is nested too deeply") from None
    try:
        public_ip = IPv4Address(record.PublicIP)
    except ValueError:
        raise _refused_value(
            f"PublicIP {gojson.excerpt(record.PublicIP)} is no IPv4 address"
        ) from None
    return LeaseAttrs(
        public_ip=public_ip if record.PublicIP != _UNSET_IPV4 else None,
        public_ipv6=None if record.PublicIPv6 is None else _public_ipv6(record.PublicIPv6),
        backend_type=record.BackendType,
        backend_data=_raw_text("BackendData", record.BackendData),
        backend_v6_data=_raw_text("BackendV6Data", record.BackendV6Data),
    )


def _decode_leniently(value: bytes) -> _Value:
    """As Go does: keys in any case, unknown ones ignored, the last one wins, null changes a plain
    string to nothing."""
    fields: dict[str, msgspec.Raw] = {}
    try:
        for name, raw in _decode_fields(value).items():
            fields[gojson.fold(name)] = raw
        public_ip = _string_field("PublicIP", fields, _UNSET_IPV4)
        backend_type = _string_field("BackendType", fields, "")
        public_ipv6 = _string_field("PublicIPv6", fields, None)
    except RecursionError:
        raise _refused_value("is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refused_value(f"is no JSON object of a lease ({error})") from None
    if public_ip is None:
        raise _refused_value("PublicIP is null")
    return _Value(
        PublicIP=public_ip,
        PublicIPv6=public_ipv6,
        BackendType=backend_type or "",
        BackendData=fields.get("backenddata", msgspec.Raw()),
        BackendV6Data=fields.get("backendv6data", msgspec.Raw()),
    )


def _string_field(name: str, fields: dict[str, msgspec.Raw], absent: str | None) -> str | None:
    """A string, None for null, `absent` where there is no such field."""
    raw = fields.get(gojson.fold(name))
    if raw is None:
        return absent
    text = _decode_any(raw)
    if text is not None and not isinstance(text, str):
        raise _refused_value(f"{name} is {gojson.kind_of(text)}, not a string")
    return text


def _public_ipv6(text: str) -> IPv6Address | None:
    try:
        address = cidr.parse_ipv6(text)
    except ValueError:
        raise _refused_value(f"PublicIPv6 {gojson.excerpt(text)} is no IPv6 address") from None
    return address if int(address) else None


def _raw_text(name: str, raw: msgspec.Raw) -> str | None:
    try:
        text = bytes(raw).decode()
    except UnicodeDecodeError:
        raise _refused_value(f"{name} is not UTF-8 text") from None
    return None if text in ("", "null") else gojson.compact(text)


def _checked_json(name: str, data: str) -> str:
    try:
        _decode_any(data.encode())
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise CodecError(subject=f"lease value {name}", reason=f"is no JSON ({error})") from None
    return data


def _refused_value(reason: str) -> CodecError:
    return CodecError(subject="lease value", reason=reason)


# --- vxlan's backend data --------------------------------------------------------------------


def vtep(data: str | None) -> Vtep | None:
    """Read vxlan's backend data; None where the lease has none. Raises CodecError."""
    if data is None:
        return None
    try:
        value = _decode_vtep(data)
    except msgspec.DecodeError:
        value = _decode_vtep_leniently(data)
    except (RecursionError, UnicodeError):
        raise _refused_vtep("is not readable") from None
    if not 0 <= value.VNI <= _MAX_VNI:
        raise _refused_vtep(f"VNI {gojson.excerpt(value.VNI)} is not from 0 to {_MAX_VNI}")
    return Vtep(vni=value.VNI, mac=parse_mac(value.VtepMAC))


def vtep_text(vni: int, mac: bytes) -> str:
    """vxlan's backend data as flannel writes it: VNI first, VtepMAC last (14.5)."""
    return f'{{"VNI":{vni},"VtepMAC":"{mac.hex(":")}"}}'


def parse_mac(text: str) -> bytes:
    """The 6 bytes of a MAC address in one of Go's forms: colons, hyphens, or dots in fours."""
    if _MAC.fullmatch(text) is None:
        raise _refused_vtep(f"VtepMAC {gojson.excerpt(text)} is no MAC address of 6 bytes")
    if ":" in text:  # as flannel and we write it; read here because there are very many
        return bytes.fromhex(text.replace(":", ""))
    import netaddr  # for what hardly ever comes: 15 ms that no start has to wait for

    return bytes(netaddr.EUI(text, version=48).packed)


def _decode_vtep_leniently(data: str) -> _VtepValue:
    try:
        document = gojson.parse_object(data)
    except ValueError as error:
        raise _refused_vtep(str(error)[:200]) from None
    vni: object = 0
    mac: object = None
    for given in gojson.lookup(document, "VNI"):
        vni = vni if given is None else given
    for given in gojson.lookup(document, "VtepMAC"):
        mac = given
    if not isinstance(vni, int) or isinstance(vni, bool):
        raise _refused_vtep(f"VNI is {gojson.kind_of(vni)}, not a whole number")
    if not isinstance(mac, str):
        missing = "missing" if mac is None else f"{gojson.kind_of(mac)}, not a string"
        raise _refused_vtep(f"VtepMAC is {missing}")
    return _VtepValue(VNI=vni, VtepMAC=mac)


def _refused_vtep(reason: str) -> CodecError:
    return CodecError(subject="vxlan backend data", reason=reason)
