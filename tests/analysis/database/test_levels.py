"""Levels of tuning in the views: of rows that tell them, of older rows, and what tuning is worth."""

from __future__ import annotations

import csv
import html
import io
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.analyze import analyze
from analysis.comparisons.question import Question
from analysis.comparisons.recommend import recommend
from analysis.comparisons.summary import conclusion
from analysis.database.open_runs import open_runs
from analysis.results import level_steps, tables
from analysis.results.selection import parse_where
from tests.analysis.conftest import Build

SHIFTED = '{"convolutions": "30 convolution, 3 shifted convolution"}'


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        (SHIFTED, "rewritten"),
        ('{"convolutions": "64 convolution"}', "tuned"),
        ('{"model": "29 hard-swish and hard-sigmoid fused, float16 inside"}', "rewritten"),
        ('{"model": "0 hard-swish and hard-sigmoid fused"}', "tuned"),
        ('{"model": "as exported"}', "tuned"),
        (None, "tuned"),
    ],
)
def test_an_older_row_has_the_level_that_its_settings_tell(build: Build, settings: str | None, level: str) -> None:
    run = build("old")
    path = run.cell("torch", 8, [5_000_000] * 50, settings=settings)
    lines = (path / "cell.csv").read_text().splitlines()
    (path / "cell.csv").write_text("\n".join(without(lines)) + "\n")
    database = open_runs([run.folder])
    assert database.query("SELECT tuning, input FROM cells") == [{"tuning": level, "input": "float32"}]


def without(lines: list[str]) -> list[str]:
    """The file as it was before there were columns of level and type."""
    rows = list(csv.reader(io.StringIO("\n".join(lines))))
    gone = [rows[0].index(name) for name in ("tuning", "input")]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [[value for place, value in enumerate(row) if place not in gone] for row in rows]
    )
    return out.getvalue().splitlines()


UNCHANGED = '{"model": "as exported", "rewritten": "there is no hard-swish to fuse, nothing is rewritten"}'


def throughput_of(run: Any) -> tables.Table:
    with open_runs([run.folder]) as database:
        (table,) = tables.build(database, tables.load(database, parse_where(None, database)), ["throughput"])
    return table


def test_a_level_at_which_nothing_was_rewritten_is_no_faster_level(build: Build) -> None:
    """By chance it was a tenth faster than tuned, which is the same way."""
    run = build("a")
    run.cell("torch", 8, [12_000_000] * 50)
    run.cell("onnxrt", 8, [11_000_000] * 50)
    run.cell("onnxrt", 8, [10_000_000] * 50, tuning="rewritten", settings=UNCHANGED)
    table = throughput_of(run)
    tuned, rewritten = (table.entry(("onnxrt", "fp32", level), 8) for level in ("tuned", "rewritten"))
    assert (tuned.best, rewritten.best, rewritten.text) == (True, False, "800.0")
    told = conclusion(table, {})
    assert told is not None
    assert told.startswith("ONNX Runtime tuned is fastest: 1.09 times PyTorch tuned, the next")
    assert (
        "Nothing was rewritten, so that rewritten is tuned measured once more, and never the best: onnxrt fp32 batch 8."
        in table.footers
    )
    console = Console(file=io.StringIO(), width=200)
    assert recommend([run.folder], Question(), console) == 0
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Best: ONNX Runtime fp32 at batch 8: " in said
    assert "Left out: 1 cell of ONNX Runtime: nothing was rewritten, so that it is tuned measured once more." in said


@pytest.mark.parametrize("case", ["rewritten in one worker", "without tuned"])
def test_what_was_rewritten_or_stands_alone_counts(build: Build, case: str) -> None:
    run = build("a")
    run.cell("torch", 8, [12_000_000] * 50)
    run.cell("onnxrt", 8, [10_000_000] * 50, tuning="rewritten", settings=UNCHANGED)
    if case == "rewritten in one worker":
        run.cell("onnxrt", 8, [11_000_000] * 50)
        run.cell("onnxrt", 8, [10_000_000] * 50, tuning="rewritten", replicate=1, settings='{"model": "as exported"}')
    table = throughput_of(run)
    assert table.entry(("onnxrt", "fp32", "rewritten"), 8).best
    assert not any("Nothing was rewritten" in line for line in table.footers)


def test_a_row_that_tells_its_level_is_believed(build: Build) -> None:
    run = build("new")
    run.cell("torch", 8, [5_000_000] * 50, tuning="stock", settings=SHIFTED)
    assert open_runs([run.folder]).query("SELECT tuning FROM cells") == [{"tuning": "stock"}]


def test_worth_is_tuned_over_stock_with_an_interval_over_workers(build: Build) -> None:
    run = build("a")
    for replicate, shift in enumerate((0, 50_000, 100_000)):
        run.cell("torch", 8, [8_000_000 + shift] * 60, tuning="stock", replicate=replicate)
        run.cell("torch", 8, [4_000_000 + shift // 2] * 60, replicate=replicate)
        run.cell("torch", 8, [1_000_000] * 60, tuning="rewritten", replicate=replicate)
    run.cell("onnxrt", 8, [8_000_000] * 60, tuning="stock")
    run.cell("onnxrt", 8, [4_000_000] * 60)
    (row,) = open_runs([run.folder]).query("FROM worth")
    assert (row["variant"], row["stock_workers"], row["tuned_workers"]) == ("torch", 3, 3), (
        "one worker tells no interval"
    )
    assert math.isclose(row["worth"], 2.0, rel_tol=1e-3)
    assert 1.9 < row["worth_low"] < row["worth"] < row["worth_high"] < 2.1


def test_levels_are_rows_of_one_table_and_reported_where_there_are_several(build: Build) -> None:
    run = build("a")
    run.cell("torch", 8, [5_000_000] * 50)
    database = open_runs([run.folder])
    (alone,) = tables.build(database, tables.load(database, tables.Selection()), ["throughput"])
    assert "tuning" not in alone.row_names
    assert any("Tuning: tuned" in line for line in alone.footers)
    run.cell("torch", 8, [9_000_000] * 50, tuning="stock")
    database = open_runs([run.folder])
    (both,) = tables.build(database, tables.load(database, tables.Selection()), ["throughput"])
    assert both.rows == (("torch", "fp32", "tuned"), ("torch", "fp32", "stock"))


def test_tables_tell_what_tuning_is_worth_and_what_is_slower_than_the_level_below(build: Build) -> None:
    """torch: tuned is twice stock, rewritten 0.9 of tuned; of batch 1 one worker at each level."""
    run = build()
    for batch_size, workers in ((1, 1), (8, 3)):
        for level, took in (("stock", 4e6), ("tuned", 2e6), ("rewritten", 2e6 / 0.9)):
            for replicate in range(workers):
                run.cell(
                    variant="torch", batch_size=batch_size, replicate=replicate, tuning=level,
                    durations_ns=[int(took + 2e3 * replicate)] * 40,
                )  # fmt: skip
    with open_runs([run.folder]) as database:
        rows = tables.load(database, parse_where(None, database))
        throughput, *others = tables.build(database, rows, ["throughput", "latency"])
    reported = [line for line in throughput.footers if line.startswith(("Worth", "Slower"))]
    assert reported[0].startswith("Worth of tuning (tuned over stock, 95 % interval): torch fp32 batch 8 1.999 [1.99")
    assert reported[1] == (
        "Worth of tuning (tuned over stock, one worker at a level, so without an interval): torch fp32 batch 1 2.000."
    )
    assert reported[2].startswith("Slower than the level below: torch fp32 rewritten over tuned batch 8 0.900 [0.89")
    assert reported[3].endswith("which decides nothing: torch fp32 rewritten over tuned batch 1 0.900.")
    assert not any("Worth" in line for table in others for line in table.footers)


def test_a_level_that_may_be_as_fast_is_not_called_slower(build: Build) -> None:
    run = build()
    for replicate, (stock, tuned) in enumerate(((2.0e6, 2.1e6), (2.1e6, 2.0e6), (2.0e6, 2.05e6))):
        for level, took in (("stock", stock), ("tuned", tuned)):
            run.cell(variant="torch", replicate=replicate, tuning=level, durations_ns=[int(took)] * 40)
    with open_runs([run.folder]) as database:
        (row,) = level_steps.steps(database).values()
        assert row["ratio_low"] < 1 < row["ratio_high"]
        assert not level_steps.is_slower(row)


def test_what_tuning_is_worth_is_a_column_of_the_list_of_every_figure(
    build: Build, undrawn: None, tmp_path: Path
) -> None:
    run = build("a")
    for replicate in range(3):
        for level, took in (("stock", 8_000_000), ("tuned", 4_000_000), ("rewritten", 2_000_000)):
            run.cell("torch", 8, [took + 20_000 * replicate] * 60, tuning=level, replicate=replicate)
    run.cell("tf", 8, [9_000_000] * 60)
    analyze([run.folder], tmp_path / "out", Console(file=io.StringIO()))
    with (tmp_path / "out/comparison.csv").open(newline="") as file:
        rows = {(row["variant"], row["tuning"]): row for row in csv.DictReader(file)}
    tuned = rows.pop(("torch", "tuned"))
    assert float(tuned["worth"]) == pytest.approx(2.0, rel=0.01)
    assert float(tuned["worth_low"]) < float(tuned["worth"]) < float(tuned["worth_high"])
    assert {row[name] for row in rows.values() for name in level_steps.WORTH} == {""}
    with zipfile.ZipFile(tmp_path / "out/comparison.xlsx") as book:
        text = html.unescape(book.read("xl/sharedStrings.xml").decode())
    assert all(definition in text for definition in level_steps.WORTH.values())
    plain = build("b")
    plain.cell("torch", 8, [9_000_000] * 60)
    analyze([plain.folder], tmp_path / "plain", Console(file=io.StringIO()))
    assert "worth" not in (tmp_path / "plain/comparison.csv").read_text().splitlines()[0].split(",")


@pytest.mark.parametrize("workers", [{"stock": 1, "tuned": 3}, {"stock": 3, "tuned": 1}, {"stock": 1, "tuned": 1}])
def test_one_worker_at_a_level_tells_no_worth(build: Build, workers: dict[str, int]) -> None:
    """As in the view: a ratio without an interval once stood in the column beside those that have one."""
    run = build()
    for level, took in (("stock", 8_000_000), ("tuned", 4_000_000)):
        for replicate in range(workers[level]):
            run.cell("torch", 8, [took + 20_000 * replicate] * 60, tuning=level, replicate=replicate)
    with open_runs([run.folder]) as database:
        rows = level_steps.with_worth(database.query("FROM comparison"), level_steps.steps(database))
        assert database.query("FROM worth") == []
    assert len(rows) == 2
    assert {row[name] for row in rows for name in level_steps.WORTH} == {None}


def test_levels_of_two_runs_on_one_gpu_are_paired(build: Build) -> None:
    """A plan has a run for each level. What ran on another GPU or with another version tells nothing of tuning."""
    stock = build("20260101-stock", device="gpu0", uuid="GPU-1")
    newer = build("20260102-stock", device="gpu1", uuid="GPU-1")
    tuned = build("20260103-tuned", device="gpu0", uuid="GPU-1")
    other_gpu = build("20260104-tuned", device="gpu0", uuid="GPU-2")
    other_version = build("20260105-tuned", device="gpu0", uuid="GPU-1")
    for replicate in range(3):
        common = {"replicate": replicate, "framework_version": "1.0"}
        stock.cell("torch", 8, [9_000_000 + replicate] * 60, tuning="stock", **common)
        newer.cell("torch", 8, [8_000_000 + replicate] * 60, tuning="stock", **common)
        tuned.cell("torch", 8, [4_000_000 + replicate] * 60, **common)
        other_gpu.cell("torch", 8, [4_000_000 + replicate] * 60, **common)
        other_version.cell("torch", 8, [4_000_000] * 60, **{**common, "framework_version": "2.0"})
    runs = [one.folder for one in (stock, newer, tuned, other_gpu, other_version)]
    (row,) = open_runs(runs).query("FROM level_steps")
    assert (row["run"], row["below_run"], row["workers"], row["below_workers"]) == (
        tuned.folder.name,
        newer.folder.name,
        3,
        3,
    )
    assert math.isclose(row["ratio"], 2.0, rel_tol=1e-3)
    tuned.cell("torch", 8, [6_000_000] * 60, tuning="stock", framework_version="1.0")
    (row,) = open_runs(runs).query("FROM level_steps")
    assert row["below_run"] == tuned.folder.name, "its own run's level comes first"


@pytest.mark.parametrize(
    ("change", "pairs"),
    [
        ({}, 1),
        ({"driver": "2.0"}, 0),
        ({"power_limit_mw": 500_000}, 0),
        ({"runner": "docker"}, 0),
        ({"version": None}, 0),
    ],
)
def test_levels_of_two_runs_are_paired_under_equal_conditions_alone(
    build: Build, change: dict[str, Any], pairs: int
) -> None:
    """Two unknown versions are not one version."""
    runs = []
    for name, level, facts in (("a", "stock", {}), ("b", "tuned", change)):
        run = build(name, device="gpu0", uuid="GPU-1")
        gpu = {
            "device": "gpu0",
            "uuid": "GPU-1",
            "name": "GPU Z",
            "driver": "1.0",
            "power_limit_mw": 700_000,
            "processes": [],
        }
        run.run_json(devices=[{**gpu, **{key: value for key, value in facts.items() if key in gpu}}])
        version = None if "version" in change else "1.0"
        run.cell(
            "torch", 8, [4_000_000] * 60, tuning=level, framework_version=version, runner=facts.get("runner", "local")
        )
        runs.append(run.folder)
    assert len(open_runs(runs).query("FROM level_steps")) == pairs


def test_the_lower_level_is_of_the_newest_run_by_its_date_and_is_named(build: Build) -> None:
    """A folder's name may say anything."""
    runs = []
    for name, utc, level, ms in (
        ("z", "2026-01-01T00:00:00Z", "stock", 9), ("b", "2026-01-02T00:00:00Z", "stock", 8), ("a", "2026-01-03T00:00:00Z", "tuned", 4)
    ):  # fmt: skip
        run = build(name, device="gpu0", uuid="GPU-1").run_json(created_utc=utc)
        for replicate in range(3):
            durations = [ms * 1_000_000 + 2000 * replicate] * 60
            run.cell("torch", 8, durations, tuning=level, framework_version="1.0", replicate=replicate)
        runs.append(run.folder)
    with open_runs(runs) as database:
        known = level_steps.steps(database)
        assert [(row["run"], row["below_run"]) for row in known.values()] == [("a", "b")]
        lines = level_steps.sentences(database.query("FROM comparison WHERE run = 'a'"), known)
    assert re.search(r"torch fp32 batch 8 2\.00\d \[.*\] \(stock of run b\)\.$", lines[0])
    assert lines[-1] == "An interval of levels of two runs is over workers and lacks what differs from run to run."
