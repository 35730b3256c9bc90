"""The nft command: lists one table, performs one transaction, or says whether it would.

The only place that executes it. Does not know what a transaction is about.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Final

from flanneld_py.firewall import FirewallError, Listing

TIMEOUT: Final = 10.0
"""Seconds. A transaction takes some 20 ms, also beside tens of thousands of foreign rules."""
_MORE_FOLDERS: Final = "/usr/sbin:/sbin"
"""Where nft is when PATH does not name the folders of administration."""
_REMEDIES: Final = (
    ("operation not permitted", "run as root or with CAP_NET_ADMIN"),
    ("json support", "install an nft that is built with JSON support"),
    ("not supported", "the kernel needs nf_tables with nat for inet (Linux 5.2 or later)"),
    ("no such file", "the kernel needs the modules nf_tables, nft_chain_nat and nft_masq"),
)
_ABSENT: Final = "No such file or directory"


class NftProgram:
    """`nft`, looked up anew for each use, so that it may be installed while we run."""

    async def table(self, family: str, name: str) -> Listing | None:
        """The objects of a table; None when it is absent."""
        status, out, err = await self._run("-j", "list", "table", family, name)
        if status:
            if _ABSENT in err:
                return None
            raise _failed("listing the table", err)
        try:
            listing = json.loads(out)["nftables"]
        except (ValueError, KeyError, TypeError) as error:
            raise _failed("listing the table", f"no JSON: {out[:80]!r}") from error
        return [item for item in listing if "metainfo" not in item]

    async def apply(self, transaction: str) -> None:
        """Perform a transaction in JSON."""
        status, _, err = await self._run("-j", "-f", "-", text=transaction)
        if status:
            raise _failed("writing the rules", err)

    async def accepts(self, transaction: str) -> bool:
        """Whether the kernel would perform it."""
        status, _, _ = await self._run("-c", "-j", "-f", "-", text=transaction)
        return status == 0

    async def _run(self, *arguments: str, text: str = "") -> tuple[int, str, str]:
        program = _find()
        try:
            child = await asyncio.create_subprocess_exec(
                program,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "LC_ALL": "C"},
                cwd="/",
            )
        except OSError as error:
            raise FirewallError(
                f"{program} cannot be executed: {error.strerror}", remedy="install it anew"
            ) from error
        try:
            async with asyncio.timeout(TIMEOUT):
                out, err = await child.communicate(text.encode())
        except TimeoutError as error:
            raise FirewallError(
                f"{program} has not ended after {TIMEOUT:.0f} s",
                remedy="see what else changes the ruleset (nft monitor)",
            ) from error
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        return child.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")


def _find() -> str:
    folders = f"{os.environ.get('PATH', os.defpath)}:{_MORE_FOLDERS}"
    program = shutil.which("nft", path=folders)
    if program is None:
        raise FirewallError(
            "there is no program nft in PATH",
            remedy="install the package nftables, or run without --ip-masq and "
            "--iptables-forward-rules",
        )
    return str(Path(program))


def _failed(what: str, text: str) -> FirewallError:
    # "internal:0:0-0: Error: Could not process rule: ..." when the input is JSON.
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = lines[0].removeprefix("internal:0:0-0: ").removeprefix("Error: ") if lines else "nothing"
    remedy = next((remedy for part, remedy in _REMEDIES if part in text.lower()), "see nft(8)")
    return FirewallError(f"{what}: nft says: {said}", remedy=remedy)
