from __future__ import annotations

import errno
from pathlib import Path

import pytest

from flanneld_py.figures import Figures
from flanneld_py.firewall import FirewallError
from flanneld_py.metrics import METRICS, PROCESS_METRICS, Metrics, samples_of
from flanneld_py.status import LeasePhase, PeerState
from tests.unit.flanneld_py.agent_on_fakes import CONFIG, DEV, Host, RunningAgent


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.backend.put_config(CONFIG)
    return made


def agree(run: RunningAgent) -> Figures:
    """The figures, which must say what the status says that walks over everything."""
    status, figures = run.agent.overview.status(), run.agent.figures.figures()
    counts = {state.value: number for state, number in figures.peers.items() if number}
    assert counts == status.peers.counts
    assert figures.kinds == status.elements.kinds
    assert figures.ready == status.ready
    assert figures.lease_phase is status.lease.phase
    assert figures.store_connected == status.store.connected
    assert figures.store_revision == status.store.revision
    return figures


async def test_figures_say_what_the_status_says(host: Host) -> None:
    for number in range(2, 12):
        host.peer(number)
    host.peer(20, backend_type="host-gw")
    host.peer(21, mac_number=2, ip="172.31.9.9")  # another node with a MAC that is taken
    async with host.agent() as run:
        figures = agree(run)
        assert figures.ready
        assert figures.lease_phase is LeasePhase.HELD
        assert figures.lease_seconds_left is not None
        assert 86000 < figures.lease_seconds_left <= 86400
        assert figures.leases == 13
        assert figures.peers[PeerState.PROGRAMMED] == 10
        assert figures.peers[PeerState.NOT_PROGRAMMED] == 1
        assert figures.peers[PeerState.QUARANTINED] == 1
        assert figures.config_generation == 1
        assert figures.operations["route", "create"] >= 10
        assert sum(figures.rounds.counts) == run.agent.reconciler.report.rounds > 0
        assert (figures.heals, figures.errors) == ({}, {})


async def test_what_the_kernel_refuses_is_counted(host: Host) -> None:
    async with host.agent() as run:
        host.peer(2)
        host.peer(3)
        await run.settle()
        (route,) = (e for key, e in run.wanted().items() if e == host.route_to(2))
        host.kernel.refused[route.key] = OSError(errno.ENOBUFS, "No buffer space available")
        host.kernel.namespace.remove_link(DEV)
        await run.settle(3)
        figures = agree(run)
        assert figures.peers[PeerState.FAILING] == 1
        assert figures.peers[PeerState.PROGRAMMED] == 1
        assert figures.errors["route", "create"] >= 1
        assert figures.heals["link"] == 1


async def test_a_lost_store_shows_since_when(host: Host) -> None:
    async with host.agent() as run:
        assert agree(run).store_lag_seconds == 0
        run.store.cut()
        await run.settle(10)
        figures = agree(run)
        assert not figures.store_connected
        assert 5 < figures.store_lag_seconds <= 10
        assert figures.ready
        run.store.restore()
        await run.settle(5)
        assert agree(run).store_lag_seconds == 0


async def test_a_refused_config_shows(host: Host) -> None:
    async with host.agent() as run:
        host.backend.put_config('{"Network": "nonsense"}')
        await run.settle()
        assert agree(run).config_refused
        assert agree(run).config_generation == 1
        host.backend.put_config(CONFIG.replace("}}", ', "MTU": 1400}}'))
        await run.settle()
        assert not agree(run).config_refused
        assert agree(run).config_generation == 2


async def test_the_firewalls_table_is_one_element_more(host: Host) -> None:
    async with host.agent() as run:
        text = Metrics(run.agent.figures).render().decode()
        assert 'flanneld_py_elements_desired{kind="nftables"} 1.0\n' in text
        assert 'flanneld_py_elements_observed{kind="nftables"} 1.0\n' in text
        assert 'flanneld_py_operations_total{action="replace",kind="nftables"} 1.0\n' in text
        host.ruleset.flush()
        await run.settle(2)
        text = Metrics(run.agent.figures).render().decode()
        assert 'flanneld_py_heals_total{kind="nftables"} 1.0\n' in text
        host.ruleset.refuses = FirewallError("nft is missing", remedy="install nftables")
        host.ruleset.flush()
        await run.settle(2)
        text = Metrics(run.agent.figures).render().decode()
        assert 'flanneld_py_elements_observed{kind="nftables"} 0.0\n' in text
        assert 'flanneld_py_elements_failing{kind="nftables"} 1.0\n' in text


async def test_many_peers_are_as_many_series_as_one(host: Host) -> None:
    def series(text: str) -> set[str]:
        return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}

    async with host.agent() as run:
        host.peer(2)
        await run.settle()
        few = series(Metrics(run.agent.figures).render().decode())
        for number in range(3, 60):
            host.peer(number)
        await run.settle()
        text = Metrics(run.agent.figures).render().decode()
    many = series(text)
    assert many == few
    assert len(many) <= 300
    assert 'flanneld_py_peers{state="programmed"} 58.0\n' in text


def test_every_metric_has_its_samples_and_no_other_is_made() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    plain = {metric.name for metric in METRICS if metric.kind != "histogram"}
    assert set(samples_of(Figures())) == plain


def test_metrics_of_an_agent_that_has_not_begun() -> None:
    class Nothing:
        def figures(self) -> Figures:
            return Figures()

    text = Metrics(Nothing()).render().decode()
    for metric in METRICS:
        assert f"# HELP {metric.full_name} {metric.help}\n" in text
        assert f"# TYPE {metric.full_name} {metric.kind}\n" in text
    for name in PROCESS_METRICS:
        assert f"\n{name} " in text
    named = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert named == {metric.full_name for metric in METRICS} | set(PROCESS_METRICS)
    assert 'flanneld_py_lease_phase{phase="waiting"} 1.0\n' in text
    assert "\nflanneld_py_lease_remaining_seconds " not in text
