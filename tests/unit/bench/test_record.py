from __future__ import annotations

import json
import re

import pytest

from bench.figures import Figure, Machine, Run, Yardstick
from bench.record import from_json, to_json
from bench.table import BEGIN, END, amount, insert, line, markdown

LIMITED = Figure(
    bench="cold-start",
    name="kernel part",
    unit="ms",
    values=(500.0, 400.0, 450.0),
    yardstick=Yardstick(name="ip -batch", values=(900.0, 1000.0, 800.0), is_limit=True),
)
MISSED = Figure(bench="memory", name="resident", unit="MiB", values=(120.0,), target=100)
PLAIN = Figure(bench="memory", name="peak", unit="MiB", values=(140.25,))
RUN = Run(
    date="2026-01-02",
    version="0.1",
    peers=10_000,
    rounds=3,
    others=0.01,
    machine=Machine(
        cores=2,
        processor="a processor",
        memory_mib=4096,
        kernel="6.1",
        python="3.11.4",
        etcd="3.4.23",
        iproute2="6.1.0",
    ),
    figures=(LIMITED, MISSED, PLAIN),
)


def test_a_run_survives_json() -> None:
    assert from_json(to_json(RUN)) == RUN


def test_json_says_what_follows_from_the_values() -> None:
    entries = json.loads(to_json(RUN))["figures"]
    assert entries[0]["median"] == 450
    assert entries[0]["yardstick"]["median"] == 900
    assert entries[0]["ratio"] == 0.5
    assert [entry.get("reached") for entry in entries] == [True, False, None]


def test_what_was_missed_is_listed() -> None:
    assert RUN.missed == (MISSED,)


def test_the_table_shows_only_what_is_judged() -> None:
    text = markdown(RUN)
    assert (
        "| cold-start: kernel part | **450 ms** | <= yardstick | ip -batch: 900 ms (we: x0.50) |"
        in text
    )
    assert "| memory: resident | 120 MiB (missed) | <= 100 MiB |  |" in text
    assert "peak" not in text
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {5}
    assert "10,000 peers, median of 3 rounds, 2 cores (a processor), Linux 6.1" in text


def test_the_table_replaces_the_one_between_its_marks() -> None:
    before = f"# Title\n{BEGIN}\nold\n{END}\nrest\n"
    once = insert(before, RUN)
    assert once == f"# Title\n{BEGIN}\n{markdown(RUN)}\n{END}\nrest\n"
    assert insert(once, RUN) == once


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}{BEGIN}"])
def test_a_document_without_marks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="lacks"):
        insert(text, RUN)


@pytest.mark.parametrize(
    ("figure", "begins"), [(LIMITED, "ok "), (MISSED, "NOT"), (PLAIN, "    memory")]
)
def test_a_line_begins_with_the_verdict(figure: Figure, begins: str) -> None:
    assert line(figure).startswith(begins)


def test_a_line_names_the_demand_and_the_yardstick() -> None:
    assert re.search(
        r"kernel part +450 ms <= yardstick +ip -batch: 900 ms \(we: x0.50\)$", line(LIMITED)
    )


def test_counts_have_no_fractions_and_times_three_digits() -> None:
    assert [amount(number, "series") for number in (0, 7, 127)] == [
        "0 series",
        "7 series",
        "127 series",
    ]
    assert [amount(number, "ms") for number in (0.5, 12.34, 127.4)] == [
        "0.50 ms",
        "12.3 ms",
        "127 ms",
    ]
