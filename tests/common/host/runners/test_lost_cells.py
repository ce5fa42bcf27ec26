"""The row of a cell whose supervisor, or whose container as a whole, was killed."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.cell import Cell
from common.harness import journal
from common.harness.job_end import JobEnd, started_cells, write_refused
from common.host.runners.lost_cells import write_lost_cells
from common.job import Job
from common.model_files import ModelFiles

CELLS = [Cell("m", "onnxrt", "fp32", size) for size in (1, 2, 3)]


def job(run: Path) -> Job:
    return Job(str(run), "/data/models/m", "adapter.py", "onnxrt", "cpu", "CPU", "", "/cache", "docker", CELLS)


def model(root: Path) -> ModelFiles:
    return ModelFiles(
        root, "m", "0" * 12, None, None, None, "r.npz", (1,), "NHWC", None, None, "raw", 1, "seeded", "made here"
    )


def statuses(run: Path) -> dict[str, tuple[str, str]]:
    found = {}
    for path in run.glob("cells/*/cell.csv"):
        with path.open(newline="") as file:
            (row,) = csv.DictReader(file)
        found[path.parent.name] = (row["status"], row["message"])
    return found


@pytest.mark.parametrize(
    ("end", "status", "words"),
    [
        (JobEnd(137), "crashed", "exit code 137"),
        (JobEnd(137, oom_killed=True), "oom", "memory limit"),
        (JobEnd(1, oom_killed=True), "crashed", "exit code 1"),
        (JobEnd(None), "crashed", "the container ended while it ran"),
        (JobEnd(None, oom_killed=True), "oom", "the container ran out of its memory limit"),
        (JobEnd(137, over_budget=True), "timeout", "hung"),
        (JobEnd(-9, what="supervisor"), "crashed", "the supervisor was ended by SIGKILL"),
        (JobEnd(141, what="supervisor"), "crashed", "the supervisor ended with exit code 141"),
    ],
)
def test_the_started_cell_gets_the_reason(tmp_path: Path, end: JobEnd, status: str, words: str) -> None:
    journal.append(tmp_path, "start", CELLS[1].key, "w")
    events: list[Any] = []
    lost = write_lost_cells(tmp_path, job(tmp_path), model(tmp_path), end, events.append)
    assert lost == [CELLS[1]]
    ((key, (found, message)),) = statuses(tmp_path).items()
    assert (key, found) == (CELLS[1].key, status)
    assert words in message
    with (tmp_path / "cells" / key / "cell.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["python_version"] == "", "the container's is not known here"
    assert [event["status"] for event in events] == [status]
    assert started_cells(tmp_path) == []


def test_a_row_of_the_host_has_the_frameworks_version_where_that_is_known(tmp_path: Path) -> None:
    found = []
    for version in ("", "1.31.1"):
        run = tmp_path / f"run {version}"
        run.mkdir()
        journal.append(run, "start", CELLS[0].key, "w")
        known = replace(job(run), framework_version=version)
        write_lost_cells(run, known, model(run), JobEnd(137), lambda event: None)
        write_refused(run, known, model(run), {CELLS[1].key: "no"})
        for path in run.glob("cells/*/cell.csv"):
            with path.open(newline="") as file:
                found += [row["framework_version"] for row in csv.DictReader(file)]
    assert found == ["", "", "1.31.1", "1.31.1"]


def test_before_any_cell_the_first_that_is_left_carries_it(tmp_path: Path) -> None:
    (tmp_path / "cells" / CELLS[0].key).mkdir(parents=True)
    end = JobEnd(127)
    assert write_lost_cells(tmp_path, job(tmp_path), model(tmp_path), end, lambda event: None) == [CELLS[1]]


@pytest.mark.parametrize("code", [0, 130, 143])
def test_a_container_that_ended_as_asked_lost_nothing(tmp_path: Path, code: int) -> None:
    journal.append(tmp_path, "start", CELLS[0].key, "w")
    end = JobEnd(code)
    assert write_lost_cells(tmp_path, job(tmp_path), model(tmp_path), end, lambda event: None) == []
    assert statuses(tmp_path) == {}
