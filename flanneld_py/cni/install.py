"""Puts the shim and its conflist in place, and takes them away again.

Each file is written whole and renamed into place, after everything that can be checked before: a
failure leaves both folders as they were. Must not know the command line.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flanneld_py.cni import shim
from flanneld_py.cni.conf import SHIM, CniConf
from flanneld_py.cni.direct import FILE_NAME, SAVED_NAME

PLUGIN_NAME = SHIM
SAVED_PLUGIN = f"{PLUGIN_NAME}.orig"
MARK = b"flanneld-py"
"""Stands in the first lines of our plugin."""
OLDEST_PYTHON = (3, 6)
USUAL_PYTHON = Path("/usr/bin/python3")
LONGEST_INTERPRETER = 120
"""Bytes of a path in a first line: Linux before 5.1 cuts it at 127, with the flags."""
_HEAD = 1024
_SECONDS = 30
_ASK = "import sys, os, _socket; print('%d.%d' % sys.version_info[:2])"


class InstallError(Exception):
    """It could not be done: `what` (a path), `reason` and `remedy` say why."""

    def __init__(self, *, what: str, reason: str, remedy: str) -> None:
        self.what = what
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{what}: {reason}: {remedy}")


def choose_python(ours: str) -> Path:
    """The interpreter for the shim: the system's, which starts fastest, else our own."""
    return USUAL_PYTHON if os.access(USUAL_PYTHON, os.X_OK) else Path(ours)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What is wanted, and where."""

    bin_dir: Path
    """The runtime's folder of plugins."""
    conf_dir: Path
    """The runtime's folder of configurations."""
    conf: CniConf
    """The conflist that is installed."""
    subnet_file: Path
    run_dir: Path
    """Of the agent."""
    python: Path
    """Absolute path of the interpreter that runs the shim."""

    def install(self) -> list[str]:
        """Put plugin and conflist in place; lines for people. Raises InstallError."""
        version = python_version(self.python)
        plugin, conflist = self.bin_dir / PLUGIN_NAME, self.conf_dir / FILE_NAME
        for folder, flag in ((self.bin_dir, "--cni-bin-dir"), (self.conf_dir, "--cni-conf-dir")):
            _check_folder(folder, flag)
        for place in (plugin, conflist):
            if place.is_dir() and not place.is_symlink():
                raise InstallError(
                    what=str(place), reason="a folder stands there", remedy="remove it"
                )
        lines = []
        with contextlib.ExitStack() as undo:
            new_plugin = _write(plugin, self._shim(), 0o755, "--cni-bin-dir")
            undo.callback(new_plugin.unlink)
            _try(new_plugin, self.python)
            new_conf = _write(conflist, self.conflist().encode(), 0o644, "--cni-conf-dir")
            undo.pop_all()
        saved = _replace(plugin, new_plugin, SAVED_PLUGIN, "--cni-bin-dir")
        lines += _told(plugin, saved, f"the CNI plugin, run by {self.python} (Python {version})")
        link = os.readlink(conflist) if conflist.is_symlink() else ""
        saved = _replace(conflist, new_conf, SAVED_NAME, "--cni-conf-dir")
        lines += _told(conflist, saved, "the conflist that uses it")
        if link:
            lines.append(
                f"note: {conflist} was a link to {link}, as --cni-mode=direct makes it: start the "
                "agent with --cni-mode=off, or it puts that back"
            )
        return lines + self._remarks()

    def restore(self) -> list[str]:
        """Take ours away and put back what was saved aside. Raises InstallError."""
        lines = []
        for place, saved, flag in (
            (self.conf_dir / FILE_NAME, self.conf_dir / SAVED_NAME, "--cni-conf-dir"),
            (self.bin_dir / PLUGIN_NAME, self.bin_dir / SAVED_PLUGIN, "--cni-bin-dir"),
        ):
            try:
                if os.path.lexists(saved):
                    os.replace(saved, place)
                    lines.append(f"{place}: put back what was there before")
                elif is_ours(place):
                    place.unlink()
                    lines.append(f"{place}: removed; nothing had been there before")
                else:
                    lines.append(f"{place}: left alone, it is not ours")
            except OSError as error:
                raise _mapped(place, flag, error) from error
        return lines

    def conflist(self) -> str:
        """The text of the conflist."""
        extra: dict[str, str] = {}
        if str(self.subnet_file) != shim.SUBNET_FILE:
            extra["subnetFile"] = str(self.subnet_file)
        if str(self.run_dir) != shim.RUN_DIR:
            extra["runDir"] = str(self.run_dir)
        plugins = [
            {**extra, **plugin} if plugin["type"] == SHIM else plugin
            for plugin in self.conf.plugins
        ]
        named: Mapping[str, object] = {
            **self.conf.others,
            "name": self.conf.name,
            "cniVersion": self.conf.cni_version,
            "plugins": plugins,
            "flanneld-py": {"plugins": [plugin["type"] for plugin in plugins]},
        }
        return json.dumps(named, indent=2) + "\n"

    def _shim(self) -> bytes:
        """The shim's text with the interpreter in its first line."""
        text = Path(shim.__file__).read_bytes()
        return b"#!" + os.fsencode(self.python) + b" -IS\n" + text.partition(b"\n")[2]

    def _remarks(self) -> list[str]:
        needed = [plugin["type"] for plugin in self.conf.plugins if plugin["type"] != SHIM]
        needed += [self.conf.delegate.get("type", "bridge")]
        needed += [(self.conf.entry.get("ipam") or {}).get("type", "host-local")]
        missing = sorted({name for name in needed if not (self.bin_dir / str(name)).exists()})
        if not missing:
            return []
        why = f"{self.bin_dir} lacks {', '.join(missing)}, without which no pod starts"
        remedy = "install the CNI plugins (Debian: containernetworking-plugins)"
        return [f"note: {why}: {remedy}, or name their folder with --cni-bin-dir"]


def python_version(python: Path) -> str:
    """Ask an interpreter, as the shim will use it, for its version. Raises InstallError."""
    text = str(python)
    remedy = "give another one with --python=/path/to/python3"
    if not text.isprintable() or " " in text or len(os.fsencode(text)) > LONGEST_INTERPRETER:
        reason = "this path cannot stand in the first line of a script"
        raise InstallError(what=text, reason=reason, remedy=remedy)
    try:
        done = subprocess.run(
            [text, "-IS", "-c", _ASK],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = f"it cannot be run ({getattr(error, 'strerror', None) or error})"
        raise InstallError(what=text, reason=reason, remedy=remedy) from error
    version = done.stdout.strip()
    major, _, minor = version.partition(".")
    if done.returncode != 0 or not (major.isdigit() and minor.isdigit()):
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise InstallError(what=text, reason=f"it is no Python that works ({last})", remedy=remedy)
    if (int(major), int(minor)) < OLDEST_PYTHON:
        reason = f"it is Python {version}, and the plugin needs 3.6 or newer"
        raise InstallError(what=text, reason=reason, remedy=remedy)
    return version


def is_ours(place: Path) -> bool:
    """Whether we wrote what stands there."""
    try:
        with open(os.open(place, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return False
            data = stream.read(64 * 1024)
    except OSError:
        return False
    return MARK in (data[:_HEAD] if data.startswith(b"#!") else data.partition(b"\0")[0])


def _check_folder(folder: Path, flag: str) -> None:
    if not folder.is_dir():
        raise InstallError(
            what=str(folder),
            reason="there is no such folder",
            remedy=f"make it, or name the one that the runtime uses with {flag}",
        )


def _write(place: Path, data: bytes, mode: int, flag: str) -> Path:
    """Write the new file beside its place, synced; runtimes read no name that begins so."""
    new = place.with_name(f".{place.name}.new")
    try:
        new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(new, flags, mode), "wb") as stream:
            os.fchmod(stream.fileno(), mode)  # regardless of the umask
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise _mapped(place, flag, error) from error
    return new


def _try(plugin: Path, python: Path) -> None:
    """Run the new plugin once where it will be run. Raises InstallError."""
    reason = "it does not answer as a CNI plugin"
    try:
        done = subprocess.run(
            [plugin],
            env={"CNI_COMMAND": "VERSION"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
        )
        if done.returncode == 0 and b"supportedVersions" in done.stdout:
            return
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = f"it cannot be run ({getattr(error, 'strerror', None) or error})"
    raise InstallError(
        what=str(plugin.parent / PLUGIN_NAME),
        reason=reason,
        remedy=f"is the folder mounted noexec, or {python} missing on the host?",
    )


def _replace(place: Path, new: Path, saved_name: str, flag: str) -> Path | None:
    """Rename the new file into its place; return where the one of others was saved, if it was."""
    saved = None
    try:
        if place.exists() and not place.is_symlink() and not is_ours(place):
            saved = place.with_name(saved_name)
            # A second name, so that there is no moment without the first. What was saved before
            # gives way to what was in use last.
            spare = place.with_name(f".{saved_name}.new")
            spare.unlink(missing_ok=True)
            try:
                os.link(place, spare)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV):
                    raise
                shutil.copy2(place, spare)
            os.replace(spare, saved)
        os.replace(new, place)
    except OSError as error:
        raise _mapped(place, flag, error) from error
    return saved


def _told(place: Path, saved: Path | None, what: str) -> list[str]:
    lines = [f"{place}: {what}"]
    if saved is not None:
        lines.append(f"saved {saved}: what was there before (--restore puts it back)")
    return lines


_REMEDIES: Mapping[int, str] = {
    errno.EROFS: "mount that file system writable",
    errno.EACCES: "run as root",
    errno.EPERM: "run as root and look for the immutable attribute",
    errno.ENOSPC: "free some space on that file system",
}


def _mapped(place: Path, flag: str, error: OSError) -> InstallError:
    other = f"name another folder with {flag}"
    remedy = _REMEDIES.get(error.errno or 0)
    return InstallError(
        what=str(place),
        reason=error.strerror or str(error),
        remedy=f"{remedy}, or {other}" if remedy else other,
    )
