"""FirewallKeeper on a ruleset in memory and in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Network
from typing import Any

import pytest

from flanneld_py.firewall import FLANNEL_TABLES, OWN_TABLE, FirewallError, Listing, nft
from flanneld_py.firewall.keeper import FirewallKeeper
from flanneld_py.firewall.policy import Policy
from flanneld_py.testing.clock import FakeClock
from flanneld_py.testing.firewall import FakeRuleset

OWN = {"family": "inet", "name": "flanneld-py"}
RULE: dict[str, Any] = {
    "rule": {"family": "inet", "table": "flanneld-py", "chain": "postrouting", "expr": []}
}
FOREIGN_CHAIN: dict[str, Any] = {
    "chain": {"family": "inet", "table": "flanneld-py", "name": "theirs"}
}


def policy(subnet: str = "10.244.1.0/24", **options: bool) -> Policy:
    return Policy.of(
        network=IPv4Network("10.244.0.0/16"),
        subnet=IPv4Network(subnet),
        network6=None,
        subnet6=None,
        **{"masquerade": True, **options},
    )


class World:
    """A keeper at work."""

    def __init__(self) -> None:
        self.ruleset = FakeRuleset()
        self.clock = FakeClock()
        self.progress = 0
        self.keeper = FirewallKeeper(
            ruleset=self.ruleset, clock=self.clock, on_progress=self._progressed
        )

    def _progressed(self) -> None:
        self.progress += 1

    async def wants(self, wanted: Policy | None) -> None:
        self.keeper.want(wanted)
        await self.clock.settle()

    async def settles(self) -> list[str]:
        """Let the keeper do what is due now; what it executed."""
        before = len(self.ruleset.executed)
        await self.clock.settle()
        return self.ruleset.executed[before:]

    def complete(self) -> bool:
        return self.keeper.complete

    @property
    def table(self) -> Listing:
        return self.ruleset.content[OWN_TABLE]

    def holds(self, wanted: Policy) -> bool:
        return nft.is_as_wanted(self.table, wanted)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    task = asyncio.create_task(world.keeper.run())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def world(caplog: pytest.LogCaptureFixture) -> AsyncIterator[World]:
    caplog.set_level(logging.INFO, logger="flanneld_py.firewall")
    world = World()
    async with running(world):
        yield world
    assert not world.ruleset.is_open


def lines(caplog: pytest.LogCaptureFixture, part: str) -> Iterator[str]:
    return (record.getMessage() for record in caplog.records if part in record.getMessage())


async def test_writes_what_is_wanted_once_and_then_rests(world: World) -> None:
    await world.clock.advance(60)
    assert world.ruleset.executed == []
    assert not world.complete()
    await world.wants(policy())
    assert world.complete()
    assert world.holds(policy())
    assert world.ruleset.executed == ["apply", "list"]
    assert (world.keeper.writes, world.keeper.heals) == (1, 0)
    assert world.progress > 0
    await world.wants(policy())
    await world.clock.advance(3600)
    assert world.ruleset.executed == ["apply", "list"]


async def test_a_table_that_is_right_already_is_not_written(world: World) -> None:
    await world.ruleset.apply(nft.replace(policy()))
    world.ruleset.executed.clear()
    await world.wants(policy())
    assert world.complete()
    assert world.ruleset.executed == ["list"]
    assert world.keeper.writes == 0


async def test_a_changed_policy_is_one_more_transaction(world: World) -> None:
    await world.wants(policy())
    handle = world.ruleset.handles[OWN_TABLE]
    await world.wants(policy("10.244.2.0/24", forward=True))
    assert world.complete()
    assert world.holds(policy("10.244.2.0/24", forward=True))
    assert (world.keeper.writes, world.keeper.heals) == (2, 0)
    assert world.ruleset.handles[OWN_TABLE] != handle
    await world.wants(None)
    world.ruleset.flush()
    await world.clock.advance(60)
    assert not world.ruleset.content


async def test_without_rules_there_is_no_table_and_nothing_is_executed(world: World) -> None:
    await world.wants(policy(masquerade=False))
    assert world.complete()
    assert world.ruleset.executed == []
    await world.wants(policy())
    await world.wants(policy(masquerade=False))
    assert OWN_TABLE not in world.ruleset.content
    assert world.complete()


@pytest.mark.parametrize("damage", ["flush", "table", "rule", "added", "chain", "dormant"])
async def test_damage_is_healed_at_once(
    world: World, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    await world.wants(policy())
    if damage == "flush":
        world.ruleset.flush()
    elif damage == "table":
        world.ruleset.change({"delete": {"table": OWN}}, by="somebody")
    elif damage == "rule":
        world.ruleset.change({"delete": world.table[-1]}, by="somebody")
    elif damage == "added":
        world.ruleset.change({"add": RULE}, by="somebody")
    elif damage == "chain":
        # All that would show whose it is goes; the table itself is still the one that we made.
        world.ruleset.change(
            *({"delete": item} for item in world.table[1:]), {"add": FOREIGN_CHAIN}, by="somebody"
        )
    else:
        world.ruleset.flags[OWN_TABLE] = 1
        world.ruleset.change({"add": {"table": OWN}}, by="somebody")
        world.ruleset.flags.clear()
        world.ruleset.change({"delete": world.table[-1]}, by="somebody")
    await world.settles()
    assert world.holds(policy())
    assert world.complete()
    assert world.keeper.heals == 1
    (line,) = lines(caplog, "put back")
    assert "inet flanneld-py" in line
    assert line.endswith("by=nft" if damage == "flush" else "by=somebody")


async def test_changes_of_others_execute_nothing(world: World) -> None:
    await world.wants(policy())
    world.ruleset.executed.clear()
    other = {"family": "inet", "name": "others"}
    for _ in range(100):
        world.ruleset.change({"add": {"table": other}}, {"delete": {"table": other}})
        await world.clock.advance(1)
    assert world.ruleset.executed == []


async def test_a_change_without_notification_is_found_by_the_generation(world: World) -> None:
    await world.wants(policy())
    world.ruleset.silent = True
    world.ruleset.flush()
    world.ruleset.silent = False
    assert await world.settles() == []
    await world.clock.advance(10)
    assert world.holds(policy())


async def test_flannels_tables_are_removed_others_are_not(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = [{"family": family, "name": name} for family, name in FLANNEL_TABLES]
    kept = {"family": "ip", "name": "flannel"}
    world.ruleset.change(*({"add": {"table": table}} for table in [*theirs, kept]))
    await world.wants(policy())
    assert set(world.ruleset.content) == {OWN_TABLE, ("ip", "flannel")}
    assert world.keeper.writes == 1
    assert len(list(lines(caplog, "removed table="))) == 2
    world.ruleset.change({"add": {"table": theirs[1]}}, by="flanneld")
    await world.settles()
    assert set(world.ruleset.content) == {OWN_TABLE, ("ip", "flannel")}


async def test_flannels_tables_go_also_when_no_rules_are_wanted(world: World) -> None:
    family, name = FLANNEL_TABLES[0]
    world.ruleset.change({"add": {"table": {"family": family, "name": name}}})
    await world.wants(Policy())
    assert world.ruleset.content == {}
    assert world.complete()


@pytest.mark.parametrize("wanted", [policy(), Policy()])
async def test_a_foreign_table_of_our_name_is_left_alone(world: World, wanted: Policy) -> None:
    world.ruleset.change({"add": {"table": OWN}}, {"add": FOREIGN_CHAIN})
    before = world.ruleset.content
    await world.wants(wanted)
    assert world.ruleset.content == before
    assert not world.complete()
    (problem,) = world.keeper.problems.values()
    assert "inet flanneld-py" in problem
    assert "nft delete table inet flanneld-py" in problem
    world.ruleset.change({"delete": {"table": OWN}})
    await world.clock.advance(5)
    assert world.complete()
    assert world.keeper.problems == {}


async def test_a_failure_is_said_once_and_retried(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.ruleset.refuses = FirewallError("there is no nft", remedy="install it")
    await world.wants(policy())
    assert not world.complete()
    assert list(world.keeper.problems.values()) == ["nftables: there is no nft: install it"]
    await world.clock.advance(60)
    tries = world.ruleset.executed.count("apply")
    assert 12 <= tries <= 20
    assert len(list(lines(caplog, "there is no nft"))) == 1
    world.ruleset.refuses = None
    await world.clock.advance(4)
    assert world.complete()
    assert world.keeper.problems == {}
    assert len(list(lines(caplog, "can be kept again"))) == 1


async def test_what_cannot_be_watched_is_a_failure_too(world: World) -> None:
    world.ruleset.unwatchable = FirewallError("EPERM", remedy="run as root")
    await world.wants(policy())
    assert world.keeper.problems
    world.ruleset.unwatchable = None
    await world.wants(policy(forward=True))
    assert world.complete()


async def test_a_failed_heal_is_incomplete_and_recovers(world: World) -> None:
    await world.wants(policy())
    world.ruleset.refuses = FirewallError("busy", remedy="wait")
    world.ruleset.flush()
    await world.settles()
    assert not world.complete()
    assert world.keeper.problems
    world.ruleset.refuses = None
    await world.clock.advance(4)
    assert world.holds(policy())
    assert world.complete()
    assert world.keeper.heals == 1


async def test_fully_random_is_left_out_where_it_is_unknown(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.ruleset.refuses_fully_random = True
    await world.wants(policy())
    assert world.complete()
    assert world.holds(policy(fully_random=False))
    assert len(list(lines(caplog, "fully random"))) == 1
    world.ruleset.flush()
    world.ruleset.executed.clear()
    assert await world.settles() == ["apply", "list"]
    assert world.complete()


async def test_an_nft_with_words_of_its_own_is_understood_after_one_write(world: World) -> None:
    def words(listing: Listing) -> Listing:
        return [{**item, "stated": "otherwise"} for item in listing]

    world.ruleset.words = words
    await world.wants(policy())
    assert world.complete()
    assert world.keeper.writes == 1
    world.ruleset.change({"add": RULE})
    await world.settles()
    assert world.keeper.heals == 1
    assert world.holds(policy())


async def test_what_others_slip_in_behind_a_write_is_not_taken_for_ours(world: World) -> None:
    world.ruleset.meanwhile = lambda: world.ruleset.change({"add": RULE})
    await world.wants(policy())
    assert world.holds(policy())
    assert world.complete()
    assert world.keeper.writes == 2


async def test_a_fight_slows_us_down_and_is_named(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.wants(policy())
    for _ in range(300):
        world.ruleset.flush()
        await world.clock.advance(0.1)
    assert 25 <= world.keeper.heals <= 40
    assert world.keeper.warnings
    assert len(list(lines(caplog, "keeps changing"))) == 1
    assert len(list(lines(caplog, "put back"))) <= 7
    await world.clock.advance(2)
    assert world.holds(policy())
    assert world.complete()
    await world.clock.advance(10)
    assert world.keeper.warnings == ()
    world.ruleset.flush()
    await world.settles()
    assert world.holds(policy())
