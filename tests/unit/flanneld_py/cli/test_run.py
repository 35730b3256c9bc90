from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator

import pytest

from flanneld_py.cli import run
from flanneld_py.settings import Settings


class Daemon:
    """Stands in for the daemon: notes its settings and does what the test says."""

    def __init__(self, result: int = 0, error: BaseException | None = None) -> None:
        self.result = result
        self.error = error
        self.settings: Settings | None = None

    def __call__(self, settings: Settings) -> int:
        self.settings = settings
        if self.error is not None:
            raise self.error
        return self.result


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("result", [0, 2])
def test_the_daemons_status_is_ours(result: int, capsys: pytest.CaptureFixture[str]) -> None:
    daemon = Daemon(result)
    assert run.main(["--iface=eth9"], environ={}, start=daemon) == result
    assert daemon.settings is not None
    assert daemon.settings.iface.ifaces == ("eth9",)
    out, err = capsys.readouterr()
    assert out == ""
    assert "cli.run: starting version=" in err


def test_wrong_flags_end_with_one_line_each_before_the_daemon_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    daemon = Daemon()
    argv = ["--public-ip=x\n\x1b[31m", "--subnet-lease-renew-margin=0"]
    assert run.main(argv, environ={}, start=daemon) == 2
    assert daemon.settings is None
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["--public-ip:", "--subnet-lease-renew-margin:"]
    assert "\x1b" not in "".join(lines)


def test_notes_are_logged_and_the_password_is_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"FLANNELD_ETCD_PASSWORD": "hunter2", "FLANNELD_VMODULE": "x=4"}
    daemon = Daemon(error=RuntimeError("login of hunter2 failed\nbadly"))
    assert run.main(["--etcd-username=u"], environ=environ, start=daemon) == 1
    assert daemon.settings is not None
    assert daemon.settings.etcd.password.reveal() == "hunter2"
    err = capsys.readouterr().err
    assert "hunter2" not in err
    assert "WARN  cli.run: FLANNELD_VMODULE: without effect: it names source files" in err
    assert "FATAL cli.run: the agent ends" in err
    assert "RuntimeError: login of *** failed\\nbadly" in err
    assert len(err.splitlines()) == 3
    assert "FLANNELD_ETCD_PASSWORD" not in environ


def test_a_keyboard_interrupt_is_a_clean_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([], environ={}, start=Daemon(error=KeyboardInterrupt())) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_sigterm_before_the_daemon_handles_it_is_a_clean_end() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def start(settings: Settings) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 7

    assert run.main([], environ={}, start=start) == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_log_in_json_has_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"FLANNELD_ETCD_PASSWORD": "hunter2", "FLANNELD_LOG_FORMAT": "json"}
    daemon = Daemon(error=RuntimeError('login of "hunter2" failed\nbadly'))
    assert run.main(["--etcd-username=u"], environ=environ, start=daemon) == 1
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["info", "critical"]
    assert set(lines[0]) == {"time", "level", "logger", "message"}
    assert lines[0]["logger"] == "flanneld_py.cli.run"
    assert 'login of "***" failed' in lines[1]["message"]


def test_a_check_starts_no_agent(capsys: pytest.CaptureFixture[str]) -> None:
    daemon = Daemon()
    argv = ["--config-check", "--etcd-endpoints=http://127.0.0.1:1"]
    assert run.main(argv, environ={}, start=daemon) == 0
    assert daemon.settings is None
    assert "not checked: network config and interface: etcd" in capsys.readouterr().out
