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


@pytest.mark.parametrize("name", ["memory.events", "memory.oom_control"], ids=["version 2", "version 1"])
def test_a_kill_is_in_the_file_with_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    counts, reported = tmp_path / name, tmp_path / "told"
    counts.write_text("max 7\noom_kill 3\n")
    monkeypatch.setattr(memory, "group_files", lambda: [tmp_path / "elsewhere" / name, counts])
    monkeypatch.setattr(kill_watch.select, "poll", Poll)
    monkeypatch.setattr(kill_watch, "_LOOK_SECONDS", 0.01)
    assert kill_watch.watch(reported)
    counts.write_text("max 9\noom_kill 3\n")
    time.sleep(0.1)
    assert kill_watch.struck_ns(reported.read_bytes()) == 0, "the limit was reached, and nobody was killed"
    before = time.monotonic_ns()
    counts.write_text("max 9\noom_kill 4\n")
    wait_for(lambda: kill_watch.struck_ns(reported.read_bytes()) > before)


def test_where_nothing_is_counted_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "group_files", lambda: [tmp_path / "memory.oom_control"])
    assert not kill_watch.watch(tmp_path / "told")
    assert not (tmp_path / "told").exists()
