"""Kernel settings below /proc/sys: read, write, and say why not.

Names keep their slashes, because device names may hold dots. Settings of the network are those of
the network namespace of the calling thread.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from backends.elements import Sysctl
from flanneld_py.kernel import KernelError

ROOT: Final = Path("/proc/sys")


def _path(name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise KernelError(
            what=f"sysctl {name}", errno=errno.EINVAL, reason="no path below /proc/sys"
        )
    return ROOT / name


def read_sysctl(name: str) -> Sysctl | None:
    """A setting as it is; None when there is none of this name, or it cannot be read."""
    try:
        return Sysctl(name=name, value=_path(name).read_text().strip())
    except OSError:
        return None


def read_sysctls(names: Iterable[str]) -> list[Sysctl]:
    """Those of `names` that exist."""
    return [setting for name in names if (setting := read_sysctl(name)) is not None]


def write_sysctl(wanted: Sysctl) -> None:
    """Set it, unless it has the value already. Raises KernelError with the remedy."""
    path = _path(wanted.name)
    what = f"sysctl {wanted.name} = {wanted.value}"
    present = read_sysctl(wanted.name)
    if present is not None and present.value == wanted.value:
        return
    try:
        path.write_text(wanted.value + "\n")
    except FileNotFoundError as error:
        raise KernelError(
            what=what,
            errno=errno.ENOENT,
            reason="there is no such setting (its device or kernel module is absent)",
        ) from error
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            dotted = "/".join(PurePosixPath(wanted.name).parts)
            raise KernelError(
                what=what,
                errno=error.errno,
                reason="/proc/sys is read-only here"
                if error.errno == errno.EROFS
                else "not permitted",
                remedy=f"set it on the host (sysctl -w {dotted}={wanted.value}), or run privileged",
            ) from error
        raise KernelError(
            what=what, errno=error.errno or errno.EIO, reason=error.strerror or str(error)
        ) from error
