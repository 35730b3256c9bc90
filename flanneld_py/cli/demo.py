"""`flanneld-py demo`: three nodes with pods on this machine, and what makes this agent different.

Responsible for its flags, its namespaces and its end: everything is gone when it returns, unless
`--keep` asks to wait for Ctrl-C. What is shown is in `demo_scenes`, how it looks in `demo_screen`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from flanneld_py.cli import demo_isolation
from flanneld_py.cli.demo_story import Story
from flanneld_py.flags import Flag, HelpRequested, Kind, UsageError, parse
from flanneld_py.testing.tools import CHECKOUT, ToolMissing, find_tool, has_tool

FLAGS = (
    Flag(
        name="keep",
        kind=Kind.BOOLEAN,
        default=False,
        environment=False,
        section="Flags",
        help="Leave the nodes up until Ctrl-C, with hints which commands to try.",
    ),
)
HELP = """\
flanneld-py demo: three nodes with a pod each, and a real etcd, in namespaces on this machine.

Shows leases and pings, then breaks things: a device, etcd, what stands in etcd. Ends by itself
within a minute and leaves nothing behind. Needs no root where the kernel allows user namespaces.

Exit status: 0 all that it claims was true, 1 not, or it cannot run here, 2 wrong flags.
"""
_INVITATION = "  To try things yourself: make demo KEEP=1, or flanneld-py demo --keep"
NEEDED = ("ip", "bridge", "nsenter", "setpriv", "unshare", "cni/bridge", "cni/host-local")
FOLDER = Path("/run/flanneld-py-demo")
"""On a file system of the demo's own."""
INTERRUPTED = 130


def main(argv: Sequence[str]) -> int:
    """Run the demo; return the exit status: 0 when all that it claims was true."""
    try:
        keep = _read_flags(argv)
        for tool in (*NEEDED, _etcd()):
            find_tool(tool)
        if not demo_isolation.is_inside():
            demo_isolation.enter([sys.executable, "-m", "flanneld_py", "demo", *argv])
        host_pid = demo_isolation.furnish(CHECKOUT)
    except HelpRequested:
        from flanneld_py.cli.help import render_command

        sys.stdout.write(render_command(HELP, FLAGS))
        return 0
    except (UsageError, ToolMissing, demo_isolation.IsolationRefused) as error:
        sys.stderr.write(f"flanneld-py demo: {error}\n")
        return 2 if isinstance(error, UsageError) else 1
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(host_pid, keep=keep)
    except KeyboardInterrupt:
        sys.stderr.write("\nflanneld-py demo: interrupted; nothing is left behind\n")
        return INTERRUPTED


def _run(host_pid: int, *, keep: bool) -> int:
    """Play the demo inside our namespaces."""
    from flanneld_py.cli.demo_scenes import ClaimFailed, play
    from flanneld_py.cli.demo_screen import make_screen
    from flanneld_py.testing.lab.lab import Lab

    story = Story()
    with Lab(prefix="", folder=FOLDER, etcd_program=_etcd()) as lab:
        with make_screen(story) as screen:
            try:
                play(lab, story, screen)
                story.closing = [f"  All of it held, in {story.seconds:.0f} s."]
            except ClaimFailed:
                story.closing = ["A claim proved false. The agents' last words:"]
                story.closing += [f"{node.name}{node.agent.log_tail(8)}" for node in lab.nodes]
            story.closing += _hints(host_pid) if keep else [_INVITATION]
        if keep:
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
    return 1 if story.failed else 0


def _read_flags(argv: Sequence[str]) -> bool:
    """Return whether `--keep` was given. Raises `UsageError` and `HelpRequested`."""
    parsed = parse(FLAGS, argv)
    if parsed.leftover:
        raise UsageError([f"{parsed.leftover[0]!r} is too much: demo takes flags only"])
    return parsed.boolean("keep")


def _etcd() -> str:
    """Return which etcd serves: the one of the Python package, else any."""
    return "etcd-demo" if has_tool("etcd-demo") else "etcd"


def _hints(host_pid: int) -> list[str]:
    """Return commands that work from another terminal."""
    command = Path(sys.prefix, "bin/flanneld-py")
    ours = str(command) if command.exists() else f"{sys.executable} -m flanneld_py"
    ip = "ip" if shutil.which("ip") else str(find_tool("ip"))
    run_dir = FOLDER / "n1/run"
    sudo = "sudo " if demo_isolation.is_root_outside() and "SUDO_USER" in os.environ else ""
    return [
        "",
        "The nodes stay up until Ctrl-C. In another terminal, first a shell inside:",
        f"  {sudo}{demo_isolation.visit(host_pid)} bash",
        "and in it (nodes are n1, n2, n3, pods n1-p1, ..., the switch with etcd is sw):",
        f"  {ours} status --run-dir {run_dir}",
        f"  {ip} netns exec n1 {ip} route",
        f"  {ip} netns exec n1 {ip} link delete flannel.1",
        f"  tail {FOLDER / 'n1/agent.log'}",
    ]
