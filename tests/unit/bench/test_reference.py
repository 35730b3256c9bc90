from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.record import from_json
from bench.table import insert

CHECKOUT = Path(__file__).resolve().parents[3]
REFERENCE = CHECKOUT / "bench/results/reference"


def test_the_readme_shows_the_reference_run() -> None:
    run = from_json((REFERENCE / "bench.json").read_text())
    readme = (CHECKOUT / "README.md").read_text()
    assert insert(readme, run) == readme
    table = [
        line for line in readme.splitlines() if line.startswith(("| cold-start", "| peer-add"))
    ]
    assert {line.count("|") for line in table} == {5}
    assert insert(readme, replace(run, peers=run.peers + 1)) != readme


def test_the_reference_run_is_a_full_one_with_a_picture() -> None:
    run = from_json((REFERENCE / "bench.json").read_text())
    assert {figure.bench for figure in run.figures} == {
        "cold-start",
        "peer-add",
        "drift",
        "memory",
    }
    assert (run.peers, run.machine.cores) == (10_000, 2)
    assert run.rounds >= 5
    assert (REFERENCE / "bench.png").read_bytes().startswith(b"\x89PNG")
