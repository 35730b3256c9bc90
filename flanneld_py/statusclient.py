"""Asks a running agent for its status, over the socket in its run folder.

Plain blocking sockets: the command starts in a few milliseconds and asks once.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path

SOCKET_NAME = "agent.sock"
TIMEOUT_SECONDS = 5.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""An agent's bounded lists stay far below."""


class AgentUnreachable(Exception):
    """No answer; `path` is the socket, `reason` and `remedy` say why and what to do."""

    def __init__(self, *, path: Path, reason: str, remedy: str) -> None:
        self.path = path
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{path}: {reason}: {remedy}")


def fetch_status(run_dir: Path, *, timeout: float = TIMEOUT_SECONDS) -> bytes:
    """The JSON of /status. Raises AgentUnreachable."""
    path = run_dir / SOCKET_NAME
    deadline = time.monotonic() + timeout
    try:
        answer = _ask(path, b"GET /status HTTP/1.0\r\n\r\n", deadline)
    except OSError as error:
        raise _unreachable(path, error, timeout) from error
    if not answer:
        raise AgentUnreachable(
            path=path, reason="the agent closed the connection", remedy="see its log"
        )
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1."):
        raise AgentUnreachable(
            path=path, reason="the answer is not an agent's", remedy="what listens there?"
        )
    if words[1] != "200":
        raise AgentUnreachable(
            path=path, reason=f"the agent answered {' '.join(words[1:])}", remedy="see its log"
        )
    return body


def _ask(path: Path, request: bytes, deadline: float) -> bytes:
    """What is answered until the end of the connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_left(deadline))
        connection.connect(str(path))
        connection.sendall(request)
        answer = bytearray()
        while True:
            connection.settimeout(_left(deadline))
            data = connection.recv(65536)
            if not data:
                return bytes(answer)
            answer += data
            if len(answer) > MAX_ANSWER_BYTES:
                raise OSError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _unreachable(path: Path, error: OSError, timeout: float) -> AgentUnreachable:
    """In words: absent, left behind by a dead agent, forbidden, silent, or something else."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        reason = "no agent listens there"
        remedy = "is it running, and with this --run-dir? (the socket is not there)"
    elif isinstance(error, ConnectionRefusedError):
        reason = "no agent listens there"
        remedy = "is it running? (a dead one left its socket)"
    elif isinstance(error, PermissionError):
        reason, remedy = "the agent's socket may not be opened by this user", "run as root"
    elif isinstance(error, TimeoutError):
        reason = f"the agent did not answer within {timeout:g} s"
        remedy = "it is stopped or overloaded: see its log"
    else:
        reason, remedy = error.strerror or str(error), "see the agent's log"
    return AgentUnreachable(path=path, reason=reason, remedy=remedy)
