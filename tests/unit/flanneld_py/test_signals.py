from __future__ import annotations

import signal
import subprocess
import sys

import pytest

AGENT = """
import asyncio, sys
from flanneld_py.signals import stop_on_signal

async def main():
    stopped = asyncio.get_running_loop().create_future()
    stop_on_signal(asyncio.get_running_loop(), stopped.set_result)
    print("up", flush=True)
    print(await stopped, flush=True)
    if sys.argv[1] == "hang":
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""


def start(how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, how], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_in_order(number: signal.Signals) -> None:
    with start("end") as process:
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stdout is not None
        assert process.stdout.read() == f"{number.name}\n"


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_kills_at_once(second: signal.Signals) -> None:
    with start("hang") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.readline() == "SIGTERM\n"
        process.send_signal(second)
        assert process.wait(10) == -second
