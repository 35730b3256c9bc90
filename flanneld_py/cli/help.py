"""`flanneld-py help`: what the commands and flags are, made from the tables of flags.

Plain text, so that it can be piped, searched, and shown on any terminal.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module

from flanneld_py.flags import Flag, nearest, shown_default, shown_value
from flanneld_py.flagtable import AGENT_FLAGS, COMMANDS
from flanneld_py.log import escape

MAX_WIDTH = 96
MIN_WIDTH = 40

INTRODUCTION = """\
flanneld-py: this node's part of a flannel overlay network, kept as it should be.

It leases a pod subnet for this node from etcd, tells the kernel how to reach every other node's \
subnet, and writes the subnet file for CNI plugins. It runs beside flannel's own nodes.
"""

USAGE = """\
  flanneld-py [run] [--flag=value ...]
  flanneld-py COMMAND [--flag=value ...]
"""

EXAMPLES = """\
  Put a network config into etcd, then start a node on eth1:
    etcdctl put /coreos.com/network/config \\
      '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}'
    flanneld-py --etcd-endpoints=http://192.0.2.1:2379 --iface=eth1

  Three etcd servers with TLS, and a CNI configuration written for you:
    flanneld-py --etcd-endpoints=https://a:2379,https://b:2379,https://c:2379 \\
      --etcd-cafile=ca.pem --cni-mode=direct

  Would it start with these flags? Nothing is changed:
    flanneld-py --config-check --etcd-endpoints=http://192.0.2.1:2379

  What is it doing?
    flanneld-py status
"""

SYNTAX = """\
One dash or two, `--name value` or `--name=value`. A boolean takes its value behind `=` only: \
--ip-masq=false. Numbers may be written 60 or 0x3c, durations 90s, 10m or 1h30m. Flags end at the \
first argument that is none.

Every flag can be given in the environment, too: --etcd-prefix is FLANNELD_ETCD_PREFIX. The \
command line wins, an empty variable is none.
"""


def main(argv: Sequence[str]) -> int:
    """Print the help of the agent, or of the command that `argv` names."""
    if not argv or argv[0] in ("run", "help") or argv[0].startswith("-"):
        print(render_agent(), end="")
        return 0
    if argv[0] in COMMANDS:
        module = import_module(f"flanneld_py.cli.{argv[0].replace('-', '_')}")
        result: int = module.main(["--help"])
        return result
    near = nearest(argv[0], COMMANDS)
    remedy = f"did you mean {near}?" if near else f"there are {', '.join(COMMANDS)}"
    print(f"flanneld-py help: {escape(repr(argv[0]))} is no command: {remedy}", file=sys.stderr)
    return 2


def render_agent(width: int | None = None) -> str:
    """The help of `flanneld-py run` and the list of commands."""
    columns = width or terminal_width()
    commands = "".join(f"  {name:<11} {text}\n" for name, text in COMMANDS.items())
    parts = [
        _filled(INTRODUCTION, columns),
        f"Usage:\n{USAGE}",
        f"Commands:\n{commands}",
        f"Examples:\n{EXAMPLES}",
        f"How flags are written:\n{_filled(SYNTAX, columns, indent='  ')}",
        *render_flags(AGENT_FLAGS, columns),
        "Exit status: 0 stopped on purpose, 1 failed, 2 wrong flags (nothing was changed).\n",
    ]
    return "\n".join(parts)


def render_command(text: str, flags: Sequence[Flag], width: int | None = None) -> str:
    """The help of another command."""
    columns = width or terminal_width()
    return "\n".join([text, *render_flags(flags, columns)])


def render_flags(flags: Sequence[Flag], columns: int) -> list[str]:
    """One block per section, in the order of the table."""
    blocks = []
    for section in dict.fromkeys(flag.section for flag in flags):
        rows = [_row(flag, columns) for flag in flags if flag.section == section]
        blocks.append(f"{section}:\n" + "".join(rows))
    return blocks


def terminal_width() -> int:
    """Columns to write in."""
    return max(MIN_WIDTH, min(MAX_WIDTH, shutil.get_terminal_size().columns))


def _row(flag: Flag, columns: int) -> str:
    value = shown_value(flag)
    default = shown_default(flag)
    text = f"{flag.help} Default: {default}." if default else flag.help
    head = f"  --{flag.name}={value}" if value else f"  --{flag.name}"
    # An unbroken default (a list of URLs) may be wider than a narrow terminal: it is not cut.
    body = textwrap.fill(
        text,
        columns,
        initial_indent="      ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"{head}\n{body}\n"


def _filled(text: str, columns: int, indent: str = "") -> str:
    paragraphs = [
        textwrap.fill(
            paragraph,
            columns,
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
        for paragraph in text.strip().split("\n\n")
    ]
    return "\n\n".join(paragraphs) + "\n"
