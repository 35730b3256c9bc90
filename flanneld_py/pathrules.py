"""The rules for paths: text -> Path, or a ValueError that names value and remedy.

The only thing they do outside is to look whether a file can be read.
"""

from __future__ import annotations

import os
from pathlib import Path

SOCKET_PATH_BYTES = 107
"""A unix socket's path may have 108 bytes, the last of them 0 (unix(7))."""
LONGEST_SOCKET_NAME = "/agent.sock.4194304"
"""What is appended to the run folder at most (see `unixsocket`)."""


def readable_file(text: str) -> Path:
    """A file that exists and can be read now."""
    found = path(text)
    try:
        with found.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ValueError(
            f"{text!r} cannot be read ({error.strerror}): give a file that this user may read"
        ) from error
    return found


def path(text: str) -> Path:
    """A path, made absolute, so that it means the same for ever and in every message."""
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is no path: give one such as /var/lib/flanneld-py")
    return Path(os.path.abspath(text))


def run_dir(text: str) -> Path:
    """A folder whose path leaves room for the name of a unix socket."""
    found = path(text)
    spare = SOCKET_PATH_BYTES - len(LONGEST_SOCKET_NAME)
    if len(os.fsencode(found)) > spare:
        raise ValueError(
            f"{text!r} is too long for a unix socket in it: give a path of at most {spare} bytes"
        )
    return found
