"""Marked cells are measured again: they take the places of the earlier ones, which stay in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from common.errors import UserError
from common.host.bench.again import DISTURBED, Again, Marks, NothingMarked, wanted_marks
from common.host.bench.command import bench
from common.host.bench.planned import run_plan
from common.host.paths import DataFolder
from common.host.plan.plan_file import read_plan
from common.host.runs.run import Run, read_run, set_boots_apart
from tests.common.host.bench.test_command import OPTIONS, console, data, images
from tests.common.host.bench.test_planned import PLAN, TWO

__all__ = ["data", "images"]

SIGNS = {"load": "l", "noisy": "n", "budget": "b", **{mark: mark[0].upper() for mark in DISTURBED[2:]}}


def again(words: str = "marked", **marks: list[str]) -> Again:
    """marks: batch size (as b1) -> marks of that cell."""

    def marks_of(folder: Path) -> Marks:
        keys = [path.name for path in (folder / "cells").iterdir()]
        return Marks(SIGNS, {key: found for size, found in marks.items() for key in keys if f"_{size}_" in key})

    return Again(words, marks_of)


def begins(run: Run) -> Mapping[str, str]:
    """Key -> the phases of its cell, which no two measurements share."""
    return {path.parent.name: path.read_text() for path in (run.folder / "cells").glob("*/phases.csv")}


def test_the_marked_cell_is_replaced_and_the_other_stays(images: Path, data: DataFolder) -> None:
    first = bench(OPTIONS, console(), data, images).run
    before = begins(first)
    done = bench(OPTIONS, console(), data, images, again=again(b0008=["load", "budget"], b0001=["budget"]))
    assert (done.run.folder, done.statuses) == (first.folder, {"ok": 1})
    after = begins(done.run)
    (eight,) = [key for key in before if "_b0008_" in key]
    assert [key for key in before if before[key] != after[key]] == [eight]
    assert (first.folder / "earlier" / "1" / eight / "phases.csv").read_text() == before[eight]
    (note,) = read_run(first.folder).description["again"]
    assert (note["folder"], note["marks"]) == ("earlier/1", {eight: ["load"]})
    assert read_run(first.folder).finished


def test_a_plans_marked_cells_are_measured_again_in_its_own_runs(
    images: Path, data: DataFolder, tmp_path: Path
) -> None:
    file = tmp_path / "two.toml"
    file.write_text(PLAN + TWO)
    plan = read_plan(str(file), {}, console())
    first = run_plan(plan, console(), data, images)
    before = [begins(run) for run in first.runs]
    out = console()
    done = run_plan(plan, out, data, images, again=again(b0008=["load"]))
    assert [run.folder for run in done.runs] == [run.folder for run in first.runs], "no run is added"
    assert not done.missing
    after = [begins(run) for run in done.runs]
    assert after[0] == before[0] and after[1] != before[1] and after[1].keys() == before[1].keys()
    assert f"no cell of {first.runs[0].name} has a mark of --again marked" in out.file.getvalue()  # type: ignore[attr-defined]
    # and the plan is as whole as before: once more without --again is a new round
    assert {run.description["plan_file"]["round"] for run in run_plan(plan, console(), data, images).runs} == {2}


def test_a_second_time_keeps_both_earlier_measurements(images: Path, data: DataFolder) -> None:
    run = bench(OPTIONS, console(), data, images).run
    for _ in range(2):
        bench(OPTIONS, console(), data, images, again=again("l", b0001=["load"]))
    assert sorted(path.name for path in (run.folder / "earlier").iterdir()) == ["1", "2"]


def test_killed_in_between_the_same_command_goes_on_and_without_it_nothing_is_lost(
    images: Path, data: DataFolder
) -> None:
    run = bench(OPTIONS, console(), data, images).run
    (one, *_) = sorted(run.existing_cells())
    run.set_aside({one: ["load"]})
    assert not read_run(run.folder).finished and one not in run.existing_cells()
    went_on = bench(OPTIONS, console(), data, images)
    assert (went_on.run.folder, went_on.statuses) == (run.folder, {"ok": 1})


def test_what_was_not_measured_again_comes_back_as_it_was(images: Path, data: DataFolder) -> None:
    run = bench(OPTIONS, console(), data, images).run
    before = begins(run)
    run.set_aside({key: ["load"] for key in run.existing_cells()})
    run.put_back()
    assert begins(run) == before


def test_a_cell_of_an_earlier_boot_belongs_to_this_one_now(images: Path, data: DataFolder) -> None:
    run = bench(OPTIONS, console(), data, images).run
    one, two = sorted(run.existing_cells())
    run.description["earlier_boots"] = [{"boot_id": "x", "cells": [one, two], "power": [], "idle_without_context": {}}]
    run.set_aside({one: ["load"]})
    assert json.loads((run.folder / "run.json").read_text())["earlier_boots"][0]["cells"] == [two]


def test_nothing_marked_no_such_run_and_no_such_mark_are_one_line_each(images: Path, data: DataFolder) -> None:
    with pytest.raises(UserError, match="no run of this command is there to measure again"):
        bench(OPTIONS, console(), data, images, again=again())
    run = bench(OPTIONS, console(), data, images).run
    with pytest.raises(NothingMarked, match=r"no cell of .* it has budget, which --again budget names"):
        bench(OPTIONS, console(), data, images, again=again(b0001=["budget"]))
    with pytest.raises(UserError, match=r"unknown mark 'lod'; there is marked, load \(l\)"):
        bench(OPTIONS, console(), data, images, again=again("lod"))
    with pytest.raises(UserError, match="no run of this command"):
        bench(replace(OPTIONS, batch_sizes="1"), console(), data, images, again=again())
    assert read_run(run.folder).finished and not (run.folder / "earlier").exists()


def test_marks_by_name_by_sign_and_all_that_a_disturbance_leaves() -> None:
    assert wanted_marks("load, n", SIGNS) == {"load", "noisy"}
    assert wanted_marks("marked,b", SIGNS) == {*DISTURBED, "budget"}


def test_progress_shows_the_marks_of_a_cell_at_once(
    images: Path, data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "common.host.runs.early_marks.of_cell", lambda folder, cores: {"l": "load average 9.0 on 2 cores"}
    )
    shown = Console(width=200, record=True, quiet=False, file=(data.root / "shown").open("w"))
    bench(replace(OPTIONS, batch_sizes="1"), shown, data, images)
    (line,) = [line for line in shown.export_text().splitlines() if line.startswith("[1/1]")]
    assert line.rstrip().endswith("l (load average 9.0 on 2 cores)")


def test_a_cell_that_comes_back_is_of_its_boot_again(images: Path, data: DataFolder) -> None:
    """Its window is in the clock of that boot: with readings of another it would get the energy of something else."""
    run = bench(OPTIONS, console(), data, images).run
    one, two = sorted(run.existing_cells())
    run.description["boot_id"] = "second"
    run.description["earlier_boots"] = [{"boot_id": "first", "cells": [one], "power": [], "idle_without_context": {}}]
    run.set_aside({one: ["load"], two: ["load"]})
    set_boots_apart(run, "third")
    run.put_back()
    assert [boot["cells"] for boot in run.description["earlier_boots"]] == [[one], [two]]


def test_a_seed_of_another_run_moves_nothing(images: Path, data: DataFolder) -> None:
    run = bench(replace(OPTIONS, seed=4), console(), data, images).run
    before = begins(run)
    with pytest.raises(UserError, match="has the seed 4"):
        bench(replace(OPTIONS, seed=5), console(), data, images, again=again(b0001=["load"]))
    assert begins(run) == before and read_run(run.folder).finished
    assert len(list(data.results.iterdir())) == 1
    done = bench(replace(OPTIONS, seed=4), console(), data, images, again=again(b0001=["load"]))
    assert done.run.folder == run.folder


def test_a_run_that_cannot_be_added_to_is_left_as_it_is(images: Path, data: DataFolder) -> None:
    run = bench(OPTIONS, console(), data, images).run
    run.description["earlier_boots"] = [{"boot_id": "x"}]
    run.save()
    with pytest.raises(UserError, match="has no earlier_boots that can be used"):
        bench(OPTIONS, console(), data, images, again=again(b0001=["load"]))
    assert read_run(run.folder).finished and not (run.folder / "earlier").exists()
