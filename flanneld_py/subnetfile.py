"""subnet.env: what the CNI plugin learns of this node's subnet (flannel-compat 7).

Renders it byte-exact, reads it with the liberty of dotenv files, and writes it so that no reader
ever sees a part of it. Knows neither why a subnet is ours nor when the file is to be written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TypeVar

from subnet import cidr

MAX_BYTES = 64 * 1024
"""A subnet.env larger than this is none."""

_MODE = 0o644
_FOLDER_MODE = 0o755
_MAX_VALUE = 4096
_MAX_MTU = 2**32 - 1

_STATEMENT = re.compile(
    r"""[ \t]*(?:export[ \t]+)?([A-Za-z0-9_.]+)[ \t]*[=:][ \t]*"""
    r"""(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|(.*))"""
)
_VARIABLE = re.compile(r"\\\$|\$\{([A-Za-z0-9_]+)\}|\$([A-Za-z0-9_]+)")
_COMMENT = re.compile(r"(?:^|[ \t])#.*")

Net = TypeVar("Net", IPv4Network, IPv6Network)


class SubnetFileError(Exception):
    """The file cannot be read or written: `path`, `errno`, `reason` and `remedy` say which and why.

    Most causes pass or are repaired by a person while we run, so the caller tries again.
    """

    def __init__(self, *, path: str, errno: int, reason: str, remedy: str) -> None:
        self.path = path
        self.errno = errno
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"subnet file {path}: {reason}: {remedy}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetEnv:
    """The content of subnet.env. A family that is not enabled has neither network nor subnet."""

    network: IPv4Network | None = None
    """The cluster's IPv4 pod network."""
    subnet: IPv4Network | None = None
    """This node's IPv4 subnet; its first address is written, the bridge's."""
    network6: IPv6Network | None = None
    """The cluster's IPv6 pod network."""
    subnet6: IPv6Network | None = None
    """This node's IPv6 subnet."""
    mtu: int = 0
    """What pods may send, in bytes; 0 when a file that was read does not say."""
    ip_masq: bool = False
    """Whether the agent masquerades, so that the bridge plugin must not."""


def render(env: SubnetEnv) -> str:
    """The text of the file."""
    lines = []
    if env.network is not None:
        lines.append(f"FLANNEL_NETWORK={env.network}")
    if env.subnet is not None:
        lines.append(f"FLANNEL_SUBNET={env.subnet.network_address + 1}/{env.subnet.prefixlen}")
    if env.network6 is not None:
        lines.append(f"FLANNEL_IPV6_NETWORK={env.network6}")
    if env.subnet6 is not None:
        address6 = env.subnet6.network_address + 1
        lines.append(f"FLANNEL_IPV6_SUBNET={address6}/{env.subnet6.prefixlen}")
    lines.append(f"FLANNEL_MTU={env.mtu}")
    lines.append(f"FLANNEL_IPMASQ={'true' if env.ip_masq else 'false'}")
    return "".join(f"{line}\n" for line in lines)


def parse(text: str) -> SubnetEnv:
    """Read a subnet.env, whoever wrote it. What is not understood counts as absent; never fails.

    A list of CIDRs (an old form) counts only if exactly one of its items is one of that family.
    """
    values = _statements(text)
    mtu = values.get("FLANNEL_MTU", "")
    return SubnetEnv(
        network=_single(values.get("FLANNEL_NETWORK", ""), cidr.parse_ipv4_cidr),
        subnet=_single(values.get("FLANNEL_SUBNET", ""), cidr.parse_ipv4_cidr),
        network6=_single(values.get("FLANNEL_IPV6_NETWORK", ""), cidr.parse_ipv6_cidr),
        subnet6=_single(values.get("FLANNEL_IPV6_SUBNET", ""), cidr.parse_ipv6_cidr),
        mtu=int(mtu) if re.fullmatch("[0-9]{1,10}", mtu) and int(mtu) <= _MAX_MTU else 0,
        ip_masq=values.get("FLANNEL_IPMASQ") == "true",
    )


def read(path: Path) -> SubnetEnv | None:
    """The content of the file; None where there is none. Raises SubnetFileError."""
    try:
        data = _read_bytes(path, MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _mapped(path, error) from error
    return parse(data.decode("utf-8", "replace"))


def write(path: Path, text: str) -> bool:
    """Make `path` hold exactly `text`, with mode 0644; True when something had to be changed.

    A reader sees the old content or the new one, also across a crash. The parent folder is made.
    Raises SubnetFileError, and then leaves what was there.
    """
    return SubnetFile(path).write(text)


class SubnetFile:
    """One subnet.env that is kept as it was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data: bytes | None = None
        self._stamp: tuple[int, ...] = ()

    def write(self, text: str) -> bool:
        """As the function `write`; remembers what was written for `damage` and `repair`."""
        data = text.encode()
        self._data, self._stamp = data, ()
        if not self.damage():
            return False
        try:
            _make_folder(self.path.parent)
            _replace(self.path, data)
        except OSError as error:
            raise _mapped(self.path, error) from error
        return True

    def repair(self) -> str:
        """Write again what was written last if it is not there any more.

        Returns what was wrong, empty when nothing was. Raises SubnetFileError.
        """
        damage = self.damage()
        if damage and self._data is not None:
            self.write(self._data.decode())
        return damage

    def damage(self) -> str:
        """How the file differs from what was written last; empty when it does not, or nothing was
        written yet. One stat() where nothing changed."""
        if self._data is None:
            return ""
        try:
            found = os.stat(self.path)
            if _stamp(found) == self._stamp:
                return ""
            if not stat.S_ISREG(found.st_mode):
                return "it is not a regular file"
            if stat.S_IMODE(found.st_mode) != _MODE:
                return f"its mode is {stat.S_IMODE(found.st_mode):04o}"
            if found.st_size != len(self._data) or (
                _read_bytes(self.path, MAX_BYTES) != self._data
            ):
                return "its content was altered"
        except (FileNotFoundError, NotADirectoryError):
            return "it was removed"
        except OSError as error:
            return f"it cannot be read ({os.strerror(error.errno or 0)})"
        # Times of files are as coarse as the kernel's tick: who writes in the tick of the last
        # change leaves no trace in them, so a young file is read again.
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _YOUNG:
            self._stamp = _stamp(found)
        return ""


# --- text ------------------------------------------------------------------------------------


def _statements(text: str) -> Mapping[str, str]:
    """Keys and values of a dotenv file: comments, ``export``, ``key: value``, quotes, and
    variables that the file itself has set before."""
    values: dict[str, str] = {}
    for line in text[:MAX_BYTES].splitlines():
        match = _STATEMENT.match(line)
        if match is None:
            continue
        key, double, single, plain = match.groups()
        if single is not None:
            value = single
        elif double is not None:
            value = _expand(double.replace('\\"', '"'), values)
        else:
            value = _expand(_COMMENT.sub("", plain).strip(), values)
        # Variables that hold variables would grow without bound.
        if len(value) <= _MAX_VALUE:
            values[key] = value
    return values


def _expand(value: str, values: Mapping[str, str]) -> str:
    if "$" not in value or len(value) > _MAX_VALUE:
        return value
    return _VARIABLE.sub(
        lambda m: "$" if m[0] == r"\$" else values.get(m[1] or m[2], ""),
        value,
    )


def _single(value: str, parse_cidr: Callable[[str], Net]) -> Net | None:
    found: list[Net] = []
    for item in value.split(","):
        with contextlib.suppress(ValueError):
            found.append(parse_cidr(item))
    return found[0] if len(found) == 1 else None


# --- files -----------------------------------------------------------------------------------


def _read_bytes(path: Path, limit: int) -> bytes:
    # Without O_NONBLOCK the opening of a FIFO that stands there would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EISDIR, "is not a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"has more than {limit} bytes")
    return data


def _make_folder(folder: Path) -> None:
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
        if folder in missing:
            break
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(_FOLDER_MODE)  # regardless of the umask


def _replace(path: Path, data: bytes) -> None:
    """Put a new file in place of `path`.

    The temporary file has one fixed name: the run folder's lock makes us the only writer, and what
    a kill leaves behind is overwritten by the next write instead of piling up.
    """
    temporary = path.with_name(f".{path.name}.flanneld-py")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, _MODE)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.fchmod(descriptor, _MODE)  # regardless of the umask
        os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(descriptor)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name durable: fsync of the file alone does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_YOUNG = 100_000_000
"""Nanoseconds; some ticks of the slowest kernel (CONFIG_HZ=100)."""


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    """Differs as soon as anybody has written, replaced or re-moded the file."""
    return (
        found.st_dev,
        found.st_ino,
        found.st_mode,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


_OTHER_PATH = "choose another path with --subnet-file"
_REMEDIES: Mapping[int, str] = {
    errno.EROFS: f"mount that file system writable, or {_OTHER_PATH}",
    errno.ENOSPC: "free some space or inodes on that file system",
    errno.EDQUOT: "free some of the quota on that file system",
    errno.EACCES: f"run as root, or {_OTHER_PATH} that this user may use",
    errno.EPERM: f"run as root and look for the immutable attribute, or {_OTHER_PATH}",
    errno.EISDIR: f"remove what stands there, or {_OTHER_PATH}",
    errno.ENOTDIR: f"a part of the path is no folder: remove it, or {_OTHER_PATH}",
    errno.EFBIG: "remove it; it is no subnet.env",
}


def _mapped(path: Path, error: OSError) -> SubnetFileError:
    number = error.errno or 0
    return SubnetFileError(
        path=str(path),
        errno=number,
        reason=error.strerror or str(error),
        remedy=_REMEDIES.get(number, _OTHER_PATH),
    )
