"""FakeRuleset: nf_tables in memory, with an nft that can be missing, refuse, or speak otherwise.

It performs the JSON transactions that the agent writes, as a whole or not at all, and notifies as
the kernel does. It knows tables and what is listed of them, but no packets.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from flanneld_py.firewall import (
    FLANNEL_TABLES,
    OWN_TABLE,
    FirewallError,
    Listing,
    Notices,
    Table,
)

Identity = tuple[str, str]


class FakeRuleset:
    """Implements `Ruleset`. Everything public may be read and set by tests."""

    def __init__(self) -> None:
        self.content: dict[Identity, Listing] = {}
        """Objects of every table, the table itself first."""
        self.handles: dict[Identity, int] = {}
        self.flags: dict[Identity, int] = {}
        self.refuses: FirewallError | None = None
        """What listing and writing fail with."""
        self.unwatchable: FirewallError | None = None
        """What watching fails with."""
        self.refuses_fully_random = False
        self.silent = False
        """Whether notifications are withheld."""
        self.words: Callable[[Listing], Listing] = lambda listing: listing
        """How this nft lists what it was given."""
        self.meanwhile: Callable[[], None] | None = None
        """What another program does right after our next transaction."""
        self.executed: list[str] = []
        """Programs that were run: list, apply, accepts."""
        self.number = 1
        self._wake: Callable[[], None] | None = None
        self._notices = Notices()
        self._seen = 0
        self._next_handle = 1

    # -- what others do

    def change(self, *commands: dict[str, Any], by: str = "nft") -> None:
        """A transaction of another program: libnftables-json commands `add` and `delete`."""
        self._commit(commands, by)

    def flush(self) -> None:
        """`nft flush ruleset`."""
        tables = [{"family": family, "name": name} for family, name in self.content]
        self._commit([{"delete": {"table": table}} for table in tables], "nft")

    # -- what the agent sees

    def open(self, wake: Callable[[], None]) -> None:
        if self.unwatchable is not None:
            raise self.unwatchable
        if self._wake is None:
            self._seen = self.number
        self._wake = wake

    def close(self) -> None:
        self._wake = None

    @property
    def is_open(self) -> bool:
        return self._wake is not None

    def notices(self) -> Notices:
        taken, self._notices = self._notices, Notices()
        return taken

    def missed(self) -> bool:
        before, self._seen = self._seen, self.number
        return before != self.number

    def generation(self) -> int:
        return self.number

    def tables(self) -> tuple[Table, ...]:
        return tuple(
            Table(
                family=family,
                name=name,
                handle=self.handles[family, name],
                flags=self.flags.get((family, name), 0),
            )
            for family, name in self.content
        )

    async def listing(self) -> Listing | None:
        self._execute("list")
        if OWN_TABLE not in self.content:
            return None
        return self.words(copy.deepcopy(self.content[OWN_TABLE]))

    async def apply(self, transaction: str) -> None:
        self._execute("apply")
        if not self._is_accepted(transaction):
            raise FirewallError("writing the rules: not supported", remedy="none")
        self._commit(json.loads(transaction)["nftables"], "agent")
        if self.meanwhile is not None:
            work, self.meanwhile = self.meanwhile, None
            work()

    async def accepts(self, transaction: str) -> bool:
        self._execute("accepts")
        return self._is_accepted(transaction)

    def _execute(self, what: str) -> None:
        self.executed.append(what)
        if self.refuses is not None:
            raise self.refuses

    def _is_accepted(self, transaction: str) -> bool:
        return not (self.refuses_fully_random and "fully-random" in transaction)

    def _commit(self, commands: Any, by: str) -> None:
        content, handles = copy.deepcopy(self.content), dict(self.handles)
        touched: set[Identity] = set()
        for command in commands:
            ((verb, item),) = command.items()
            ((kind, value),) = item.items()
            name = "name" if kind == "table" else "table"
            identity = (value["family"], value[name])
            touched.add(identity)
            if kind == "table" and verb == "delete":
                del content[identity]
            elif kind == "table":
                if identity not in content:
                    content[identity] = [item]
                    handles[identity] = self._next_handle
                    self._next_handle += 1
            elif verb == "delete":
                content[identity].remove(item)
            else:
                content[identity].append(item)
        self.content, self.handles = content, handles
        self.number += 1
        if self._wake is None or self.silent:
            return
        self._seen = self.number
        if touched & {OWN_TABLE, *FLANNEL_TABLES}:
            self._notices = Notices(touched=True, by=by)
            self._wake()
