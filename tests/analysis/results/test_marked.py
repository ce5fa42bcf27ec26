"""Marks that are shown while a run goes on are those of the tables; and what `--again` asks the tables for."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

import tasks
from analysis.database.open_runs import open_runs
from analysis.results.marked import marks_of
from common.host.bench.again import DISTURBED
from common.host.runs import early_marks
from common.host.runs.run import Run
from tests.analysis.conftest import CORES, Build


def test_marks_reported_at_once_are_those_of_the_tables(build: Build) -> None:
    run = build("a")
    stops = ("converged", "noisy", "budget", "unsteady")
    loads = (None, 0.5, float(CORES), CORES + 0.1)
    for number, stop in enumerate(stops):
        for place, load in enumerate(loads):
            run.cell(
                "onnxrt", 2 ** (4 * number + place), [1_000_000] * 50, stop_reason=stop,
                load_average_start=load, load_average_end=0.1,
            )  # fmt: skip
    for number, (own, other) in enumerate(((CORES, 0.2), (CORES, 0.3), (0.1, CORES / 2), (0.5, CORES), (0.1, 0.3))):
        # what was counted in the window outweighs the load average
        run.cell(
            "torch", 2**number, [1_000_000] * 50, cpus_own=own, cpus_other=other, load_average_start=CORES + 1,
        )  # fmt: skip
    signs, marks = marks_of(run.folder)
    assert sum("load" in found for key, found in marks.items() if "_torch_" in key) == 2
    reported = {"n", "b", "d", "l"}
    for folder in (run.folder / "cells").iterdir():
        from_tables = {signs[mark] for mark in marks.get(folder.name, [])} & reported
        assert set(early_marks.of_cell(folder, CORES)) == from_tables, folder.name
    assert early_marks.of_cell(run.folder, CORES) == {}


def test_failed_cells_have_no_mark_to_lose_and_every_disturbance_is_a_mark(build: Build) -> None:
    run = build("a")
    run.cell("onnxrt", 8, status="crashed", load_average_end=CORES + 1)
    run.cell("onnxrt", 16, status="unsupported", load_average_start=CORES + 1)
    run.cell("torch", 8, [1_000_000] * 50, status="parity_failed", cpus_own=0.5, cpus_other=CORES)
    signs, marks = marks_of(run.folder)
    assert marks == {}
    assert set(DISTURBED) <= set(signs)
    with open_runs([run.folder]) as database:
        assert database.query("FROM marks WHERE mark = 'load'") == []


def test_the_sentence_on_load_counts_what_again_load_measures_again(
    build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    run = build("a")
    run.cell("onnxrt", 1, [1_000_000] * 50, load_average_start=CORES + 1)
    run.cell("onnxrt", 2, [1_000_000] * 50, cpus_own=0.5, cpus_other=CORES)
    run.cell("onnxrt", 4, status="unsupported", load_average_start=CORES + 1)
    run.cell("torch", 1, [1_000_000] * 50, status="parity_failed", load_average_start=CORES + 1)
    _, marks = marks_of(run.folder)
    taken = [key for key, found in marks.items() if "load" in found]
    assert len(taken) == 2
    described = json.loads((run.folder / "run.json").read_text())
    tasks._offer_again([Run(run.folder, described)], Console(width=1000))
    assert capsys.readouterr().out.startswith(f"{len(taken)} cells ran beside other load (l).")
