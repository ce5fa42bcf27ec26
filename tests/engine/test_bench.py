"""`invoke bench --runner docker` for real: rows, owners, and everything that can go wrong in the middle."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from common.errors import UserError
from common.host.runners.containers import engine, runner
from common.host.runs.run import read_run
from common.schema import header
from tests.engine.conftest import PREFIX, Bench, by_batch, containers, measuring, running
from tests.waiting import wait_for

Background = Callable[[Callable[[], Any]], threading.Thread]
#: everything in the container but docker-init: supervisor, who keeps the deadline, and worker
STOP_ALL = "import os; os.kill(-1, 19)"
#: a window that a test has time to disturb
LONG = {"min_seconds": 20.0, "max_seconds": 30.0}


def test_a_run_gives_whole_rows_that_belong_to_the_caller(fresh_bench: Bench, client: DockerClient) -> None:
    outcome = fresh_bench()
    assert not outcome.errors
    folder = outcome.run.folder
    cells = by_batch(folder)
    assert {size: row["status"] for size, row in cells.items()} == {1: "ok", 2: "ok"}
    for row in cells.values():
        assert row["runner"] == "docker"
        assert client.images.get(row["image_digest"]).labels[engine.LABEL] == "1"
        assert float(row["parity_rel_l2"]) <= float(row["parity_tolerance"])
    assert outcome.run.description["images"]["onnxrt"]["digest"] == cells[1]["image_digest"]
    assert read_run(folder).finished
    written = [fresh_bench.data.root, *fresh_bench.data.root.rglob("*")]
    assert {path.lstat().st_uid for path in written} == {os.getuid()}
    assert (folder / "logs" / "onnxrt_fp32_script_cpu_r0.container.log").is_file()


def test_ctrl_c_keeps_what_is_whole_and_the_same_command_continues(run_bench: Bench, client: DockerClient) -> None:
    command = run_bench.command(cell_timeout=60)
    with subprocess.Popen(
        [*command, "--debug"], env=run_bench.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        # Between the first and the second cell's end.
        wait_for(lambda: list(run_bench.data.results.glob("*/cells/*/cell.csv")))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert containers(client) == []
    (folder,) = run_bench.data.results.iterdir()
    first = {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/cell.csv")}
    outcome = run_bench(cell_timeout=60)
    assert outcome.run.folder == folder
    assert {row["status"] for row in by_batch(folder).values()} == {"ok"}
    assert sorted(by_batch(folder)) == [1, 2]
    assert {path: path.stat().st_mtime_ns for path in first} == first


def test_a_container_that_is_killed_costs_one_cell(
    run_bench: Bench, client: DockerClient, in_background: Background
) -> None:
    def kill() -> None:
        wait_for(lambda: measuring(run_bench.data.results))
        running(client, "onnxrt_fp32").kill()

    in_background(kill)
    outcome = run_bench(batch_sizes="1,2,3", min_seconds=1.5, max_seconds=2.0)
    cells = by_batch(outcome.run.folder)
    statuses = sorted(row["status"] for row in cells.values())
    assert statuses == ["crashed", "ok", "ok"]
    (lost,) = [row for row in cells.values() if row["status"] == "crashed"]
    assert "exit code 137" in lost["message"]
    assert outcome.run.finished


def test_a_container_that_hangs_is_stopped_at_its_budget(
    run_bench: Bench, client: DockerClient, in_background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "BUDGET_SLACK_SECONDS", 2.0)

    def freeze() -> None:
        wait_for(lambda: measuring(run_bench.data.results))
        code, words = running(client, "onnxrt_fp32").exec_run(["python3", "-c", STOP_ALL])
        assert code == 0, words

    in_background(freeze)
    outcome = run_bench(batch_sizes="1", min_seconds=2.0, max_seconds=3.0, cell_timeout=5.0)
    (row,) = by_batch(outcome.run.folder).values()
    assert (row["status"], row["message"]) == ("timeout", "the container hung and was stopped")


def test_a_container_without_enough_memory_gives_oom_rows(fresh_bench: Bench) -> None:
    with pytest.raises(UserError, match="the export of tiny needs more than --memory 40m"):
        fresh_bench(batch_sizes="1", memory="40m")
    fresh_bench(batch_sizes="1")
    outcome = fresh_bench(batch_sizes="1", memory="40m")
    (row,) = by_batch(outcome.run.folder).values()
    assert row["status"] == "oom", row["message"]
    assert outcome.run.finished


def test_after_kill_9_of_the_host_the_next_run_removes_and_resumes(run_bench: Bench, client: DockerClient) -> None:
    # The command of the user is the parent of nothing once it is killed: its containers run on.
    with subprocess.Popen(
        run_bench.command(**LONG), env=run_bench.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        wait_for(lambda: measuring(run_bench.data.results))
        # asked for before the kill: afterwards any other sweep on this engine may be the next run that removes it
        orphan = running(client, "onnxrt_fp32")
        assert orphan is not None
        process.kill()
    first = orphan.id
    # Long windows belong to the request, so that the same command is needed; it is stopped once it has begun.
    with subprocess.Popen(
        run_bench.command(**LONG),
        env=run_bench.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as again:
        wait_for(lambda: (found := running(client, "onnxrt_fp32")) is not None and found.id != first)
        assert first not in [container.id for container in client.containers.list(all=True)]
        again.send_signal(signal.SIGINT)
        output, _ = again.communicate(timeout=60)
    assert "Continuing the unfinished run" in output
    assert again.returncode == 130, output
    assert containers(client) == [], output
    assert len(list(run_bench.data.results.iterdir())) == 1
    with next(run_bench.data.results.glob("*/attempts.csv")).open(newline="") as file:
        attempts = list(csv.DictReader(file))
    assert list(attempts[0]) == header("attempts.csv")
    finished = [row["cell_key"] for row in attempts if row["event"] == "finish" and row["status"] == "ok"]
    assert len(finished) == len(set(finished))


def test_a_name_that_is_taken_is_said_in_one_line(run_bench: Bench, client: DockerClient) -> None:
    from common.errors import UserError
    from common.host.runners.containers.engine import explained
    from common.host.runners.containers.images import tag_of
    from common.host.runners.containers.limits import Limits
    from common.host.runners.containers.runner import DockerRunner

    docker_runner = DockerRunner({}, Limits())
    container = docker_runner._create(tag_of("onnxrt", "cpu"), f"{PREFIX}-clash", [])
    try:
        with pytest.raises(UserError, match="another container has the name: invoke clean") as raised, explained("x"):
            docker_runner._create(tag_of("onnxrt", "cpu"), f"{PREFIX}-clash", [])
        assert "\n" not in str(raised.value)
    finally:
        container.remove()


def test_paths_of_the_run_have_no_trace_of_the_container(run_bench: Bench) -> None:
    folder = run_bench(batch_sizes="1").run.folder
    assert not list((folder / "unfinished").iterdir())
    assert {path.name for path in Path(folder).iterdir()} >= {"attempts.csv", "cells", "jobs", "logs", "run.json"}
