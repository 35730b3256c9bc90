"""Debian packages as files: found, downloaded and unpacked by apt and dpkg, never installed.

Works for every user, changes nothing on the system, and starts no service. All state (lists,
caches) is in a folder of our own; only the machine's configured sources are read. Must not know
what the packages are for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from progress import SetupError, complain, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_SYSTEM_LISTS = Path("/var/lib/apt/lists")


class AptError(SetupError):
    """apt-get failed; the message has its own last words."""


@contextlib.contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Keep other set-ups that share the cache out of it."""
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another set-up is working in {cache}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Archive:
    """The machine's Debian archive, read with our own state.

    The machine's package lists serve if it has some; if they are too old or absent, our own are
    fetched, once.
    """

    def __init__(self, cache: Path) -> None:
        self._state = cache / "apt"
        self._debs = cache / "debs"
        self._is_renewed = False

    def fetch(self, wanted: Iterable[str], *, libraries: bool) -> list[Path]:
        """Download packages, and with `libraries` also the shared libraries that they need.

        Raises `AptError`.
        """
        wanted = list(wanted)
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            raise AptError(
                "apt-get and dpkg are not here, so Debian packages cannot be unpacked; put the "
                "programs into a folder with bin/ and cni/ and name it in FLANNELD_PY_TOOLS "
                "(scripts/README.md)"
            )
        self._debs.mkdir(parents=True, exist_ok=True)
        failure = AptError("no package lists")
        for lists in self._lists():
            apt = _Apt(self._state, lists)
            try:
                files = apt.closure(wanted) if libraries else apt.alone(wanted)
                return apt.download(files, self._debs)
            except AptError as error:
                failure = error
        raise failure

    def fetch_what_there_is(
        self, wanted: Iterable[str], missing: Callable[[str, str], None]
    ) -> list[Path]:
        """Download packages with their libraries; one that is not to be had stops no other.

        `missing` is told the name of each that is not to be had, and why.
        """
        wanted = list(wanted)
        try:
            return self.fetch(wanted, libraries=True)
        except AptError as error:
            complain(f"not all packages in one go ({error}); trying them one by one")
        found: dict[Path, None] = {}
        for name in wanted:
            try:
                found |= dict.fromkeys(self.fetch([name], libraries=True))
            except AptError as error:
                missing(name, str(error))
        return list(found)

    def _lists(self) -> Iterator[Path]:
        """Yield folders of package lists: the machine's, then ours as they are, then renewed."""
        if any(_SYSTEM_LISTS.glob("*_Packages*")):
            yield _SYSTEM_LISTS
        own = self._state / "lists"
        if any(own.glob("*_Packages*")):
            yield own
        if not self._is_renewed:
            self._is_renewed = True
            say("apt: fetching package lists of our own")
            _Apt(self._state, own).update()
            yield own


def unpack(debs: Iterable[Path], root: Path) -> None:
    """Unpack packages into a folder, without running any of their scripts."""
    root.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        done = subprocess.run(
            ["dpkg", "-x", deb, root], capture_output=True, text=True, check=False
        )
        if done.returncode:
            deb.unlink(missing_ok=True)
            raise SetupError(f"dpkg could not unpack {deb.name}: {_last_words(done.stderr)}")


class _Apt:
    """apt-get with all of its state in a folder of ours, and nothing installed."""

    def __init__(self, state: Path, lists: Path) -> None:
        for folder in (state / "lists/partial", state / "cache/archives/partial"):
            folder.mkdir(parents=True, exist_ok=True)
        # Against an empty status every dependency counts as absent: nothing is taken for granted.
        nothing_installed = state / "status"
        nothing_installed.touch()
        options = {
            "Dir::State": state,
            "Dir::State::lists": lists,
            "Dir::State::status": nothing_installed,
            "Dir::Cache": state / "cache",
            "APT::Sandbox::User": "root",  # the other user could not write into our folder
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
            "Acquire::Retries": 2,
            "Acquire::http::Timeout": 30,
            "Acquire::https::Timeout": 30,
            "Debug::NoLocking": "true",  # the machine's lists are only read; ours have our own lock
        }
        self._command = ["apt-get", "-q"]
        for name, value in options.items():
            self._command += ["-o", f"{name}={value}"]

    def update(self) -> None:
        # One broken source of many is no reason to stop: what matters is found or not found later.
        try:
            self._run("update")
        except AptError as error:
            complain(f"apt-get update: {error}")

    def closure(self, wanted: list[str]) -> list[str]:
        """Return the file names of `wanted` and of the libraries that they need."""
        files = self._files("--no-install-recommends", "install", *wanted)
        return [
            file for file in files if _package(file) in wanted or _is_shared_library(_package(file))
        ]

    def alone(self, wanted: list[str]) -> list[str]:
        """Return the file names of `wanted` without what they need."""
        return self._files("download", *wanted)

    def download(self, files: list[str], debs: Path) -> list[Path]:
        missing = [file for file in files if not (debs / file).exists()]
        if missing:
            say(f"apt: downloading {len(missing)} packages")
            self._run("download", *map(_package, missing), folder=debs)
        absent = [file for file in files if not (debs / file).exists()]
        if absent:
            raise AptError(f"apt-get left out {', '.join(absent)}")
        return [debs / file for file in files]

    def _files(self, *arguments: str) -> list[str]:
        # Lines such as: 'address' libmnl0_1.0.4-3_amd64.deb 12476 SHA256:...
        lines = self._run("-q", "--print-uris", *arguments).splitlines()
        return [line.split()[1] for line in lines if line.startswith("'")]

    def _run(self, *arguments: str, folder: Path = Path("/")) -> str:
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AptError(_last_words(done.stderr))
        return done.stdout


def _package(file: str) -> str:
    return file.split("_", 1)[0]


def _is_shared_library(name: str) -> bool:
    # The C library is the machine's own: it has to fit the machine's program loader. Scripts for
    # web pages are called libraries, too.
    if name == "libc6" or name.startswith("libjs-") or "perl" in name:
        return False
    return name.startswith("lib") or name == "zlib1g"


def _last_words(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")] or lines[-1:]
    return "; ".join(errors[:3]) or "it failed without a word"
