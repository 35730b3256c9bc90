"""Set up what `make demo`, `make test` or `make bench` needs: `scripts/setup.py --profile NAME`.

Makes `.venv` with the pinned Python packages and the command `flanneld-py`, and `.venv/tools` with
programs from Debian packages that are unpacked into a cache and never installed. Needs nothing but
Python's standard library, needs no root, and does nothing when all is there. scripts/README.md
describes the result. Must hold no detail of either part.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - said before an import fails on an old Python
    sys.exit(
        "setup: Python {}.{} is too old, 3.11 or newer is needed; if another one is installed, "
        "name it: make setup PYTHON=python3.12".format(*sys.version_info)
    )

import argparse
import fcntl
import signal
from pathlib import Path

import toolbox
from profiles import PROFILES
from progress import SetupError, complain, say
from virtualenv import Environment

CHECKOUT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run set-up; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--profile", choices=PROFILES, default="test")
    profile = parser.parse_args().profile
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (CHECKOUT / ".venv.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second run in this checkout waits its turn
            set_up(profile)
    except SetupError as error:
        complain(str(error))
    except OSError as error:
        complain(
            f"{error.filename or CHECKOUT}: {error.strerror}; set-up writes to .venv and its cache"
        )
    except KeyboardInterrupt:
        complain("interrupted; run it again to go on where it stopped")
        return 130
    else:
        return 0
    return 1


def set_up(profile: str) -> None:
    """Bring `.venv` and `.venv/tools` to what a profile needs, unless they are there already."""
    environment = Environment(CHECKOUT)
    tools = environment.folder / "tools"
    wish = environment.wish(profile)
    if environment.is_filled(profile, wish) and toolbox.complete(tools, profile):
        return
    if _has_more(environment, tools, profile):
        return
    say(f"profile {profile}")
    environment.folder.mkdir(exist_ok=True)
    cache = toolbox.cache_folder(CHECKOUT)
    environment.make(cache)
    environment.fill(profile)
    toolbox.provide(cache, tools, profile)
    environment.remember(profile, wish)
    say(f"done: {environment.command.relative_to(CHECKOUT)} and .venv/tools (cache: {cache})")


def _has_more(environment: Environment, tools: Path, profile: str) -> bool:
    """Say whether a larger profile is there already."""
    larger = PROFILES[PROFILES.index(profile) + 1 :]
    return any(
        environment.is_filled(name, environment.wish(name)) and toolbox.complete(tools, name)
        for name in larger
    )


if __name__ == "__main__":
    sys.exit(main())
