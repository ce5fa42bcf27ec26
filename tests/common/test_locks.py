"""Turns by file locks: in order, one at a time, and past a predecessor that was killed or never came."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from common import locks as turns
from common.locks import device_lock, turn


def take(folder: Path, log: Path, name: str, after: str, hold_s: float) -> None:
    with turn(folder, name, after), device_lock(folder / "device.lock", name):
        with log.open("a") as file:
            file.write(f"begin {name}\n")
        time.sleep(hold_s)
        with log.open("a") as file:
            file.write(f"end {name}\n")


def start(folder: Path, name: str, after: str, hold_s: float = 0.05) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(
        target=take, args=(folder / "turns", folder / "log", name, after, hold_s)
    )
    process.start()
    return process


def lines(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines() if (folder / "log").exists() else []


def wait_for(folder: Path, line: str) -> None:
    deadline = time.monotonic() + 60
    while line not in lines(folder):
        assert time.monotonic() < deadline, lines(folder)
        time.sleep(0.01)


def test_turns_are_taken_one_after_another_whoever_starts_first(tmp_path: Path) -> None:
    processes = [start(tmp_path, name, after) for name, after in (("c", "b"), ("b", "a"), ("a", ""))]
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert lines(tmp_path) == [f"{what} {name}" for name in "abc" for what in ("begin", "end")]


def test_one_that_is_killed_lets_the_next_go_on(tmp_path: Path) -> None:
    first = start(tmp_path, "a", "", hold_s=60)
    wait_for(tmp_path, "begin a")
    second = start(tmp_path, "b", "a")
    time.sleep(0.3)
    assert lines(tmp_path) == ["begin a"]
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    second.join(20)
    assert lines(tmp_path) == ["begin a", "begin b", "end b"]


def test_one_that_is_killed_while_it_waits_does_not_let_two_on_the_device(tmp_path: Path) -> None:
    first = start(tmp_path, "a", "", hold_s=1.0)
    wait_for(tmp_path, "begin a")
    second = start(tmp_path, "b", "a")
    while not (tmp_path / "turns" / "b").exists():
        time.sleep(0.01)
    third = start(tmp_path, "c", "b")
    time.sleep(0.3)
    second.kill()
    for process in (first, third):
        process.join(20)
    assert lines(tmp_path) == ["begin a", "end a", "begin c", "end c"]


def test_one_that_never_comes_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "APPEARS_WITHIN_SECONDS", 0.3)
    start(tmp_path, "b", "a").join(20)
    assert lines(tmp_path) == ["begin b", "end b"]
