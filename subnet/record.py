"""One record of a key-value store: its key, value and revisions become a lease, or are refused.

Where the codec's errors end: whatever stands in a store, this returns a value. Pure.
"""

from __future__ import annotations

from subnet import codec
from subnet.errors import CodecError
from subnet.model import MAX_VALUE_BYTES, Lease, Malformed


def read_record(
    prefix: str,
    key: bytes,
    value: bytes,
    *,
    create_revision: int,
    mod_revision: int,
    lease_id: int,
) -> Lease | Malformed:
    """Decode a record under the leases' prefix."""
    if len(value) > MAX_VALUE_BYTES:
        return oversized(key, mod_revision=mod_revision)
    try:
        subnet, subnet6 = codec.parse_lease_key(prefix, key)
        attrs = codec.decode_attrs(value)
    except CodecError as error:
        # The record's key is said once, beside the reason.
        what = "key" if error.subject.startswith("key ") else "value"
        return Malformed(
            key=codec.key_text(key),
            reason=f"{what} {error.reason}",
            mod_revision=mod_revision,
        )
    return Lease(
        key=codec.key_text(key),
        subnet=subnet,
        subnet6=subnet6,
        attrs=attrs,
        create_revision=create_revision,
        mod_revision=mod_revision,
        lease_id=lease_id,
    )


def oversized(key: bytes, *, mod_revision: int) -> Malformed:
    """A record whose value is too large to be read at all."""
    return Malformed(
        key=codec.key_text(key),
        reason=f"value has more than {MAX_VALUE_BYTES} bytes",
        mod_revision=mod_revision,
    )
