"""`flanneld-py cni-install`: puts the shim and its conflist where the container runtime looks.

Responsible for the flags and the words; what is written, and how, is in `cni.install`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from flanneld_py.cni.conf import DEFAULT, CniConfError, load
from flanneld_py.cni.install import Installation, InstallError, choose_python
from flanneld_py.flags import Flag, HelpRequested, Kind, Parsed, UsageError, parse
from flanneld_py.flagtable import AGENT_FLAGS, RUN_DIR
from flanneld_py.log import escape
from flanneld_py.pathrules import path, readable_file, run_dir

_SHARED = {flag.name: flag for flag in AGENT_FLAGS}
CNI_INSTALL_FLAGS: tuple[Flag, ...] = (
    Flag(
        name="cni-bin-dir",
        kind=Kind.TEXT,
        default="/opt/cni/bin",
        environment=False,
        section="Flags",
        metavar="DIR",
        help="The runtime's folder of plugins. It must exist, with bridge, host-local and portmap.",
    ),
    Flag(
        name="cni-conf-dir",
        kind=Kind.TEXT,
        default=_SHARED["cni-conf-dir"].default,
        section="Flags",
        metavar="DIR",
        help="The runtime's folder of configurations; 10-flannel.conflist is written there.",
    ),
    Flag(
        name="cni-conf",
        kind=Kind.TEXT,
        default="",
        section="Flags",
        metavar="FILE",
        help="Install this cni-conf instead of our own (network cbr0, flannel, portmap).",
    ),
    Flag(
        name="subnet-file",
        kind=Kind.TEXT,
        default=_SHARED["subnet-file"].default,
        section="Flags",
        metavar="FILE",
        help="The --subnet-file of the agent.",
    ),
    Flag(
        name="run-dir",
        kind=Kind.TEXT,
        default=RUN_DIR.default,
        section="Flags",
        metavar="DIR",
        help="The --run-dir of the agent, whom the plugin asks why a pod has to wait.",
    ),
    Flag(
        name="python",
        kind=Kind.TEXT,
        default="",
        environment=False,
        section="Flags",
        metavar="FILE",
        help="Absolute path of the Python (3.6 or newer) that runs the plugin for each pod. "
        "Without it: /usr/bin/python3, else the one that runs this command.",
    ),
    Flag(
        name="restore",
        kind=Kind.BOOLEAN,
        default=False,
        environment=False,
        section="Flags",
        help="Take ours away and put back what was saved aside.",
    ),
)
HELP = """\
flanneld-py cni-install: the CNI plugin `flannel` and a conflist, for hosts without direct mode.

Pods are then connected in flannel's two steps: the runtime starts our plugin, which reads the
subnet file and lets the bridge plugin do the work. Existing configurations of type flannel go on
working, and pods that flannel's plugin made can be deleted. Nothing runs while no pod starts. With
--cni-mode=direct the agent writes a conflist itself, and this command is not needed.

Examples:
  flanneld-py cni-install
  flanneld-py cni-install --cni-bin-dir=/usr/lib/cni --python=/usr/bin/python3.9
  flanneld-py cni-install --restore

A plugin and a conflist of others are saved aside with the ending .orig. May be run again at any
time; files are replaced in one step.

Exit status: 0 all is in place, 1 it could not be put there, 2 wrong flags (nothing was changed).
"""


def main(argv: Sequence[str], *, environ: Mapping[str, str] | None = None) -> int:
    """Install or restore, and say what was done."""
    try:
        parsed = parse(
            CNI_INSTALL_FLAGS, argv, _own_variables(os.environ if environ is None else environ)
        )
        if parsed.leftover:
            raise UsageError([f"{parsed.leftover[0]!r} is too much: cni-install takes flags only"])
        installation = _read(parsed)
    except HelpRequested:
        from flanneld_py.cli.help import render_command

        print(render_command(HELP, CNI_INSTALL_FLAGS), end="")
        return 0
    except (UsageError, CniConfError, ValueError) as error:
        return _refused(error, 2)
    try:
        lines = installation.restore() if parsed.boolean("restore") else installation.install()
    except InstallError as error:
        return _refused(error, 1)
    for line in lines:
        print(escape(line))
    return 0


def _read(parsed: Parsed) -> Installation:
    """Raises ValueError and CniConfError."""
    conf = parsed.text("cni-conf")
    python = parsed.text("python")
    if python and not os.path.isabs(python):
        raise ValueError(
            f"--python={python} is no absolute path: give one such as /usr/bin/python3"
        )
    return Installation(
        bin_dir=path(parsed.text("cni-bin-dir")),
        conf_dir=path(parsed.text("cni-conf-dir")),
        conf=load(readable_file(conf)) if conf else DEFAULT,
        subnet_file=path(parsed.text("subnet-file")),
        run_dir=run_dir(parsed.text("run-dir")),
        python=path(python) if python else choose_python(sys.executable),
    )


def _refused(error: Exception, status: int) -> int:
    print(f"flanneld-py cni-install: {escape(str(error))}", file=sys.stderr)
    return status


def _own_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The twins of this command's flags; those of the agent are none of its business."""
    own = {flag.variable for flag in CNI_INSTALL_FLAGS}
    of_the_agent = {flag.variable for flag in AGENT_FLAGS} - own
    return {name: text for name, text in environ.items() if name not in of_the_agent}
