"""Turns by file locks: given in order, one at a time, past a service that was killed, and to nobody when the giver is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.host.compose.finish import ServiceReports
from common.locks import TurnLock, alive, device_lock, wait_for_turn
from tests.waiting import wait_for


def serve(folder: Path, name: str, hold_s: float) -> None:
    """What a service does."""
    (folder / name).mkdir()
    with alive(folder / name):
        if not wait_for_turn(folder / "turns" / name, 20):
            note(folder, f"{name} has no turn")
            return
        with device_lock(folder / "device.lock", name):
            note(folder, f"begin {name}")
            time.sleep(hold_s)
            note(folder, f"end {name}")


def give(folder: Path, names: list[str], wait_s: float) -> None:
    """What the last service does."""
    locks = {name: TurnLock(folder / "turns" / name) for name in names}
    for name in names:
        reported = ServiceReports(folder / name)
        wait_for(reported.came)
        time.sleep(wait_s)
        locks[name].give()
        wait_for(reported.gone)


def note(folder: Path, line: str) -> None:
    with (folder / "log").open("a") as file:
        file.write(f"{line}\n")


def start(function: Callable[..., None], *arguments: Any) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def lines(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines() if (folder / "log").exists() else []


def test_turns_are_taken_in_the_order_in_which_they_are_given_whoever_starts_first(tmp_path: Path) -> None:
    (tmp_path / "turns").mkdir()
    services = [start(serve, tmp_path, name, 0.05) for name in ("c", "b", "a")]
    giver = start(give, tmp_path, ["a", "b", "c"], 0.0)
    for process in (*services, giver):
        process.join(60)
        assert process.exitcode == 0
    assert lines(tmp_path) == [f"{what} {name}" for name in "abc" for what in ("begin", "end")]


def test_one_that_is_killed_in_its_turn_or_before_it_lets_the_next_go_on(tmp_path: Path) -> None:
    (tmp_path / "turns").mkdir()
    services = {name: start(serve, tmp_path, name, 60.0 if name == "a" else 0.05) for name in "abc"}
    giver = start(give, tmp_path, ["a", "b", "c"], 0.3)
    wait_for(lambda: lines(tmp_path) == ["begin a"] and ServiceReports(tmp_path / "b").came())
    for name in "ba":
        pid = services[name].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    for process in (services["c"], giver):
        process.join(60)
    assert lines(tmp_path) == ["begin a", "begin c", "end c"]


def test_nobody_has_a_turn_when_the_giver_is_killed(tmp_path: Path) -> None:
    (tmp_path / "turns").mkdir()
    services = [start(serve, tmp_path, name, 0.05) for name in ("a", "b")]
    giver = start(give, tmp_path, ["a", "b"], 60.0)
    wait_for(lambda: all((tmp_path / "turns" / name).exists() for name in "ab"))
    giver.kill()
    for process in services:
        process.join(60)
    assert sorted(lines(tmp_path)) == ["a has no turn", "b has no turn"]


def test_what_a_service_says_of_itself_is_not_followed(tmp_path: Path) -> None:
    reported = ServiceReports(tmp_path / "service")
    assert (reported.came(), reported.gone(), reported.errors()) == (False, True, {})
    reported.folder.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text('{"job": "words"}')
    for name in ("alive", "errors.json"):
        (reported.folder / name).symlink_to(elsewhere)
    assert (reported.came(), reported.gone(), reported.errors()) == (False, True, {})
    (reported.folder / "errors.json").unlink()
    os.mkfifo(reported.folder / "errors.json")
    assert reported.errors() == {}
    for text in ("[", "[]", "[" * 100_000, '{"job": 7}'):
        (reported.folder / "errors.json").unlink()
        (reported.folder / "errors.json").write_text(text)
        assert reported.errors() == {}
    (reported.folder / "errors.json").write_text('{"job": "first\\nsecond \\u001b[31m"}')
    assert reported.errors() == {"job": "first second [31m"}
