"""What etcd and the network do to the etcd store: kill, silence, compaction, credentials, size."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from flanneld_py.testing.etcd_server import Certificates, EtcdServer
from subnet.errors import StoreDenied, StoreSettingsError, StoreUnavailable
from subnet.etcd import EtcdSettings, EtcdStore
from subnet.model import Delete, Lease, LeaseEvent, Put, PutMalformed, Snapshot, StoreState
from subnet.store import Conflict
from tests.contract.store_worlds import attrs, eventually, listening, net, value_of
from tests.e2e.tcp_proxy import TcpProxy

pytestmark = pytest.mark.tools("etcd", "etcdctl")

PREFIX = "/coreos.com/network"
CONFIG = f"{PREFIX}/config"
SUBNETS = f"{PREFIX}/subnets"


@pytest.fixture
def server() -> Iterator[EtcdServer]:
    with EtcdServer() as server:
        server.put(CONFIG, '{"Network":"10.0.0.0/8"}')
        yield server


@asynccontextmanager
async def opened(*endpoints: str, **settings: str | float) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(EtcdSettings(endpoints=endpoints, **settings))  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.aclose()


async def create(store: EtcdStore, subnet: str = "10.1.2.0/24", ttl: float = 3600) -> Lease:
    revision = (await store.snapshot()).identity.revision
    made = await store.create(
        subnet=net(subnet), subnet6=None, attrs=attrs(), ttl=ttl, not_after=revision
    )
    assert isinstance(made, Lease)
    return made


def granted(server: EtcdServer) -> int:
    return int(server.ctl("lease", "list").split()[1])


def connected(state: bool) -> Callable[[list[LeaseEvent]], bool]:
    def found(events: list[LeaseEvent]) -> bool:
        states = [event for event in events if isinstance(event, StoreState)]
        return bool(states) and states[-1].connected is state

    return found


def is_put(events: list[LeaseEvent]) -> bool:
    return isinstance(events[-1], Put)


def changes(events: list[LeaseEvent]) -> list[Put | Delete]:
    """What was told of single leases; anything else but states must have been at the start."""
    assert not any(isinstance(event, Snapshot) for event in events[1:])
    return [event for event in events if isinstance(event, Put | Delete)]


# --- silence and death -----------------------------------------------------------------------


async def test_a_silent_server_is_noticed_within_3_s_and_the_watch_goes_on(
    server: EtcdServer,
) -> None:
    async with opened(server.endpoint) as store, listening(store) as heard:
        await heard.begun()
        for number in range(2):
            server.pause()
            assert await heard.until(connected(False)) <= 3.0
            server.resume()
            assert await heard.until(connected(True)) <= 3.0
            server.put(f"{SUBNETS}/10.1.{number}.0-24", value_of(number))
            await heard.until(is_put)
        kinds = [type(event) for event in heard.events]
    assert kinds == [Snapshot, *[StoreState, StoreState, Put] * 2]


async def test_a_silent_network_is_noticed_within_3_s(server: EtcdServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        opened(proxy.endpoint) as store,
        listening(store) as heard,
    ):
        await heard.begun()
        proxy.silence()
        assert await heard.until(connected(False)) <= 3.0
        proxy.heal()
        # A connection that was made in the silent time is still waiting for an answer.
        assert await heard.until(connected(True)) <= 7.0
        assert len(heard.events) == 3


async def test_with_10_000_nodes_silence_is_noticed_later_but_is_noticed(
    server: EtcdServer,
) -> None:
    async with opened(server.endpoint) as store:
        store.note_peers(10_000)
        async with listening(store) as heard:
            await heard.begun()
            server.pause()
            assert await heard.until(connected(False)) <= 10.0
            server.resume()
            await heard.until(connected(True))


async def test_a_quiet_store_is_not_taken_for_a_silent_one(server: EtcdServer) -> None:
    async with opened(server.endpoint) as store, listening(store) as heard:
        await heard.begun()
        with pytest.raises(AssertionError, match="not within"):
            await heard.until(lambda events: len(events) > 1, within=8)


async def test_a_killed_and_restarted_server_loses_no_event(server: EtcdServer) -> None:
    async with opened(server.endpoint) as store, listening(store) as heard:
        await heard.begun()
        lease = await create(store)
        await heard.until(is_put)
        for number in range(3):
            server.kill()
            await heard.until(connected(False))
            with server.hidden():
                server.put(f"{SUBNETS}/10.2.{number}.0-24", value_of(number))
                server.delete(f"{SUBNETS}/10.2.{number - 1}.0-24")
            began = time.monotonic()
            await asyncio.to_thread(server.start)
            await heard.until(connected(True))
            assert time.monotonic() - began < 6
            await heard.until(lambda events, n=number: len(changes(events)) == 2 * n + 2)  # type: ignore[misc]
        server.put(f"{SUBNETS}/10.9.9.0-24", value_of(9))
        await heard.until(is_put)
        await store.update(lease, attrs=attrs(), ttl=60)
    names = [
        str(event.lease.subnet) if isinstance(event, Put) else event.key.rpartition("/")[2]
        for event in changes(heard.events)[:7]
    ]
    assert names == [
        "10.1.2.0/24",
        "10.2.0.0/24",
        "10.2.1.0/24",
        "10.2.0.0-24",
        "10.2.2.0/24",
        "10.2.1.0-24",
        "10.9.9.0/24",
    ]


async def test_a_server_that_ends_in_order_is_followed_to_its_return(server: EtcdServer) -> None:
    async with opened(server.endpoint) as store, listening(store) as heard:
        await heard.begun()
        await asyncio.to_thread(server.stop)  # GOAWAY first
        await heard.until(connected(False))
        await asyncio.to_thread(server.start)
        await heard.until(connected(True))
        server.put(f"{SUBNETS}/10.1.2.0-24", value_of(1))
        await heard.until(is_put)
        assert len(heard.events) == 4


async def test_closing_the_store_ends_the_events(server: EtcdServer) -> None:
    async with opened(server.endpoint) as store:
        told = [await anext(events := store.events())]
        rest = asyncio.create_task(anext(events, None))
        await store.aclose()
        told.append(await rest)  # type: ignore[arg-type]
    assert told[1:] == [None]
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.snapshot()


@pytest.mark.parametrize("own", [True, False], ids=["own-lease", "only-a-peer"])
async def test_a_wiped_store_with_the_very_same_config_is_recognised(own: bool) -> None:
    with EtcdServer() as server:
        server.put(CONFIG, "{}")
        async with (
            opened(server.endpoint) as store,
            opened(server.endpoint) as other,
            listening(store) as heard,
        ):
            await heard.begun()
            await create(store if own else other)
            await heard.until(is_put)
            server.wipe()
            with server.hidden():
                server.put(CONFIG, "{}")  # at the same revision as before
                server.put_many(((f"/other/{number}", "x") for number in range(20)), each=True)
            await asyncio.to_thread(server.start)
            await heard.until(
                lambda events: sum(isinstance(event, Snapshot) for event in events) == 2
            )
    first, last = (event for event in heard.events if isinstance(event, Snapshot))
    assert last.config == first.config
    assert last.identity.cluster_id == first.identity.cluster_id
    assert last.identity.revision > first.identity.revision + 1
    assert last.leases == ()


async def test_few_lines_are_logged_while_it_is_away(
    server: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dead = "http://127.0.0.1:9"
    async with opened(server.endpoint, dead) as store, listening(store) as heard:
        await heard.begun()
        server.kill()
        await heard.until(connected(False))
        for _ in range(4):  # it flaps, too
            await asyncio.to_thread(server.start)
            await heard.until(connected(True))
            server.kill()
            await heard.until(connected(False))
    lines = [record for record in caplog.records if record.name.startswith("subnet")]
    assert 2 <= len(lines) <= 12
    assert server.endpoint in caplog.text


# --- several endpoints -----------------------------------------------------------------------


async def test_a_dead_or_silent_first_endpoint_does_not_matter(server: EtcdServer) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        quiet = f"http://127.0.0.1:{silent.getsockname()[1]}"
        named = f"http://localhost:{server.port}"
        for first in ("http://127.0.0.1:9", quiet, "http://no-such-host.invalid:2379"):
            began = time.monotonic()
            async with opened(first, f" {named} ") as store, listening(store) as heard:
                await heard.until(
                    lambda events: any(isinstance(event, Snapshot) for event in events)
                )
            assert time.monotonic() - began < 3


@pytest.mark.parametrize("fault", ["refuse", "silence"])
async def test_another_endpoint_takes_over(server: EtcdServer, fault: str) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(TcpProxy(server.port))
        second = await stack.enter_async_context(TcpProxy(server.port))
        store = await stack.enter_async_context(opened(first.endpoint, second.endpoint))
        heard = await stack.enter_async_context(listening(store))
        await heard.begun()
        began = time.monotonic()
        if fault == "refuse":
            await first.refuse()
        else:
            first.silence()
        await heard.until(connected(True))
        assert time.monotonic() - began < (1.5 if fault == "refuse" else 3.5)
        server.put(f"{SUBNETS}/10.1.2.0-24", value_of(1))
        await heard.until(is_put)
        assert sum(isinstance(event, Snapshot) for event in heard.events) == 1
        began = time.monotonic()
        assert (await store.snapshot()).leases
        assert time.monotonic() - began < 1


async def test_the_loss_of_a_leader_and_of_the_majority_is_survived() -> None:
    members = await asyncio.to_thread(EtcdServer.start_cluster, 3)
    try:
        members[0].put(CONFIG, "{}")
        endpoints = [member.endpoint for member in members]
        async with opened(*endpoints) as store, listening(store) as heard:
            await heard.begun()
            lease = await create(store)
            await heard.until(is_put)
            members[0].kill()
            await heard.until(connected(True))
            renewed = await store.update(lease, attrs=attrs(), ttl=60)
            assert isinstance(renewed, Lease)
            await heard.until(lambda events: events[-1] == Put(lease=renewed))
            members[1].kill()
            await heard.until(connected(False))
            await asyncio.to_thread(members[1].start)
            await heard.until(connected(True), within=30)
            members[2].put(f"{SUBNETS}/10.7.7.0-24", value_of(7))
            await heard.until(is_put)
        assert sum(isinstance(event, Snapshot) for event in heard.events) == 1
        assert not any(isinstance(event, Delete) for event in heard.events)
    finally:
        for member in members:
            member.close()


async def test_a_server_that_lost_its_leader_is_not_believed() -> None:
    members = await asyncio.to_thread(EtcdServer.start_cluster, 3)
    try:
        members[0].put(CONFIG, "{}")
        async with opened(members[2].endpoint) as store, listening(store) as heard:
            await heard.begun()
            members[0].kill()
            members[1].kill()
            # It still answers the probes, which need no majority.
            await heard.until(connected(False))
            state = heard.events[-1]
            assert isinstance(state, StoreState)
            assert "no leader" in state.reason
            await asyncio.to_thread(members[1].start)
            await heard.until(connected(True), within=30)
        assert all(isinstance(event, StoreState) for event in heard.events[1:])
    finally:
        for member in members:
            member.close()


# --- what others see ---------------------------------------------------------------------


async def test_what_is_written_is_what_flannel_writes(server: EtcdServer) -> None:
    async with opened(server.endpoint) as store:
        lease = await create(store, "10.244.36.0/24", ttl=86_400)
        value = server.ctl("get", f"{SUBNETS}/10.244.36.0-24", "--print-value-only")
        assert value == (
            '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan",'
            '"BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}}\n'
        )
        said = server.ctl("lease", "timetolive", f"{lease.lease_id:x}", "--keys")
        assert "granted with TTL(86400s)" in said
        assert f"attached keys([{SUBNETS}/10.244.36.0-24])" in said
        renewed = await store.update(lease, attrs=attrs(), ttl=3599.5)
        assert isinstance(renewed, Lease)
        said = server.ctl("lease", "timetolive", f"{renewed.lease_id:x}", "--keys")
        assert "granted with TTL(3600s)" in said
        assert SUBNETS in said


async def test_an_etcd_lease_that_others_hang_on_too_is_not_revoked(server: EtcdServer) -> None:
    async with opened(server.endpoint) as store:
        lease = await create(store)
        server.ctl("put", f"--lease={lease.lease_id:x}", "/elsewhere", "something")
        assert isinstance(await store.update(lease, attrs=attrs(), ttl=60), Lease)
        gone = server.ctl("put", f"{SUBNETS}/10.9.9.0-24", value_of(1))
        assert gone == "OK\n"
    # Closing waits for what runs in the background: had it been revoked, the key would be gone.
    assert "something" in server.ctl("get", "/elsewhere")
    assert granted(server) == 2


# --- lost answers ----------------------------------------------------------------------------


async def test_a_creation_whose_answer_is_lost_is_found_out(server: EtcdServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        opened(proxy.endpoint, request_timeout=1.0) as store,
    ):
        revision = (await store.snapshot()).identity.revision
        proxy.lose_answer_to(b"subnets/10.1.2.0-24")
        made = await store.create(
            subnet=net("10.1.2.0/24"), subnet6=None, attrs=attrs(), ttl=60, not_after=revision
        )
        assert isinstance(made, Lease)
        assert proxy.accepted == 2  # else no answer was lost
        assert (await store.snapshot()).leases == (made,)
        assert granted(server) == 1


async def test_a_creation_that_stays_unknown_is_undone(server: EtcdServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        opened(proxy.endpoint, request_timeout=0.5) as store,
    ):
        revision = (await store.snapshot()).identity.revision
        proxy.lose_answer_to(b"subnets/10.1.2.0-24", and_all_after=True)
        with pytest.raises(StoreUnavailable):
            await store.create(
                subnet=net("10.1.2.0/24"), subnet6=None, attrs=attrs(), ttl=60, not_after=revision
            )
        assert granted(server) == 1  # the put was done
        proxy.heal()

        async def none_is_left() -> bool:
            return await asyncio.to_thread(granted, server) == 0

        await eventually(none_is_left, "the lease of the unknown put is revoked")
        assert (await store.snapshot()).leases == ()


async def test_an_update_whose_answer_is_lost_is_found_out(server: EtcdServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        opened(proxy.endpoint, request_timeout=1.0) as store,
    ):
        lease = await create(store)
        proxy.lose_answer_to(b"192.0.2.8")
        renewed = await store.update(lease, attrs=attrs("192.0.2.8"), ttl=60)
        assert isinstance(renewed, Lease)
        assert proxy.accepted == 2
        assert (await store.snapshot()).leases == (renewed,)

        async def only_one() -> bool:
            return await asyncio.to_thread(granted, server) == 1

        await eventually(only_one, "the superseded lease is revoked")


@pytest.mark.parametrize("reservation", [False, True], ids=["leased", "reserved"])
async def test_our_own_put_is_recognised_even_after_the_call_failed(
    server: EtcdServer, reservation: bool
) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        opened(proxy.endpoint, request_timeout=0.5) as store,
    ):
        if reservation:
            server.put(f"{SUBNETS}/10.1.2.0-24", value_of(1))
            (lease,) = (await store.snapshot()).leases
        else:
            lease = await create(store)
        wanted = attrs("192.0.2.8")
        proxy.lose_answer_to(b"192.0.2.8", and_all_after=True)
        with pytest.raises(StoreUnavailable):
            await store.update(lease, attrs=wanted, ttl=60)
        proxy.heal()
        standing = (await store.snapshot()).leases[0]
        assert standing.mod_revision > lease.mod_revision  # the put was done
        again = await store.update(lease, attrs=wanted, ttl=60)
        assert isinstance(again, Lease)
        assert (await store.snapshot()).leases == (again,)

        async def as_many_as_needed() -> bool:
            return await asyncio.to_thread(granted, server) == (0 if reservation else 1)

        await eventually(as_many_as_needed, "superseded leases are revoked")
        assert (await store.snapshot()).leases == (again,)


async def test_a_cancelled_creation_leaves_no_etcd_lease(server: EtcdServer) -> None:
    before = granted(server)
    async with opened(server.endpoint) as store:
        revision = (await store.snapshot()).identity.revision
        for _ in range(10):
            creation = asyncio.create_task(
                store.create(
                    subnet=net("10.1.2.0/24"),
                    subnet6=None,
                    attrs=attrs(),
                    ttl=3600,
                    not_after=revision,
                )
            )
            await asyncio.sleep(0.001)
            creation.cancel()
            (ended,) = await asyncio.gather(creation, return_exceptions=True)
            assert isinstance(ended, asyncio.CancelledError)

        async def none_is_left() -> bool:
            return await asyncio.to_thread(granted, server) == before

        await eventually(none_is_left, "grants of cancelled creations are revoked")
        assert (await store.snapshot()).leases == ()


# --- credentials -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


async def test_tls_with_only_an_authority(certificates: Certificates) -> None:
    with EtcdServer(tls=certificates) as server:
        server.put(CONFIG, "{}")
        for host in ("127.0.0.1", "localhost"):
            endpoints = ("https://127.0.0.1:9", f"https://{host}:{server.port}")
            async with opened(*endpoints, cafile=str(certificates.ca)) as store:
                await create(store, "10.1.2.0/24" if host == "localhost" else "10.1.3.0/24")
        async with opened(server.endpoint) as store:
            with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
                await store.snapshot()
        async with opened(server.endpoint.replace("https", "http")) as store:
            with pytest.raises(StoreUnavailable):
                await store.snapshot()


async def test_mutual_tls(certificates: Certificates, tmp_path: Path) -> None:
    with EtcdServer(tls=certificates, require_client_certificate=True) as server:
        server.put(CONFIG, "{}")
        async with (
            opened(
                server.endpoint,
                cafile=str(certificates.ca),
                certfile=str(certificates.client_cert),
                keyfile=str(certificates.client_key),
            ) as store,
            listening(store) as heard,
        ):
            await heard.begun()
            server.pause()
            assert await heard.until(connected(False)) <= 3.0
            server.resume()
            await heard.until(connected(True))
        async with opened(server.endpoint, cafile=str(certificates.ca)) as store:
            with pytest.raises(StoreUnavailable):
                await store.snapshot()


async def test_a_name_that_the_certificate_does_not_hold_is_refused(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path, names="DNS:etcd.example")
    server = EtcdServer(tls=certificates)
    try:
        await asyncio.to_thread(server.start)
        async with opened(server.endpoint, cafile=str(certificates.ca)) as store:
            with pytest.raises(StoreUnavailable):
                await store.snapshot()
    finally:
        server.close()


def test_unusable_tls_files_are_named(certificates: Certificates, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no PEM")
    whole = {
        "cafile": str(certificates.ca),
        "certfile": str(certificates.client_cert),
        "keyfile": str(certificates.client_key),
    }
    for name in whole:
        for path in (str(broken), str(tmp_path / "absent.pem")):
            given = EtcdSettings(
                endpoints=("https://127.0.0.1:9",),
                **whole | {name: path},  # type: ignore[arg-type]
            )
            with pytest.raises(StoreSettingsError, match=path):
                EtcdStore(given)


AGENT = {"username": "agent", "password": "s3cret"}


def with_auth(server: EtcdServer) -> None:
    server.enable_auth(**AGENT, prefix=PREFIX)


async def test_password_login_and_its_refusal(server: EtcdServer) -> None:
    with_auth(server)
    async with opened(server.endpoint, **AGENT) as store:
        await create(store)
        async with listening(store) as heard:
            await heard.begun()
    async with opened(server.endpoint, **AGENT | {"password": "wrong"}) as store:
        with pytest.raises(StoreDenied) as denied:
            await store.snapshot()
        assert "--etcd-password" in str(denied.value)
        assert "wrong" not in str(denied.value)
        async with listening(store) as heard:
            state = await heard.one_more()
            assert isinstance(state, StoreState)
            assert not state.connected
    async with opened(server.endpoint) as store:
        with pytest.raises(StoreDenied):
            await store.snapshot()
    async with opened(server.endpoint, **AGENT, prefix="/elsewhere") as store:
        with pytest.raises(StoreDenied):
            await store.snapshot()


async def test_login_where_nobody_has_to(server: EtcdServer) -> None:
    async with opened(server.endpoint, **AGENT) as store:
        lease = await create(store)
        await asyncio.to_thread(with_auth, server)
        assert isinstance(await store.update(lease, attrs=attrs(), ttl=60), Lease)


async def test_a_stale_token_is_replaced() -> None:
    with EtcdServer(flags={"auth-token-ttl": "1"}) as server:
        server.put(CONFIG, "{}")
        with_auth(server)
        async with opened(server.endpoint, **AGENT) as store:
            lease = await create(store)
            async with listening(store) as heard:
                await heard.begun()
                await asyncio.to_thread(server.restart)  # it forgets all tokens
                await heard.until(connected(True))
                renewed = await store.update(lease, attrs=attrs(), ttl=60)
                assert isinstance(renewed, Lease)
                await heard.until(is_put)
                # Silence of the server for as long as a token lives: the probes log in again.
                with pytest.raises(AssertionError, match="not within"):
                    await heard.until(connected(False), within=5)
                await store.snapshot()


async def test_rights_that_are_revoked_and_given_back(server: EtcdServer) -> None:
    with_auth(server)
    rights = ("role", "--user=root:root")
    async with opened(server.endpoint, **AGENT) as store, listening(store) as heard:
        await heard.begun()
        lease = await create(store)
        await heard.until(is_put)
        server.ctl(*rights, "revoke-permission", "--prefix=true", "agent", PREFIX)
        await heard.until(connected(False))
        state = [event for event in heard.events if isinstance(event, StoreState)][-1]
        assert "permission denied" in state.reason
        with pytest.raises(StoreDenied):
            await store.update(lease, attrs=attrs(), ttl=60)
        server.ctl(*rights, "grant-permission", "--prefix=true", "agent", "readwrite", PREFIX)
        await heard.until(connected(True))
        assert isinstance(await store.update(lease, attrs=attrs(), ttl=60), Lease)
        await heard.until(is_put)
        assert not any(isinstance(event, Delete) for event in heard.events)


# --- size and order --------------------------------------------------------------------------


async def test_what_one_transaction_did_keeps_its_order(server: EtcdServer) -> None:
    server.put(f"{SUBNETS}/10.1.1.0-24", value_of(1))
    async with opened(server.endpoint) as store, listening(store) as heard:
        await heard.begun()
        value = json.dumps(value_of(2))
        server.ctl(
            "txn",
            stdin=f"\nput {SUBNETS}/10.1.9.0-24 {value}\ndel {SUBNETS}/10.1.1.0-24\n"
            f"put {SUBNETS}/10.1.2.0-24 {value}\n\n\n",
        )
        await heard.until(lambda events: len(events) == 4)
    assert [type(event) for event in heard.events[1:]] == [Put, Delete, Put]


async def test_many_large_values_are_resumed_over_in_pieces(server: EtcdServer) -> None:
    async with opened(server.endpoint) as store, listening(store) as heard:
        await heard.begun()
        server.kill()
        await heard.until(connected(False))
        with server.hidden():
            for number in range(40):
                server.put(f"{SUBNETS}/large-{number}", "x" * 1_000_000)
            server.put(f"{SUBNETS}/10.1.2.0-24", value_of(1))
        await asyncio.to_thread(server.start)
        await heard.until(is_put)
        refused = [event.record.key for event in heard.events if isinstance(event, PutMalformed)]
        assert refused == [f"{SUBNETS}/large-{number}" for number in range(40)]
        snapshot = await store.snapshot()
    assert len(snapshot.malformed) == 40
    assert len(snapshot.leases) == 1
    assert sum(isinstance(event, Snapshot) for event in heard.events) == 1


async def test_a_value_larger_than_any_answer_may_be_is_named() -> None:
    with EtcdServer(flags={"max-request-bytes": "30000000"}) as server:
        server.put(CONFIG, "{}")
        server.put(f"{SUBNETS}/10.1.2.0-24", value_of(1))
        server.put(f"{SUBNETS}/0-first", "x" * 12_000_000)
        async with opened(server.endpoint) as store, listening(store) as heard:
            first = await heard.begun()
            server.put(f"{SUBNETS}/10.1.3.0-24", "x" * 12_000_000)
            server.put(f"{SUBNETS}/10.1.4.0-24", value_of(1))
            await heard.until(
                lambda events: (
                    any(isinstance(event, Snapshot) and len(event.leases) == 2 for event in events)
                    or is_put(events)
                )
            )
            last = await store.snapshot()
    assert [bad.key for bad in first.malformed] == [f"{SUBNETS}/0-first"]
    assert [lease.subnet for lease in first.leases] == [net("10.1.2.0/24")]
    assert len(last.malformed) == 2
    assert len(last.leases) == 2


MEASURE = """
import asyncio, sys
from pathlib import Path
from subnet.etcd import EtcdSettings, EtcdStore

async def main():
    store = EtcdStore(EtcdSettings(endpoints=(sys.argv[1],)))
    events = store.events()
    snapshot = await anext(events)
    print(len(snapshot.leases), len(snapshot.malformed))
    await events.aclose()
    await store.aclose()

asyncio.run(main())
(peak,) = (l.split()[1] for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l)
print(int(peak) / 1024)
"""


@pytest.mark.parametrize(
    ("keys", "size"), [(100_000, 20), (200, 1_000_000)], ids=["100,000-keys", "200-of-1-MB"]
)
async def test_hostile_records_do_not_cost_much_memory(
    server: EtcdServer, keys: int, size: int
) -> None:
    pairs = [(f"{SUBNETS}/hostile-{number}", "x" * size) for number in range(keys)]
    await asyncio.to_thread(server.put_many, pairs, each=size > 1000)
    server.put(f"{SUBNETS}/10.1.2.0-24", value_of(1))
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", MEASURE, server.endpoint],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    leases, malformed, peak = done.stdout.split()
    assert (int(leases), int(malformed)) == (1, keys)
    assert float(peak) < 150


# --- another release -------------------------------------------------------------------------


@pytest.mark.tools("etcd-demo")
async def test_the_etcd_of_the_demo_obeys_too() -> None:
    with EtcdServer(program="etcd-demo") as server:
        server.put(CONFIG, "{}")
        async with opened(server.endpoint) as store, listening(store) as heard:
            first = await heard.begun()
            lease = await create(store)
            late = await store.create(
                subnet=net("10.1.3.0/24"),
                subnet6=None,
                attrs=attrs(),
                ttl=60,
                not_after=first.identity.revision,
            )
            assert isinstance(late, Conflict)
            renewed = await store.update(lease, attrs=attrs(), ttl=60)
            assert isinstance(renewed, Lease)
            assert await store.delete(renewed)
            await heard.until(lambda events: isinstance(events[-1], Delete))
