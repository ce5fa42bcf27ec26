"""Levels of tuning in the views: of rows that tell them, of older rows, and what tuning is worth."""

from __future__ import annotations

import math
from typing import Any

import pytest

from analysis.database.open_runs import open_runs
from analysis.results import tables

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
def test_an_older_row_has_the_level_that_its_settings_tell(build: Any, settings: str | None, level: str) -> None:
    run = build("old")
    path = run.cell("torch", 8, [5_000_000] * 50, settings=settings)
    lines = (path / "cell.csv").read_text().splitlines()
    (path / "cell.csv").write_text("\n".join(without(lines)) + "\n")
    database = open_runs([run.folder])
    assert database.query("SELECT tuning, input FROM cells") == [{"tuning": level, "input": "float32"}]


def without(lines: list[str]) -> list[str]:
    """The file as it was before there were columns of level and type."""
    import csv
    import io

    rows = list(csv.reader(io.StringIO("\n".join(lines))))
    gone = [rows[0].index(name) for name in ("tuning", "input")]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [[value for place, value in enumerate(row) if place not in gone] for row in rows]
    )
    return out.getvalue().splitlines()


def test_a_row_that_tells_its_level_is_believed(build: Any) -> None:
    run = build("new")
    run.cell("torch", 8, [5_000_000] * 50, tuning="stock", settings=SHIFTED)
    assert open_runs([run.folder]).query("SELECT tuning FROM cells") == [{"tuning": "stock"}]


def test_worth_is_tuned_over_stock_with_an_interval_over_workers(build: Any) -> None:
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


def test_levels_are_rows_of_one_table_and_reported_where_there_are_several(build: Any) -> None:
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
