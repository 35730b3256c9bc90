"""Metrics: the agent's figures under names that Prometheus reads.

Responsible for names, kinds and words of all metrics: METRICS is the one table of them, from which
the collector and a test of the documentation follow. The only importer of prometheus-client, which
is loaded at the first scrape. No series per peer: 10,000 peers are as many series as one.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from flanneld_py import __version__
from flanneld_py.figures import Figures, FigureSource
from flanneld_py.kernel import Action
from flanneld_py.reconcile.report import ROUND_BUCKETS
from flanneld_py.status import LeasePhase, PeerState

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

PREFIX = "flanneld_py_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[tuple[str, ...], float]
"""Values of the labels, and the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric."""

    name: str
    """Without PREFIX."""
    kind: str
    """``gauge``, ``counter`` or ``histogram``."""
    help: str
    """What it means, for people."""
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """As it is scraped."""
        return PREFIX + self.name


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=name, kind="gauge", help=text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=name, kind="counter", help=text, labels=labels)


METRICS: tuple[Metric, ...] = (
    _gauge("build_info", "Always 1; what runs.", "version", "python"),
    _gauge("ready", "1 when pods of this node can reach the network, as /readyz says."),
    _gauge("lease_phase", "1 for the phase in which this node's lease is.", "phase"),
    _gauge(
        "lease_remaining_seconds",
        "Time until this node's lease ends unless it is renewed; absent for a reservation.",
    ),
    _gauge("leases", "Leases in the store, this node's own and refused ones included."),
    _gauge("peers", "Other nodes by what the kernel holds for them.", "state"),
    _gauge("elements_desired", "Kernel objects that shall be there.", "kind"),
    _gauge("elements_observed", "Kernel objects of ours that are there.", "kind"),
    _gauge("elements_dirty", "Kernel objects that are about to be worked on.", "kind"),
    _gauge("elements_failing", "Kernel objects that the kernel refused, to be retried.", "kind"),
    _gauge("elements_waiting", "Kernel objects that wait for their device."),
    _gauge("elements_contested", "Kernel objects that another program keeps changing."),
    _counter("operations_total", "Changes made in the kernel.", "kind", "action"),
    _counter("operation_errors_total", "Changes that the kernel refused.", "kind", "action"),
    _counter("heals_total", "Kernel objects that others had changed, put right.", "kind"),
    Metric(
        name="reconcile_duration_seconds",
        kind="histogram",
        help="Rounds of the reconcile loop and how long they took.",
    ),
    _counter("observations_total", "Full readings of the kernel's state."),
    _gauge("observation_cpu_seconds", "Processor time of the last full reading."),
    _gauge("store_connected", "1 while the store answers."),
    _gauge("store_revision", "The newest revision of the store that is known."),
    _gauge("store_lag_seconds", "Time since the store was lost; 0 while it answers."),
    _gauge("config_generation", "Network configs that came into force since the start."),
    _gauge("config_refused", "1 while the store's network config is missing or unusable."),
)
"""All metrics of our own; those of the process are prometheus-client's."""

PROCESS_METRICS = (
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
)


class Metrics:
    """The page at /metrics."""

    def __init__(self, source: FigureSource) -> None:
        self._source = source
        self._registry: CollectorRegistry | None = None

    def load(self) -> None:
        """Load the library now rather than at the first scrape, which would wait for it."""
        import_module("prometheus_client")

    def render(self) -> bytes:
        """All metrics now, in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

        if self._registry is None:
            self._registry = CollectorRegistry(auto_describe=False)
            self._registry.register(_Collector(self._source))
            ProcessCollector(registry=self._registry)
        return generate_latest(self._registry)


class _Collector:
    """Makes the metrics from the figures when it is asked to."""

    def __init__(self, source: FigureSource) -> None:
        self._source = source

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        figures = self._source.figures()
        samples = samples_of(figures)
        for metric in METRICS:
            if metric.kind == "histogram":
                yield HistogramMetricFamily(
                    metric.full_name,
                    metric.help,
                    buckets=_cumulative(figures),
                    sum_value=figures.rounds.seconds,
                )
                continue
            make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = make(metric.full_name, metric.help, labels=metric.labels)
            for labels, value in samples[metric.name]:
                family.add_metric(labels, value)
            yield family


def samples_of(figures: Figures) -> Mapping[str, Iterable[Sample]]:
    """The samples of every metric but the histogram, by the metric's name."""
    kinds = figures.kinds
    left = figures.lease_seconds_left
    return {
        "build_info": [((__version__, platform.python_version()), 1)],
        "ready": _one(figures.ready),
        "lease_phase": [((p.value,), float(p is figures.lease_phase)) for p in LeasePhase],
        "lease_remaining_seconds": [] if left is None else _one(left),
        "leases": _one(figures.leases),
        "peers": [((state.value,), figures.peers.get(state, 0)) for state in PeerState],
        "elements_desired": [((each.kind,), each.desired) for each in kinds],
        "elements_observed": [((each.kind,), each.observed) for each in kinds],
        "elements_dirty": [((each.kind,), each.dirty) for each in kinds],
        "elements_failing": [((each.kind,), each.failing) for each in kinds],
        "elements_waiting": _one(figures.waiting),
        "elements_contested": _one(figures.contested),
        "operations_total": _per_action(figures, figures.operations),
        "operation_errors_total": _per_action(figures, figures.errors),
        "heals_total": [((each.kind,), figures.heals.get(each.kind, 0)) for each in kinds],
        "observations_total": _one(figures.observations),
        "observation_cpu_seconds": _one(figures.observe_cpu_seconds),
        "store_connected": _one(figures.store_connected),
        "store_revision": _one(figures.store_revision),
        "store_lag_seconds": _one(figures.store_lag_seconds),
        "config_generation": _one(figures.config_generation),
        "config_refused": _one(figures.config_refused),
    }


def _per_action(figures: Figures, counts: Mapping[tuple[str, str], int]) -> list[Sample]:
    """All combinations, also those that never happened: a rate needs a beginning."""
    labels = [(each.kind, action.value) for each in figures.kinds for action in Action]
    return [(label, counts.get(label, 0)) for label in labels]


def _one(value: float) -> list[Sample]:
    return [((), float(value))]


def _cumulative(figures: Figures) -> list[tuple[str, float]]:
    """The histogram's buckets as Prometheus counts them: each with all that is below it."""
    total, buckets = 0, []
    bounds = [*map(str, ROUND_BUCKETS), "+Inf"]
    for bound, number in zip(bounds, figures.rounds.counts, strict=True):
        total += number
        buckets.append((bound, float(total)))
    return buckets
