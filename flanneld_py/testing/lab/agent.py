"""One agent: a real process in a node's namespace, with folders and a log of its own.

Starts, stops, freezes and asks it. Must not judge whether it does well: pings and `observed` do.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from flanneld_py.statusclient import AgentUnreachable, fetch_status
from flanneld_py.testing.lab.errors import AgentEnded
from flanneld_py.testing.lab.namespace import Namespace, stop
from flanneld_py.testing.lab.underlay import GATEWAY
from flanneld_py.testing.lab.waiting import wait_until
from flanneld_py.testing.tools import CHECKOUT, search_path

COMMAND = (sys.executable, "-m", "flanneld_py")
READY_WITHIN = 15.0


class Agent:
    """The agent of one node. At most one process at a time."""

    def __init__(self, node: Namespace, folder: Path, *flags: str) -> None:
        self.node = node
        self.folder = folder
        self.flags = flags
        self.environment: dict[str, str] = {}
        """Variables that the process gets beside ours."""
        self.subnet_file = folder / "flannel/subnet.env"
        self.state_dir = folder / "state"
        self.run_dir = folder / "run"
        self.cni_conf_dir = folder / "cni/net.d"
        self.log_file = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None
        for place in (self.state_dir, self.run_dir, self.cni_conf_dir):
            place.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int:
        """The pid of the running process."""
        if self.process is None:
            raise RuntimeError(f"the agent of {self.node.name} was never started")
        return self.process.pid

    def start(self, *more: str) -> None:
        """Start the process; the log goes on where it was."""
        if self.running:
            raise RuntimeError(f"the agent of {self.node.name} runs already")
        with self.log_file.open("ab") as log:
            self.process = self.node.popen(
                [*COMMAND, "run", *self.own_flags(), *self.flags, *more],
                log=log,
                environment={**self.environment, "PYTHONUNBUFFERED": "1"},
            )

    def start_ready(self, *more: str, within: float = READY_WITHIN) -> float:
        """Start the process and wait until it is ready; return the seconds that took."""
        self.start(*more)
        return self.wait_ready(within=within)

    def wait_ready(self, *, within: float = READY_WITHIN) -> float:
        """Wait until subnet.env and the conflist are there and status says ready."""
        return wait_until(
            self.is_ready, within=within, what=f"agent {self.node.name} ready", seen=self.log_tail
        )

    def is_ready(self) -> bool:
        """Say whether pods can be connected now. Raises when the process has ended."""
        if not self.running:
            raise AgentEnded(self.node.name, self.log_tail())
        if not self.subnet_file.exists() or not any(self.cni_conf_dir.glob("*.conflist")):
            return False
        return bool(self.says("ready"))

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> int:
        """End it as a supervisor does; return its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """End it without giving it a chance."""
        return self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it in its tracks: the control of a fault test."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        os.kill(self.pid, signal.SIGCONT)

    def status(self) -> dict[str, Any] | None:
        """Return what its socket says, as `status --json` prints it; None: no answer."""
        try:
            answer: dict[str, Any] = json.loads(fetch_status(self.run_dir, timeout=2))
        except (AgentUnreachable, ValueError):
            return None
        return answer

    def says(self, *path: str) -> Any:
        """Return one value of the status, such as ``says("store", "connected")``; None: nothing."""
        value: Any = self.status()
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def ask(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run another command of `flanneld-py` on this node."""
        return subprocess.run(
            self.node.command(*COMMAND, *command),
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
            cwd=CHECKOUT,
            env={**os.environ, "PATH": search_path(), "COLUMNS": "200"},
        )

    def log(self) -> str:
        """Return all that it has logged."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of its log, for messages."""
        return "\n" + "\n".join(self.log().splitlines()[-lines:])

    def subnet_env(self) -> dict[str, str]:
        """Return subnet.env as a dict; empty when there is none."""
        try:
            text = self.subnet_file.read_text()
        except FileNotFoundError:
            return {}
        pairs = (line.partition("=") for line in text.splitlines())
        return {name: value for name, _, value in pairs}

    def own_flags(self) -> list[str]:
        return [
            f"--etcd-endpoints=http://{GATEWAY}:2379",
            f"--subnet-file={self.subnet_file}",
            f"--state-dir={self.state_dir}",
            f"--run-dir={self.run_dir}",
            "--cni-mode=direct",
            f"--cni-conf-dir={self.cni_conf_dir}",
        ]

    def _end(self, sign: int) -> int:
        if self.process is None:
            return 0
        return stop(self.process, sign=sign)
