"""How the demo looks: a live view on a terminal, plain lines anywhere else.

Reads a `Story` and draws it. Must not change it, nor know how it comes about.
"""

from __future__ import annotations

import sys
from typing import Protocol, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from flanneld_py.cli.demo_story import NodeView, Step, Story

FRAMES_PER_SECOND = 10
WIDE = 110
"""Columns from which on there is room for MAC addresses too."""


class Screen(Protocol):
    """Shows a story while it happens. A context manager."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def show(self, step: Step) -> None:
        """Take note that a step has begun, or has ended."""
        ...

    def show_nodes(self) -> None:
        """Take note that the nodes or the matrix changed."""
        ...


def make_screen(story: Story) -> Screen:
    """Return the screen that fits standard output."""
    console = Console(highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveScreen(story, console)
    return PlainScreen(story)


class LiveScreen:
    """Redraws the whole story in place."""

    def __init__(self, story: Story, console: Console) -> None:
        self._story = story
        self._console = console
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            console=console,
            get_renderable=self._draw,
            refresh_per_second=FRAMES_PER_SECOND,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, step: Step) -> None:
        """Draw the change at once."""
        self._live.refresh()

    def show_nodes(self) -> None:
        """Draw the change at once."""
        self._live.refresh()

    def _draw(self) -> RenderableType:
        story = self._story
        parts: list[RenderableType] = [_title(story)]
        if story.nodes:
            parts.append(_nodes(story, wide=self._console.width >= WIDE))
        parts.append(_steps(story, self._spinner))
        if story.pings:
            parts.append(Text.assemble("\n  pings between all pods: ", (story.pings, "bold cyan")))
        if story.closing:
            parts.append(Text("\n" + "\n".join(story.closing)))
        return Group(*parts)


class PlainScreen:
    """Prints each thing once, when it is known."""

    def __init__(self, story: Story) -> None:
        self._story = story

    def __enter__(self) -> Self:
        _print("flanneld-py demo: three nodes and an etcd in namespaces of their own")
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._story.closing:
            _print(line)

    def show(self, step: Step) -> None:
        """Print a step when it has ended."""
        if step.held is None:
            return
        verdict = "ok  " if step.held else "FAIL"
        _print(f"{self._story.seconds:5.1f}s {verdict} {step.title}: {step.result}")
        for line in step.details:
            _print(f"            {line}")

    def show_nodes(self) -> None:
        """Print the leases and the matrix."""
        for node in self._story.nodes:
            others = [name for source, name in self._story.matrix if source == node.name]
            seen = " ".join(f"{name} {_rtt(self._story, node.name, name)}" for name in others)
            _print(f"            {' '.join(_cells(node))}   pings in ms: {seen or '-'}")


def _title(story: Story) -> Text:
    return Text.assemble(
        ("flanneld-py", "bold cyan"),
        " · three nodes, a real etcd, a pod each",
        (f"   {story.seconds:4.1f} s", "dim"),
    )


def _nodes(story: Story, *, wide: bool) -> Table:
    """The leases, and how the pods ping each other."""
    table = Table(
        box=SIMPLE_HEAD, header_style="dim", pad_edge=False, caption="pings in milliseconds"
    )
    table.caption_justify = "right"
    for heading in ("node", "underlay", "leased subnet", *(["VTEP MAC"] if wide else []), "pod"):
        table.add_column(heading, no_wrap=True)
    names = [node.name for node in story.nodes]
    for name in names:
        table.add_column(f"→ {name}", justify="right", no_wrap=True, min_width=4)
    for node in story.nodes:
        cells = [Text(cell) for cell in _cells(node, wide=wide)]
        cells[0].stylize("bold cyan")
        rtts = [_rtt_text(story, node.name, name) for name in names]
        table.add_row(*cells, *rtts)
    return table


def _cells(node: NodeView, *, wide: bool = True) -> list[str]:
    mac = [node.mac or "-"] if wide else []
    return [node.name, node.underlay, node.subnet or "-", *mac, node.pod or "-"]


def _rtt(story: Story, source: str, target: str) -> str:
    if (source, target) not in story.matrix:
        return "·"
    seconds = story.matrix[source, target]
    return "lost" if seconds is None else f"{seconds * 1000:.2f}"


def _rtt_text(story: Story, source: str, target: str) -> Text:
    shown = _rtt(story, source, target)
    return Text(shown, style={"·": "dim", "lost": "bold red"}.get(shown, "green"))


def _steps(story: Story, spinner: Spinner) -> Table:
    """What was done, and what was seen, side by side."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=2, justify="right")
    table.add_column(no_wrap=True)
    table.add_column()
    for step in story.steps:
        table.add_row(_mark(step, spinner), Text(step.title, style="bold"), _seen(step))
    return table


def _mark(step: Step, spinner: Spinner) -> RenderableType:
    if step.held is None:
        return spinner
    return Text("✔", style="bold green") if step.held else Text("✘", style="bold red")


def _seen(step: Step) -> Text:
    style = "bold red" if step.held is False else ""
    lines = [Text(step.result, style=style)] if step.result else []
    return Text("\n").join([*lines, *(Text(line, style="dim") for line in step.details)])


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
