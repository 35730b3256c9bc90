"""Blackens a secret in what `ps` shows of this process: its arguments and its environment.

The kernel shows the process's own memory there (proc(5): cmdline, environ), so overwriting it is
enough. There is a moment before, so a password on the command line stays a bad idea.
"""

from __future__ import annotations

from pathlib import Path

from flanneld_py.secret import Secret

# Positions behind the command name in /proc/self/stat (proc(5), fields 48 to 51).
_ARGUMENTS = (45, 46)
_ENVIRONMENT = (47, 48)


def blacken(data: bytes, secret: bytes) -> bytes:
    """`data` (texts that end in a zero byte) with the texts that are `secret` or end in ``=secret``
    overwritten by asterisks; of equal length."""
    texts = data.split(b"\0")
    hidden = b"*" * len(secret)
    return b"\0".join(
        text[: -len(secret)] + hidden if text == secret or text.endswith(b"=" + secret) else text
        for text in texts
    )


def hide_from_ps(secret: Secret, *, process: Path = Path("/proc/self")) -> bool:
    """Overwrite `secret` in the process's arguments and environment; False where that is refused.

    Python has its own copies of both, so nothing that reads them changes.
    """
    wanted = secret.reveal().encode(errors="surrogateescape")
    if not wanted:
        return True
    try:
        fields = (process / "stat").read_text(encoding="latin-1").rpartition(")")[2].split()
        with (process / "mem").open("r+b", buffering=0) as memory:
            for first, last in (_ARGUMENTS, _ENVIRONMENT):
                start, end = int(fields[first]), int(fields[last])
                memory.seek(start)
                data = memory.read(end - start)
                memory.seek(start)
                memory.write(blacken(data, wanted))
    except (OSError, ValueError, IndexError):
        return False
    return True
