"""The firewall: masquerade and forward rules in one nftables table of our own, kept in place.

`policy` says which rules (pure), `nft` renders them (pure), `keeper` keeps them. What they know of
nf_tables is the `Ruleset` here: `linux` is the real one, made of `nftlink` (a socket that notices)
and `nftprogram` (the nft command, which lists and writes); a fake stands in
`flanneld_py.testing.firewall`. Tables that are not ours are never written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

OWN_TABLE: Final = ("inet", "flanneld-py")
"""Family and name of the one table that the agent keeps."""
FLANNEL_TABLES: Final = (("ip", "flannel-ipv4"), ("ip6", "flannel-ipv6"))
"""flannel's own tables in its nftables mode (flannel-compat 8.2): ours takes their place."""

Listing = list[dict[str, Any]]
"""The objects of a table as libnftables-json(5) writes them, the table itself first."""


class FirewallError(Exception):
    """The rules could not be read or written: what happened, and what to do."""

    def __init__(self, reason: str, *, remedy: str) -> None:
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"nftables: {reason}: {remedy}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that exists, whosever it is."""

    family: str
    """As nft writes it: ``inet``, ``ip``, ``ip6``, ..."""
    name: str
    handle: int = 0
    """The kernel's number of it, never used twice."""
    flags: int = 0
    """NFT_TABLE_F_*; not 0 means dormant (without effect) or owned by one process."""

    @property
    def identity(self) -> tuple[str, str]:
        """What names a table."""
        return (self.family, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notices:
    """What the kernel told since the last look."""

    touched: bool = False
    """A table of ours or of flannel's was changed, or notifications were lost."""
    by: str = ""
    """The program that committed the change, where it is known."""


class Ruleset(Protocol):
    """nf_tables in the network namespace of this process. Every method may raise FirewallError."""

    def open(self, wake: Callable[[], None]) -> None:
        """Begin to notice: `wake` is called when `notices` may have something new."""
        ...

    def close(self) -> None:
        """Stop noticing; `open` may follow."""
        ...

    def notices(self) -> Notices:
        """Everything the kernel told since the last call."""
        ...

    def missed(self) -> bool:
        """Whether the ruleset has changed without a notification; costs microseconds."""
        ...

    def generation(self) -> int:
        """The number of transactions that the ruleset has seen."""
        ...

    def tables(self) -> tuple[Table, ...]:
        """Every table; costs microseconds for each."""
        ...

    async def listing(self) -> Listing | None:
        """The content of our table; None when it is absent."""
        ...

    async def apply(self, transaction: str) -> None:
        """Perform one transaction, as a whole or not at all."""
        ...

    async def accepts(self, transaction: str) -> bool:
        """Whether `apply` would succeed. Changes nothing."""
        ...
