"""A service of compose as a process: its turn, its jobs, and what it makes of a supervisor that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.harness import compose_step, memory
from common.harness.job_end import JobEnd
from common.locks import TurnLock
from tests.common.harness.conftest import REPOSITORY, Bench, read_rows
from tests.waiting import wait_for

NAME = "good_fp32_script_cpu_r0"


class Service:
    """board/ and run/ as the service sees them."""

    def __init__(self, bench: Bench, **changes: Any) -> None:
        self.board, self.folder = bench.folder / "board", bench.folder / "service"
        self.run = self.folder / NAME
        for folder in (self.board / "jobs", self.board / "turns", self.folder):
            folder.mkdir(parents=True)
        self.job = replace(bench.job(**changes), run_dir=str(self.run))
        self.path = self.board / "jobs" / f"{NAME}.json"
        self.job.write(self.path)
        self.turn = TurnLock(self.board / "turns" / "good")

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "common.harness.compose_step", "good"]
        return subprocess.Popen(
            [*command, "--board", str(self.board), "--folder", str(self.folder)], cwd=REPOSITORY, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def statuses(self) -> dict[str, tuple[str, str]]:
        found = {}
        for path in self.run.glob("cells/*/cell.csv"):
            (row,) = read_rows(path)
            found[row["batch_size"]] = (row["status"], row["message"])
        return found


def supervisor_of(service: subprocess.Popen[str]) -> int:
    children = Path(f"/proc/{service.pid}/task/{service.pid}/children")
    return int(wait_for(lambda: children.read_text().split())[0])


def test_jobs_run_in_their_turn_and_not_before(bench: Bench) -> None:
    service = Service(bench, batch_sizes=(1, 2))
    process = service.start()
    wait_for(lambda: (service.folder / "alive").exists())
    assert process.poll() is None and not service.run.exists()
    service.turn.give()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert service.statuses() == {"1": ("ok", ""), "2": ("ok", "")}
    assert json.loads((service.folder / "errors.json").read_text()) == {}
    assert [line.partition(": ")[2] for line in output.splitlines() if ": " in line] == ["ok", "ok"]


def test_a_supervisor_that_is_killed_costs_one_cell(bench: Bench) -> None:
    settings = replace(bench.job().settings, min_seconds=1.0, max_seconds=2.0)
    service = Service(bench, batch_sizes=(1, 2, 3), settings=settings)
    service.turn.give()
    process = service.start()
    wait_for(lambda: (service.run / "attempts.csv").exists() and "start" in (service.run / "attempts.csv").read_text())
    victim = supervisor_of(process)
    assert Path(f"/proc/{victim}/oom_score_adj").read_text().strip() == "300"
    os.kill(victim, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert sorted(service.statuses().values()) == [
        ("crashed", "the supervisor was ended by SIGKILL"),
        ("ok", ""),
        ("ok", ""),
    ]
    assert "crashed (the supervisor was ended by SIGKILL)" in output
    finishes = [row["status"] for row in read_rows(service.run / "attempts.csv") if row["event"] == "finish"]
    assert sorted(finishes) == ["crashed", "ok", "ok"]


def test_a_supervisor_that_memory_ended_is_judged_as_by_bench(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(bench, batch_sizes=(1, 2))
    service.run.mkdir()
    kills = iter([4, 5, 5, 5])
    monkeypatch.setattr(memory, "oom_kills", lambda: next(kills))
    ends = iter([(-signal.SIGKILL, ""), (1, "")])
    monkeypatch.setattr(compose_step, "_supervise", lambda path: next(ends))
    assert compose_step.run_job(service.path).exit_code == 1
    assert service.statuses() == {
        "1": ("oom", "the supervisor ran out of its memory limit (exit code 137)"),
        "2": ("crashed", "the supervisor ended with exit code 1"),
    }
    for code in (137, -signal.SIGKILL):
        assert JobEnd(code, oom_killed=True).reason()[0] == "oom"
        assert JobEnd(code).reason()[0] == "crashed"
    assert JobEnd(1, oom_killed=True).reason()[0] == "crashed"


def test_a_job_that_cannot_run_is_reported_and_costs_itself(bench: Bench) -> None:
    service = Service(bench, adapter="/nowhere/adapter.py")
    service.turn.give()
    process = service.start()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    reported = json.loads((service.folder / "errors.json").read_text())
    assert reported == {NAME: "there is no adapter at /nowhere/adapter.py"}
    assert service.statuses() == {}


def test_cells_that_the_run_has_are_left_out(bench: Bench) -> None:
    service = Service(bench, batch_sizes=(1, 2))
    replace(service.job, done=[service.job.cells[0].key]).write(service.path)
    service.turn.give()
    process = service.start()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert service.statuses() == {"2": ("ok", "")}
