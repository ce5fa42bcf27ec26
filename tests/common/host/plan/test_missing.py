"""What of a plan a set of runs lacks."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from common.host.bench.dry_run import print_missing
from common.host.plan import plan_file
from common.host.plan.missing import Missing, missing
from common.host.plan.plan_file import PlanFile
from tests.common.host.bench.test_command import images

__all__ = ["images"]

KEY = "MobileNetV3L_abacus_fp32_b{:04d}_{}_single-stream_script_{}_r{}"


def plan_of(tmp_path: Path, replicates: int = 2) -> PlanFile:
    file = tmp_path / "small.toml"
    file.write_text(
        f'device = "cpu"\nframework = "abacus"\nprecision = "fp32"\nreplicates = {replicates}\n'
        '[[sweep]]\nbatch_sizes = [1, 8]\n[[sweep]]\nio = "device"\nbatch_sizes = [8, 32]\n'
    )
    return plan_file.read(file)


def run_with(folder: Path, *keys: str) -> Path:
    for key in keys:
        (folder / "cells" / key).mkdir(parents=True)
        (folder / "cells" / key / "cell.csv").write_text("whatever it says of how it ended\n")
    return folder


def found_in(plan: PlanFile, runs: list[Path], images: Path) -> tuple[Missing, str]:
    console = Console(file=io.StringIO(), width=300)
    found = print_missing(plan, runs, console, images)
    return found, console.file.getvalue()  # type: ignore[attr-defined]


def test_all_of_a_plan_is_missing_where_nothing_ran(images: Path, tmp_path: Path) -> None:
    found, said = found_in(plan_of(tmp_path), [], images)
    assert (found.cells, found.whole, found.part, found.lacking) == (4, 0, 0, 4)
    assert found.lines() == [
        "MobileNetV3L tuned: abacus; fp32; io host; batch 1, 8: 2 cells",
        "MobileNetV3L tuned: abacus; fp32; io device; batch 8, 32: 2 cells",
    ]
    assert "Of the plan's 4 cells, 2 workers each, 0 are whole; 4 are missing." in said


def test_cells_of_several_runs_and_of_another_device_are_there(images: Path, tmp_path: Path) -> None:
    one = run_with(tmp_path / "one", *(KEY.format(1, "host", "gpu3", worker) for worker in (0, 1)))
    two = run_with(tmp_path / "two", KEY.format(8, "host", "cpu", 1), KEY.format(64, "host", "cpu", 0))
    found, _ = found_in(plan_of(tmp_path), [one, two], images)
    assert (found.cells, found.whole, found.part, found.lacking) == (4, 1, 1, 2)
    assert found.lines() == [
        "MobileNetV3L tuned: abacus; fp32; io host; batch 8; 1 of 2 workers lacking: 1 cell",
        "MobileNetV3L tuned: abacus; fp32; io device; batch 8, 32: 2 cells",
    ]


def test_nothing_is_missing_of_a_plan_that_ran(images: Path, tmp_path: Path) -> None:
    keys = [KEY.format(*place, "cpu", 0) for place in ((1, "host"), (8, "host"), (8, "device"), (32, "device"))]
    found, said = found_in(plan_of(tmp_path, replicates=1), [run_with(tmp_path / "run", *keys)], images)
    assert (found.whole, found.groups) == (4, ())
    assert said == "All 4 cells of the plan are there.\n"


def test_no_plan_lacks_nothing() -> None:
    assert missing([], []).sentence() == "All 0 cells of the plan are there."
