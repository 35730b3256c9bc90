from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flanneld_py.lock import AgentLock, LockError, flanneld_pids, network_namespace

NAMESPACE = 4026531840

HOLD = """
import sys, time
from pathlib import Path
from flanneld_py.lock import AgentLock
assert AgentLock(Path(sys.argv[1]), namespace=int(sys.argv[2])).try_acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), str(NAMESPACE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_free_lock_is_taken_and_holds_our_pid(tmp_path: Path) -> None:
    lock = AgentLock(tmp_path / "new" / "run", namespace=NAMESPACE)
    assert lock.try_acquire()
    assert lock.try_acquire()
    assert lock.held
    assert lock.path.read_text() == f"{os.getpid()}\n"
    lock.release()
    lock.release()
    assert lock.holder() is None
    assert AgentLock(tmp_path / "new" / "run", namespace=NAMESPACE).try_acquire()


def test_another_process_keeps_it_and_is_named(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    lock = AgentLock(tmp_path, namespace=NAMESPACE)
    assert not lock.try_acquire()
    assert not lock.held
    assert lock.holder() == holder.pid


def test_another_namespace_has_a_lock_of_its_own(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    assert holder.poll() is None
    lock = AgentLock(tmp_path, namespace=NAMESPACE + 1)
    assert lock.try_acquire()
    lock.release()


async def test_waiting_names_the_holder_once_and_ends_when_it_is_killed(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    waited: list[int | None] = []
    told = asyncio.Event()

    def on_wait(pid: int | None) -> None:
        waited.append(pid)
        told.set()

    lock = AgentLock(tmp_path, namespace=NAMESPACE, poll=0.01)
    waiting = asyncio.create_task(lock.acquire(on_wait))
    async with asyncio.timeout(10):
        await told.wait()
        assert not lock.held
        holder.send_signal(signal.SIGKILL)
        await waiting
    assert waited == [holder.pid]
    assert lock.holder() == os.getpid()
    lock.release()


async def test_waiting_can_be_cancelled(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    told = asyncio.Event()
    lock = AgentLock(tmp_path, namespace=NAMESPACE, poll=0.01)
    waiting = asyncio.create_task(lock.acquire(lambda pid: told.set()))
    async with asyncio.timeout(10):
        await told.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert not lock.held
    assert lock.holder() == holder.pid


def test_a_file_of_our_name_with_other_content_has_no_holder(tmp_path: Path) -> None:
    lock = AgentLock(tmp_path, namespace=NAMESPACE)
    lock.path.write_bytes(b"\xffnobody")
    assert lock.holder() is None
    assert lock.try_acquire()
    assert lock.holder() == os.getpid()
    lock.release()


def test_a_folder_that_cannot_be_used_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LockError, match=r"file/agent-.*File exists.*--run-dir"):
        AgentLock(tmp_path / "file", namespace=NAMESPACE).try_acquire()


def test_a_link_under_the_name_is_not_followed(tmp_path: Path) -> None:
    lock = AgentLock(tmp_path, namespace=NAMESPACE)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    lock.path.symlink_to(victim)
    with pytest.raises(LockError):
        lock.try_acquire()
    assert victim.read_text() == "precious"


def test_our_namespace_has_the_number_that_proc_shows() -> None:
    assert os.readlink("/proc/self/ns/net") == f"net:[{network_namespace()}]"


def make_process(proc: Path, pid: str, comm: str, namespace: str) -> None:
    (proc / pid / "ns").mkdir(parents=True)
    (proc / pid / "comm").write_text(comm + "\n")
    (proc / pid / "ns" / "net").symlink_to(namespace)


def test_flanneld_beside_us_is_found_by_name_and_namespace(tmp_path: Path) -> None:
    make_process(tmp_path, "self", "flanneld-py", "net:[1]")
    make_process(tmp_path, "10", "flanneld", "net:[1]")
    make_process(tmp_path, "9", "flanneld-amd64", "net:[1]")
    make_process(tmp_path, "11", "flanneld", "net:[2]")
    make_process(tmp_path, "12", "flanneld-py", "net:[1]")
    make_process(tmp_path, "13", "bash", "net:[1]")
    make_process(tmp_path, "nets", "flanneld", "net:[1]")
    (tmp_path / "14").mkdir()
    (tmp_path / "15").mkdir()
    (tmp_path / "15" / "comm").write_text("flanneld\n")
    assert flanneld_pids(tmp_path) == (9, 10)


def test_without_proc_nobody_is_found(tmp_path: Path) -> None:
    assert flanneld_pids(tmp_path / "none") == ()


def test_the_real_proc_can_be_read() -> None:
    assert os.getpid() not in flanneld_pids()
