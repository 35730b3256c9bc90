"""The lab's etcd: a real process in the switch's namespace, which can be frozen, killed and wiped.

Must not read or write keys: `etcd_view` does.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from flanneld_py.testing.lab.etcd_view import PORT, EtcdView
from flanneld_py.testing.lab.namespace import Namespace, stop
from flanneld_py.testing.lab.waiting import wait_until
from flanneld_py.testing.tools import find_tool


class Etcd:
    """One etcd without TLS, on all addresses of a namespace."""

    def __init__(self, namespace: Namespace, folder: Path, *, program: str = "etcd") -> None:
        self._namespace = namespace
        self._folder = folder
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives (frozen or not)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it on the data it has, and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "etcd.log").open("ab") as log:
            self._process = self._namespace.popen(
                [
                    str(find_tool(self._program)),
                    f"--data-dir={self._folder / 'data'}",
                    f"--listen-client-urls=http://0.0.0.0:{PORT}",
                    f"--advertise-client-urls=http://127.0.0.1:{PORT}",
                    "--listen-peer-urls=http://127.0.0.1:2380",
                    "--log-level=error",
                    "--unsafe-no-fsync",
                ],
                log=log,
            )
        view = EtcdView(self._namespace, timeout=1)
        wait_until(view.answers, within=20, what="etcd answers", seen=self.log)

    def kill(self) -> None:
        """End it without giving it a chance."""
        self.stop(sign=signal.SIGKILL)

    def stop(self, *, sign: int = signal.SIGTERM) -> None:
        """End it. Its data stays."""
        if self._process is not None:
            stop(self._process, sign=sign)
            self._process = None

    def wipe(self) -> None:
        """End it and forget all data, as when its disk is replaced."""
        self.kill()
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    def freeze(self) -> None:
        """Let it hang with its connections open."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)

    def log(self) -> str:
        """Return what it has logged, for messages."""
        log = self._folder / "etcd.log"
        return log.read_text() if log.exists() else ""
