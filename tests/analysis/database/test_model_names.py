"""Two models called `model` are two: every table, plot, recommendation and comparison tells them apart by their hash."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.analyze import analyze
from analysis.comparisons.question import Question
from analysis.comparisons.recommend import recommend
from analysis.comparisons.runs import compare_cells, compare_folders
from analysis.database.model_names import shown_names
from analysis.database.open_runs import open_runs
from analysis.results import tables
from analysis.results.selection import Selection, parse_where
from common.errors import UserError
from tests.analysis.conftest import Build, Opened

MS = 10**6
SMALL, LARGE = "small/model.onnx", "/home/somebody/large/model.onnx"


def two(build: Build, file_a: str | None = SMALL, file_b: str | None = LARGE, hash_b: str = "bbbbbbbbbbbb") -> Any:
    a, b = build("a"), build("b")
    for replicate in range(3):
        columns = {"replicate": replicate, "item": "sample"}
        durations = [(1 + i % 3 / 100) * MS for i in range(60)]
        a.cell("onnxrt", 8, [round(one) for one in durations], model_hash="aaaaaaaaaaaa", model_file=file_a, **columns)
        b.cell(
            "torch", 8, [round(9 * one) for one in durations], model_hash=hash_b, model_file=file_b, **columns
        )  # fmt: skip
    return a, b


def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def text(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_tables_keep_them_apart(build: Build, opened: Opened) -> None:
    database = opened(*two(build))
    found = tables.groups(tables.load(database, Selection()), tables.Pivot())
    assert [group["model"] for group, _ in found] == ["ResNet50 (large/model.onnx)", "ResNet50 (small/model.onnx)"]
    chosen = tables.load(database, parse_where("model=ResNet50 (small/model.onnx)", database))
    assert [row["variant"] for row in chosen] == ["onnxrt"]


@pytest.mark.parametrize(("file_a", "file_b"), [(None, None), ("model.onnx", "model.onnx"), (SMALL, SMALL)])
def test_where_folders_do_not_tell_the_hash_does(build: Build, opened: Opened, file_a: Any, file_b: Any) -> None:
    rows = tables.load(opened(*two(build, file_a, file_b)), Selection())
    assert {row["model"] for row in rows} == {"ResNet50 (aaaaaaaa)", "ResNet50 (bbbbbbbb)"}


def test_one_model_measured_twice_keeps_its_name(build: Build, opened: Opened) -> None:
    rows = tables.load(opened(*two(build, hash_b="aaaaaaaaaaaa")), Selection())
    assert {row["model"] for row in rows} == {"ResNet50"}


def test_runs_without_hashes_are_one_model(build: Build, opened: Opened) -> None:
    a, b = build("a"), build("b")
    a.cell("onnxrt", 8, [MS] * 30, model_hash="aaaaaaaaaaaa")
    b.cell("onnxrt", 8, [MS] * 30)
    assert {row["model"] for row in tables.load(opened(a, b), Selection())} == {"ResNet50"}


def test_from_the_cache_too(build: Build, tmp_path: Path) -> None:
    runs = [run.folder for run in two(build)]
    for folder in runs:
        for path in (*folder.rglob("*"), folder):
            os.utime(path, (1_700_000_000, 1_700_000_000))
    for _ in range(2):
        with open_runs(runs, tmp_path / "cache") as database:
            assert {row["model"] for row in database.query("SELECT model FROM comparison")} == {
                "ResNet50 (large/model.onnx)",
                "ResNet50 (small/model.onnx)",
            }
            assert database.query("SELECT count(DISTINCT model) AS n FROM results") == [{"n": 2}]


def test_a_recommendation_is_for_each(build: Build) -> None:
    out = console()
    recommend([run.folder for run in two(build)], Question(), out)
    reported = text(out)
    assert "ResNet50 (small/model.onnx)" in reported
    assert "ResNet50 (large/model.onnx)" in reported
    assert "% less" not in reported
    assert "the only cell" in reported


def test_plots_are_of_one_model_each(build: Build, tmp_path: Path) -> None:
    out = tmp_path / "report"
    analyze([run.folder for run in two(build)], out, console())
    named = [path.name for path in out.rglob("*.svg")] + [path.name for path in out.rglob("*.png")]
    assert any("small" in name for name in named)
    assert any("large" in name for name in named)


def test_compare_refuses_and_says_why(build: Build) -> None:
    a, b = two(build)
    with pytest.raises(UserError, match=r"different models of one name: .*large/model.onnx.*small/model.onnx"):
        compare_folders(a.folder, b.folder, console())
    with pytest.raises(UserError, match="different models of one name"):
        compare_cells([a.folder, b.folder], "framework=onnxrt", "framework=torch", console())


def test_compare_does_as_asked(build: Build) -> None:
    a, b = two(build)
    out = console()
    one, other = (
        ("model=ResNet50 (small/model.onnx)", "framework=onnxrt"),
        ("model=ResNet50 (large/model.onnx)", "framework=torch"),
    )
    assert compare_cells([a.folder, b.folder], ", ".join(one), ", ".join(other), out) == 3
    assert "SLOWER" in text(out)


def test_names_that_share_digits_and_letters_of_conditions() -> None:
    shown = shown_names([("m", "aaaaaaaa1111", None), ("m", "aaaaaaaa2222", None)])
    assert set(shown.values()) == {"m (aaaaaaaa1111)", "m (aaaaaaaa2222)"}
    odd = shown_names([("m", "1", "x/a,b=c|d/m.onnx"), ("m", "2", "y\\e/m.onnx")])
    assert odd == {("m", "1"): "m (a-b-c-d/m.onnx)", ("m", "2"): "m (e/m.onnx)"}
