"""The conflist of direct mode: what the container runtime runs for each pod, without a shim.

Renders it from the same facts as subnet.env and the configured cni-conf, and keeps it in place: the
file itself stands in the run folder, and a symbolic link in the CNI folder leads to it (ADR 0005).
What others have chained into it stays (ADR 0007). Does not know when the node is ready, and never
removes anything.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flanneld_py.cni import chained
from flanneld_py.cni.conf import DEFAULT, CniConf, complete
from flanneld_py.subnetfile import SubnetEnv

FILE_NAME = "10-flannel.conflist"
"""As flannel's own: taking over a node must not leave two networks for the runtime."""
SAVED_NAME = f"{FILE_NAME}.orig"
"""What stood there before us. Runtimes read no file of this ending."""
READ_BY_RUNTIMES = (".conf", ".conflist", ".json")

_MODE = 0o644
_FOLDER_MODE = 0o755
_MAX_BYTES = 256 * 1024


class ConflistError(Exception):
    """The conflist cannot be put in place: `path`, `errno`, `reason` and `remedy` say why."""

    def __init__(self, *, path: str, errno: int, reason: str, remedy: str) -> None:
        self.path = path
        self.errno = errno
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"conflist {path}: {reason}: {remedy}")


def render(env: SubnetEnv, conf: CniConf = DEFAULT) -> str:
    """The conflist's text, after the rules by which flannel delegates (flannel-compat 10.4)."""
    return _text(chained.marked(complete(conf, env)))


def earlier_files(conf_dir: Path) -> tuple[str, ...]:
    """Names of the files that a runtime prefers to ours, because they sort before it.

    They are left alone: somebody wants them, and says so by their names.
    """
    try:
        names = sorted(entry.name for entry in conf_dir.iterdir())
    except OSError:
        return ()
    return tuple(name for name in names if name < FILE_NAME and name.endswith(READ_BY_RUNTIMES))


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectConflist:
    """A conflist that is wanted, and where."""

    text: str
    """Content, from `render`."""
    run_dir: Path
    """The agent's own folder, which is empty after a reboot."""
    conf_dir: Path
    """The folder in which the runtime looks."""

    @property
    def name(self) -> str:
        """What messages call it: the path that the runtime reads."""
        return str(self.conf_dir / FILE_NAME)

    def ensure(self) -> bool:
        """Make file and link as they should be; True when something was changed.

        A reader sees the old content or the new one. What stood under the name before is saved
        aside once. Raises ConflistError, and then leaves what was there.
        """
        file = self.run_dir.absolute() / FILE_NAME
        link = self.conf_dir.absolute() / FILE_NAME
        try:
            # What the runtime sees, if it sees something; after others wrote, that is a file there.
            seen = _content(link) or _content(file)
            changed = _ensure_file(file, self.text, seen)
        except OSError as error:
            raise _mapped(file, "--run-dir", error) from error
        try:
            return _ensure_link(link, file) or changed
        except OSError as error:
            raise _mapped(link, "--cni-conf-dir", error) from error

    def remarks(self) -> tuple[str, ...]:
        """What a person should know about the folder, although it hinders nothing of ours."""
        earlier = earlier_files(self.conf_dir)
        if not earlier:
            return ()
        names = ", ".join(earlier)
        why = f"{self.conf_dir} has {names}, which runtimes prefer to {FILE_NAME}"
        return (f"{why}: remove it, unless another network is meant to connect pods",)

    def others(self) -> tuple[str, ...]:
        """Types of the plugins that others have chained in."""
        seen = chained.decode(_content(self.conf_dir / FILE_NAME))
        return chained.others_in(seen) if seen is not None else ()


def _ensure_file(file: Path, text: str, seen: str) -> bool:
    # Neither file nor link needs fsync: after a crash of the machine the run folder is empty, and
    # the next start writes both again.
    standing = _content(file, of_ours=True)
    wanted = text
    if seen != text:
        merged = chained.with_others(json.loads(text), chained.decode(seen))
        if chained.decode(standing) == merged:
            return False  # in whatever form others write it
        wanted = _text(merged)
    if standing == wanted:
        return False
    _make_folder(file.parent)
    new = _temporary(file)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(new, flags, _MODE), "wb") as stream:
        os.fchmod(stream.fileno(), _MODE)  # regardless of the umask
        stream.write(wanted.encode())
    os.replace(new, file)
    return True


def _text(conflist: Mapping[str, object]) -> str:
    return json.dumps(conflist, indent=2) + "\n"


def _content(path: Path, *, of_ours: bool = False) -> str:
    """What stands in a file; empty when nothing does, or nothing that can be a conflist.

    `of_ours`: it counts only as a file of its own with the mode that ours has.
    """
    try:
        # Without O_NONBLOCK the opening of a FIFO that stands there would wait for a writer.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_NOFOLLOW if of_ours else 0)
        with open(os.open(path, flags), "rb") as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode):
                return ""
            if of_ours and stat.S_IMODE(found.st_mode) != _MODE:
                return ""
            return stream.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError as error:
        # ELOOP: a link stands there. ENXIO: a socket. Both are replaced.
        if not of_ours or error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return ""
        raise


def _ensure_link(link: Path, file: Path) -> bool:
    if link.is_symlink():
        if os.readlink(link) == str(file):
            return False
    elif link.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    _make_folder(link.parent)
    if link.exists():
        _save_aside(link)
    new = _temporary(link)
    new.symlink_to(file)
    os.replace(new, link)
    return True


def _save_aside(link: Path) -> None:
    """Give what stands there a second name, so that there is no moment without the first."""
    if chained.is_marked(_content(link)):
        return  # our own, which somebody who chained a plugin in has put in the link's place
    try:
        os.link(link, link.with_name(SAVED_NAME), follow_symlinks=False)
    except FileExistsError:
        return  # what was there before us is saved already; this one came later


def _temporary(path: Path) -> Path:
    """A name of one fixed form, free now: what a kill left behind does not pile up.

    The run folder's lock makes us the only writer. Runtimes read no file of this ending.
    """
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    return new


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        folder.chmod(_FOLDER_MODE)  # regardless of the umask


_REMEDIES: Mapping[int, str] = {
    errno.EROFS: "mount that file system writable",
    errno.ENOSPC: "free some space or inodes on that file system",
    errno.EDQUOT: "free some of the quota on that file system",
    errno.EACCES: "run as root",
    errno.EPERM: "run as root and look for the immutable attribute",
    errno.EISDIR: "remove the folder that stands there",
    errno.EEXIST: "a part of the path is no folder: remove it",
    errno.ENOTDIR: "a part of the path is no folder: remove it",
}


def _mapped(path: Path, flag: str, error: OSError) -> ConflistError:
    number = error.errno or 0
    other = f"choose another folder with {flag}"
    remedy = _REMEDIES.get(number)
    return ConflistError(
        path=str(path),
        errno=number,
        reason=error.strerror or str(error),
        remedy=f"{remedy}, or {other}" if remedy else other,
    )
