"""R12: subnet.env is removed or altered, and is back at once; its folder too."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flanneld_py.testing.lab.lab import Lab
from flanneld_py.testing.lab.waiting import wait_until
from tests.e2e.scenario import show_control

WITHIN = 1.0
SETTLED = 3.0
"""Seconds after a thaw."""


def _truncate(file: Path) -> None:
    file.write_text("")


def _alter(file: Path) -> None:
    file.write_text(file.read_text().replace("FLANNEL_MTU=1450", "FLANNEL_MTU=9000"))


def _replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_text("FLANNEL_NETWORK=192.0.2.0/24\n")
    other.rename(file)


def _remove_folder(file: Path) -> None:
    shutil.rmtree(file.parent)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "removed": Path.unlink,
    "truncated": _truncate,
    "altered": _alter,
    "replaced": _replace,
    "folder removed": _remove_folder,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_it_comes_back(lab: Lab, damage: Callable[[Path], None]) -> None:
    (node,) = lab.add_nodes(1)
    lab.start_agents()
    file = node.agent.subnet_file
    text = file.read_text()

    def is_back() -> bool:
        return file.exists() and file.read_text() == text

    def damage_and_wait() -> None:
        damage(file)
        assert not is_back()
        wait_until(is_back, within=WITHIN, what="subnet.env is back")

    show_control(node.agent, damage_and_wait)
    wait_until(is_back, within=SETTLED, what="subnet.env is back after the thaw")
    for _ in range(3):
        damage_and_wait()
    assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in file.parent.iterdir()] == ["subnet.env"]
