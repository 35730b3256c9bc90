"""How a status looks on a terminal: rows of a label and a text, folded to the terminal's width.

`rows` is pure and decides what is said; `print_status` is the only user of rich. What comes from
the store may be hostile: it is shown escaped, and never read as markup.
"""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass

from flanneld_py.log import escape
from flanneld_py.status import Change, FailingElement, LeasePhase, PeerState, PeerStatus, Status

FEW = 10
"""Peers, failing elements and changes that are shown unless more is asked for."""
LABEL_WIDTH = len("interface") + 2
MIN_TEXT_WIDTH = 20
"""Columns below which a narrow terminal folds the lines itself."""

GOOD, BAD, DOUBTFUL, PLAIN = "green", "red", "yellow", ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line, before it is folded."""

    label: str = ""
    """What it is about; empty when it goes on from the row above."""
    text: str
    style: str = PLAIN
    """Colour of the text, in rich's words."""


def rows(status: Status, *, all_peers: bool = False) -> list[Row]:
    """Everything that is shown, the most important first."""
    return [
        *_readiness(status),
        _lease(status),
        _interface(status),
        _backend(status),
        _store(status),
        _peers(status),
        *_listed_peers(status, all_peers=all_peers),
        _kernel(status),
        *_failing(status.elements.failing),
        *(
            Row(label="warnings" if number == 0 else "", text=text, style=DOUBTFUL)
            for number, text in enumerate(status.warnings)
        ),
        *_changes(status.changes[-FEW:]),
    ]


def print_status(status: Status, *, all_peers: bool = False) -> None:
    """Print the rows to standard output; folded on a terminal, one line each in a pipe."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    width = shutil.get_terminal_size().columns if console.is_terminal else None
    for row in rows(status, all_peers=all_peers):
        for number, line in enumerate(folded(escape(row.text), width)):
            label = row.label if number == 0 else ""
            console.print(Text(f"{label:<{LABEL_WIDTH}}", style="bold") + Text(line, row.style))


def folded(text: str, width: int | None) -> list[str]:
    """`text` in lines that leave room for the label; None: in one line."""
    if width is None:
        return [text]
    room = max(MIN_TEXT_WIDTH, width - LABEL_WIDTH)
    return textwrap.wrap(text, room, break_on_hyphens=False) or [""]


def span(seconds: float) -> str:
    """A time span for people, in its two largest units: 23 h 4 min."""
    left = max(0, int(seconds))
    units = [(86400, "d"), (3600, "h"), (60, "min"), (1, "s")]
    words: list[str] = []
    for size, name in units:
        count, left = divmod(left, size)
        if count or (name == "s" and not words):
            words.append(f"{count} {name}")
        elif words:
            break
    return " ".join(words[:2])


def _readiness(status: Status) -> Iterator[Row]:
    since = span(status.now - status.started)
    agent = f"flanneld-py {status.version}, pid {status.pid}, running for {since}"
    yield Row(label="agent", text=agent)
    if status.ready:
        yield Row(label="ready", text="yes", style=GOOD)
        return
    for number, reason in enumerate(status.reasons or ("no reason is given",)):
        yield Row(label="ready" if number == 0 else "", text=f"no: {reason}", style=BAD)


def _lease(status: Status) -> Row:
    lease = status.lease
    parts = [" ".join(lease.subnets) or "none", lease.phase.value]
    if lease.expires_in is not None:
        parts.append(f"ends in {span(lease.expires_in)} unless renewed")
    elif lease.phase is LeasePhase.HELD:
        parts.append("a reservation: never ends")
    parts += [part for part in (lease.reason, lease.key) if part]
    style = {LeasePhase.HELD: PLAIN, LeasePhase.LOST: BAD}.get(lease.phase, DOUBTFUL)
    return Row(label="lease", text=", ".join(parts), style=style)


def _interface(status: Status) -> Row:
    chosen = status.interface
    if not chosen.name:
        return Row(label="interface", text=f"none yet: {chosen.reason}", style=DOUBTFUL)
    parts = [" ".join((chosen.name, *chosen.addresses))]
    if chosen.public_ips != chosen.addresses:
        parts.append(f"published as {' '.join(chosen.public_ips)}")
    parts.append(f"mtu {chosen.mtu}")
    if chosen.reason:
        parts.append(chosen.reason)
    return Row(label="interface", text=", ".join(parts))


def _backend(status: Status) -> Row:
    backend = status.backend
    if not backend.type:
        text = "unknown: no usable network config yet"
        return Row(label="backend", text=text, style=DOUBTFUL)
    parts = [" ".join((backend.type, *backend.devices))]
    parts += [f"VNI {backend.vni}"] if backend.vni is not None else []
    parts += [f"UDP port {backend.port}"] if backend.port is not None else []
    parts.append(f"pods' mtu {backend.mtu}")
    if backend.nexthops is not None:
        parts.append("routes by nexthop objects" if backend.nexthops else "classic routes")
    return Row(label="backend", text=", ".join(parts))


def _store(status: Status) -> Row:
    store = status.store
    if store.connected:
        return Row(label="store", text=f"{store.source}, connected, revision {store.revision}")
    reason = store.reason or "no reason is given"
    return Row(label="store", text=f"{store.source}, not connected: {reason}", style=DOUBTFUL)


def _peers(status: Status) -> Row:
    counts = status.peers.counts
    known = [state.value for state in reversed(PeerState)]
    names = [*known, *sorted(set(counts) - set(known))]
    words = [f"{counts[name]} {name}" for name in names if counts.get(name)]
    trouble = set(counts) - {PeerState.PROGRAMMED.value, PeerState.PENDING.value}
    style = DOUBTFUL if trouble else PLAIN
    return Row(label="peers", text=", ".join(words) or "none", style=style)


def _listed_peers(status: Status, *, all_peers: bool) -> Iterator[Row]:
    listed = status.peers.listed
    if not all_peers:
        listed = tuple(peer for peer in listed if peer.state is not PeerState.PROGRAMMED)[:FEW]
    for peer in listed:
        yield Row(text=_peer(peer), style=PLAIN if not peer.reason else DOUBTFUL)
    shown = set(listed)
    more = [peer for peer in status.peers.listed if peer not in shown]
    hidden = sum(peer.state is not PeerState.PROGRAMMED for peer in more)
    if hidden:
        yield Row(text=f"and {hidden} more: --peers lists them")
    if all_peers and status.peers.omitted:
        yield Row(text=f"and {status.peers.omitted} more, which are only counted")


def _peer(peer: PeerStatus) -> str:
    names = " ".join((*peer.subnets, *(f"at {address}" for address in peer.public_ips)))
    text = f"{names or peer.key}: {peer.state.value}"
    return f"{text}: {peer.reason}" if peer.reason else text


def _kernel(status: Status) -> Row:
    kinds = status.elements.kinds
    wrong = [kind for kind in kinds if kind.dirty or kind.failing or kind.desired != kind.observed]
    if not wrong:
        total = sum(kind.desired for kind in kinds)
        return Row(label="kernel", text=f"{total} elements, all as they should be")
    words = []
    for kind in wrong:
        details = [f"{kind.observed} of {kind.desired}"]
        details += [f"{kind.dirty} to do"] if kind.dirty else []
        details += [f"{kind.failing} failing"] if kind.failing else []
        words.append(f"{kind.kind} {' '.join(details)}")
    return Row(label="kernel", text=", ".join(words), style=DOUBTFUL)


def _failing(failing: tuple[FailingElement, ...]) -> Iterator[Row]:
    for element in failing[:FEW]:
        again = f"tried {element.tries} times, again in {span(element.next_try_in)}"
        yield Row(text=f"{element.element}: {element.reason} ({again})", style=BAD)
    if len(failing) > FEW:
        yield Row(text=f"and {len(failing) - FEW} more: --json lists them")


def _changes(changes: tuple[Change, ...]) -> Iterator[Row]:
    for number, change in enumerate(changes):
        moment = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(change.at))
        yield Row(label="changes" if number == 0 else "", text=f"{moment} {change.text}")
