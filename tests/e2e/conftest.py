"""Labs for scenario tests, and what their agents logged when a test fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flanneld_py.testing.lab.lab import Lab
from tests.e2e.scenario import MakeLab

_labs = pytest.StashKey[list[Lab]]()
_TOOLS = ("ip", "bridge", "etcd", "cni/bridge", "cni/host-local", "cni/portmap")
_LOG_LINES = 40


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which programs every scenario needs."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.tools(*_TOOLS))


@pytest.fixture
def make_lab(request: pytest.FixtureRequest) -> Iterator[MakeLab]:
    """Make labs that are removed at the end of the test; arguments are those of `Lab`."""
    made = request.node.stash.setdefault(_labs, [])
    with ExitStack() as labs:

        def make(**options: object) -> Lab:
            lab = labs.enter_context(Lab(**options))  # type: ignore[arg-type]
            made.append(lab)
            return lab

        yield make


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """A lab with etcd and a vxlan network config for IPv4; no node yet."""
    return make_lab()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the agents of a failed test logged."""
    report = yield
    if report.when == "call" and report.failed:
        for lab in item.stash.get(_labs, []):
            for node in lab.nodes:
                report.sections.append((f"agent {node.name}", node.agent.log_tail(_LOG_LINES)))
    return report
