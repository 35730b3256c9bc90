"""`flanneld-py status`: asks the running agent, and prints what it says.

Exit status 0: ready, 1: not ready, 2: wrong flags, 3: no agent answers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from flanneld_py.flags import Flag, HelpRequested, Kind, UsageError, parse
from flanneld_py.flagtable import AGENT_FLAGS, RUN_DIR
from flanneld_py.log import escape
from flanneld_py.pathrules import run_dir
from flanneld_py.status import StatusFormatError, decode
from flanneld_py.statusclient import AgentUnreachable, fetch_status

STATUS_FLAGS: tuple[Flag, ...] = (
    Flag(
        name="json",
        kind=Kind.BOOLEAN,
        default=False,
        environment=False,
        section="Flags",
        help="Print the answer as JSON, for programs.",
    ),
    Flag(
        name="peers",
        kind=Kind.BOOLEAN,
        default=False,
        environment=False,
        section="Flags",
        help="List all the peers that the agent names, not only the first ones in trouble.",
    ),
    Flag(
        name=RUN_DIR.name,
        kind=RUN_DIR.kind,
        default=RUN_DIR.default,
        section="Flags",
        metavar=RUN_DIR.metavar,
        help="The --run-dir of the agent that is asked.",
    ),
)

HELP = """\
flanneld-py status: what the agent of this node has done, does, and cannot do.

Examples:
  flanneld-py status
  flanneld-py status --json | jq .lease

Exit status: 0 ready, 1 not ready, 2 wrong flags, 3 no agent answers.
"""


def main(argv: Sequence[str], *, environ: Mapping[str, str] | None = None) -> int:
    """Ask, print, and say by the exit status whether the agent is ready."""
    try:
        parsed = parse(
            STATUS_FLAGS, argv, _own_variables(os.environ if environ is None else environ)
        )
        if parsed.leftover:
            raise UsageError([f"{parsed.leftover[0]!r} is too much: status takes flags only"])
        folder = run_dir(parsed.text("run-dir"))
        body = fetch_status(folder)
        status = decode(body)
    except HelpRequested:
        from flanneld_py.cli.help import render_command

        print(render_command(HELP, STATUS_FLAGS), end="")
        return 0
    except (UsageError, ValueError) as error:
        print(f"flanneld-py status: {escape(str(error))}", file=sys.stderr)
        return 2
    except (AgentUnreachable, StatusFormatError) as error:
        print(f"flanneld-py status: {escape(str(error))}", file=sys.stderr)
        return 3
    if parsed.boolean("json"):
        sys.stdout.write(body.decode() + "\n")
    else:
        from flanneld_py.cli.statusview import print_status

        print_status(status, all_peers=parsed.boolean("peers"))
    return 0 if status.ready else 1


def _own_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The twins of this command's flags; those of the agent are none of its business."""
    of_the_agent = {flag.variable for flag in AGENT_FLAGS} - {RUN_DIR.variable}
    return {name: text for name, text in environ.items() if name not in of_the_agent}
