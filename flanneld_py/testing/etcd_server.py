"""A real etcd on loopback, in a temporary folder, that can be killed, silenced, wiped, restarted.

Serves tests, the demo and the bench. Ends only the process that it started. TLS material is made
by `Certificates`; users are made by `enable_auth` with etcdctl.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flanneld_py.testing.tools import find_tool

START_DEADLINE = 20.0
"""Seconds that a start may take on a busy machine."""


class EtcdFailed(Exception):
    """etcd did not start, or etcdctl failed; carries what it wrote."""

    def __init__(self, *, what: str, output: str) -> None:
        self.what = what
        self.output = output
        super().__init__(f"{what}:\n{output}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """An authority, and certificates of a server and of a client, made with openssl."""

    ca: Path
    """The authority's certificate."""
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path

    @classmethod
    def make(cls, folder: Path, *, names: str = "DNS:localhost,IP:127.0.0.1") -> Certificates:
        """Make all of them in `folder`; `names` are the server's, as a subjectAltName."""
        folder.mkdir(parents=True, exist_ok=True)
        key, ca = folder / "ca.key", folder / "ca.crt"
        _openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", key, "-out", ca, "-days", "2",
            "-subj", "/CN=test authority",
            "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip
        made = {}
        for name, extension in (
            ("server", f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth"),
            ("client", "extendedKeyUsage=clientAuth"),
        ):
            request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
            extensions.write_text(extension + "\n")
            _openssl(
                "req", "-new", *_NEW_KEY, "-keyout", folder / f"{name}.key", "-out", request,
                "-subj", f"/CN=test {name}",
            )  # fmt: skip
            _openssl(
                "x509", "-req", "-in", request, "-CA", ca, "-CAkey", key, "-CAcreateserial",
                "-out", folder / f"{name}.crt", "-days", "2", "-extfile", extensions,
            )  # fmt: skip
            made[f"{name}_cert"] = folder / f"{name}.crt"
            made[f"{name}_key"] = folder / f"{name}.key"
        return cls(ca=ca, **made)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: object) -> None:
    done = subprocess.run(
        ["openssl", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise EtcdFailed(what=f"openssl {arguments[0]} failed", output=done.stdout)


class EtcdServer:
    """One etcd, a cluster of its own unless `start_cluster` made it. Also a context."""

    def __init__(
        self,
        *,
        program: str = "etcd",
        folder: Path | None = None,
        tls: Certificates | None = None,
        require_client_certificate: bool = False,
        flags: Mapping[str, str] | None = None,
    ) -> None:
        """Choose ports and a folder. `program` is a tool's name (``etcd``, ``etcd-demo``)."""
        self._program = find_tool(program)
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="flanneld-py-etcd-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self._tls = tls
        self._mutual = require_client_certificate
        self._flags = dict(flags or {})
        self.port, self._peer_port, self._metrics_port = free_ports(3)
        self._name = f"test-{self._peer_port}"
        self._members = [self]
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start_cluster(cls, size: int) -> list[EtcdServer]:
        """Start servers that make up one cluster."""
        members = [cls() for _ in range(size)]
        for member in members:
            member._members = members
            member.start(wait=False)
        for member in members:
            member.wait_healthy()
        return members

    @property
    def endpoint(self) -> str:
        """What to give as ``--etcd-endpoints``."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The running etcd's process id."""
        if self._process is None:
            raise EtcdFailed(what="etcd is not running", output="")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there (paused or not)."""
        return self._process is not None

    def start(self, *, wait: bool = True) -> EtcdServer:
        """Start it on the same ports and data as before. Raises `EtcdFailed`."""
        if self._process is not None:
            raise EtcdFailed(what="etcd runs already", output="")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "ETCD_UNSUPPORTED_ARCH": os.uname().machine},
            )
        if wait:
            self.wait_healthy()
        return self

    def wait_healthy(self) -> None:
        """Wait until it serves. Raises `EtcdFailed`."""
        deadline = time.monotonic() + START_DEADLINE
        url = f"http://127.0.0.1:{self._metrics_port}/health"
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(url, timeout=1) as answer,
            ):
                if b'"true"' in answer.read():
                    return
            time.sleep(0.02)
        output = self._log.read_text(errors="replace")[-3000:]
        self.kill()
        raise EtcdFailed(what=f"etcd did not start within {START_DEADLINE:g} s", output=output)

    def kill(self) -> None:
        """End it as a power failure would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order (SIGTERM)."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Silence it: connections stay, nothing is answered (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it on the same data."""
        self.kill()
        self.start()

    def wipe(self) -> None:
        """Kill it, if it runs, and remove its data; a start makes a store with the same ids."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._data, ignore_errors=True)

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Run it on a port that no client knows, so that its data can be changed unseen."""
        known, self.port = self.port, free_ports(1)[0]
        try:
            self.start()
            yield
            self.stop()
        finally:
            self._end(signal.SIGKILL)
            self.port = known

    def ctl(self, *arguments: str, stdin: str = "", user: str = "") -> str:
        """Run etcdctl, as ``user:password`` if need be; return its output. Raises `EtcdFailed`."""
        command = [str(find_tool("etcdctl")), f"--endpoints={self.endpoint}"]
        if self._tls is not None:
            command += [f"--cacert={self._tls.ca}"]
            command += [f"--cert={self._tls.client_cert}", f"--key={self._tls.client_key}"]
        if user:
            command.append(f"--user={user}")
        done = subprocess.run(
            [*command, *arguments],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START_DEADLINE,
            env={**os.environ, "ETCDCTL_API": "3"},
            check=False,
        )
        if done.returncode:
            raise EtcdFailed(what=f"etcdctl {arguments[0]} failed", output=done.stdout)
        return done.stdout

    def put(self, key: str, value: str, *, user: str = "") -> None:
        """Write a key without a lease."""
        if user or self._tls is not None:
            self.ctl("put", "--", key, value, user=user)
        else:
            self._post("kv/put", {"key": _encoded(key), "value": _encoded(value)})

    def put_many(self, pairs: Iterable[tuple[str, str]], *, each: bool = False) -> None:
        """Write many keys, a hundred per revision, or with `each` one. Not with TLS."""
        puts = [
            {"requestPut": {"key": _encoded(key), "value": _encoded(value)}} for key, value in pairs
        ]
        size = 1 if each else 100
        for start in range(0, len(puts), size):
            self._post("kv/txn", {"success": puts[start : start + size]})

    def delete(self, key: str) -> None:
        """Delete a key. Not with TLS."""
        self._post("kv/deleterange", {"key": _encoded(key)})

    def compact(self) -> None:
        """Compact the history up to the present revision. Not with TLS."""
        header = self._post("kv/range", {"key": _encoded("x")})["header"]
        self._post("kv/compaction", {"revision": header["revision"]})

    def _post(self, method: str, request: Mapping[str, object]) -> Any:
        """Ask etcd's HTTP gateway, which is quicker than a process."""
        asked = urllib.request.Request(  # noqa: S310 (our own endpoint)
            f"{self.endpoint}/v3/{method}", data=json.dumps(request).encode()
        )
        with urllib.request.urlopen(asked, timeout=START_DEADLINE) as answer:  # noqa: S310
            return json.load(answer)

    def enable_auth(self, *, username: str, password: str, prefix: str) -> None:
        """Switch password authentication on, with root (password ``root``) and one more user.

        That user may read and write all keys that begin with `prefix`.
        """
        self.ctl("user", "add", "root:root")
        self.ctl("user", "grant-role", "root", "root")
        self.ctl("role", "add", "agent")
        self.ctl("role", "grant-permission", "--prefix=true", "agent", "readwrite", prefix)
        self.ctl("user", "add", f"{username}:{password}")
        self.ctl("user", "grant-role", username, "agent")
        self.ctl("auth", "enable")

    def close(self) -> None:
        """End it and remove its data."""
        if self._process is not None:
            self.kill()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> EtcdServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _log(self) -> Path:
        return self.folder / "etcd.log"

    @property
    def _membership(self) -> str:
        return f"{self._name}=http://127.0.0.1:{self._peer_port}"

    def _command(self) -> list[str]:
        peer = self._membership.partition("=")[2]
        flags = {
            "name": self._name,
            "data-dir": str(self._data),
            "listen-client-urls": self.endpoint,
            "advertise-client-urls": self.endpoint,
            "listen-metrics-urls": f"http://127.0.0.1:{self._metrics_port}",
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": ",".join(member._membership for member in self._members),
            "logger": "zap",
            # Members on loopback agree quickly; and leases of one second are possible so.
            "heartbeat-interval": "20",
            "election-timeout": "200",
        }
        if self._tls is not None:
            flags |= {
                "cert-file": str(self._tls.server_cert),
                "key-file": str(self._tls.server_key),
            }
            if self._mutual:
                flags |= {"trusted-ca-file": str(self._tls.ca), "client-cert-auth": "true"}
        flags |= self._flags
        return [str(self._program), *(f"--{name}={value}" for name, value in flags.items())]

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(START_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None


def _encoded(text: str) -> str:
    return b64encode(text.encode("utf-8", "surrogateescape")).decode()


def free_ports(count: int) -> list[int]:
    """Return TCP ports of loopback that nobody uses now."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(int(listener.getsockname()[1]))
        return ports
