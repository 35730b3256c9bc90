"""FirewallKeeper: the task that keeps our nftables table as the policy says.

It compares what is listed with what is wanted, and replaces the table as a whole when they differ:
at start, when the policy changes, and when the kernel tells that somebody touched it. While nothing
of ours changes nothing is executed. Which rules, and how they are written, is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Final

from flanneld_py.firewall import (
    FLANNEL_TABLES,
    OWN_TABLE,
    FirewallError,
    Listing,
    Ruleset,
    Table,
    nft,
)
from flanneld_py.firewall.policy import Policy
from flanneld_py.nap import nap
from flanneld_py.reconcile.fights import Fights
from subnet.clock import Clock

log = logging.getLogger(__name__)

BACKSTOP: Final = 10.0
"""Seconds between two looks at the generation, should a notification ever be missing."""
FIRST_RETRY: Final = 0.25
LAST_RETRY: Final = 4.0
"""Seconds; what is repaired from outside counts within 5."""
_NAME: Final = " ".join(OWN_TABLE)
_KEY: Final = ("nftables", *OWN_TABLE)


class FirewallKeeper:
    """One table, one policy."""

    def __init__(
        self, *, ruleset: Ruleset, clock: Clock, on_progress: Callable[[], None] = lambda: None
    ) -> None:
        self.problems: dict[str, str] = {}
        """Why the table is not as it should be, under the table's name; empty when it is."""
        self.heals = 0
        """How often the table was put back after others had changed it."""
        self.writes = 0
        """Transactions performed, heals included."""
        self._ruleset = ruleset
        self._clock = clock
        self._on_progress = on_progress
        self._policy: Policy | None = None
        self._held: Policy | None = None
        self._intact = False
        self._handle = 0
        self._dialect: tuple[Policy, Listing] | None = None
        self._fully_random_works = True
        self._fights = Fights()
        self._fought_by = ""
        self._tries = 0
        self._not_before = 0.0
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()

    def want(self, policy: Policy | None) -> None:
        """Keep this policy from now on; with None, leave everything as it is."""
        if policy != self._policy:
            self._policy = policy
            self._changed.set()
            self._wake.set()

    @property
    def complete(self) -> bool:
        """Whether the kernel holds what is wanted."""
        return self._policy is not None and self._intact and self._held == self._policy

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know although everything is kept."""
        if not self._fights.active(self._clock.now()):
            return ()
        return (f"another program{self._fought_by} keeps changing the nftables table {_NAME}",)

    async def run(self) -> None:
        """Keep the table until cancelled; it stays when we end."""
        try:
            while True:
                await self._rest()
                self._wake.clear()
                self._changed.clear()
                if self._policy is not None:
                    await self._look(self._policy)
        finally:
            self._ruleset.close()

    # -- when to look

    async def _rest(self) -> None:
        """Return when there is a reason to look."""
        if self._policy is None:
            await self._changed.wait()
            return
        pause = self._not_before - self._clock.now()
        if pause > 0:
            # Whatever is told meanwhile would only make us fail, or fight, more often.
            await nap(self._changed, self._clock, pause)
            return
        while not self._wake.is_set():
            await nap(self._wake, self._clock, BACKSTOP)
            if not self._wake.is_set() and self._has_missed():
                log.debug("the ruleset changed without a notification: looking")
                return

    def _has_missed(self) -> bool:
        try:
            return self._ruleset.missed()
        except FirewallError as error:
            log.debug("%s", error)
            return True

    async def _look(self, policy: Policy) -> None:
        before = (self.complete, dict(self.problems))
        try:
            self._ruleset.open(self._wake.set)
            await self._keep(policy)
        except FirewallError as error:
            self._failed(error)
        if before != (self.complete, self.problems):
            self._on_progress()

    def _failed(self, error: FirewallError) -> None:
        self._intact = False
        self._ruleset.close()
        self._tries += 1
        delay = min(FIRST_RETRY * 2 ** min(self._tries - 1, 10), LAST_RETRY)
        self._not_before = self._clock.now() + delay
        if self.problems.get(_NAME) != str(error):
            log.error("%s", error)
        self.problems[_NAME] = str(error)

    # -- what to do

    async def _keep(self, policy: Policy) -> None:
        by = self._ruleset.notices().by
        tables = {table.identity: table for table in self._ruleset.tables()}
        flannels = [identity for identity in FLANNEL_TABLES if identity in tables]
        difference = await self._difference(policy, tables.get(OWN_TABLE))
        if not difference and not flannels:
            self._is_kept(policy)
            return
        heals = self._held == policy
        if heals:
            self._intact = False
            self._on_progress()
            due = self._fights.not_before(_KEY, self._clock.now())
            if due > self._clock.now():
                self._not_before = due
                return
        await self._write(policy, flannels)
        for family, name in flannels:
            log.info("removed table=%s %s: flannel's, replaced by %s", family, name, _NAME)
        if heals:
            self._tell_heal(difference or "flannel's tables came back", by)
        elif difference:
            rules = (len(policy.masquerade), len(policy.forward))
            log.info("wrote table=%s masquerade=%s forward=%s rules", _NAME, *rules)

    async def _difference(self, policy: Policy, own: Table | None) -> str:
        """Why the table is not as it should be; empty when it is. Raises when it is not ours."""
        absent = "" if policy.is_empty else "it was absent"
        if own is None:
            return absent
        known = own.handle == self._handle
        if own.flags:
            # Its flags may keep nft from listing it (1.0.6 prints half of its JSON and ends).
            if known:
                return "it was switched off"
            raise _foreign()
        listing = await self._ruleset.listing()
        if listing is None:
            return absent
        if not known and not nft.is_ours(listing):
            raise _foreign()
        if policy.is_empty:
            return "no rules are wanted"
        if self._is_as_wanted(listing, policy):
            self._handle = own.handle
            return ""
        return "its content was altered"

    def _is_as_wanted(self, listing: Listing, policy: Policy) -> bool:
        return nft.is_as_wanted(listing, self._effective(policy)) or self._dialect == (
            policy,
            nft.canonical(listing),
        )

    async def _write(self, policy: Policy, flannels: Sequence[tuple[str, str]]) -> None:
        before = self._ruleset.generation()
        await self._apply(policy, flannels)
        self.writes += 1
        self._ruleset.notices()  # of our own doing
        if not self._changed.is_set():
            self._wake.clear()
        own = next((t for t in self._ruleset.tables() if t.identity == OWN_TABLE), None)
        listing = None if own is None or policy.is_empty else await self._ruleset.listing()
        if listing is not None and not self._is_as_wanted(listing, policy):
            if self._ruleset.generation() == before + 1:
                # Only our own transaction happened: this is how this nft lists what we wrote.
                log.debug("nft lists the table in words of its own: remembered")
                self._dialect = (policy, nft.canonical(listing))
            else:
                own = None
        self._handle = own.handle if own is not None else 0
        if (own is None) == policy.is_empty:
            self._is_kept(policy)
            return
        self._held, self._intact = policy, False
        self._wake.set()

    async def _apply(self, policy: Policy, flannels: Sequence[tuple[str, str]]) -> None:
        effective = self._effective(policy)
        try:
            await self._ruleset.apply(nft.replace(effective, flannels))
        except FirewallError:
            plain = nft.replace(dataclasses.replace(effective, fully_random=False), flannels)
            if not effective.fully_random or not await self._ruleset.accepts(plain):
                raise
            log.warning("fully random ports are unknown to nft or the kernel: left out")
            self._fully_random_works = False
            await self._ruleset.apply(plain)

    def _effective(self, policy: Policy) -> Policy:
        if self._fully_random_works:
            return policy
        return dataclasses.replace(policy, fully_random=False)

    def _is_kept(self, policy: Policy) -> None:
        self._held, self._intact = policy, True
        self._tries, self._not_before = 0, 0.0
        if self.problems.pop(_NAME, ""):
            log.info("table=%s can be kept again", _NAME)

    def _tell_heal(self, difference: str, by: str) -> None:
        self.heals += 1
        now = self._clock.now()
        fought_before = bool(self._fights.active(now))
        if self._fights.corrected(_KEY, now):
            self._fought_by = f" ({by})" if by else ""
            log.warning(
                "another program%s keeps changing table=%s: put back at most once a second",
                self._fought_by,
                _NAME,
            )
        elif not fought_before:
            log.info("put back table=%s: %s by=%s", _NAME, difference, by or "unknown")


def _foreign() -> FirewallError:
    return FirewallError(
        f"the table {_NAME} is not of flanneld-py: it holds none of its chains",
        remedy=f"if it is not needed: nft delete table {_NAME}",
    )
