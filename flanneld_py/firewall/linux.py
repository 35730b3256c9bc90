"""LinuxRuleset: nf_tables through the socket that notices and the program that writes."""

from __future__ import annotations

from collections.abc import Callable

from flanneld_py.firewall import (
    FLANNEL_TABLES,
    OWN_TABLE,
    FirewallError,
    Listing,
    Notices,
    Table,
)
from flanneld_py.firewall.nftlink import NftLink
from flanneld_py.firewall.nftprogram import NftProgram


class LinuxRuleset:
    """Implements `Ruleset`."""

    def __init__(self) -> None:
        self._link: NftLink | None = None
        self._program = NftProgram()

    def open(self, wake: Callable[[], None]) -> None:
        if self._link is None:
            self._link = NftLink((OWN_TABLE, *FLANNEL_TABLES), wake)

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def notices(self) -> Notices:
        return self._opened.notices()

    def missed(self) -> bool:
        return self._opened.missed()

    def generation(self) -> int:
        return self._opened.generation()

    def tables(self) -> tuple[Table, ...]:
        return self._opened.tables()

    async def listing(self) -> Listing | None:
        return await self._program.table(*OWN_TABLE)

    async def apply(self, transaction: str) -> None:
        await self._program.apply(transaction)

    async def accepts(self, transaction: str) -> bool:
        return await self._program.accepts(transaction)

    @property
    def _opened(self) -> NftLink:
        if self._link is None:
            raise FirewallError("the ruleset is not watched", remedy="open it first")
        return self._link
