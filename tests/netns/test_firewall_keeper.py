"""The firewall's table on the real kernel: atomic, healed at once, idle while nothing changes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from flanneld_py.clock import SystemClock
from flanneld_py.firewall import FLANNEL_TABLES, OWN_TABLE, FirewallError
from flanneld_py.firewall.keeper import FirewallKeeper
from flanneld_py.firewall.linux import LinuxRuleset
from flanneld_py.firewall.nftlink import NftLink
from flanneld_py.firewall.policy import Policy
from flanneld_py.testing.tools import find_tool, search_path
from tests.contract.kernel_worlds import fresh_namespace

pytestmark = pytest.mark.tools("nft")

WANTED = Policy.of(
    network=IPv4Network("10.244.0.0/16"),
    subnet=IPv4Network("10.244.1.0/24"),
    network6=IPv6Network("fd00:10:244::/48"),
    subnet6=IPv6Network("fd00:10:244:1::/64"),
    masquerade=True,
    forward=True,
)
OTHER = Policy.of(
    network=IPv4Network("10.244.0.0/16"),
    subnet=IPv4Network("10.244.7.8/32"),
    network6=None,
    subnet6=None,
    masquerade=True,
    fully_random=False,
)
GOLDEN = """\
table inet flanneld-py {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00004000 == 0x00004000 return
		ip saddr 10.244.1.0/24 ip daddr 10.244.0.0/16 return
		ip saddr 10.244.0.0/16 ip daddr 10.244.1.0/24 return
		ip saddr != 10.244.0.0/16 ip daddr 10.244.1.0/24 return
		ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random
		ip6 saddr fd00:10:244:1::/64 ip6 daddr fd00:10:244::/48 return
		ip6 saddr fd00:10:244::/48 ip6 daddr fd00:10:244:1::/64 return
		ip6 saddr != fd00:10:244::/48 ip6 daddr fd00:10:244:1::/64 return
		ip6 saddr fd00:10:244::/48 ip6 daddr != ff00::/8 masquerade fully-random
		ip6 saddr != fd00:10:244::/48 ip6 daddr fd00:10:244::/48 masquerade fully-random
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		ip saddr 10.244.0.0/16 accept
		ip daddr 10.244.0.0/16 accept
		ip6 saddr fd00:10:244::/48 accept
		ip6 daddr fd00:10:244::/48 accept
	}
}
"""
RULES = 15
COMMENTS = (' comment "flanneld masq"', ' comment "flanneld forward"')
FOREIGN = """\
table ip foreign {
  set blocked { type ipv4_addr; elements = { 192.0.2.7 } }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 10.244.0.0/16 oifname "nowhere" masquerade
  }
}
table inet flanneld {
  chain c {
    counter packets 5 bytes 7 comment "flanneld-py"
  }
}
"""
FLANNELS = """\
table ip flannel-ipv4 { chain postrtg { type nat hook postrouting priority srcnat; }; }
table ip6 flannel-ipv6 { chain forward { type filter hook forward priority 0; }; }
"""


@pytest.fixture(autouse=True)
def namespace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PATH", search_path())
    with fresh_namespace():
        yield


def nft(*arguments: str, text: str = "") -> str:
    done = subprocess.run(
        [str(find_tool("nft")), *arguments, *(["-f", "-"] if text else [])],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (arguments, text[:200], done.stderr)
    return done.stdout


def own_table() -> str:
    """Our table, without the comment that every rule has to have."""
    text = nft("list", "table", *OWN_TABLE)
    for comment in COMMENTS:
        text = text.replace(comment, "")
    return text


class Tally(LinuxRuleset):
    """The real ruleset, counting what is executed."""

    def __init__(self) -> None:
        super().__init__()
        self.executed = 0

    async def listing(self) -> Any:
        self.executed += 1
        return await super().listing()

    async def apply(self, transaction: str) -> None:
        self.executed += 1
        await super().apply(transaction)

    async def accepts(self, transaction: str) -> bool:
        self.executed += 1
        return await super().accepts(transaction)


async def until(condition: Callable[[], bool], *, within: float = 5) -> float:
    """Wait for a condition; the seconds that it took."""
    began = perf_counter()
    while not condition():
        assert perf_counter() - began < within, "it has not come true in time"
        await asyncio.sleep(0.002)
    return perf_counter() - began


class Keeper(FirewallKeeper):
    def is_complete(self) -> bool:
        return self.complete


async def healed(keeper: Keeper, times: int = 1, *, within: float = 1) -> float:
    """Wait until the table has been put back so often; the seconds that it took."""
    return await until(lambda: keeper.heals == times and keeper.complete, within=within)


@asynccontextmanager
async def keeping(ruleset: LinuxRuleset, wanted: Policy = WANTED) -> AsyncIterator[Keeper]:
    keeper = Keeper(ruleset=ruleset, clock=SystemClock())
    keeper.want(wanted)
    task = asyncio.create_task(keeper.run())
    try:
        yield keeper
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def ruleset() -> Tally:
    return Tally()


@pytest.fixture
async def keeper(ruleset: Tally) -> AsyncIterator[Keeper]:
    async with keeping(ruleset) as keeper:
        await until(keeper.is_complete)
        yield keeper


async def test_the_table_is_written_as_it_is_meant(keeper: Keeper, ruleset: Tally) -> None:
    assert own_table() == GOLDEN
    listed = nft("list", "table", *OWN_TABLE)
    assert [listed.count(comment) for comment in COMMENTS] == [11, 4]
    assert keeper.writes == 1
    assert ruleset.executed == 2
    keeper.want(OTHER)
    await until(keeper.is_complete)
    assert "ip saddr 10.244.7.8 ip daddr 10.244.0.0/16 return" in own_table()
    assert "masquerade fully-random" not in own_table()
    assert "forward" not in own_table()
    keeper.want(Policy())
    await until(keeper.is_complete)
    assert nft("list", "ruleset") == ""
    assert keeper.writes == 3


async def test_a_restart_finds_the_table_right_and_writes_nothing(ruleset: Tally) -> None:
    for wanted in (WANTED, OTHER):
        async with keeping(ruleset, wanted) as first:
            await until(first.is_complete)
        listed = nft("-a", "list", "ruleset")
        async with keeping(ruleset, wanted) as second:
            await until(second.is_complete)
            assert second.writes == 0
        assert nft("-a", "list", "ruleset") == listed


async def test_a_saved_ruleset_can_be_restored(keeper: Keeper, ruleset: Tally) -> None:
    """As by `nft list ruleset > file` and `nft -f file`, at boot or by hand."""
    saved = nft("list", "ruleset")
    before = ruleset.executed
    nft(text="flush ruleset\n" + saved)
    await until(lambda: ruleset.executed > before and keeper.complete)
    assert keeper.heals == 0
    assert nft("list", "ruleset") == saved


DAMAGES = {
    "everything flushed": "flush ruleset",
    "table deleted": "delete table inet flanneld-py",
    "table flushed": "flush table inet flanneld-py",
    "chain flushed": "flush chain inet flanneld-py postrouting",
    "rule added": "add rule inet flanneld-py forward drop",
    "rule inserted": "insert rule inet flanneld-py postrouting return",
    "set added": "add set inet flanneld-py s { type ipv4_addr; }",
    "chain added": "add chain inet flanneld-py c",
    "policy changed": "chain inet flanneld-py forward { policy drop; }",
    "switched off": "add table inet flanneld-py { flags dormant; }",
    "chains replaced": "flush table inet flanneld-py; delete chain inet flanneld-py postrouting; "
    "delete chain inet flanneld-py forward; add chain inet flanneld-py theirs",
    "flannel's tables made": FLANNELS,
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_is_healed_within_a_second(keeper: Keeper, damage: str) -> None:
    nft(text=FOREIGN)
    foreign = nft("list", "table", "ip", "foreign") + nft("list", "table", "inet", "flanneld")
    nft(text=DAMAGES[damage])
    took = await healed(keeper)
    assert own_table() == GOLDEN
    tables = nft("list", "tables")
    assert not any(name in tables for _, name in FLANNEL_TABLES)
    if "flush ruleset" not in DAMAGES[damage]:
        now = nft("list", "table", "ip", "foreign") + nft("list", "table", "inet", "flanneld")
        assert now == foreign
    assert took < 1


async def test_each_single_rule_is_put_back(keeper: Keeper) -> None:
    for number in range(RULES):
        handles = [
            (item["rule"]["chain"], item["rule"]["handle"])
            for item in json.loads(nft("-j", "list", "table", *OWN_TABLE))["nftables"]
            if "rule" in item
        ]
        assert len(handles) == RULES
        chain, handle = handles[number]
        nft("delete", "rule", *OWN_TABLE, chain, "handle", str(handle))
        # From the sixth within five seconds on this counts as a fight: once a second.
        await healed(keeper, number + 1, within=2)
        assert own_table() == GOLDEN
    assert keeper.warnings


async def test_twenty_thousand_foreign_rules_are_neither_touched_nor_in_the_way(
    keeper: Keeper, ruleset: Tally
) -> None:
    before = ruleset.executed
    rules = (
        f"ip saddr 10.{i >> 14}.{i >> 7 & 127}.{i & 127} tcp dport {i + 1} counter accept\n"
        for i in range(20_000)
    )
    nft(text="table ip foreign {\n chain c {\n" + "".join(rules) + " }\n}\n")
    foreign = nft("-a", "list", "table", "ip", "foreign")
    await asyncio.sleep(0)
    nft("delete", "table", *OWN_TABLE)
    took = await healed(keeper)
    # The foreign transaction may have overrun a small receive buffer, which costs one listing.
    assert ruleset.executed - before <= 3
    assert own_table() == GOLDEN
    assert nft("-a", "list", "table", "ip", "foreign") == foreign
    assert took < 1


async def test_nothing_is_executed_while_others_change_what_is_theirs(
    keeper: Keeper, ruleset: Tally
) -> None:
    before, cpu = ruleset.executed, time.process_time()
    for _ in range(20):
        nft(text=FOREIGN)
        nft("delete", "table", "ip", "foreign")
        await asyncio.sleep(0.01)
    assert ruleset.executed == before
    assert keeper.complete
    assert time.process_time() - cpu < 1


async def test_an_overrun_is_noticed(keeper: Keeper, ruleset: Tally) -> None:
    """The event loop stands still while more is told than the socket holds."""
    link = ruleset._opened
    link._told.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    nft(text="".join(f"add table ip t{i}\nadd chain ip t{i} c\n" for i in range(500)))
    nft("flush", "ruleset")
    await healed(keeper)
    assert own_table() == GOLDEN


async def test_the_generation_tells_what_was_missed() -> None:
    woken: list[bool] = []
    link = NftLink([OWN_TABLE], lambda: woken.append(True))
    try:
        link.missed()
        assert not link.missed()
        generation = link.generation()
        nft(text="add table inet flanneld-py\nadd table ip x")
        assert link.generation() == generation + 1
        notices = link.notices()
        assert notices.touched
        assert notices.by
        assert not link.missed()
        assert [table.identity for table in link.tables()] == [OWN_TABLE, ("ip", "x")]
        nft("add", "table", "ip", "flanneld-py")
        nft("add", "table", "ip", "x", '{ comment "flanneld-py"; }')
        assert not link.notices().touched
        nft("add", "table", *OWN_TABLE, "{ flags dormant; }")
        assert [table.flags for table in link.tables()] == [1, 0, 0]
        await until(lambda: bool(woken))
    finally:
        link.close()


async def test_many_tables_are_listed() -> None:
    names = [f"table{number}" for number in range(2000)]
    nft(text="".join(f"add table inet {name}\n" for name in names))
    link = NftLink([OWN_TABLE], lambda: None)
    try:
        assert [table.name for table in link.tables()] == names
    finally:
        link.close()


async def test_a_foreign_table_of_our_name_is_left_and_named(ruleset: Tally) -> None:
    theirs = "table inet flanneld-py {\n\tchain theirs {\n\t\tdrop\n\t}\n}\n"
    nft(text=theirs)
    async with keeping(ruleset) as keeper:
        await until(lambda: bool(keeper.problems))
        assert own_table() == theirs
        (problem,) = keeper.problems.values()
        assert "nft delete table inet flanneld-py" in problem
        nft("delete", "table", *OWN_TABLE)
        await until(keeper.is_complete)
        assert own_table() == GOLDEN


async def test_a_missing_nft_is_named_and_may_be_installed(
    ruleset: Tally, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("flanneld_py.firewall.nftprogram._MORE_FOLDERS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    async with keeping(ruleset) as keeper:
        await until(lambda: bool(keeper.problems))
        assert "install the package nftables" in next(iter(keeper.problems.values()))
        (tmp_path / "nft").symlink_to(find_tool("nft"))
        await until(keeper.is_complete)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'Error: JSON support not compiled-in' >&2; exit 1", "built with JSON support"),
        ("echo 'internal:0:0-0: Error: Could not process rule: Not supported' >&2; exit 1", "5.2"),
        ("exit 3", "nft says: nothing"),
        ("kill -9 $$", "nft says: nothing"),
    ],
)
async def test_a_broken_nft_is_named(
    ruleset: Tally, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, said: str
) -> None:
    program = tmp_path / "nft"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    async with keeping(ruleset) as keeper:
        await until(lambda: bool(keeper.problems))
        assert said in next(iter(keeper.problems.values()))
        program.unlink()
        await until(keeper.is_complete)


RIGHTLESS = """
import asyncio
from flanneld_py.firewall import FirewallError
from flanneld_py.firewall.linux import LinuxRuleset
async def main():
    try:
        LinuxRuleset().open(lambda: None)
    except FirewallError as error:
        print(error)
asyncio.run(main())
"""


def test_missing_rights_are_named() -> None:
    done = subprocess.run(
        ["setpriv", "--bounding-set=-net_admin", "--", sys.executable, "-c", RIGHTLESS],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "EPERM" in done.stdout
    assert "CAP_NET_ADMIN" in done.stdout


async def test_a_transaction_is_performed_as_a_whole_or_not_at_all(
    keeper: Keeper, ruleset: Tally
) -> None:
    bad = json.dumps(
        {
            "nftables": [
                {"delete": {"table": {"family": "inet", "name": "flanneld-py"}}},
                {"add": {"chain": {"family": "inet", "table": "absent", "name": "c"}}},
            ]
        }
    )
    assert not await ruleset.accepts(bad)
    with pytest.raises(FirewallError, match="No such file or directory"):
        await ruleset.apply(bad)
    assert own_table() == GOLDEN
    assert keeper.complete
