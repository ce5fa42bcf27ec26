"""The share of measured windows in a bench's wall time."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.host.bench.time_share import BETWEEN, WITHOUT_CONTEXT, phases_s, sentence, without_context_s
from common.schema import to_csv


def cell(folder: Path, key: str, *phases: tuple[str, int, int | None]) -> None:
    (folder / key).mkdir(parents=True)
    rows = [{"phase": name, "start_ns": start, "end_ns": end} for name, start, end in phases]
    (folder / key / "phases.csv").write_text(to_csv("phases.csv", rows))


def test_windows_of_the_cells_that_were_made(tmp_path: Path) -> None:
    cell(tmp_path, "a", ("compile", 0, 9_000_000_000), ("measure", 9_000_000_000, 12_000_000_000))
    cell(tmp_path, "b", ("measure", 0, 1_500_000_000))
    cell(tmp_path, "died", ("measure", 0, None))
    cell(tmp_path, "of an earlier call", ("measure", 0, 99_000_000_000))
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "phases.csv").write_text("phase,start_ns,end_ns\nmeasure,x,y\n")
    assert phases_s(tmp_path, ["a", "b", "died", "junk", "not there"]) == pytest.approx(
        {"compile": 9.0, "measure": 4.5, BETWEEN: 0.0}
    )


def test_what_a_worker_did_once_counts_once(tmp_path: Path) -> None:
    cell(tmp_path, "a", ("import", 0, 3_000_000_000), ("load", 3_000_000_000, 4_000_000_000))
    cell(tmp_path, "b", ("import", 0, 3_000_000_000), ("load", 3_000_000_000, 4_000_000_000))
    cell(tmp_path, "of another worker", ("import", 9_000_000_000, 11_000_000_000))
    assert phases_s(tmp_path, ["a", "b", "of another worker"]) == pytest.approx(
        {"import": 5.0, "load": 1.0, BETWEEN: 0.0}
    )


def test_what_lies_between_a_cell_s_own_phases(tmp_path: Path) -> None:
    shared = ("import", 0, 3_000_000_000)
    cell(tmp_path, "a", shared, ("compile", 3_500_000_000, 4_000_000_000), ("measure", 4_250_000_000, 5_000_000_000))
    # the worker's second cell: between its import and its first own phase lies the other cell
    cell(tmp_path, "b", shared, ("compile", 6_000_000_000, 7_000_000_000), ("measure", 7_125_000_000, 8_000_000_000))
    assert phases_s(tmp_path, ["a", "b"])[BETWEEN] == pytest.approx(0.5 + 0.25 + 0.125)


def test_spells_without_a_context_are_those_of_this_call() -> None:
    spells = [
        [{"start_ns": 5, "end_ns": 9}, {"start_ns": 10**9, "end_ns": 3 * 10**9}],
        [{"start_ns": 10**9, "end_ns": 4 * 10**9}],
    ]
    assert without_context_s(spells, 10**9) == pytest.approx(5.0)


def test_the_rest_is_told_by_what_took_it() -> None:
    phases = {
        "measure": 48.0,
        "compile": 60.0,
        "first": 2.4,
        "import": 24.0,
        "warmup": 7.2,
        "parity": 2.4,
        "idle": 4.0,
        "idle_before": 4.0,
        WITHOUT_CONTEXT: 2.0,
        BETWEEN: 10.0,
    }
    assert sentence(phases, 240.0, 1) == (
        "Measured windows: 48 s of 240 s (20 %); "
        "starts and ends of processes 32 %, compilation and trials 26 %, imports 10 %, idle phases 4 %, "
        "between phases 4 %, warm-up 3 %, other 1 %"
    )
    assert (
        sentence({"measure": 6.0}, 10.0, 1) == "Measured windows: 6 s of 10 s (60 %); starts and ends of processes 40 %"
    )
    # several devices have the wall time each
    assert sentence(phases, 120.0, 2) == sentence(phases, 240.0, 1)
    assert "%" not in sentence({"measure": 1.0}, 0.0, 1)
