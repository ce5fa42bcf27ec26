"""What of a plan a set of runs lacks."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from analysis.results import planned_cells
from common.cell import Cell
from common.host.bench.dry_run import print_missing
from common.host.frameworks.registry import Variant
from common.host.paths import DataFolder
from common.host.plan import plan_file
from common.host.plan.jobs import PlannedJob
from common.host.plan.missing import Missing, There, missing
from common.host.plan.plan_file import PlanFile
from common.host.runs.run import Run
from tests.analysis.conftest import Build, build
from tests.common.host.bench.test_command import bytes_model, data, images

__all__ = ["build", "data", "images"]

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
    there = planned_cells.of_runs(runs) if runs else There()
    found = print_missing(plan, there, console, images)
    return found, console.file.getvalue()  # type: ignore[attr-defined]


def test_all_of_a_plan_is_missing_where_nothing_ran(images: Path, tmp_path: Path) -> None:
    found, said = found_in(plan_of(tmp_path), [], images)
    assert (found.cells, found.whole, found.part, found.lacking) == (4, 0, 0, 4)
    assert found.lines() == [
        "MobileNetV3L tuned: abacus; fp32; io host; batch 1, 8: 2 cells",
        "MobileNetV3L tuned: abacus; fp32; io device; batch 8, 32: 2 cells",
    ]
    assert "Of the plan's 4 cells, 2 workers each, 0 are whole; 4 are missing." in said


def test_cells_of_several_runs_are_there(images: Path, tmp_path: Path) -> None:
    one = run_with(tmp_path / "one", *(KEY.format(1, "host", "cpu", worker) for worker in (0, 1)))
    two = run_with(tmp_path / "two", KEY.format(8, "host", "cpu", 1), KEY.format(64, "host", "cpu", 0))
    found, _ = found_in(plan_of(tmp_path), [one, two], images)
    assert (found.cells, found.whole, found.part, found.lacking) == (4, 1, 1, 2)
    assert found.lines() == [
        "MobileNetV3L tuned: abacus; fp32; io host; batch 8; 1 of 2 workers lacking: 1 cell",
        "MobileNetV3L tuned: abacus; fp32; io device; batch 8, 32: 2 cells",
    ]


def job_of(keys: list[str]) -> PlannedJob:
    """Of the cells of these keys, which differ in batch size, device and worker."""
    cells = tuple(
        Cell(
            model="MobileNetV3L", variant="abacus", precision="fp32", batch_size=int(key.split("_b")[1][:4]), io="host",
            device=key.split("_")[-2], replicate=int(key[-1]),
        )
        for key in keys
    )  # fmt: skip
    assert [cell.key for cell in cells] == keys
    variant = Variant("abacus", "abacus", "Abacus", None, ("fp32",), ("fp32",), None, None, "")
    return PlannedJob(variant, "fp32", 0, cells[0].device, cells)


def test_any_gpu_stands_for_a_gpu_and_none_for_a_cpu() -> None:
    """A plan for the CPU was whole by runs of a GPU, and one for a GPU lacked only workers where a CPU had run one."""
    on = {device: [KEY.format(1, "host", device, worker) for worker in (0, 1)] for device in ("cpu", "gpu0", "gpu3")}

    def found(planned: str, measured: str) -> tuple[int, int, int]:
        result = missing([job_of(on[planned])], There(frozenset(on[measured])))
        return result.whole, result.part, result.lacking

    assert found("gpu0", "gpu3") == found("cpu", "cpu") == (1, 0, 0)
    assert found("cpu", "gpu0") == found("gpu0", "cpu") == (0, 0, 1)
    known_wrong = There(frozenset(on["cpu"]), frozenset(on["cpu"]))
    assert missing([job_of(on["gpu0"])], known_wrong).wrong == 0


def test_a_plan_of_cpu_and_gpu_says_of_which_a_group_is() -> None:
    keys = [KEY.format(size, "host", device, 0) for device in ("cpu", "gpu0") for size in (1, 8)]
    found = missing([job_of(keys[:2]), job_of(keys[2:])], There(frozenset(keys[:1])))
    assert (found.cells, found.whole, found.lacking) == (4, 1, 3)
    assert found.lines() == [
        "MobileNetV3L tuned: abacus; fp32; io host; batch 8; on a CPU: 1 cell",
        "MobileNetV3L tuned: abacus; fp32; io host; batch 1, 8; on a GPU: 2 cells",
    ]


def test_nothing_is_missing_of_a_plan_that_ran(images: Path, tmp_path: Path) -> None:
    keys = [KEY.format(*place, "cpu", 0) for place in ((1, "host"), (8, "host"), (8, "device"), (32, "device"))]
    found, said = found_in(plan_of(tmp_path, replicates=1), [run_with(tmp_path / "run", *keys)], images)
    assert (found.whole, found.groups) == (4, ())
    assert said == "All 4 cells of the plan are there.\n"


def test_cells_of_a_model_that_takes_bytes_are_there_though_the_plan_does_not_name_bytes(
    images: Path, tmp_path: Path, data: DataFolder
) -> None:
    """They were listed as missing for ever: the plan was taken to ask for float32, which such a model is never fed."""
    keys = [KEY.format(*place, "cpu", 0) for place in ((1, "host"), (8, "host"), (8, "device"), (32, "device"))]
    run = run_with(tmp_path / "run", *(key.replace("_single", "-uint8_single") for key in keys))
    (run / "run.json").write_text(json.dumps({"model": bytes_model(data).describe()}))
    plan = plan_of(tmp_path, replicates=1)
    empty = DataFolder(tmp_path / "nothing")
    there = planned_cells.of_runs([run])
    assert print_missing(plan, there, Console(file=io.StringIO()), images, empty).lacking == 0
    # of runs that do not say it the model on this machine decides, and without that the options
    unknown = There(there.keys)
    assert print_missing(plan, unknown, Console(file=io.StringIO()), images, data).lacking == 0
    assert print_missing(plan, unknown, Console(file=io.StringIO()), images, empty).lacking == 4


def test_no_plan_lacks_nothing() -> None:
    assert missing([], There()).sentence() == "All 0 cells of the plan are there."


def test_a_row_from_before_there_were_levels_is_of_the_level_that_its_settings_tell(
    images: Path, tmp_path: Path, build: Build
) -> None:
    """Its key names none, and the plan asks for `rewritten` by name."""
    old = build("old")
    rewritten = '{"convolutions": "3 convolution, 2 matrix product"}'
    old.cell("abacus", 1, [10**6] * 40, model="MobileNetV3L", settings=rewritten, tuning=None)
    old.cell("abacus", 8, [10**6] * 40, model="MobileNetV3L", settings="{}", tuning=None)
    assert not any("rewritten" in key for key in Run(old.folder, {}).existing_cells())
    there = planned_cells.of_runs([old.folder])
    assert there.keys == {
        KEY.format(1, "host", "cpu", 0).replace("fp32", "fp32-rewritten"),
        KEY.format(8, "host", "cpu", 0),
    }
    found, _ = found_in(plan_of(tmp_path, replicates=1), [old.folder], images)
    assert [line for line in found.lines() if "io host" in line] == [
        "MobileNetV3L tuned: abacus; fp32; io host; batch 1: 1 cell"
    ]


def test_what_is_known_to_be_wrong_is_missing_and_said_to_be_there(images: Path, tmp_path: Path) -> None:
    """One of four configurations has a worker that counts and one that does not, one has none that counts."""
    keys = [KEY.format(1, "host", "cpu", 0), KEY.format(1, "host", "cpu", 1), KEY.format(8, "host", "cpu", 0)]
    there = There(frozenset(keys), frozenset(keys[1:]))
    found = print_missing(plan_of(tmp_path), there, Console(file=io.StringIO()), images)
    assert (found.cells, found.whole, found.part, found.lacking, found.wrong) == (4, 0, 1, 3, 1)
    assert found.sentence().endswith(
        "0 are whole, 1 with some of their workers; 3 are missing, 1 of them measured, but known to be wrong."
    )


def test_what_is_wrong_in_one_run_and_right_in_another_is_there(images: Path, tmp_path: Path, build: Build) -> None:
    """Whichever was measured first: a row counts by the run that it is of."""
    wrong, right = build("k", device="gpu0", uuid="GPU-1"), build("right", device="gpu0", uuid="GPU-1")
    for run, settings in ((wrong, "{}"), (right, '{"input_copy": "each inference"}')):
        run.cell("tf", 8, [10**6] * 40, settings=settings)
    (key,) = planned_cells.of_runs([wrong.folder]).wrong
    for runs in ([wrong.folder, right.folder], [right.folder, wrong.folder]):
        assert planned_cells.of_runs(runs) == There(frozenset({key}), frozenset())


def test_workers_are_counted_by_configuration(images: Path, tmp_path: Path) -> None:
    """A sweep of three workers and one of a single one: what lacks all of its workers is not said to lack some."""
    file = tmp_path / "two.toml"
    file.write_text(
        'device = "cpu"\nframework = "abacus"\nprecision = "fp32"\n'
        '[[sweep]]\nbatch_sizes = [1, 8]\nreplicates = 3\n[[sweep]]\nio = "device"\nbatch_sizes = [8]\nreplicates = 1\n'
    )
    run = run_with(tmp_path / "run", *(KEY.format(size, "host", "cpu", size % 3) for size in (1, 8)))
    found, said = found_in(plan_file.read(file), [run], images)
    assert (found.cells, found.whole, found.part, found.lacking, found.workers) == (3, 0, 2, 1, (1, 3))
    assert found.lines() == [
        "MobileNetV3L tuned: abacus; fp32; io host; batch 1, 8; 2 of 3 workers lacking: 2 cells",
        "MobileNetV3L tuned: abacus; fp32; io device; batch 8: 1 cell",
    ]
    assert (
        "Of the plan's 3 cells, 1 to 3 workers each, 0 are whole, 2 with some of their workers; 1 are missing." in said
    )


def test_cells_that_copied_their_input_once_are_known_to_be_wrong(build: Build) -> None:
    run = build("k", device="gpu0", uuid="GPU-1")
    run.cell("tf", 8, [10**6] * 40, settings="{}")
    run.cell("torch", 8, [10**6] * 40, settings="{}")
    there = planned_cells.of_runs([run.folder])
    assert {key.split("_")[1] for key in there.keys} == {"tf", "torch"}
    assert {key.split("_")[1] for key in there.wrong} == {"tf"}
