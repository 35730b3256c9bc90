"""A run as JSON, and back. Pure; files are the affair of whoever calls."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from bench.figures import Figure, Machine, Run, Yardstick

DIGITS = 4


def to_json(run: Run) -> str:
    """Return a run as JSON: the raw values, and beside them what follows from them."""
    head = {
        "date": run.date,
        "version": run.version,
        "peers": run.peers,
        "rounds": run.rounds,
        "others": _round(run.others),
        "machine": asdict(run.machine),
    }
    return json.dumps({**head, "figures": [_figure(one) for one in run.figures]}, indent=1) + "\n"


def from_json(text: str) -> Run:
    """Read what `to_json` wrote. Raises ValueError, KeyError or TypeError on anything else."""
    data = json.loads(text)
    return Run(
        date=data["date"],
        version=data["version"],
        peers=data["peers"],
        rounds=data["rounds"],
        others=data["others"],
        machine=Machine(**data["machine"]),
        figures=tuple(_read_figure(entry) for entry in data["figures"]),
    )


def _figure(figure: Figure) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "bench": figure.bench,
        "name": figure.name,
        "unit": figure.unit,
        "values": _rounded(figure.values),
        "median": _round(figure.median),
    }
    if figure.target is not None:
        entry["target"] = figure.target
    if (yardstick := figure.yardstick) is not None:
        entry["yardstick"] = {
            "name": yardstick.name,
            "values": _rounded(yardstick.values),
            "median": _round(yardstick.median),
            "is_limit": yardstick.is_limit,
        }
    if (ratio := figure.ratio) is not None:
        entry["ratio"] = _round(ratio)
    if figure.reached is not None:
        entry["reached"] = figure.reached
    return entry


def _read_figure(entry: dict[str, Any]) -> Figure:
    beside = entry.get("yardstick")
    return Figure(
        bench=entry["bench"],
        name=entry["name"],
        unit=entry["unit"],
        values=tuple(entry["values"]),
        target=entry.get("target"),
        yardstick=None
        if beside is None
        else Yardstick(
            name=beside["name"], values=tuple(beside["values"]), is_limit=beside["is_limit"]
        ),
    )


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [_round(value) for value in values]


def _round(value: float) -> float:
    return round(value, DIGITS)
