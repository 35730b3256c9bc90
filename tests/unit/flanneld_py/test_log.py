from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator

import pytest

from flanneld_py.log import LineHandler, RateLimit, configure, escape, stamp
from flanneld_py.secret import Secret

KIND = ("logger", logging.INFO, "text %s")


class Moment:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def moment() -> Moment:
    return Moment()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def logger(stream: io.StringIO, moment: Moment) -> Iterator[logging.Logger]:
    found = logging.getLogger("flanneld_py.reconcile.tested")
    limit = RateLimit(burst=3, window=60.0)
    handler = LineHandler(stream, limit=limit, secrets=[Secret("hunter2")], clock=moment)
    found.addHandler(handler)
    found.setLevel(logging.DEBUG)
    found.propagate = False
    yield found
    found.removeHandler(handler)


def test_a_line_has_time_level_logger_and_message(
    logger: logging.Logger, stream: io.StringIO
) -> None:
    logger.info("applied changes=%d", 12)
    logger.warning("late")
    logger.critical("over")
    first, second, third = stream.getvalue().splitlines()
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO  reconcile\.tested: applied changes=12"
    assert re.fullmatch(pattern, first)
    assert second.endswith("Z WARN  reconcile.tested: late")
    assert third.endswith("Z FATAL reconcile.tested: over")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1795435200.1239, "2026-11-23T12:00:00.123Z"),
        (1795435200.9999, "2026-11-23T12:00:00.999Z"),
    ],
)
def test_the_time_is_utc_with_milliseconds(seconds: float, text: str) -> None:
    assert stamp(seconds) == text


def test_a_record_is_one_line_whatever_is_in_it(
    logger: logging.Logger, stream: io.StringIO
) -> None:
    logger.info("peer key=%s", "a\nb\r\x1b[31mred\u2028\udcff")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("failed")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("peer key=a\\nb\\r\\x1b[31mred\\u2028\\udcff")
    assert "exception=Traceback" in lines[1]
    assert "ValueError: two\\nlines" in lines[1]


def test_escape_leaves_other_writing_alone() -> None:
    assert escape("Grüße 世界") == "Grüße 世界"
    assert escape("ü\tx") == "ü\\tx"


def test_a_very_long_line_is_cut(logger: logging.Logger, stream: io.StringIO) -> None:
    logger.info("value=%s", "x" * 100_000)
    line = stream.getvalue()
    assert len(line) < 8200
    assert line.endswith("more characters)\n")


def test_a_secret_is_blackened_also_in_a_traceback(
    logger: logging.Logger, stream: io.StringIO
) -> None:
    logger.info("login password=%s", "hunter2")
    try:
        raise ValueError("bad token hunter2")
    except ValueError:
        logger.exception("failed")
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("***") >= 2


def test_the_same_line_is_not_repeated_for_ever(
    logger: logging.Logger, stream: io.StringIO, moment: Moment
) -> None:
    for number in range(100):
        logger.warning("no answer try=%d", number)
    logger.warning("another line")
    assert [line.partition(": ")[2] for line in stream.getvalue().splitlines()] == [
        "no answer try=0",
        "no answer try=1",
        "no answer try=2",
        "another line",
    ]
    moment.now = 60.0
    logger.warning("no answer try=%d", 100)
    assert [line.partition(": ")[2] for line in stream.getvalue().splitlines()[4:]] == [
        "held back 97 more lines in 60 s like: no answer try=%d",
        "no answer try=100",
    ]


def test_what_was_held_back_is_told_in_quiet_times_and_at_the_end(
    logger: logging.Logger, stream: io.StringIO, moment: Moment
) -> None:
    handler = logger.handlers[0]
    assert isinstance(handler, LineHandler)
    for _ in range(5):
        logger.error("same")
    handler.settle()
    assert "held back" not in stream.getvalue()
    moment.now = 61.0
    handler.settle()
    assert stream.getvalue().splitlines()[-1].endswith("held back 2 more lines in 61 s like: same")
    for _ in range(4):
        logger.error("same")
    handler.flush()
    assert stream.getvalue().splitlines()[-1].endswith("held back 1 more lines in 0 s like: same")


def test_debug_lines_are_not_limited(logger: logging.Logger, stream: io.StringIO) -> None:
    for _ in range(50):
        logger.debug("same")
    assert len(stream.getvalue().splitlines()) == 50


def test_levels_and_loggers_are_limited_on_their_own() -> None:
    limit = RateLimit(burst=1, window=60.0)
    assert limit.admit(KIND, 0.0)
    assert not limit.admit(KIND, 1.0)
    assert limit.admit(("logger", logging.ERROR, "text %s"), 1.0)
    assert limit.admit(("other", logging.INFO, "text %s"), 1.0)


def test_a_window_without_suppression_says_nothing() -> None:
    limit = RateLimit(burst=2, window=60.0)
    assert limit.admit(KIND, 0.0)
    assert limit.settle(60.0) == []
    assert limit.admit(KIND, 60.0)


def test_kinds_are_bounded() -> None:
    limit = RateLimit(burst=1, window=60.0)
    for number in range(5000):
        limit.admit(("logger", logging.INFO, f"text {number}"), 0.0)
        limit.admit(("logger", logging.INFO, f"text {number}"), 0.0)
    assert len(limit.settle(0.0, all_of_them=True)) == 1000


def test_a_closed_stream_does_not_hurt(logger: logging.Logger, stream: io.StringIO) -> None:
    stream.close()
    logger.info("nobody reads")


def test_configure_replaces_what_was_there_and_quietens_libraries() -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    try:
        configure("warning", stream=io.StringIO())
        configure("info", secrets=[Secret("hunter2")], stream=stream)
        logging.getLogger("subnet.keeper").info("renewed with hunter2")
        logging.getLogger("subnet.keeper").debug("detail")
        logging.getLogger("grpc").info("chatter")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert stream.getvalue().partition(" ")[2] == "INFO  subnet.keeper: renewed with ***\n"


def test_a_line_may_bring_a_larger_allowance() -> None:
    limit = RateLimit(burst=2, window=60)
    kind = ("subnet.session", logging.WARNING, "lease quarantined key=%s")
    admitted = [limit.admit(kind, float(second), burst=5) for second in range(7)]
    assert admitted == [True] * 5 + [False] * 2


def test_the_allowance_of_a_record_reaches_the_limit() -> None:
    stream = io.StringIO()
    handler = LineHandler(stream, limit=RateLimit(burst=1, window=60))
    for key in "abc":
        record = logging.LogRecord("session", logging.WARNING, "", 0, "key=%s", (key,), None)
        record.burst = 2
        handler.handle(record)
    assert "key=a" in stream.getvalue()
    assert "key=b" in stream.getvalue()
    assert "key=c" not in stream.getvalue()
