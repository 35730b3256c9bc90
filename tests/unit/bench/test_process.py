from __future__ import annotations

import os
import subprocess
import sys

from bench.idle import living_children, next_pid
from bench.process import ended_children


def test_a_child_is_seen_while_it_lives_and_after_it() -> None:
    before = ended_children(os.getpid())
    assert ended_children(os.getpid()) == before
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in living_children(os.getpid())
        assert ended_children(os.getpid()) == before
        child.communicate(b"\n")
    assert child.pid not in living_children(os.getpid())
    assert ended_children(os.getpid()) > before


def test_each_process_has_another_number() -> None:
    assert next_pid() != next_pid()
