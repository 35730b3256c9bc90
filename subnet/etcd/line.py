"""A line to one etcd server: a gRPC channel, the calls on it, and its end.

Says what the server said, and turns every failure into this package's errors. Must not choose
between servers, log in, or try again: that is `channel`'s part.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc

from subnet.etcd import messages as m
from subnet.etcd.failures import CallDenied, CallUnavailable, failure, rpc_failure
from subnet.etcd.settings import Endpoint, EtcdSettings, TlsMaterial

Metadata = tuple[tuple[str, str], ...]

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Largest answer that we take: some 40,000 leases, far more than a page; bounds our memory."""
REQUIRE_LEADER: Final = ("hasleader", "true")
"""Makes a server that lost its leader end the watch instead of keeping it silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One of etcd's remote procedures."""

    path: str
    """gRPC's path of it."""
    reply: Callable[[bytes], Any]
    """Decodes its answer."""


RANGE = Method(path="/etcdserverpb.KV/Range", reply=m.RangeResponse.FromString)
PUT = Method(path="/etcdserverpb.KV/Put", reply=m.PutResponse.FromString)
TXN = Method(path="/etcdserverpb.KV/Txn", reply=m.TxnResponse.FromString)
GRANT = Method(path="/etcdserverpb.Lease/LeaseGrant", reply=m.LeaseGrantResponse.FromString)
REVOKE = Method(path="/etcdserverpb.Lease/LeaseRevoke", reply=m.LeaseRevokeResponse.FromString)
TIME_TO_LIVE = Method(
    path="/etcdserverpb.Lease/LeaseTimeToLive", reply=m.LeaseTimeToLiveResponse.FromString
)
LOGIN = Method(path="/etcdserverpb.Auth/Authenticate", reply=m.AuthenticateResponse.FromString)
_WATCH = "/etcdserverpb.Watch/Watch"


class NotConnected(CallUnavailable):
    """There is no connection, so the request was certainly not sent."""


class Line:
    """A connection to one server. `users` calls are on it; once retired, the last one closes it."""

    def __init__(
        self, endpoint: Endpoint, *, tls: TlsMaterial | None, settings: EtcdSettings
    ) -> None:
        self.endpoint = endpoint
        self.source = f"etcd {endpoint}"
        self.users = 0
        self.retired = False
        self._connect_timeout = settings.connect_timeout
        self._channel = _open(endpoint, tls, settings)

    async def connect(self) -> None:
        """Wait for the connection. Raises `NotConnected` with the reason."""
        states = grpc.ChannelConnectivity
        try:
            async with asyncio.timeout(self._connect_timeout):
                state = self._channel.get_state(try_to_connect=True)
                while state not in (states.READY, states.TRANSIENT_FAILURE, states.SHUTDOWN):
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
        except TimeoutError:
            reason = f"no connection within {self._connect_timeout:g} s"
            raise NotConnected(source=self.source, reason=reason, code="UNAVAILABLE") from None
        if state is not states.READY:
            await self._raise_why()

    async def _raise_why(self) -> None:
        # The reason of a failed connection is told only to a call. This one is harmless if it
        # should get through after all.
        ask = m.RangeRequest(key=b"\0", count_only=True, serializable=True)
        try:
            await self.call(RANGE, ask, timeout=self._connect_timeout)
        except CallDenied:
            return  # it did
        except CallUnavailable as error:
            raise NotConnected(
                source=self.source, reason=error.reason, code=error.code, remedy=error.remedy
            ) from error

    async def call(
        self, method: Method, request: Any, *, timeout: float, metadata: Metadata = ()
    ) -> Any:
        """Make one call. Raises `CallUnavailable` or `CallDenied`."""
        call = self._channel.unary_unary(
            method.path,
            request_serializer=_serialize,
            response_deserializer=method.reply,
        )
        try:
            return await call(request, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise rpc_failure(error, source=self.source) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not our caller gave up: the channel was closed under the call.
            raise failure(grpc.StatusCode.CANCELLED, "closed", source=self.source) from None

    async def watch(self, create: Any, *, metadata: Metadata) -> AsyncGenerator[Any, None]:
        """Open a watch and yield its responses. Ends only by raising."""
        stream = self._channel.stream_stream(
            _WATCH,
            request_serializer=_serialize,
            response_deserializer=m.WatchResponse.FromString,
        )(metadata=(REQUIRE_LEADER, *metadata))
        try:
            await stream.write(m.WatchRequest(create_request=create))
            while (response := await stream.read()) is not grpc.aio.EOF:
                yield response
            raise failure(await stream.code(), await stream.details(), source=self.source)
        except grpc.aio.AioRpcError as error:
            raise rpc_failure(error, source=self.source) from error
        except asyncio.InvalidStateError as error:  # written to after it had failed
            code, details = await stream.code(), await stream.details()
            raise failure(code, details, source=self.source) from error
        finally:
            stream.cancel()

    async def close(self) -> None:
        """Close the connection; calls on it fail."""
        await self._channel.close()


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _open(endpoint: Endpoint, tls: TlsMaterial | None, settings: EtcdSettings) -> grpc.aio.Channel:
    options = (
        # Without a pool of its own a new channel would share the old one's broken connection.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # Below 5 s etcd answers GOAWAY (too_many_pings); probes are what notices silence.
        ("grpc.keepalive_time_ms", 6000),
        ("grpc.keepalive_timeout_ms", 3000),  # an answer may wait behind a large page
        # Without these two gRPC waits a minute for the answer to a ping, and stops pinging.
        ("grpc.http2.ping_timeout_ms", 3000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", int(settings.connect_timeout * 1000)),
        ("grpc.max_reconnect_backoff_ms", 5000),
    )
    if tls is None:
        return grpc.aio.insecure_channel(endpoint.target, options=options)
    credentials = grpc.ssl_channel_credentials(tls.authorities, tls.key, tls.certificate)
    return grpc.aio.secure_channel(endpoint.target, credentials, options=options)
