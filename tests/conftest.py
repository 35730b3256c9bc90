"""Decides what happens to a test that cannot run here: skipped on a laptop, failed in CI.

A test says what it needs by its folder (`netns/` and `e2e/`: root) or by the markers `root` and
`tools`. Must hold no fixture of any one kind of test.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

CHECKOUT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
ROOT_FOLDERS = ("netns", "e2e")
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21  # <linux/capability.h>


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in the folders that need root."""
    for item in items:
        if any(item.path.is_relative_to(CHECKOUT / "tests" / name) for name in ROOT_FOLDERS):
            item.add_marker("root")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run here, naming what is missing and how to get it."""
    if item.get_closest_marker("root") and not _is_root():
        pytest.skip(
            "needs root in namespaces of its own: make test, or scripts/isolated "
            f".venv/bin/python -m pytest {item.path.relative_to(CHECKOUT)}"
        )
    tools = Path(os.environ.get("FLANNELD_PY_TOOLS") or CHECKOUT / ".venv/tools")
    for marker in item.iter_markers("tools"):
        names = [name if "/" in name else f"bin/{name}" for name in marker.args]
        if missing := [name for name in names if not (tools / name).exists()]:
            pytest.skip(f"needs {', '.join(missing)} in {tools}: make setup")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, turn a skipped test into a failed one."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        _fail(report, item.nodeid)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI, turn a module that is skipped as a whole into a failed one."""
    report = yield
    if IN_CI and report.skipped:
        _fail(report, collector.nodeid)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport, what: str) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    report.outcome = "failed"
    report.longrepr = f"{what} cannot run here, which in CI is a failure: {reason}"


def _is_root() -> bool:
    if os.geteuid() != 0:
        return False
    status = Path("/proc/self/status").read_text()
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    wanted = 1 << _CAP_NET_ADMIN | 1 << _CAP_SYS_ADMIN
    return effective is not None and int(effective[1], 16) & wanted == wanted
