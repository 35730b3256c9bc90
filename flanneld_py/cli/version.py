"""`flanneld-py version`: the version, to standard output (`--version` says it as flannel does)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flanneld_py import __version__

HELP = """\
flanneld-py version: prints the version to standard output. It takes no flags.

`flanneld-py --version` prints the bare version to standard error, as flannel does.
"""


def main(argv: Sequence[str]) -> int:
    """Print the version; there are no flags."""
    if list(argv) in (["-h"], ["--help"], ["-help"]):
        print(HELP, end="")
        return 0
    if argv:
        print(f"flanneld-py: version takes no flags: leave out {argv[0]!r}", file=sys.stderr)
        return 2
    print(f"flanneld-py {__version__}")
    return 0
