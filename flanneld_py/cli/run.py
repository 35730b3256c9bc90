"""`flanneld-py run`: the edge of the agent. Judges flags, sets up the log, starts the daemon.

Everything that the user typed wrongly ends here, with one line for each problem and exit status 2,
before anything in the kernel or the store is touched.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, MutableMapping, Sequence
from types import FrameType

from flanneld_py import __version__
from flanneld_py.flags import HelpRequested, UsageError
from flanneld_py.log import configure, escape
from flanneld_py.processargs import hide_from_ps
from flanneld_py.settings import Settings, from_argv

logger = logging.getLogger(__name__)

Start = Callable[[Settings], int]
"""Runs the agent to its end and returns the exit status."""


def main(
    argv: Sequence[str],
    *,
    environ: MutableMapping[str, str] | None = None,
    start: Start | None = None,
) -> int:
    """Run the agent; `start` is what runs it (the daemon)."""
    variables = os.environ if environ is None else environ
    try:
        settings = from_argv(argv, variables)
    except HelpRequested:
        from flanneld_py.cli import help as help_command

        return help_command.main([])
    except UsageError as error:
        for problem in error.problems:
            print(f"flanneld-py: {escape(problem)}", file=sys.stderr)
        return 2
    if settings.version:
        print(__version__, file=sys.stderr)
        return 0
    if settings.config_check:
        from flanneld_py.cli import config_check

        return config_check.check(settings)
    password = settings.etcd.password
    hide_from_ps(password)
    # Programs that we start have no need to know it.
    variables.pop("FLANNELD_ETCD_PASSWORD", None)
    handler = configure(settings.log_level, form=settings.log_format, secrets=[password])
    try:
        return _run(settings, start or _daemon)
    finally:
        handler.flush()


def _daemon(settings: Settings) -> int:
    # Imported here: it brings the clients of etcd and of netlink, which no other command needs.
    from flanneld_py import daemon

    return daemon.run(settings)


def _run(settings: Settings, start: Start) -> int:
    """The agent between its first and its last line."""
    logger.info(
        "starting version=%s pid=%d etcd=%s prefix=%s",
        __version__,
        os.getpid(),
        ",".join(settings.etcd.endpoints),
        settings.etcd.prefix,
    )
    for note in settings.notes:
        logger.warning("%s", note)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return start(settings)
    except KeyboardInterrupt:
        # A signal before the daemon has begun to handle them itself.
        return 0
    except Exception:
        # The edge: the reason goes to the log, as one line.
        logger.critical("the agent ends because of a fault of its own", exc_info=True)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
