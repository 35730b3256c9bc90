"""Whether a record under our key was written by this node or by another one. Pure."""

from __future__ import annotations

from subnet.model import Lease, LeaseAttrs
from subnet.vtepmac import mac_text, macs_of


def foreign_writer(record: Lease, *ours: LeaseAttrs) -> str:
    """Who wrote the record, beside who we are; empty if it may have been us.

    `ours` is what we published or are about to. A writer with the same addresses and MACs is us:
    flanneld on this node, an earlier run, or a write whose answer was lost.
    """
    attrs = record.attrs
    if any(_same_node(attrs, own) for own in ours):
        return ""
    return f"it says {_describe(attrs)}, we are {_describe(ours[-1])}"


def _same_node(one: LeaseAttrs, other: LeaseAttrs) -> bool:
    macs, others = macs_of(one), macs_of(other)
    pairs = (
        (one.public_ip, other.public_ip),
        (one.public_ipv6, other.public_ipv6),
        (macs.mac, others.mac),
        (macs.mac6, others.mac6),
    )
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return bool(known) and all(a == b for a, b in known)


def _describe(attrs: LeaseAttrs) -> str:
    macs = macs_of(attrs)
    addresses = [str(ip) for ip in (attrs.public_ip, attrs.public_ipv6) if ip is not None]
    return f"public IP {' '.join(addresses) or 'none'} MAC {mac_text(macs.mac or macs.mac6)}"
