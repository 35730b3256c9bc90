"""The socket on which requests go to the kernel: batches of writes, dumps, single questions.

It carries messages and hands back answers; what they mean is the affair of its callers. One
plain AF_NETLINK socket in the network namespace of the process. Sending blocks inside of the
kernel while the messages are worked through, so batches are cut to a length that has lately taken
little time, and the event loop gets its turn between them.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final, TypeVar

from flanneld_py.kernel import KernelError
from flanneld_py.kernel import netlink as nl

T = TypeVar("T")

RECEIVE_BYTES: Final = 4 * 1024 * 1024
READ_BYTES: Final = 256 * 1024
"""Larger than any datagram of a dump (32 KiB)."""
MOST_PER_BATCH: Final = 500
FIRST_BATCH: Final = 100
"""How long a message takes differs a hundredfold between kinds, so each run begins carefully."""
LEAST_PER_BATCH: Final = 16
AIM_SECONDS: Final = 0.015
"""Batches are sized to take about this long, so that the loop stays responsive."""
BYTES_PER_REFUSAL: Final = 1536
"""What one refusal takes of the receive buffer (the kernel counts its own overhead too)."""
DUMP_ATTEMPTS: Final = 4
ANSWER_SECONDS: Final = 10.0
"""The kernel answers at once; when it does not, something is badly wrong."""


def receive_buffer(sock: socket.socket, size: int) -> int:
    """Enlarge the receive buffer as far as our rights go; answer what it became, in bytes."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, nl.SO_RCVBUFFORCE, size)
    except PermissionError:  # in a user namespace: up to net.core.rmem_max
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


class RequestSocket:
    """Batches, dumps and questions, one at a time."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._sock.setblocking(False)
        size = receive_buffer(self._sock, RECEIVE_BYTES)
        self._sock.setsockopt(nl.SOL_NETLINK, nl.NETLINK_CAP_ACK, 1)
        self._sock.setsockopt(nl.SOL_NETLINK, nl.NETLINK_EXT_ACK, 1)
        self.strict = self._set_strict()
        self._most = max(LEAST_PER_BATCH, min(MOST_PER_BATCH, size // BYTES_PER_REFUSAL))
        self._chunk = self._most
        self._sequence = 1
        self._busy = asyncio.Lock()
        self._sock.bind((0, 0))

    def _set_strict(self) -> bool:
        try:
            self._sock.setsockopt(nl.SOL_NETLINK, nl.NETLINK_GET_STRICT_CHK, 1)
        except OSError:  # Linux < 4.20: dumps come unfiltered, and callers filter them anyway
            return False
        return True

    def close(self) -> None:
        self._sock.close()

    async def write(self, messages: Sequence[bytes]) -> dict[int, nl.Refusal]:
        """Send `messages`; answer the refusals by index. A refused message stops no other."""
        refused: dict[int, nl.Refusal] = {}
        done = 0
        async with self._busy:
            self._chunk = min(self._chunk, FIRST_BATCH)
            while done < len(messages):
                chunk = messages[done : done + self._chunk]
                for index, answer in (await self._write_chunk(chunk)).items():
                    refused[done + index] = answer
                done += len(chunk)
                await asyncio.sleep(0)
        return refused

    async def _write_chunk(self, chunk: Sequence[bytes]) -> dict[int, nl.Refusal]:
        started = perf_counter()
        first = self._take_sequences(len(chunk))
        data = bytearray(b"".join(chunk))
        offset = 0
        for sequence, message in enumerate(chunk, first):
            nl.U32.pack_into(data, offset + 8, sequence)
            offset += len(message)
        # An acknowledgement only of the last: errors come without being asked for, and messages
        # are worked through in order.
        data[offset - len(chunk[-1]) + 6] |= nl.NLM_F_ACK
        self._sock.send(data)
        try:
            refused = await self._answers(first, first + len(chunk) - 1)
        except KernelError as error:
            if error.errno != errno.ENOBUFS:
                raise
            lost = nl.Refusal(errno=errno.ENOBUFS, text="the kernel's answers were lost")
            refused = dict.fromkeys(range(len(chunk)), lost)
        self._adapt(len(chunk), perf_counter() - started)
        return refused

    async def _answers(self, first: int, last: int) -> dict[int, nl.Refusal]:
        refused: dict[int, nl.Refusal] = {}
        while True:
            data = await self._receive()
            for start, end, type_, flags, sequence in nl.frames(data, len(data)):
                if type_ != nl.NLMSG_ERROR or not first <= sequence <= last:
                    continue
                answer = nl.refusal(data, start, end, flags)
                if answer.errno:
                    refused[sequence - first] = answer
                if sequence == last:
                    return refused

    def _adapt(self, count: int, seconds: float) -> None:
        if count == self._chunk or seconds > AIM_SECONDS:
            wanted = int(count * AIM_SECONDS / max(seconds, 1e-6))
            self._chunk = max(LEAST_PER_BATCH, min(self._most, wanted))

    async def dump(self, request: bytes, decode: Callable[[bytes, int, int], T | None]) -> list[T]:
        """Everything that answers `request`, decoded; None of `decode` is left out.

        `decode` gets the datagram, and the offsets of one message in it. A dump under which the
        tables changed is made again, a few times at most.
        """
        async with self._busy:
            for attempt in range(DUMP_ATTEMPTS):
                try:
                    found, whole = await self._dump_once(request, decode)
                except BaseException:
                    self._end_dump()
                    raise
                if whole or attempt == DUMP_ATTEMPTS - 1:
                    break
        return found

    async def _dump_once(
        self, request: bytes, decode: Callable[[bytes, int, int], T | None]
    ) -> tuple[list[T], bool]:
        ours = self._take_sequences(1)
        data = bytearray(request)
        nl.U32.pack_into(data, 8, ours)
        self._sock.send(data)
        found: list[T] = []
        whole = True
        while True:
            part = await self._receive()
            for start, end, type_, flags, sequence in nl.frames(part, len(part)):
                if sequence != ours:
                    continue
                if flags & nl.NLM_F_DUMP_INTR:
                    whole = False
                if type_ > nl.NLMSG_DONE:
                    value = decode(part, start, end)
                    if value is not None:
                        found.append(value)
                elif type_ == nl.NLMSG_DONE:
                    return found, whole
                else:
                    self._raise(nl.refusal(part, start, end, flags), "a dump")
            await asyncio.sleep(0)

    def _end_dump(self) -> None:
        """Read a dump to its end: the kernel refuses the next one (EBUSY) before that."""
        try:
            while self._sock.recv(READ_BYTES):
                pass
        except OSError:
            return

    async def ask(self, request: bytes) -> bytes | nl.Refusal:
        """One question with one answer: the whole message, or the kernel's refusal."""
        async with self._busy:
            ours = self._take_sequences(1)
            data = bytearray(request)
            nl.U32.pack_into(data, 8, ours)
            self._sock.send(data)
            while True:
                part = await self._receive()
                for start, end, type_, flags, sequence in nl.frames(part, len(part)):
                    if sequence != ours:
                        continue
                    if type_ == nl.NLMSG_ERROR:
                        return nl.refusal(part, start, end, flags)
                    return part[start:end]

    def _raise(self, answer: nl.Refusal, what: str) -> None:
        raise KernelError(
            what=f"netlink: {what}",
            errno=answer.errno,
            reason=answer.text or errno.errorcode.get(answer.errno, str(answer.errno)),
        )

    async def _receive(self) -> bytes:
        try:
            return self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return await self._wait_for_answer()
        except OSError as error:
            raise self._broken(error) from error

    async def _wait_for_answer(self) -> bytes:
        # Answers are written while we send; this is the rare case of a kernel under pressure.
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await loop.sock_recv(self._sock, READ_BYTES)
        except TimeoutError as error:
            raise KernelError(
                what="netlink", errno=errno.ETIMEDOUT, reason="the kernel does not answer"
            ) from error
        except OSError as error:
            raise self._broken(error) from error

    @staticmethod
    def _broken(error: OSError) -> KernelError:
        return KernelError(
            what="netlink", errno=error.errno or errno.EIO, reason=error.strerror or str(error)
        )

    def _take_sequences(self, count: int) -> int:
        if self._sequence + count > 0xFFFFFFFF:
            self._sequence = 1
        first = self._sequence
        self._sequence += count
        return first
