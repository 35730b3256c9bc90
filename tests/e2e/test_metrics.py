"""The metrics, as a real Prometheus and its linter read them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from urllib.parse import quote

import pytest

from flanneld_py.metrics import METRICS, PROCESS_METRICS
from flanneld_py.testing.lab.lab import Lab
from flanneld_py.testing.lab.namespace import stop
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.waiting import wait_until
from flanneld_py.testing.tools import find_tool
from tests.e2e.asking import get, get_json

pytestmark = pytest.mark.tools("prometheus", "promtool")

PORT, PROMETHEUS = 10256, 9090


@contextmanager
def prometheus(node: Node, folder: Path) -> Iterator[None]:
    """A Prometheus in the node's namespace that scrapes its agent every 500 ms."""
    target = {"targets": [f"127.0.0.1:{PORT}"]}
    job = {"job_name": "flanneld-py", "scrape_interval": "500ms", "scrape_timeout": "500ms"}
    config = folder / "prometheus.yml"
    config.write_text(json.dumps({"scrape_configs": [{**job, "static_configs": [target]}]}))
    with (folder / "prometheus.log").open("wb") as log:
        process = node.namespace.popen(
            [
                str(find_tool("prometheus")),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{PROMETHEUS}",
            ],
            log=log,
        )
    try:
        yield
    finally:
        stop(process)


def value(node: Node, query: str) -> float | None:
    """What Prometheus knows; None: nothing."""
    answer = get_json(node.namespace, PROMETHEUS, f"/api/v1/query?query={quote(query)}")
    results = answer["data"]["result"] if answer else []
    return float(results[0]["value"][1]) if results else None


def test_prometheus_scrapes_what_the_agent_does(lab: Lab, tmp_path: Path) -> None:
    first, second = lab.add_nodes(2, f"--healthz-port={PORT}", "--healthz-ip=127.0.0.1")
    lab.start_agents()
    with prometheus(first, tmp_path):

        def says(query: str, wanted: float) -> None:
            wait_until(
                lambda: value(first, query) == wanted,
                within=15,
                what=f"{query} is {wanted}",
                seen=lambda: str(value(first, query)),
            )

        says('up{job="flanneld-py"}', 1)
        says("flanneld_py_ready", 1)
        says('flanneld_py_peers{state="programmed"}', 1)
        says("flanneld_py_leases", 2)
        says('flanneld_py_lease_phase{phase="held"}', 1)
        says("flanneld_py_store_connected", 1)
        heals = value(first, 'flanneld_py_heals_total{kind="route"}') or 0
        subnet = IPv4Network(second.agent.subnet_env()["FLANNEL_SUBNET"], strict=False)
        first.namespace.ip(f"route del {subnet}")
        says(f'flanneld_py_heals_total{{kind="route"}} > bool {heals}', 1)
        lab.etcd.freeze()
        says("flanneld_py_store_connected", 0)
        says("flanneld_py_store_lag_seconds > bool 0", 1)
        says("flanneld_py_ready", 1)
        lab.etcd.thaw()
        says("flanneld_py_store_connected", 1)
        # Everything that is promised arrived, and each scrape was clean.
        names = get_json(first.namespace, PROMETHEUS, "/api/v1/label/__name__/values")["data"]
        plain = {metric.full_name for metric in METRICS if metric.kind != "histogram"}
        assert plain | set(PROCESS_METRICS) <= set(names)
        assert "flanneld_py_reconcile_duration_seconds_bucket" in names
        series = value(first, 'scrape_samples_scraped{job="flanneld-py"}')
        assert series is not None
        assert series <= 300
    assert second.agent.running


def test_the_linter_has_nothing_to_say(lab: Lab) -> None:
    (node,) = lab.add_nodes(1, f"--healthz-port={PORT}")
    lab.start_agents()
    for host in ("127.0.0.1", "::1"):
        status, text = get(node.namespace, PORT, "/metrics", host=host)
        assert status == 200
    done = subprocess.run(
        [find_tool("promtool"), "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # What it would have said.
    bad = subprocess.run(
        [find_tool("promtool"), "check", "metrics"],
        input="# TYPE a_ms counter\na_ms 1\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert bad.returncode != 0
