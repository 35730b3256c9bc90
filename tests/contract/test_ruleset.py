"""What the keeper relies on, of nf_tables in memory and of the kernel's."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Network
from typing import Any

import pytest

from flanneld_py.firewall import FLANNEL_TABLES, OWN_TABLE, Ruleset, nft
from flanneld_py.firewall.linux import LinuxRuleset
from flanneld_py.firewall.nftprogram import NftProgram
from flanneld_py.firewall.policy import Policy
from flanneld_py.testing.firewall import FakeRuleset
from flanneld_py.testing.tools import search_path
from tests.contract.kernel_worlds import fresh_namespace

WANTED = Policy.of(
    network=IPv4Network("10.244.0.0/16"),
    subnet=IPv4Network("10.244.1.0/24"),
    network6=None,
    subnet6=None,
    masquerade=True,
    forward=True,
)
OWN, OTHER = ({"family": "inet", "name": name} for name in ("flanneld-py", "others"))


class World:
    """A ruleset, and another program that changes it."""

    def __init__(self, ruleset: Ruleset) -> None:
        self.ruleset = ruleset
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    async def change(self, *commands: dict[str, Any]) -> None:
        if isinstance(self.ruleset, FakeRuleset):
            self.ruleset.change(*commands)
        else:
            await NftProgram().apply(json.dumps({"nftables": commands}))

    async def was_woken(self) -> None:
        deadline = time.monotonic() + 5
        while not self.woken:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.002)


@pytest.fixture(
    params=[
        FakeRuleset,
        pytest.param(LinuxRuleset, marks=[pytest.mark.root, pytest.mark.tools("nft")]),
    ]
)
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ruleset]:
    if request.param is FakeRuleset:
        yield FakeRuleset()
        return
    monkeypatch.setenv("PATH", search_path())
    with fresh_namespace():
        yield LinuxRuleset()


@pytest.fixture
async def world(made: Ruleset) -> AsyncIterator[World]:
    world = World(made)
    made.open(world.wake)
    made.open(world.wake)
    yield world
    made.close()
    made.close()


async def test_a_transaction_is_listed_and_counted(world: World) -> None:
    ruleset = world.ruleset
    assert ruleset.tables() == ()
    assert await ruleset.listing() is None
    number = ruleset.generation()
    await ruleset.apply(nft.replace(WANTED))
    assert ruleset.generation() == number + 1
    listing = await ruleset.listing()
    assert listing is not None
    assert nft.is_as_wanted(listing, WANTED)
    assert nft.is_ours(listing)
    (table,) = ruleset.tables()
    assert table.identity == OWN_TABLE
    assert table.flags == 0
    await ruleset.apply(nft.replace(WANTED))
    (again,) = ruleset.tables()
    assert again.handle != table.handle
    await ruleset.apply(nft.replace(Policy()))
    assert ruleset.tables() == ()


async def test_a_check_changes_nothing(world: World) -> None:
    number = world.ruleset.generation()
    assert await world.ruleset.accepts(nft.replace(WANTED))
    assert world.ruleset.generation() == number
    assert world.ruleset.tables() == ()


async def test_changes_of_our_table_and_of_flannels_are_told(world: World) -> None:
    ruleset = world.ruleset
    ruleset.missed()
    for family, name in (OWN_TABLE, *FLANNEL_TABLES):
        await world.change({"add": {"table": {"family": family, "name": name}}})
        await world.was_woken()
        assert ruleset.notices().touched
        assert not ruleset.notices().touched
        assert not ruleset.missed()
        world.woken = 0
    await world.change({"delete": {"table": OWN}})
    assert ruleset.notices().touched


async def test_changes_of_others_are_not(world: World) -> None:
    world.ruleset.missed()
    await world.change({"add": {"table": OTHER}})
    await world.change({"delete": {"table": OTHER}})
    assert not world.ruleset.notices().touched
    assert not world.ruleset.missed()
    assert not world.woken


async def test_flannels_tables_go_with_a_replacement(world: World) -> None:
    for family, name in FLANNEL_TABLES:
        await world.change({"add": {"table": {"family": family, "name": name}}})
    await world.change({"add": {"table": OTHER}})
    number = world.ruleset.generation()
    await world.ruleset.apply(nft.replace(WANTED, FLANNEL_TABLES))
    assert world.ruleset.generation() == number + 1
    identities = {table.identity for table in world.ruleset.tables()}
    assert identities == {OWN_TABLE, ("inet", "others")}


async def test_it_can_be_opened_again(world: World) -> None:
    world.ruleset.close()
    world.ruleset.open(world.wake)
    await world.change({"add": {"table": OWN}})
    await world.was_woken()
    assert world.ruleset.notices().touched
