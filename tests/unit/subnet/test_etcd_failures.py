from __future__ import annotations

import grpc
import pytest

from subnet.errors import StoreDenied, StoreUnavailable
from subnet.etcd.failures import (
    ERRORS,
    CallUnavailable,
    failure,
    is_too_large,
    may_log_in_again,
    not_carried_out,
    rpc_failure,
    watch_ended,
)


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_every_status_of_grpc_has_an_error_of_ours(code: grpc.StatusCode) -> None:
    assert code in ERRORS
    error = rpc_failure(
        grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "its details"),
        source="etcd http://a:1",
    )
    assert isinstance(error, StoreUnavailable | StoreDenied)
    assert type(error).__module__.startswith("subnet.")
    assert error.code == code.name
    assert str(error).startswith("etcd http://a:1: ")
    if code is not grpc.StatusCode.DEADLINE_EXCEEDED:
        assert "its details" in str(error)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("INVALID_ARGUMENT", "etcdserver: authentication failed, invalid user ID or password"),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty"),
        ("INVALID_ARGUMENT", "etcdserver: revision of auth store is old"),
        ("PERMISSION_DENIED", "etcdserver: permission denied"),
        ("UNAUTHENTICATED", "etcdserver: invalid auth token"),
    ],
)
def test_etcds_refusals_are_denials_with_a_remedy(code: str, text: str) -> None:
    error = failure(grpc.StatusCode[code], text, source="etcd")
    assert isinstance(error, StoreDenied)
    assert "--etcd-username" in error.remedy
    assert not_carried_out(error)


def test_a_denied_watch_ends_with_a_reason_only() -> None:
    denied = watch_ended(
        "rpc error: code = PermissionDenied desc = etcdserver: permission denied", source="etcd"
    )
    assert isinstance(denied, StoreDenied)
    assert isinstance(watch_ended("", source="etcd"), StoreUnavailable)


@pytest.mark.parametrize(
    ("code", "text", "again"),
    [
        ("UNAUTHENTICATED", "etcdserver: invalid auth token", True),
        ("INVALID_ARGUMENT", "etcdserver: revision of auth store is old", True),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty", True),
        ("PERMISSION_DENIED", "etcdserver: permission denied", False),
        (
            "INVALID_ARGUMENT",
            "etcdserver: authentication failed, invalid user ID or password",
            False,
        ),
        ("UNAVAILABLE", "etcdserver: no leader", False),
    ],
)
def test_only_a_stale_token_is_worth_another_login(code: str, text: str, again: bool) -> None:
    assert may_log_in_again(failure(grpc.StatusCode[code], text, source="etcd")) is again


def test_an_answer_above_our_limit_is_told_from_a_server_without_resources() -> None:
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    large = failure(exhausted, "CLIENT: Received message larger than max (9 vs. 8)", source="etcd")
    assert is_too_large(large)
    assert not is_too_large(failure(exhausted, "etcdserver: too many requests", source="etcd"))


@pytest.mark.parametrize(
    "code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL", "ABORTED"]
)
def test_after_a_lost_answer_the_write_may_have_been_done(code: str) -> None:
    assert not not_carried_out(failure(grpc.StatusCode[code], "gone", source="etcd"))


def test_a_failed_tls_connection_names_the_flags() -> None:
    error = failure(
        grpc.StatusCode.UNAVAILABLE,
        "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: "
        "Unwrap failed (TSI_DATA_CORRUPTED)",
        source="etcd",
    )
    assert isinstance(error, CallUnavailable)
    assert "--etcd-certfile" in error.remedy
    assert "failed to connect to all addresses" not in error.reason
