"""Wrong input of tasks that read runs: one line that says what is there and what to do, and nothing is left behind."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from analysis.analyze import analyze, write_report
from analysis.comparisons.question import Question
from analysis.comparisons.recommend import recommend
from analysis.comparisons.runs import compare_folders
from analysis.history import show_history
from common.errors import UserError
from tests.analysis.conftest import RunBuilder

MS = 10**6
Build = Callable[..., RunBuilder]


def console() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def run(build: Build) -> Path:
    made = build()
    for variant in ("torch", "onnxrt"):
        made.cell(variant, 8, durations_ns=[MS + i for i in range(60)])
    return made.folder


@pytest.mark.parametrize("write", [analyze, write_report, show_history])
def test_a_place_that_is_taken(write: Callable[..., object], run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file: it is a file, and has to be a folder; move it away"):
        write([run], tmp_path / "file", console())
    page = "history.md" if write is show_history else "report.html"
    (tmp_path / "out" / page).mkdir(parents=True)
    with pytest.raises(UserError, match=f"{page}: it is a folder, and has to be a file; move it away"):
        write([run], tmp_path / "out", console())
    assert [path.name for path in (tmp_path / "out").iterdir()] == [page], "no plot, no table"
    assert (tmp_path / "file").read_text() == "mine"


def test_a_comparison_says_where_it_cannot_write_before_it_compares(build: Build, run: Path, tmp_path: Path) -> None:
    other = build("other")
    other.cell("torch", 8, durations_ns=[MS + i for i in range(60)])
    (tmp_path / "file").write_text("mine")
    out = console()
    with pytest.raises(UserError, match="it is a file, and has to be a folder"):
        compare_folders(run, other.folder, out, out=tmp_path / "file")
    assert out.file.getvalue() == ""  # type: ignore[attr-defined]


def test_runs_without_a_cell_have_nothing_to_recommend(build: Build) -> None:
    runs = [build(name).run_json().folder for name in ("a", "b", "c")]
    with pytest.raises(
        UserError, match="nothing was measured in run a: there is nothing to recommend; invoke bench measures"
    ):
        recommend(runs[:1], Question(), console())
    with pytest.raises(UserError, match="nothing was measured in 3 runs"):
        recommend(runs, Question(), console())


def test_cells_that_cannot_be_read_are_the_reason(run: Path) -> None:
    (run / "cells").rename(run / "elsewhere")
    (run / "cells").symlink_to(run / "elsewhere")
    with pytest.raises(UserError, match=r"there is nothing to recommend: .*cells.* is a link, not a folder"):
        recommend([run], Question(), console())


def test_runs_that_share_no_cell(build: Build, run: Path) -> None:
    other = build("other")
    other.cell("tf", 64, durations_ns=[MS + i for i in range(60)])
    with pytest.raises(
        UserError, match=r"run and other have no cell in common: they measured different .*--cell-a and --cell-b"
    ):
        compare_folders(run, other.folder, console())


def test_the_path_of_a_run_whose_name_is_no_text_is_its_own(run: Path) -> None:
    """DuckDB reads it through a link that is gone afterwards."""
    odd = Path(os.fsdecode(os.fsencode(run.parent) + b"/r\xff"))
    run.rename(odd)
    out = console()
    assert recommend([odd], Question(), out) == 0
    path = out.file.getvalue().splitlines()[-1].removeprefix("Run: ")  # type: ignore[attr-defined]
    assert path == str(odd).replace("\udcff", "\\xff") or Path(path) == odd
