"""Pings that are counted at both ends: one round to many targets, and a steady flow to one.

Sequence numbers tell exactly which packets were lost. Must not know what a lab is made of beyond
namespaces and addresses.
"""

from __future__ import annotations

import itertools
import os
import selectors
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from flanneld_py.testing.lab import icmp
from flanneld_py.testing.lab.icmp import Target
from flanneld_py.testing.lab.namespace import Namespace

_idents = itertools.count(os.getpid())


class Prober:
    """Pings many targets at once from one namespace; reusable, because sockets are kept."""

    def __init__(self, source: Namespace) -> None:
        self.source = source
        self._sockets = {
            version: source.inside(partial(icmp.echo_socket, version)) for version in (4, 6)
        }
        self._sequences = itertools.count(1)

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._sockets.values():
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def round(self, targets: Iterable[Target], *, timeout: float = 0.3) -> dict[Target, float]:
        """Send one echo to each target; return the round-trip seconds of those that answered."""
        ident = next(_idents) & 0xFFFF
        sequence = next(self._sequences) & 0xFFFF
        sent: dict[Target, float] = {}
        answered: dict[Target, float] = {}

        def took(heard: int, number: int, sender: Target) -> None:
            if (heard, number) == (ident, sequence) and sender in sent:
                answered.setdefault(sender, time.perf_counter() - sent[sender])

        with selectors.DefaultSelector() as selector:
            for sock in self._sockets.values():
                selector.register(sock, selectors.EVENT_READ)
            for target in targets:
                sent[target] = time.perf_counter()
                self._send(target, icmp.request(target.version, ident, sequence))
            deadline = time.monotonic() + timeout
            while len(answered) < len(sent) and (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    icmp.read_all(key.fileobj, took)  # type: ignore[arg-type]
        return answered

    def unreached(self, targets: Iterable[Target], *, timeout: float = 0.3) -> list[Target]:
        """Return the targets that do not answer one echo."""
        wanted = list(targets)
        answered = self.round(wanted, timeout=timeout)
        return [target for target in wanted if target not in answered]

    def passes(self, target: Target, *, packet: int, timeout: float = 0.5) -> bool:
        """Say whether an unfragmented IP packet of `packet` bytes gets there and back."""
        header = 20 if target.version == 4 else 40
        payload = bytes(packet - header - icmp.ECHO.size)
        sock = self._sockets[target.version]
        icmp.forbid_fragments(sock)
        ident, sequence = next(_idents) & 0xFFFF, next(self._sequences) & 0xFFFF
        heard: list[int] = []
        try:
            sock.sendto(icmp.request(target.version, ident, sequence, payload), (str(target), 0))
        except OSError:  # larger than the interface
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            deadline = time.monotonic() + timeout
            while not heard and (left := deadline - time.monotonic()) > 0:
                selector.select(left)
                icmp.read_all(
                    sock,
                    lambda who, number, _: (
                        heard.append(number) if (who, number) == (ident, sequence) else None
                    ),
                )
        return bool(heard)

    def _send(self, target: Target, packet: bytes) -> None:
        try:
            self._sockets[target.version].sendto(packet, (str(target), 0))
        except OSError:
            return  # no route, no device, ...: it counts as not answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What became of a flow of pings."""

    sent: int
    arrived: int
    """Requests seen at the far end."""
    answered: int
    """Replies seen at the near end."""
    longest_gap: float
    """Longest time in seconds between two answers."""

    @property
    def lost(self) -> int:
        """How many requests were not answered."""
        return self.sent - self.answered

    def __str__(self) -> str:
        return (
            f"{self.sent} sent, {self.arrived} arrived, {self.answered} answered, {self.lost} lost"
        )


class Flow:
    """A steady flow of pings, in a thread, counted at both ends. A context manager.

    The far end is counted by a socket in the target's own namespace.
    """

    def __init__(
        self, source: Namespace, target: Target, *, far_end: Namespace, rate: float = 200
    ) -> None:
        self.target = target
        self._interval = 1 / rate
        self._ident = next(_idents) & 0xFFFF
        self._near = source.inside(lambda: icmp.echo_socket(target.version))
        self._far = far_end.inside(lambda: icmp.echo_socket(target.version, requests=True))
        self._sent = 0
        self._answered: set[int] = set()
        self._arrived: set[int] = set()
        self._last_answer = 0.0
        self._longest_gap = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pings to {target}", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.finish()

    def stop(self) -> None:
        """Stop sending; what is under way is still counted."""
        self._stop.set()

    def finish(self) -> Tally:
        """Stop sending, wait for what is under way, and return the tally."""
        self.stop()
        self._thread.join()
        self._near.close()
        self._far.close()
        return self.tally()

    def tally(self) -> Tally:
        """Return the tally so far; a packet under way counts as lost until it is answered."""
        return Tally(
            sent=self._sent,
            arrived=len(self._arrived),
            answered=len(self._answered),
            longest_gap=self._longest_gap,
        )

    @property
    def answered(self) -> int:
        """How many answers have come so far."""
        return len(self._answered)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._near, selectors.EVENT_READ, self._took_answer)
            selector.register(self._far, selectors.EVENT_READ, self._took_request)
            due = time.monotonic()
            while not self._stop.is_set():
                while due <= time.monotonic():
                    self._send()
                    due += self._interval
                self._read(selector, due - time.monotonic())
            deadline = time.monotonic() + 1
            while len(self._answered) < self._sent and time.monotonic() < deadline:
                self._read(selector, 0.05)
            self._read(selector, 0)

    def _send(self) -> None:
        self._sent += 1
        packet = icmp.request(self.target.version, self._ident, self._sent & 0xFFFF)
        try:
            self._near.sendto(packet, (str(self.target), 0))
        except OSError:
            return  # counted as sent, and as lost

    def _read(self, selector: selectors.BaseSelector, timeout: float) -> None:
        for key, _ in selector.select(max(0.0, timeout)):
            icmp.read_all(key.fileobj, key.data)  # type: ignore[arg-type]

    def _took_answer(self, ident: int, sequence: int, _: Target) -> None:
        if ident != self._ident:
            return
        now = time.monotonic()
        if self._last_answer:
            self._longest_gap = max(self._longest_gap, now - self._last_answer)
        self._last_answer = now
        self._answered.add(self._whole(sequence))

    def _took_request(self, ident: int, sequence: int, _: Target) -> None:
        if ident == self._ident:
            self._arrived.add(self._whole(sequence))

    def _whole(self, sequence: int) -> int:
        """Undo the wrapping of a 16-bit sequence number."""
        return self._sent - ((self._sent - sequence) & 0xFFFF)
