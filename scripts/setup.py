"""Set up what `make demo`, `make test` or `make bench` needs: `scripts/setup.py --profile NAME`.

Makes `.venv` with the pinned Python packages and the command `flanneld-py`, and `.venv/tools` with
programs from Debian packages that are unpacked into a cache and never installed. Needs nothing but
Python's standard library, needs no root, and does nothing when all is there. scripts/README.md
describes the result. Must hold no detail of either part.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - said before an import fails on an old Python
    sys.exit(
        "setup: Python {}.{} is too old, 3.11 or newer is needed; if another one is installed, "
        "name it: make setup PYTHON=python3.12".format(*sys.version_info)
    )

import argparse
import fcntl
import os
import signal
from pathlib import Path
from typing import IO

import toolbox
from profiles import PROFILES
from progress import SetupError, complain, say
from virtualenv import Environment

CHECKOUT = Path(__file__).resolve().parent.parent
_OWNER_REMEDY = "set-up writes to .venv and its cache folder, which must belong to whoever runs it"


def main() -> int:
    """Run set-up; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--profile", choices=PROFILES, default="test")
    profile = parser.parse_args().profile
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (CHECKOUT / ".venv.lock").open("w") as lock:
            wait_for_our_turn(lock)
            set_up(profile)
    except SetupError as error:
        complain(str(error))
    except OSError as error:
        complain(f"{error.filename or CHECKOUT}: {error.strerror}; {_OWNER_REMEDY}")
    except KeyboardInterrupt:
        complain("interrupted; run it again to go on where it stopped")
        return 130
    else:
        return 0
    return 1


def wait_for_our_turn(lock: IO[str]) -> None:
    """Let another set-up of this checkout end first."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another set-up is working in this checkout; waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)


def set_up(profile: str) -> None:
    """Bring `.venv` and `.venv/tools` to what a profile needs, unless they are there already."""
    environment = Environment(CHECKOUT)
    own_tools = os.environ.get("FLANNELD_PY_TOOLS")
    tools = Path(own_tools) if own_tools else environment.folder / "tools"
    enough = PROFILES[PROFILES.index(profile) :]
    if any(
        environment.is_filled(name, environment.wish(name)) and not toolbox.missing(tools, name)
        for name in enough
    ):
        return
    say(f"profile {profile}")
    environment.folder.mkdir(exist_ok=True)
    cache = toolbox.cache_folder(CHECKOUT)
    environment.make(cache)
    environment.fill(profile)
    if own_tools is None:
        toolbox.provide(cache, tools, profile)
    environment.remember(profile, environment.wish(profile))
    missing = toolbox.missing(tools, profile)
    if missing:
        raise SetupError(f"{tools} lacks {', '.join(missing)}; what needs them cannot run")
    say(f"done: {environment.command.relative_to(CHECKOUT)} and {tools} (cache: {cache})")


if __name__ == "__main__":
    sys.exit(main())
