"""Draws a run: each figure beside its target and its yardstick. The only user of matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.figures import Figure, Run
from bench.table import amount, depends_on

OURS, MISSED, THEIRS, TARGET = "#2f6f9f", "#b5483a", "#b9bfc6", "#1d1d1d"
EACH = "#0b2236"
"""Of the single rounds."""
INSIDE_FROM = 0.3
"""A bar of this share of the largest has room for its label."""
ROW_INCHES, WIDTH_INCHES, HEAD_INCHES = 0.62, 9.0, 1.2


def draw(run: Run, path: Path) -> None:
    """Draw one row per figure that is judged, each on a scale of its own, from zero."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    judged = [figure for figure in run.figures if figure.reached is not None]
    shown = judged or list(run.figures)
    height = HEAD_INCHES + ROW_INCHES * len(shown)
    picture, axes = pyplot.subplots(
        len(shown), 1, figsize=(WIDTH_INCHES, height), squeeze=False, layout="constrained"
    )
    for axis, figure in zip(axes[:, 0], shown, strict=True):
        _row(axis, figure)
    picture.suptitle(
        f"flanneld-py {run.version} with {run.peers:,} peers: blue with its rounds, "
        "yardstick grey, target a black line",
        fontsize=10,
    )
    picture.supxlabel(depends_on(run), fontsize=7, color="#555555")
    picture.savefig(path, dpi=130)
    pyplot.close(picture)


def _row(axis: Any, figure: Figure) -> None:
    largest = max(figure.values)
    color = MISSED if figure.reached is False else OURS
    axis.barh([1], [figure.median], height=0.7, color=color)
    axis.plot(figure.values, [1] * len(figure.values), "|", color=EACH, markersize=8)
    if (beside := figure.yardstick) is not None:
        largest = max(largest, beside.median)
        axis.barh([0], [beside.median], height=0.7, color=THEIRS)
        label = f"  {amount(beside.median, figure.unit)}  {beside.name}"
        axis.text(beside.median, 0, label, va="center", fontsize=7, color="#555555")
    if figure.target is not None:
        largest = max(largest, figure.target)
        axis.plot([figure.target] * 2, [0.55, 1.45], color=TARGET, linewidth=1.5)
    axis.set_xlim(0, (largest or 1) * 1.45)
    label = f"  {amount(figure.median, figure.unit)}  "
    if largest and figure.median > INSIDE_FROM * largest:
        axis.text(min(figure.values), 1, label, va="center", ha="right", color="white", fontsize=8)
    else:
        axis.text(max(figure.values), 1, label, va="center", fontsize=8)
    axis.set_ylim(-0.6, 1.6)
    axis.set_xticks([])
    axis.set_yticks([1], [f"{figure.bench}\n{figure.name}"], fontsize=8)
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)
    axis.tick_params(length=0)
