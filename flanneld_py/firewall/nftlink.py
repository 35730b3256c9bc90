"""The socket on nf_tables: notices changes of a few tables, tells the generation, names all tables.

Raw NFNETLINK, so that nothing is executed while nothing of ours changes (linux/netfilter/
nfnetlink.h, nf_tables.h). Reads only; rules are listed and written by `nftprogram`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Collection
from time import perf_counter
from typing import Final

from flanneld_py.firewall import FirewallError, Notices, Table
from flanneld_py.kernel import netlink as nl
from flanneld_py.kernel.batch import receive_buffer

NETLINK_NETFILTER: Final = 12
NFNLGRP_NFTABLES: Final = 7
_SUBSYSTEM: Final = 10 << 8
NEWTABLE: Final = _SUBSYSTEM | 0
GETTABLE: Final = _SUBSYSTEM | 1
NEWGEN: Final = _SUBSYSTEM | 15
GETGEN: Final = _SUBSYSTEM | 16
NFTA_NAME: Final = 1
"""The table's name in messages about tables; the table they are in, in all others (_TABLE)."""
NFTA_TABLE_FLAGS: Final = 2
NFTA_TABLE_HANDLE: Final = 4
NFTA_GEN_ID: Final = 1
NFTA_GEN_PROC_NAME: Final = 3
FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

RECEIVE_BYTES: Final = 4 * 1024 * 1024
READ_BYTES: Final = 64 * 1024
SLICE_SECONDS: Final = 0.02
DUMP_ATTEMPTS: Final = 4
_HEADER: Final = 16 + 4
"""struct nlmsghdr and struct nfgenmsg (family, version, resource)."""


class NftLink:
    """Two sockets: one is told, one asks. Raises FirewallError when the kernel refuses."""

    def __init__(self, watched: Collection[tuple[str, str]], wake: Callable[[], None]) -> None:
        self._watched = frozenset(watched)
        self._needles = [name.encode() + b"\0" for _, name in watched]
        self._wake = wake
        self._touched = False
        self._by = ""
        self._unattributed = False
        self._seen: int | None = None
        self._broken: FirewallError | None = None
        self._sequence = 0
        self._told = self._socket(subscribe=True)
        try:
            self._asked = self._socket(subscribe=False)
        except FirewallError:
            self._told.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._told, self._readable)

    @staticmethod
    def _socket(*, subscribe: bool) -> socket.socket:
        sock: socket.socket | None = None
        try:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
            sock.setblocking(False)
            if subscribe:
                receive_buffer(sock, RECEIVE_BYTES)
            sock.bind((0, 0))
            if subscribe:
                sock.setsockopt(nl.SOL_NETLINK, nl.NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        except OSError as error:
            if sock is not None:
                sock.close()
            raise refused(error.errno or errno.EIO, "watching the ruleset") from error
        return sock

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(self._told)
        self._told.close()
        self._asked.close()

    # -- what is told

    def notices(self) -> Notices:
        """What was told since the last call."""
        self._read()
        if self._broken is not None:
            raise self._broken
        notices = Notices(touched=self._touched, by=self._by)
        self._touched, self._by = False, ""
        return notices

    def missed(self) -> bool:
        """Whether the ruleset's generation is not the last one that was told."""
        self._read()
        before, self._seen = self._seen, self.generation()
        return before is not None and before != self._seen

    def _readable(self) -> None:
        before = self._touched
        self._read()
        if self._touched and not before:
            self._wake()

    def _read(self) -> None:
        """Read for a slice of time; what is left wakes the loop again."""
        until = perf_counter() + SLICE_SECONDS
        while perf_counter() < until:
            try:
                data = self._told.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._touched = True
                if error.errno == errno.ENOBUFS:
                    continue
                # Told to whoever asks next: an event loop's callback has nobody to raise it to.
                self._broken = refused(error.errno or errno.EIO, "watching the ruleset")
                self._loop.remove_reader(self._told)
                return
            self._judge(data)

    def _judge(self, data: bytes) -> None:
        # Most datagrams are of tables of others, at times by the ten thousand: a search for our
        # names is a thousand times faster than taking messages apart.
        if any(needle in data for needle in self._needles) and self._is_about_ours(data):
            self._touched = self._unattributed = True
        if nl.HEADER.unpack_from(data)[1] == NEWGEN:
            found = nl.attributes(data, _HEADER, len(data))
            self._seen = _be(found.get(NFTA_GEN_ID))
            if self._unattributed:
                self._by = nl.text(found.get(NFTA_GEN_PROC_NAME))
                self._unattributed = False

    def _is_about_ours(self, data: bytes) -> bool:
        return any(
            (FAMILIES.get(data[start + 16], ""), _name(data, start, end)) in self._watched
            for start, end, type_, _, _ in nl.frames(data, len(data))
            if type_ & 0xFF00 == _SUBSYSTEM and type_ != NEWGEN and end - start >= _HEADER
        )

    # -- what is asked

    def generation(self) -> int:
        """The number of the ruleset's generation: one more with every transaction."""
        for data, start, end in self._ask(GETGEN, 0):
            return _be(nl.attributes(data, start + _HEADER, end).get(NFTA_GEN_ID))
        raise refused(errno.EOPNOTSUPP, "asking for the generation")

    def tables(self) -> tuple[Table, ...]:
        """Every table, whosever it is."""
        return tuple(
            _table(data, start, end) for data, start, end in self._ask(GETTABLE, nl.NLM_F_DUMP)
        )

    def _ask(self, type_: int, flags: int) -> list[tuple[bytes, int, int]]:
        for _ in range(DUMP_ATTEMPTS):
            answers, whole = self._ask_once(type_, flags)
            if whole:
                break
        return answers

    def _ask_once(self, type_: int, flags: int) -> tuple[list[tuple[bytes, int, int]], bool]:
        self._sequence += 1
        request = bytearray(nl.message(type_, flags, bytes(4)))
        nl.U32.pack_into(request, 8, self._sequence)
        answers: list[tuple[bytes, int, int]] = []
        whole = True
        try:
            self._asked.send(request)
            while True:
                # The kernel answers while we send: what is not there now does not come.
                data = self._asked.recv(READ_BYTES)
                for start, end, kind, its_flags, sequence in nl.frames(data, len(data)):
                    if sequence != self._sequence:
                        continue
                    whole = whole and not its_flags & nl.NLM_F_DUMP_INTR
                    if kind == nl.NLMSG_ERROR:
                        raise refused(nl.refusal(data, start, end, its_flags).errno, "asking")
                    if kind == nl.NLMSG_DONE:
                        return answers, whole
                    answers.append((data, start, end))
                    if not flags & nl.NLM_F_DUMP:
                        return answers, True
        except OSError as error:
            raise refused(error.errno or errno.EIO, "asking") from error


def refused(number: int, doing: str) -> FirewallError:
    """The kernel's refusal with what can be done about it."""
    reason = f"{doing}: {errno.errorcode.get(number, number)}"
    if number in (errno.EPERM, errno.EACCES):
        return FirewallError(reason, remedy="run as root or with CAP_NET_ADMIN")
    return FirewallError(
        reason,
        remedy="the kernel needs nf_tables with nat for inet (Linux 5.2; modprobe nf_tables)",
    )


def _table(data: bytes, start: int, end: int) -> Table:
    found = nl.attributes(data, start + _HEADER, end)
    return Table(
        family=FAMILIES.get(data[start + 16], str(data[start + 16])),
        name=nl.text(found.get(NFTA_NAME)),
        handle=_be(found.get(NFTA_TABLE_HANDLE)),
        flags=_be(found.get(NFTA_TABLE_FLAGS)),
    )


def _name(data: bytes, start: int, end: int) -> str:
    return nl.text(nl.attributes(data, start + _HEADER, end).get(NFTA_NAME))


def _be(value: bytes | None) -> int:
    """A number of nf_tables, which are big-endian."""
    if value is None or len(value) not in (4, 8):
        return 0
    return int(struct.unpack("!I" if len(value) == 4 else "!Q", value)[0])
