"""Logging: one event, one line, on standard error, and never the same line for ever.

`configure` is called once, by the command that runs the agent. Modules log with the standard
library: a lazy message with ``key=value`` parts. This module must not decide what is worth a line.

    2026-11-23T12:00:00.123Z INFO  reconcile.loop: applied changes=12 seconds=0.004
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

from flanneld_py.secret import Secret

BURST = 6
"""Lines of one kind that are written within a window before the rest of them is only counted."""
WINDOW = 60.0
"""Seconds."""
MAX_KINDS = 1000
"""Kinds that are remembered; kinds are constants of the code, so more means a mistake in it."""
MAX_LINE = 8000
"""Characters; a longer line is cut (somebody's value is in it)."""
MIN_SECRET = 4
"""Shorter secrets are not searched for in lines: they would blacken half of the words."""

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

SHORT_LEVELS = {logging.WARNING: "WARN", logging.CRITICAL: "FATAL"}
"""Names of at most five letters where the library's are longer."""

Kind = tuple[str, int, str]
"""Logger, level and message template: what makes two lines the same."""


def escape(text: str) -> str:
    """`text` on one line and without terminal controls; other writing stays as it is."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def stamp(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC with milliseconds."""
    milliseconds = int(seconds * 1000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{text}.{milliseconds % 1000:03d}Z"


class LineFormatter(logging.Formatter):
    """Renders a record, traceback included, as exactly one line, secrets blackened."""

    def __init__(self, secrets: Sequence[Secret] = ()) -> None:
        super().__init__()
        self._secrets = [
            secret.reveal() for secret in secrets if len(secret.reveal()) >= MIN_SECRET
        ]

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix("flanneld_py.")
        level = SHORT_LEVELS.get(record.levelno, record.levelname)
        return f"{stamp(record.created)} {level:<5} {name}: {self.message(record)}"

    def message(self, record: logging.LogRecord) -> str:
        """What the record says, on one line, cut if it is very long."""
        text = record.getMessage()
        if record.exc_info:
            text += f" exception={self.formatException(record.exc_info)}"
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = escape(text)
        if len(text) > MAX_LINE:
            text = f"{text[:MAX_LINE]}... ({len(text) - MAX_LINE} more characters)"
        return text


class JsonFormatter(LineFormatter):
    """Renders a record as one JSON object: time, level, logger, message."""

    def format(self, record: logging.LogRecord) -> str:
        parts = {
            "time": stamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.message(record),
        }
        return json.dumps(parts, ensure_ascii=False)


FORMATTERS = {"text": LineFormatter, "json": JsonFormatter}
"""By the name that --log-format gives them."""


@dataclass(slots=True)
class _Window:
    """What one kind of line has done since `since`."""

    since: float
    written: int = 0
    suppressed: int = 0


class RateLimit:
    """Decides which lines are written. Pure: the time (monotonic seconds) is an argument."""

    def __init__(self, *, burst: int = BURST, window: float = WINDOW) -> None:
        self._burst = burst
        self._window = window
        self._kinds: dict[Kind, _Window] = {}

    def admit(self, kind: Kind, now: float, *, burst: int | None = None) -> bool:
        """Whether a line of this kind is written now; if not, it is counted.

        `burst` is the kind's own allowance, for lines that each name another thing.
        """
        state = self._kinds.get(kind)
        if state is None:
            if len(self._kinds) >= MAX_KINDS:
                del self._kinds[next(iter(self._kinds))]
            state = self._kinds[kind] = _Window(since=now)
        if state.written < (burst or self._burst):
            state.written += 1
            return True
        state.suppressed += 1
        return False

    def settle(self, now: float, *, all_of_them: bool = False) -> list[tuple[Kind, int, float]]:
        """End the windows that are over; return kind, count and seconds of what was held back."""
        ended = [
            (kind, state)
            for kind, state in self._kinds.items()
            if all_of_them or now - state.since >= self._window
        ]
        for kind, _ in ended:
            del self._kinds[kind]
        return [
            (kind, state.suppressed, now - state.since) for kind, state in ended if state.suppressed
        ]


class LineHandler(logging.Handler):
    """Writes lines to a stream, within the rate limit; debug lines are not limited."""

    def __init__(
        self,
        stream: TextIO,
        *,
        limit: RateLimit,
        secrets: Sequence[Secret] = (),
        form: str = "text",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._limit = limit
        self._clock = clock
        self.setFormatter(FORMATTERS[form](secrets))

    def emit(self, record: logging.LogRecord) -> None:
        now = self._clock()
        self._tell(self._limit.settle(now))
        kind = (record.name, record.levelno, str(record.msg))
        if record.levelno <= logging.DEBUG or self._limit.admit(
            kind, now, burst=getattr(record, "burst", None)
        ):
            self._write(record)

    def settle(self) -> None:
        """Say what was held back in windows that are over; for quiet times without any line."""
        self.acquire()
        try:
            self._tell(self._limit.settle(self._clock()))
        finally:
            self.release()

    def flush(self) -> None:
        """Say all that was held back until now. The standard library calls it at exit, too."""
        self.acquire()
        try:
            self._tell(self._limit.settle(self._clock(), all_of_them=True))
        finally:
            self.release()

    def _tell(self, held_back: list[tuple[Kind, int, float]]) -> None:
        for (name, level, template), count, seconds in held_back:
            text = "held back %d more lines in %.0f s like: %s"
            arguments = (count, seconds, template)
            self._write(logging.LogRecord(name, level, "", 0, text, arguments, None))

    def _write(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except (ValueError, TypeError):
            # Message and arguments do not fit: the library says where, and we go on.
            self.handleError(record)
            return
        # Nobody may read standard error any more: an agent without a log is better than none.
        with suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()


def configure(
    level: str = "info",
    *,
    form: str = "text",
    secrets: Sequence[Secret] = (),
    stream: TextIO | None = None,
) -> LineHandler:
    """Send the lines of all loggers from `level` on to `stream` (standard error).

    `form` is one of FORMATTERS.
    """
    handler = LineHandler(stream or sys.stderr, limit=RateLimit(), secrets=secrets, form=form)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    if root.level > logging.DEBUG:
        # Libraries tell their own story at INFO; ours is told by our modules.
        for name in ("asyncio", "pyroute2", "grpc"):
            logging.getLogger(name).setLevel(logging.WARNING)
    return handler
