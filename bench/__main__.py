"""Runs benches: `python -m bench [NAME...]`, as root; `make bench` gives it its own namespaces.

Prints as it goes, and writes JSON and a picture. Measures nothing itself.
"""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import cni, cold_start, drift, idle, memory, peer_add, scrape
from bench.figures import Figure, Run
from bench.machine import Others, describe
from bench.picture import draw
from bench.record import to_json
from bench.table import depends_on, insert, line
from bench.world import CONFIG, MOST_PEERS, World
from flanneld_py import __version__
from flanneld_py.testing.lab.errors import LabError
from flanneld_py.testing.lab.lab import Lab
from flanneld_py.testing.tools import CHECKOUT, ToolMissing

BENCHES: Mapping[str, Callable[[World, int], list[Figure]]] = {
    cold_start.NAME: cold_start.run,
    peer_add.NAME: peer_add.run,
    drift.NAME: drift.run,
    memory.NAME: memory.run,
    cni.NAME: cni.run,
    idle.NAME: idle.run,
    scrape.NAME: scrape.run,
}
RESULTS = CHECKOUT / "bench/results"
REFERENCE = RESULTS / "reference"
NOISE = 0.1
README = CHECKOUT / "README.md"


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; 0: every target reached, 1: not, 2: it could not be measured."""
    asked = _parser().parse_args(arguments)
    if os.geteuid() != 0:
        print("bench: needs namespaces of its own: run `make bench`", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run = measure(asked.names or list(BENCHES), asked.peers, asked.rounds)
    except KeyboardInterrupt:
        print("bench: interrupted; all namespaces are removed", file=sys.stderr)
        return 130
    except (LabError, ToolMissing) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    write(run, asked.out or (REFERENCE if asked.reference else RESULTS))
    if asked.reference:
        README.write_text(insert(README.read_text(), run))
    return 1 if run.missed else 0


def measure(names: list[str], peers: int, rounds: int) -> Run:
    """Run benches one after the other in one lab."""
    machine = describe()
    say(f"{machine.cores} cores, Linux {machine.kernel}, {peers} peers, {rounds} rounds")
    others = Others()
    figures: list[Figure] = []
    with Lab(config=CONFIG) as lab:
        world = World(lab, peers, say)
        world.fill()
        for name in names:
            figures += BENCHES[name](world, rounds)
    return Run(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        version=__version__,
        peers=peers,
        rounds=rounds,
        machine=machine,
        others=others.share(),
        figures=tuple(figures),
    )


def write(run: Run, folder: Path) -> None:
    """Write JSON and picture, and show the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(to_json(run))
    draw(run, folder / "bench.png")
    print()
    for figure in run.figures:
        print(line(figure))
    print(f"\n{depends_on(run)}")
    if run.others > NOISE:
        print(f"other programs used {run.others:.0%} of all cores meanwhile: the figures are high")
    shown = folder.relative_to(CHECKOUT) if folder.is_relative_to(CHECKOUT) else folder
    print(f"written: {shown / 'bench.json'}, {shown / 'bench.png'}")


_BEGAN = time.monotonic()


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"{time.monotonic() - _BEGAN:6.1f} s  {text}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the agent.")
    parser.add_argument(
        "names", nargs="*", type=_name, metavar="NAME", help=f"of {', '.join(BENCHES)}"
    )
    parser.add_argument("--peers", type=_count(MOST_PEERS), default=10_000)
    parser.add_argument("--rounds", type=_count(1000), default=5)
    parser.add_argument("--out", type=Path, help="folder for JSON and picture")
    parser.add_argument(
        "--reference", action="store_true", help="write the committed run and the README's table"
    )
    parser.set_defaults(names=[])
    return parser


def _name(text: str) -> str:
    if text not in BENCHES:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(BENCHES)}")
    return text


def _count(most: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        number = int(text)
        if not 1 <= number <= most:
            raise argparse.ArgumentTypeError(f"{number} is not between 1 and {most}")
        return number

    return count


if __name__ == "__main__":
    sys.exit(main())
