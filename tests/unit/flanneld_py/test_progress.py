"""Readiness is said once each way, to the log and to systemd; files come when they are due."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from flanneld_py.notify import Notifier
from tests.unit.flanneld_py.agent_on_fakes import CONFIG, DEV, Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.backend.put_config(CONFIG)
    return host


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def heard(systemd: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(systemd.recv(4096).decode())
        except BlockingIOError:
            return found


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage().split(":")[0]
        for record in caplog.records
        if record.name == "flanneld_py.progress"
    ]


async def test_ready_is_said_once_and_again_after_a_real_loss(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with host.agent() as run:
        await run.settle(60)
        assert said(caplog) == ["ready"]
        host.unplug()
        await run.settle(30)
        assert said(caplog) == ["ready", "not ready"]
        host.plug_in()
        await run.settle(5)
        assert said(caplog) == ["ready", "not ready", "ready"]


async def test_what_heals_within_a_moment_is_not_worth_a_line(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with host.agent() as run:
        for _ in range(3):
            host.kernel.namespace.remove_link(DEV)
            await run.settle(6)
            assert DEV in host.kernel.namespace.links
        assert said(caplog) == ["ready"]


async def test_waiting_for_the_first_time_is_no_loss(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    host = Host(tmp_path)
    async with host.agent() as run:
        await run.settle(20)
        host.backend.put_config(CONFIG)
        await run.settle(3)
        assert said(caplog) == ["ready"]


async def test_systemd_hears_ready_once_and_each_state(
    host: Host, tmp_path: Path, systemd: socket.socket
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    host.backend.delete(*list(host.backend.records))
    async with host.agent(notifier=notifier) as run:
        await run.settle(5)
        assert any(text.startswith("STATUS=not ready: ") for text in heard(systemd))
        host.backend.put_config(CONFIG)
        await run.settle(5)
        assert heard(systemd)[-2:] == ["STATUS=ready", "READY=1"]
        host.unplug()
        await run.settle(5)
        (now,) = heard(systemd)[-1:]
        assert now.startswith("STATUS=not ready: no external interface")
        host.plug_in()
        await run.settle(5)
        assert heard(systemd) == ["STATUS=ready"], "READY is for the start only"
    notifier.close()


async def test_files_are_written_only_when_the_node_is_programmed(host: Host) -> None:
    async with host.agent() as run:
        link = host.kernel.namespace.vxlans[DEV]
        assert run.ready() == ()
    host.subnet_file.unlink()
    host.kernel.namespace.remove_link(DEV)
    host.kernel.refused[link.key] = OSError(95, "no vxlan")
    async with host.agent() as run:
        await run.settle(20)
        assert not host.subnet_file.exists()
        host.kernel.refused.clear()
        await run.until(host.subnet_file.exists, within=13)
        # Once written it stays whatever happens, for running pods need it.
        host.unplug()
        await run.settle(20)
        assert host.subnet_file.exists()
        host.subnet_file.unlink()
        await run.settle(1)
        assert host.subnet_file.exists()
