"""A stand-in for the kernel's file: what is written when its count changes, and where there is none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from common.harness import kill_watch, memory
from tests.waiting import wait_for


class Poll:
    """select.poll() on a file of the kernel, which returns at each change of it; here whenever it is asked."""

    def register(self, *_: object) -> None:
        pass

    def poll(self) -> None:
        time.sleep(0.01)


def test_a_kill_is_in_the_file_with_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events, told = tmp_path / "memory.events", tmp_path / "told"
    events.write_text("low 0\nmax 7\noom 1\noom_kill 3\n")
    monkeypatch.setattr(memory, "group_files", lambda: [tmp_path / "memory.oom_control", events])
    monkeypatch.setattr(kill_watch.select, "poll", Poll)
    assert kill_watch.watch(told)
    events.write_text("low 0\nmax 9\noom 1\noom_kill 3\n")
    time.sleep(0.1)
    assert kill_watch.struck_ns(told.read_bytes()) == 0, "the limit was reached, and nobody was killed"
    before = time.monotonic_ns()
    events.write_text("low 0\nmax 9\noom 2\noom_kill 4\n")
    wait_for(lambda: kill_watch.struck_ns(told.read_bytes()) > before)


def test_where_the_kernel_does_not_tell_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "group_files", lambda: [tmp_path / "memory.oom_control"])
    assert not kill_watch.watch(tmp_path / "told")
    assert not (tmp_path / "told").exists()
