"""Files that are wanted are written, put back, and complained about once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flanneld_py.clock import SystemClock
from flanneld_py.outputs import Outputs, SubnetEnvOutput
from flanneld_py.subnetfile import SubnetFile

TEXT = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\n"


@asynccontextmanager
async def running(outputs: Outputs) -> AsyncIterator[None]:
    task = asyncio.create_task(outputs.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_wanted_file_is_written_and_put_back_within_a_second(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "run" / "subnet.env"
    progress: list[bool] = []
    outputs = Outputs(clock=SystemClock(), on_progress=lambda: progress.append(outputs.complete))
    async with running(outputs):
        assert not outputs.complete
        outputs.want(SubnetEnvOutput(SubnetFile(file), TEXT))
        await until(lambda: outputs.complete)
        assert file.read_text() == TEXT
        for damage in (file.unlink, lambda: file.write_text("x"), lambda: file.chmod(0o600)):
            damage()
            async with asyncio.timeout(1):
                await until(lambda: file.exists() and file.read_text() == TEXT)
                await until(lambda: file.stat().st_mode & 0o777 == 0o644)
    assert progress[-1]
    assert [record.getMessage().split(" path=")[0] for record in caplog.records] == [
        "wrote",
        "put back",
        "put back",
        "put back",
    ]


async def test_a_new_text_replaces_the_old_one(tmp_path: Path) -> None:
    file = SubnetFile(tmp_path / "subnet.env")
    outputs = Outputs(clock=SystemClock(), on_progress=lambda: None)
    async with running(outputs):
        outputs.want(SubnetEnvOutput(file, TEXT))
        await until(lambda: outputs.complete)
        outputs.want(SubnetEnvOutput(file, TEXT + "FLANNEL_MTU=1450\n"))
        await until(lambda: "MTU" in file.path.read_text())


async def test_what_cannot_be_written_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    blocked = tmp_path / "subnet.env"
    blocked.mkdir()
    outputs = Outputs(clock=SystemClock(), on_progress=lambda: None)
    async with running(outputs):
        outputs.want(SubnetEnvOutput(SubnetFile(blocked), TEXT))
        await until(lambda: bool(outputs.problems))
        assert not outputs.complete
        assert str(blocked) in outputs.problems[str(blocked)]
        await asyncio.sleep(1.2)
        assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1
        blocked.rmdir()
        await until(lambda: outputs.complete)
    assert outputs.problems == {}
