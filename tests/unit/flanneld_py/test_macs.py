"""Where the MAC of a device comes from."""

from __future__ import annotations

import pytest

from flanneld_py.macs import choose_mac, usable

LEASE = bytes.fromhex("02aa00000001")
CACHE = bytes.fromhex("02aa00000002")
DEVICE = bytes.fromhex("02aa00000003")
RANDOM = bytes.fromhex("ff0000000004")


@pytest.mark.parametrize(
    ("published", "cached", "device", "mac", "source"),
    [
        (LEASE, CACHE, DEVICE, LEASE, "lease"),
        (None, CACHE, DEVICE, CACHE, "cache"),
        (None, None, DEVICE, DEVICE, "device"),
        (bytes(6), CACHE, DEVICE, CACHE, "cache"),
        (bytes.fromhex("010000000000"), None, DEVICE, DEVICE, "device"),
        (b"\x02", b"", DEVICE, DEVICE, "device"),
    ],
)
def test_the_first_usable_one_is_taken(
    published: bytes | None, cached: bytes | None, device: bytes, mac: bytes, source: str
) -> None:
    chosen = choose_mac(published=published, cached=cached, device=device, random=RANDOM)
    assert (chosen.mac, chosen.source) == (mac, source)


def test_a_random_one_is_a_local_unicast_address() -> None:
    chosen = choose_mac(published=None, cached=None, device=None, random=RANDOM)
    assert chosen.source == "random"
    assert usable(chosen.mac)
    assert chosen.mac[0] & 0x03 == 0x02
    assert chosen.mac[1:] == RANDOM[1:]
