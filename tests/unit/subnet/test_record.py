from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from subnet.model import MAX_VALUE_BYTES, Lease, Malformed
from subnet.record import oversized, read_record

VALUE = b'{"PublicIP":"192.0.2.1","PublicIPv6":null}'


def read(key: bytes, value: bytes = VALUE) -> Lease | Malformed:
    return read_record("/p", key, value, create_revision=3, mod_revision=5, lease_id=7)


def test_a_lease_keeps_its_revisions_and_its_etcd_lease() -> None:
    lease = read(b"/p/subnets/10.1.2.0-24")
    assert isinstance(lease, Lease)
    assert lease.key == "/p/subnets/10.1.2.0-24"
    assert lease.subnet == IPv4Network("10.1.2.0/24")
    assert (lease.create_revision, lease.mod_revision, lease.lease_id) == (3, 5, 7)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (b"/p/subnets/nonsense", VALUE, "key does not read"),
        (b"/p/subnets/10.1.2.0-24\xff", VALUE, "not UTF-8"),
        (b"/p/subnets/10.1.2.0-24", b"{broken", "value"),
        (b"/p/subnets/10.1.2.0-24", b'{"PublicIP":"fd00::1"}', "PublicIP"),
        (b"/p/subnets/10.1.2.0-24", VALUE + b" " * MAX_VALUE_BYTES, str(MAX_VALUE_BYTES)),
    ],
)
def test_anything_else_is_a_refused_record_with_a_reason(
    key: bytes, value: bytes, words: str
) -> None:
    refused = read(key, value)
    assert isinstance(refused, Malformed)
    assert refused.mod_revision == 5
    assert words in refused.reason


def test_a_reason_never_quotes_a_value_at_length() -> None:
    refused = read(b"/p/subnets/10.1.2.0-24", b"[" * 60_000)
    assert isinstance(refused, Malformed)
    assert len(refused.reason) < 400


def test_keys_stay_different_and_printable() -> None:
    keys = [b"/p/subnets/\x00", b"/p/subnets/\\x00", b"/p/subnets/\xff", "/p/subnets/ü".encode()]
    texts = [oversized(key, mod_revision=1).key for key in keys]
    assert len(set(texts)) == len(keys)
    assert all(text.isprintable() for text in texts)
