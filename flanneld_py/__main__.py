"""The command line's entry: picks the command, and nothing else.

The first argument without a dash is the command; without one it is `run`, so that the command line
of flanneld works as it is. Commands are imported when they are called: `status` must not pay for
what the agent imports.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (default: the process's arguments) names; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = "run"
    if arguments and not arguments[0].startswith("-"):
        command = arguments.pop(0)
    try:
        status = _call(command, arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has seen enough (`| head`). Python would flush once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _call(command: str, arguments: list[str]) -> int:
    from flanneld_py.flagtable import COMMANDS

    if command not in COMMANDS:
        from flanneld_py.flags import nearest

        near = nearest(command, COMMANDS)
        remedy = f"did you mean {near}?" if near else f"there are {', '.join(COMMANDS)}"
        print(f"flanneld-py: {command!r} is no command: {remedy}", file=sys.stderr)
        return 2
    module = import_module(f"flanneld_py.cli.{command.replace('-', '_')}")
    result: int = module.main(arguments)
    return result


if __name__ == "__main__":
    sys.exit(main())
