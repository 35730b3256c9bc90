"""A listening unix socket in a folder: put in place at once, private, never stolen.

The socket is bound under a name of its own and renamed into place, so that nobody ever meets one
without its mode, and what a dead agent left is replaced without a gap.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

CONNECT_SECONDS = 1.0
BACKLOG = 64


class SocketInUse(Exception):
    """The path cannot be used; `path`, `reason` and `remedy` say why and what to do."""

    def __init__(self, *, path: Path, reason: str, remedy: str) -> None:
        self.path = path
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{path}: {reason}: {remedy}")


class ListeningSocket:
    """A unix socket that listens at `path`, for its owner alone."""

    def __init__(self, path: Path, *, mode: int = 0o600) -> None:
        """Put the socket in place. Raises SocketInUse, also when the folder cannot be written."""
        _refuse_taken(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            self.socket = _bind(path.with_name(f"{path.name}.{os.getpid()}"), path, mode)
        except OSError as error:
            raise SocketInUse(
                path=path,
                reason=f"the socket cannot be made: {error.strerror or error}",
                remedy="run as root, or give a folder that this user may write as --run-dir",
            ) from error
        self.path = path
        self._inode = os.stat(path).st_ino

    def remove(self) -> None:
        """Take the socket away from its path, unless another one stands there by now."""
        with suppress(FileNotFoundError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)


def _bind(temporary: Path, path: Path, mode: int) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        listening.bind(str(temporary))
        os.chmod(temporary, mode)
        listening.listen(BACKLOG)
        listening.setblocking(False)
        os.rename(temporary, path)
    except OSError:
        listening.close()
        with suppress(OSError):
            os.unlink(temporary)
        raise
    return listening


def _refuse_taken(path: Path) -> None:
    """Raise SocketInUse when something else than a dead agent's socket stands at `path`."""
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return
    if not is_socket:
        raise SocketInUse(
            path=path,
            reason="something that is no socket stands there",
            remedy="remove it, or give another folder as --run-dir",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError:
            # Full or silent, but somebody holds it.
            pass
    raise SocketInUse(
        path=path,
        reason="another agent listens there",
        remedy="stop it, or give this one a folder of its own as --run-dir",
    )
