from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from subnet.cache import CachedLease, CacheError, LeaseCache
from subnet.identity import KnownStore
from subnet.model import StoreIdentity
from tests.leases import lease, mac

LEASE = lease("10.244.1.0/24 fd00:0:0:1::/64", node=1, rev=10, mod=12)
CACHED = CachedLease(
    machine_id="0123",
    source="etcd http://127.0.0.1:2379 /coreos.com/network",
    lease=LEASE,
    mac=mac(1),
    mac6=mac(2),
    store=KnownStore(
        identity=StoreIdentity(cluster_id=2**63, revision=12, config_create_revision=2),
        own_key=LEASE.key,
        own_create_revision=10,
    ),
    expires_at=1_700_000_000.5,
)


@pytest.mark.parametrize(
    "cached",
    [
        CACHED,
        replace(CACHED, store=None, expires_at=None, mac=b"", mac6=b"", machine_id=""),
        replace(CACHED, lease=lease("10.244.1.0/24", lease_id=0)),
        replace(CACHED, lease=lease("fd00:0:0:1::/64")),
    ],
)
def test_what_was_saved_is_loaded(tmp_path: Path, cached: CachedLease) -> None:
    cache = LeaseCache(tmp_path / "new" / "state")
    cache.save(cached)
    cache.save(cached)
    assert cache.load(machine_id=cached.machine_id) == cached
    assert cache.path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(cache.path.parent) == ["lease.json"]


def test_no_file_is_no_lease(tmp_path: Path) -> None:
    assert LeaseCache(tmp_path).load(machine_id="0123") is None


def test_state_of_another_machine_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = LeaseCache(tmp_path)
    cache.save(CACHED)
    with caplog.at_level(logging.WARNING):
        assert cache.load(machine_id="4567") is None
        assert cache.load(machine_id="4567") is None
    assert len(caplog.records) == 1
    assert "cloned disk" in caplog.text
    assert os.listdir(tmp_path) == ["lease.json.foreign"]
    assert cache.load(machine_id="0123") is None


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"version": 2}',
    b'{"version": true}',
    b"\xff\xfe",
    b"[" * 100_000,
    b" " * (2 << 20),
]


@pytest.mark.parametrize("data", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    cache = LeaseCache(tmp_path)
    cache.path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert cache.load(machine_id="0123") is None
    assert "damaged" in caplog.text
    assert (tmp_path / "lease.json.damaged").read_bytes() == data
    cache.save(CACHED)
    assert cache.load(machine_id="0123") == CACHED


@pytest.mark.parametrize("field", ["machine_id", "lease", "mac", "expires_at", "version", "source"])
def test_a_file_with_a_wrong_field_is_set_aside(tmp_path: Path, field: str) -> None:
    cache = LeaseCache(tmp_path)
    cache.save(CACHED)
    document = json.loads(cache.path.read_text())
    values: tuple[object, ...] = ([], "zz:zz", {"key": 1})
    for value in values:
        cache.path.write_text(json.dumps({**document, field: value}))
        if isinstance(value, str) and field in ("machine_id", "source"):
            continue
        assert cache.load(machine_id="0123") is None, value


@pytest.mark.parametrize(
    ("field", "value"),
    [("subnet", "10.244.1.1/24"), ("subnet6", "x"), ("public_ip", "::1"), ("lease_id", 1.5)],
)
def test_a_file_with_a_wrong_lease_is_set_aside(tmp_path: Path, field: str, value: object) -> None:
    cache = LeaseCache(tmp_path)
    cache.save(CACHED)
    document = json.loads(cache.path.read_text())
    document["lease"][field] = value
    cache.path.write_text(json.dumps(document))
    assert cache.load(machine_id="0123") is None


def test_a_folder_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = LeaseCache(tmp_path / "file" / "state")
    with pytest.raises(CacheError, match="--state-dir"):
        cache.save(CACHED)
    with pytest.raises(CacheError, match="--state-dir"):
        cache.load(machine_id="0123")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    cache = LeaseCache(tmp_path)
    cache.save(CACHED)
    blocked = tmp_path / f".lease.json.{os.getpid()}"
    blocked.mkdir()
    with pytest.raises(CacheError):
        cache.save(replace(CACHED, source="other"))
    blocked.rmdir()
    assert cache.load(machine_id="0123") == CACHED
