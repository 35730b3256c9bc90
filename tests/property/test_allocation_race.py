"""Many nodes, one store, every kind of bad luck: never two owners of one subnet.

Nodes are a table and a keeper each, without an event loop: the schedule decides when a request
reaches the store, when its answer comes back (or that it is lost), how late events are told, who
is cut off, who crashes, and when time passes.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from flanneld_py.testing.datastore import Change
from flanneld_py.testing.store import MemoryBackend, MemoryStore
from subnet import codec
from subnet.acquisition import Claim, Previous
from subnet.allocate import overlapping
from subnet.errors import StoreError, StoreUnavailable
from subnet.intents import CreateLease, DeleteLease, Intent, Phase, UpdateLease, Wait
from subnet.keeper import Answer, LeaseKeeper
from subnet.model import Delete, Lease, LeaseEvent, NetworkConfig, Put, PutMalformed, Snapshot
from subnet.record import read_record
from subnet.table import LeaseTable
from tests.leases import CONFIG, DUAL_CONFIG, attrs, dual_attrs

TTL = 60.0
NODES = 4
NARROW = replace(CONFIG, subnet_min=IPv4Address("10.244.0.0"), subnet_max=IPv4Address("10.244.7.0"))
CONFIGS = (
    NARROW,
    replace(NARROW, subnet_len=23, subnet_max=IPv4Address("10.244.6.0")),
    replace(NARROW, subnet_len=25, subnet_max=IPv4Address("10.244.7.128")),
    replace(
        DUAL_CONFIG,
        subnet_min=NARROW.subnet_min,
        subnet_max=NARROW.subnet_max,
        subnet6_min=IPv6Address("fd00::"),
        subnet6_max=IPv6Address("fd00:0:0:7::"),
    ),
)


class HandClock:
    """Time that only the schedule moves."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps here")


def at_once(work: Coroutine[object, None, Answer]) -> Answer:
    """Run a coroutine of the store in memory, which never really waits."""
    while True:
        try:
            work.send(None)
        except StopIteration as end:
            answer: Answer = end.value
            return answer


class Node:
    """One agent, with its request and answer on their way."""

    def __init__(self, backend: MemoryBackend, clock: HandClock, number: int, random: Random):
        self.backend = backend
        self.clock = clock
        self.number = number
        self.random = random
        self.store = MemoryStore(backend, name=f"node{number}")
        self.cache: Lease | None = None
        self.cut = False
        self.start(CONFIGS[number % len(CONFIGS)])

    def start(self, config: NetworkConfig) -> None:
        self.config = config
        self.table = LeaseTable()
        self.table.set_config(config)
        self.keeper = LeaseKeeper(table=self.table, key_of=self.store.key_of, random=self.random)
        cached = self.cache
        previous = (
            ()
            if cached is None
            else (
                Previous(
                    subnet=cached.subnet, subnet6=cached.subnet6, source="cache", lease=cached
                ),
            )
        )
        published = dual_attrs if config.enable_ipv6 else attrs
        self.keeper.claim(
            Claim(config=config, attrs=published(self.number + 1), previous=previous, ttl=TTL)
        )
        self.table.set_own(self.keeper.own)
        self.told = 0
        self.epoch = -1
        self.request: Intent | None = None
        self.answer: Answer | StoreError | None = None

    def crash(self) -> None:
        self.start(self.random.choice(CONFIGS))

    def step(self) -> None:
        if self.request is None:
            intent = self.keeper.step(self.clock.now())
            if not isinstance(intent, Wait):
                self.request = intent

    def serve(self, *, lose: bool = False) -> None:
        """The request reaches the store; with `lose` its answer never comes back."""
        if self.request is None or self.answer is not None:
            return
        try:
            self.answer = self._ask(self.request)
        except StoreError as error:
            self.answer = error
        if lose:
            self.answer = StoreUnavailable(source="memory", reason="no answer")

    def _ask(self, intent: Intent) -> Answer:
        match intent:
            case CreateLease():
                return at_once(
                    self.store.create(
                        subnet=intent.subnet,
                        subnet6=intent.subnet6,
                        attrs=intent.attrs,
                        ttl=intent.ttl,
                        not_after=intent.not_after,
                    )
                )
            case UpdateLease():
                return at_once(self.store.update(intent.lease, attrs=intent.attrs, ttl=intent.ttl))
            case DeleteLease():
                return at_once(self.store.delete(intent.lease))
        return at_once(self.store.snapshot())

    def hear(self) -> None:
        """The answer arrives."""
        if self.request is None or self.answer is None:
            return
        request, answer = self.request, self.answer
        self.request = self.answer = None
        if isinstance(answer, StoreError):
            self.keeper.failed(request, answer, self.clock.now())
        else:
            for event in self.keeper.done(request, answer, self.clock.now()):
                self.table.apply(event, self.clock.now())
        self.table.set_own(self.keeper.own)
        self.step()
        if self.keeper.state.lease is not None:
            self.cache = self.keeper.state.lease

    def watch(self, limit: int) -> None:
        """Up to `limit` events arrive, one by one; a lost history is told by a snapshot."""
        if self.cut:
            return
        self.backend.expire_due()
        if self.epoch != self.backend.epoch or self.told > len(self.backend.history):
            self.epoch, self.told = self.backend.epoch, len(self.backend.history)
            snapshot = at_once(self.store.snapshot())
            assert isinstance(snapshot, Snapshot)
            self.table.apply(snapshot, self.clock.now())
        for change in self.backend.history[self.told : self.told + limit]:
            self.told += 1
            event = translate(self.backend.prefix, change)
            if event is not None:
                self.table.apply(event, self.clock.now())

    def partition(self) -> None:
        self.cut = True
        self.store.cut()

    def heal(self) -> None:
        self.cut = False
        self.store.restore()
        self.keeper.store_answers(self.clock.now())

    def owned(self) -> Lease | None:
        """The lease of which this node hands out addresses now."""
        state = self.keeper.state
        alive = state.expires_at is None or self.clock.now() < state.expires_at
        return state.lease if state.ready and alive else None


def translate(prefix: str, change: Change) -> LeaseEvent | None:
    """What a watch would tell of a change."""
    if not change.key.startswith(codec.leases_prefix(prefix).encode()):
        return None
    record = change.record
    if record is None:
        return Delete(key=codec.key_text(change.key), revision=change.revision)
    read = read_record(
        prefix,
        change.key,
        record.value,
        create_revision=record.create_revision,
        mod_revision=record.mod_revision,
        lease_id=record.lease_id,
    )
    return Put(lease=read) if isinstance(read, Lease) else PutMalformed(record=read)


class World:
    """The nodes, their store, and what must hold at every moment."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.clock = HandClock()
        self.backend = MemoryBackend(self.clock)
        self.backend.put_config("{}")
        self.nodes = [Node(self.backend, self.clock, n, self.random) for n in range(NODES)]
        self.wiped = False

    def act(self, number: int, action: str) -> None:
        node = self.nodes[number]
        match action:
            case "go":
                self.go(node)
            case "watch":
                node.watch(self.random.choice((1, 2, 100)))
            case "step":
                node.step()
            case "serve":
                node.serve()
            case "lose":
                node.serve(lose=True)
            case "hear":
                node.hear()
            case "cut":
                node.partition()
            case "heal":
                node.heal()
            case "crash":
                node.crash()
            case "time":
                self.clock.time += self.random.choice((1.0, 7.0, 19.0, 30.0, 70.0))
                self.backend.expire_due()
            case "compact":
                self.backend.compact()
            case "wipe":
                self.wiped = True
                self.backend.wipe(revision=self.backend.revision + 50)
        self.check()

    def go(self, node: Node) -> None:
        """The usual case, all in a row."""
        node.watch(100)
        node.step()
        node.serve()
        node.hear()

    def check(self) -> None:
        stored = [self._stored(key) for key in self.backend.records]
        assert_disjoint([(one, one.attrs.public_ip) for one in stored if one is not None])
        if not self.wiped:
            # Who was cut off from a store that lost its data cannot know it before its lease ends.
            owned = [(node.owned(), node.number) for node in self.nodes]
            assert_disjoint([(one, who) for one, who in owned if one is not None])

    def _stored(self, key: bytes) -> Lease | None:
        record = self.backend.records[key]
        change = Change(key=key, record=record, revision=record.mod_revision)
        event = translate(self.backend.prefix, change)
        return event.lease if isinstance(event, Put) else None

    def settle(self) -> None:
        """All faults end; the nodes get as much time as they need."""
        for node in self.nodes:
            node.heal()
        for _ in range(60):
            self.clock.time += 4
            self.backend.expire_due()
            for node in self.nodes:
                for _ in range(3):
                    self.go(node)
            self.check()


def assert_disjoint(leases: list[tuple[Lease, object]]) -> None:
    for position, (one, node) in enumerate(leases):
        for other, other_node in leases[:position]:
            if node != other_node:
                assert not overlapping(one.subnet, one.subnet6, [other]), (one, other)


ACTIONS = st.sampled_from(
    ["go"] * 6
    + ["watch", "step", "serve", "hear"] * 3
    + ["lose", "cut", "heal", "heal", "crash", "time", "time", "compact"]
)


@settings(max_examples=700, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.integers(0, NODES - 1), ACTIONS), min_size=10, max_size=80),
)
def test_never_two_owners(seed: int, schedule: list[tuple[int, str]]) -> None:
    world = World(seed)
    for number, action in schedule:
        world.act(number, action)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.tuples(st.integers(0, NODES - 1), st.one_of(ACTIONS, st.just("wipe"))),
        min_size=10,
        max_size=60,
    ),
)
def test_when_the_faults_end_every_node_has_its_lease_or_says_who_does(
    seed: int, schedule: list[tuple[int, str]]
) -> None:
    world = World(seed)
    for number, action in schedule:
        world.act(number, action)
    before = [node.cache for node in world.nodes]
    running = [node.keeper.state.lease is not None for node in world.nodes]
    world.settle()
    for node, cached, ran in zip(world.nodes, before, running, strict=True):
        state = node.keeper.state
        if state.phase is Phase.LOST:
            assert "is now held by" in state.reason
        else:
            assert state.phase is Phase.HELD, (node.number, state)
            assert state.ready
            assert state.lease is not None
            record = world.backend.records[state.lease.key.encode()]
            assert record.mod_revision == state.lease.mod_revision
        if ran and cached is not None:
            # A running agent never changes its subnet.
            assert state.lease is not None
            assert state.lease.key == cached.key
        accepted = {peer.attrs.public_ip for peer in node.table.peers.values()}
        assert node.keeper.own.public_ip not in accepted
