"""What went wrong in a call to etcd: gRPC's status codes become this project's errors here.

Every status code has its entry, and a test fails if gRPC grows another. No gRPC exception leaves
this package; what leaves carries the code's name, for the few places that must tell them apart.
"""

from __future__ import annotations

import re
from typing import Final

import grpc

from subnet.errors import StoreDenied, StoreUnavailable


class CallUnavailable(StoreUnavailable):
    """A call failed; `code` is the gRPC status code's name."""

    def __init__(self, *, source: str, reason: str, code: str, remedy: str = "") -> None:
        self.code = code
        super().__init__(source=source, reason=reason, remedy=remedy)


class CallDenied(StoreDenied):
    """A call was refused for lack of rights; `code` is the gRPC status code's name."""

    def __init__(self, *, source: str, reason: str, code: str, remedy: str = "") -> None:
        self.code = code
        super().__init__(source=source, reason=reason, remedy=remedy)


CallFailed = CallUnavailable | CallDenied

CREDENTIALS_REMEDY = "check --etcd-username, --etcd-password and the user's roles"

ERRORS: Final[dict[grpc.StatusCode, type[CallUnavailable] | type[CallDenied]]] = {
    grpc.StatusCode.OK: CallUnavailable,  # a stream that ended without having been asked to
    grpc.StatusCode.CANCELLED: CallUnavailable,
    grpc.StatusCode.UNKNOWN: CallUnavailable,
    grpc.StatusCode.INVALID_ARGUMENT: CallUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: CallUnavailable,
    grpc.StatusCode.NOT_FOUND: CallUnavailable,
    grpc.StatusCode.ALREADY_EXISTS: CallUnavailable,
    grpc.StatusCode.PERMISSION_DENIED: CallDenied,
    grpc.StatusCode.UNAUTHENTICATED: CallDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: CallUnavailable,
    grpc.StatusCode.FAILED_PRECONDITION: CallUnavailable,
    grpc.StatusCode.ABORTED: CallUnavailable,
    grpc.StatusCode.UNIMPLEMENTED: CallUnavailable,
    grpc.StatusCode.INTERNAL: CallUnavailable,
    grpc.StatusCode.UNAVAILABLE: CallUnavailable,
    grpc.StatusCode.OUT_OF_RANGE: CallUnavailable,
    grpc.StatusCode.DATA_LOSS: CallUnavailable,
}

_REMEDIES: Final[dict[str, str]] = {
    "UNIMPLEMENTED": "is this endpoint an etcd server with the v3 API?",
    "PERMISSION_DENIED": CREDENTIALS_REMEDY,
    "UNAUTHENTICATED": CREDENTIALS_REMEDY,
}

_DENIALS: Final = (
    # etcd's own texts (api/v3rpc/rpctypes/error.go) whose codes say something more general.
    "authentication failed",
    "user name is empty",
    "user name not found",
    "permission denied",
    "invalid auth token",
    "revision of auth store is old",
    "auth: ",
)


_PREAMBLE: Final = re.compile(
    r"^(etcdserver: |failed to connect to all addresses; last error: \w+: )"
)
_TLS_SIGNS: Final = ("TSI_", "Ssl ", "SSL_", "certificate", "handshake")


def failure(code: grpc.StatusCode, details: str | None, *, source: str) -> CallFailed:
    """Turn a status into an error that says what happened, at which endpoint, and what to do."""
    text = _PREAMBLE.sub("", details or "no details")
    reason = f"{code.name.lower().replace('_', ' ')}: {text}"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        reason = "no answer in time"
    kind = CallDenied if is_denial(text) else ERRORS[code]
    remedy = CREDENTIALS_REMEDY if kind is CallDenied else _REMEDIES.get(code.name, "")
    if any(sign in text for sign in _TLS_SIGNS):
        remedy = "check the scheme of --etcd-endpoints, --etcd-cafile, --etcd-certfile and -keyfile"
    return kind(source=source, reason=reason, code=code.name, remedy=remedy)


def rpc_failure(error: grpc.aio.AioRpcError, *, source: str) -> CallFailed:
    """Turn gRPC's exception into ours."""
    return failure(error.code(), error.details(), source=source)


def watch_ended(reason: str, *, source: str) -> CallFailed:
    """Turn a server's reason for ending a watch into an error.

    A denied watch ends so too: there is no error of the call itself.
    """
    text = reason or "the server ended the watch"
    return failure(grpc.StatusCode.UNAVAILABLE, text, source=source)


def is_denial(text: str) -> bool:
    """Say whether etcd's text speaks of credentials or rights."""
    lowered = text.lower()
    return any(denial in lowered for denial in _DENIALS)


def may_log_in_again(error: CallFailed) -> bool:
    """Say whether a fresh token may help: the old one is unknown, expired or absent."""
    lowered = error.reason.lower()
    return error.code == "UNAUTHENTICATED" or any(
        text in lowered
        for text in ("invalid auth token", "auth store is old", "user name is empty")
    )


def is_too_large(error: CallFailed) -> bool:
    """Say whether an answer was larger than we accept, as against a server out of resources."""
    return error.code == "RESOURCE_EXHAUSTED" and "larger than max" in error.reason


def not_carried_out(error: CallFailed) -> bool:
    """Say whether etcd has certainly not applied the request that failed so."""
    return isinstance(error, CallDenied) or error.code in (
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "FAILED_PRECONDITION",
        "UNIMPLEMENTED",
        "ALREADY_EXISTS",
        "OUT_OF_RANGE",
    )
