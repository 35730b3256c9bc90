"""A run as text: the table of the README, and what the terminal shows. Pure."""

from __future__ import annotations

from bench.figures import Figure, Machine, Run

BEGIN = "<!-- bench table: begin, written by `python -m bench --reference` -->"
END = "<!-- bench table: end -->"
COUNTS = ("series", "processes")
"""Units of which there are no parts."""


def markdown(run: Run) -> str:
    """Return the figures that have a target or a limit as a table, with what they depend on."""
    lines = ["| | median | target | yardstick in the same run |", "|---|---|---|---|"]
    for figure in run.figures:
        if figure.reached is None:
            continue
        lines.append(
            f"| {figure.bench}: {figure.name} | {_marked(figure)} | {_demand(figure)} "
            f"| {_beside(figure)} |"
        )
    return "\n".join([*lines, "", depends_on(run)])


def insert(text: str, run: Run) -> str:
    """Return a document with the table between its marks. Raises ValueError when it has none."""
    before, begun, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        raise ValueError(f"the document lacks {BEGIN!r} followed by {END!r}")
    return f"{before}{BEGIN}\n{markdown(run)}\n{END}{after}"


def line(figure: Figure) -> str:
    """Return one figure as a line for the terminal."""
    verdict = {None: "   ", True: "ok ", False: "NOT"}[figure.reached]
    text = f"{verdict} {figure.bench:10} {figure.name:34} {amount(figure.median, figure.unit):>10}"
    demand = f" {_demand(figure)}" if figure.reached is not None else ""
    beside = f"   {_beside(figure)}" if figure.yardstick is not None else ""
    return f"{text}{demand}{beside}".rstrip()


def depends_on(run: Run) -> str:
    """Return in one sentence what the figures depend on."""
    machine: Machine = run.machine
    return (
        f"{run.peers:,} peers, median of {run.rounds} rounds, {machine.cores} cores "
        f"({machine.processor}), Linux {machine.kernel}, Python {machine.python}, "
        f"etcd {machine.etcd}, {run.date}."
    )


def amount(value: float, unit: str) -> str:
    """Return a value with its unit, in three digits; counts as whole numbers."""
    digits = 0 if value >= 100 or unit in COUNTS else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}"


def _marked(figure: Figure) -> str:
    text = amount(figure.median, figure.unit)
    return f"**{text}**" if figure.reached else f"{text} (missed)"


def _demand(figure: Figure) -> str:
    if figure.target is not None:
        return f"<= {figure.target:g} {figure.unit}"
    return "<= yardstick"


def _beside(figure: Figure) -> str:
    if figure.yardstick is None:
        return ""
    text = f"{figure.yardstick.name}: {amount(figure.yardstick.median, figure.unit)}"
    return text if figure.ratio is None else f"{text} (we: x{figure.ratio:.2f})"
