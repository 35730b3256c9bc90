"""Health over TCP and systemd's notify protocol, from the first second to the last."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from flanneld_py.testing.lab.agent import Agent
from flanneld_py.testing.lab.lab import Lab
from flanneld_py.testing.lab.waiting import wait_until
from tests.e2e.asking import get
from tests.e2e.scenario import MakeLab

PORT = 10256
FIRST_ANSWER_WITHIN = 3.0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket as systemd's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "notify"))
        receiving.settimeout(5)
        yield receiving


def heard(manager: socket.socket, wanted: str) -> list[str]:
    """What is said until a state comes that begins with `wanted`."""
    said: list[str] = []
    while not said or not said[-1].startswith(wanted):
        said.append(manager.recv(4096).decode())
    return said


def test_systemd_is_told_all_along(lab: Lab, manager: socket.socket) -> None:
    (node,) = lab.add_nodes(1)
    node.agent.environment = {
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "1000000",
    }
    node.agent.start()
    said = heard(manager, "READY=1")
    assert said[0] == "WATCHDOG=1"
    assert "STATUS=ready" in said
    heard(manager, "WATCHDOG=1")
    # An agent that hangs gives no sign of life.
    node.agent.freeze()
    manager.settimeout(1.5)
    with pytest.raises(TimeoutError):
        heard(manager, "never")
    node.agent.thaw()
    heard(manager, "WATCHDOG=1")
    manager.settimeout(5)
    assert node.agent.stop() == 0
    heard(manager, "STOPPING=1")


def test_health_answers_before_the_store_does(make_lab: MakeLab) -> None:
    lab = make_lab(with_etcd=False)
    (node,) = lab.add_nodes(1, f"--healthz-port={PORT}")
    node.agent.start()
    wait_until(
        lambda: get(node.namespace, PORT, "/healthz")[0] == 200,
        within=FIRST_ANSWER_WITHIN,
        what="an answer from /healthz",
    )

    def names_the_store() -> bool:
        status, body = get(node.namespace, PORT, "/readyz", host="::1")
        first, *reasons = body.splitlines()
        return (status, first) == (503, "flanneld is not ready yet") and any(
            "etcd" in reason for reason in reasons
        )

    wait_until(names_the_store, within=5, what="/readyz names the store")
    assert get(node.namespace, PORT, "/status")[0] == 404
    lab.etcd.start()
    lab.view.configure({"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}})
    node.agent.wait_ready()
    assert get(node.namespace, PORT, "/readyz") == (200, "flanneld is ready\n")
    assert get(node.namespace, PORT, "/healthz") == (200, "flanneld is running\n")


@pytest.mark.parametrize("run_dir", ["run", "elsewhere"])
def test_who_waits_for_the_lock_says_so_and_who_waits_for_the_port_works(
    lab: Lab, run_dir: str
) -> None:
    (node,) = lab.add_nodes(1)
    first = node.agent
    first.start_ready(f"--healthz-port={PORT}")
    second = Agent(node.namespace, node.folder)
    second.log_file = node.folder / "second.log"
    elsewhere = () if run_dir == "run" else (f"--run-dir={node.folder / run_dir}",)
    second.start(f"--healthz-port={PORT + 1}", *elsewhere)
    try:
        expected = f"another agent runs in this network namespace pid={first.pid}"
        wait_until(
            lambda: expected in get(node.namespace, PORT + 1, "/readyz")[1],
            within=FIRST_ANSWER_WITHIN,
            what="the second agent names the first",
        )
        assert get(node.namespace, PORT + 1, "/readyz")[0] == 503
        assert get(node.namespace, PORT, "/readyz")[0] == 200
        first.stop()
        wait_until(
            lambda: get(node.namespace, PORT + 1, "/readyz")[0] == 200,
            within=10,
            what="the second agent is ready",
        )
    finally:
        second.stop()


def test_a_port_in_use_is_named_and_taken_later(lab: Lab) -> None:
    (node,) = lab.add_nodes(1, f"--healthz-port={PORT}")
    holder = node.namespace.inside(lambda: socket.create_server(("0.0.0.0", PORT)))
    with holder:
        node.agent.start_ready()
        lines = [line for line in node.agent.log().splitlines() if " ERROR " in line]
        assert len(lines) == 1
        assert re.search(rf"port {PORT}: Address already in use: .*--healthz-port", lines[0])
        assert any(f"port {PORT}" in text for text in node.agent.says("warnings"))
    wait_until(
        lambda: get(node.namespace, PORT, "/readyz")[0] == 200, within=5, what="the port is served"
    )
    assert not node.agent.says("warnings")
