"""Cells that several of the given runs measured: tables stay whole where they are few, and nothing is a mean over runs."""

from __future__ import annotations

import math
from typing import Any

import pytest
from matplotlib.patches import Rectangle
from rich.console import Console

from analysis.comparisons import candidates, notebook_vs_script, side_by_side, summary
from analysis.comparisons.findings import newest_of_each
from analysis.database.connection import Database
from analysis.output import terminal
from analysis.output.explorer import explore
from analysis.output.notebook_vs_script import texts
from analysis.plots import speedup
from analysis.plots.catalogue import Gallery
from analysis.results import several_runs, tables
from analysis.results.all_intervals import all_intervals
from analysis.results.bench_commands import bench_command
from analysis.results.selection import Selection, parse_pivot
from analysis.results.tables import Table
from common.stats.intervals import Interval
from tests.analysis.conftest import Build, Opened, RunBuilder

MS = 10**6
LEFT_OUT = f"Left out: 4 cells of PyTorch: another run measured them too, and of each cell one figure counts: {several_runs.RULE}."
OTHERS = ("onnxrt", "tf", "keras", "jax")


def of_day(build: Build, name: str, day: int, **fields: str) -> RunBuilder:
    run = build(name, **fields)
    device = {"device": run.device, "uuid": run.uuid or "", "name": run.device_name, "processes": []}
    return run.run_json(created_utc=f"2026-01-{day:02}T00:00:00Z", devices=[device])


def two_runs(build: Build, **fields: str) -> tuple[RunBuilder, RunBuilder]:
    """Four frameworks of a first run, and PyTorch at two levels of both: 4 of 12 cells are double."""
    first, second = of_day(build, "first", 1, **fields), of_day(build, "second", 2, **fields)
    for batch_size in (1, 8):
        for place, variant in enumerate(OTHERS):
            first.cell(variant, batch_size, durations_ns=[(20 + place) * MS] * 20)
        for run, ms in ((first, 2), (second, 4)):
            run.cell("torch", batch_size, durations_ns=[ms * MS] * 20)
            run.cell("torch", batch_size, durations_ns=[5 * ms * MS] * 20, tuning="stock")
    return first, second


def throughputs(database: Database, pivot: str | None = None) -> list[Table]:
    rows = tables.load(database, Selection())
    return tables.build(database, rows, ["throughput"], parse_pivot(pivot))


def test_where_few_cells_were_measured_again_the_table_stays_whole_and_names_their_runs(
    build: Build, opened: Opened
) -> None:
    (table,) = throughputs(opened(*two_runs(build)))
    assert table.row_names == ("variant", "precision", "tuning", "run_or_gpu")
    assert "run" not in table.group
    assert {row[3] for row in table.rows if row[0] != "torch"} == {""}
    assert [row for row in table.rows if row[0] == "torch"] == [
        ("torch", "fp32", "tuned", "run first"),
        ("torch", "fp32", "tuned", "run second"),
        ("torch", "fp32", "stock", "run first"),
        ("torch", "fp32", "stock", "run second"),
    ]
    first, second = (table.entry(("torch", "fp32", "tuned", f"run {run}"), 8) for run in ("first", "second"))
    assert (first.text, second.text) == ("4,000", "2,000"), "no figure is a mean over runs"
    assert (first.best, first.older) == (False, True), "an older figure is shown and best of nothing"
    assert (second.best, second.rank, first.rank) == (True, 1.0, 1.0)
    assert table.footers[1] == (
        "run or gpu: measured in several of these runs, one row for each; one figure of a cell counts "
        "(the newest that has several workers, else the newest), others are never the best"
    )
    assert bench_command(table, table.rows[0]) == (
        "invoke bench --model ResNet50 --framework torch --precision fp32 --batch-sizes 1,8 --device cpu"
    )


def test_sentences_are_of_the_newest_figures(build: Build, opened: Opened) -> None:
    database = opened(*two_runs(build))
    (table,) = throughputs(database)
    intervals = all_intervals(database, tables.load(database, Selection()))
    (answer,) = summary.answers([table], intervals)
    assert answer.sentences[0].startswith("Batch 1: PyTorch fp32 tuned of run second, 250.0 images/s")
    assert "of run first" not in " ".join(answer.sentences), "a cell is no rival of itself"
    (worth,) = [line for line in table.footers if line.startswith("Worth of tuning")]
    for run in ("first", "second"):
        assert f"torch fp32 of run {run} batch 1 5.000, batch 8 5.000" in worth


def test_where_half_of_the_cells_were_measured_again_each_run_has_a_table(build: Build, opened: Opened) -> None:
    first, second = two_runs(build)
    for variant in OTHERS[:1]:
        for batch_size in (1, 8):
            second.cell(variant, batch_size, durations_ns=[9 * MS] * 20)
    found = throughputs(opened(first, second))
    assert [table.group["run"] for table in found] == ["first", "second"]
    assert not any("run_or_gpu" in table.row_names for table in found)


def test_the_rule_is_of_each_table_and_beside_split_ones_others_name_their_run(build: Build, opened: Opened) -> None:
    first, second = two_runs(build)
    for run in (first, second):
        run.cell("torch", 8, durations_ns=[MS] * 20, io="device")
    first.cell("torch", 8, durations_ns=[MS] * 20, scenario="offline")
    found = throughputs(opened(first, second))
    assert [(table.group["io"], table.group["scenario"], table.group.get("run")) for table in found] == [
        ("host", "single-stream", None),
        ("device", "single-stream", "first"),
        ("device", "single-stream", "second"),
        ("host", "offline", "first"),
    ]


def test_a_level_that_one_run_alone_has_names_the_run_of_the_level_below(build: Build, opened: Opened) -> None:
    first, second = two_runs(build)
    first.cell("torch", 8, durations_ns=[MS] * 20, tuning="rewritten")
    second.cell("torch", 8, durations_ns=[MS] * 20, precision="fp16")
    (table,) = throughputs(opened(first, second))
    assert ("torch", "fp32", "rewritten", "run first") in table.rows
    assert ("torch", "fp16", "tuned", "") in table.rows


def test_gpus_of_one_run_are_told_apart_and_of_several_with_their_run() -> None:
    row = dict.fromkeys(("model", "io", "scenario", "streams", "target_rate_per_s", "frontend", "input", "version"))
    row |= {
        "device_name": "H100",
        "status": "ok",
        "replicates": 1,
        "created_utc": None,
        "precision": "fp16",
        "tuning": "tuned",
    }

    def labels(*places: tuple[str, str]) -> list[str]:
        double = [{**row, "variant": "torch", "batch_size": 1, "run": run, "device": gpu} for run, gpu in places]
        single = [
            {**row, "variant": "onnxrt", "batch_size": size, "run": "a", "device": "gpu0"} for size in (1, 2, 4, 8)
        ]
        return [one[several_runs.OF_RUN] for one in several_runs.told_apart([*double, *single], ("variant", "tuning"))]

    assert labels(("a", "gpu0"), ("a", "gpu1")) == ["gpu0", "gpu1", "", "", "", ""]
    assert labels(("a", "gpu0"), ("b", "gpu0"))[:2] == labels(("a", "gpu0"), ("b", "gpu1"))[:2] == ["run a", "run b"]
    assert labels(("a", "gpu0"), ("a", "gpu1"), ("b", "gpu0"))[:3] == ["run a gpu0", "run a gpu1", "run b gpu0"]


def test_the_newest_that_is_ok_and_not_known_to_be_wrong_counts(build: Build, opened: Opened) -> None:
    old, new = of_day(build, "b-old", 1), of_day(build, "a-new", 2)
    for variant in OTHERS:
        old.cell(variant, durations_ns=[MS] * 20)
    new.cell("tf", status="oom", message="out of memory")
    new.cell("onnxrt", durations_ns=[2 * MS] * 20)
    rows = tables.load(opened(old, new), Selection())
    assert {row["variant"]: row["run"] for row in several_runs.newest(rows)} == {
        "onnxrt": "a-new", "tf": "b-old", "keras": "b-old", "jax": "b-old",
    }  # fmt: skip
    wrong = [{**row, "known_wrong": "a fault"} if row["run"] == "a-new" else row for row in rows]
    assert {row["run"] for row in several_runs.newest(wrong)} == {"b-old"}


def test_several_workers_count_before_a_newer_one_but_no_worker_more_than_two(build: Build, opened: Opened) -> None:
    """Two pages once gave two figures of one cell, by the newest run and by the one of most workers."""
    runs = [of_day(build, f"{workers}-workers", day) for day, workers in ((1, 3), (2, 2), (3, 1))]
    for run, workers in zip(runs, (3, 2, 1), strict=True):
        for number in range(workers):
            run.cell("torch", durations_ns=[MS] * 20, replicate=number)
    database = opened(*runs)
    rows = tables.load(database, Selection())
    assert [row["run"] for row in several_runs.newest(rows)] == ["2-workers"]
    best, others = newest_of_each(rows)
    assert ([row["run"] for row in best], others) == (["2-workers"], 2)
    (recommended,) = candidates.group_rows(rows).values()
    assert [row["run"] for row in recommended] == ["2-workers"]


def test_a_pivot_to_runs_and_one_to_devices_lose_no_figure(build: Build, opened: Opened) -> None:
    database = opened(*two_runs(build))
    (by_run,) = throughputs(database, "variant,precision,tuning,batch_size:run")
    assert by_run.columns == ("first", "second") and "run_or_gpu" not in by_run.row_names
    (by_device,) = throughputs(database, "device_name")
    assert len(by_device.entries) == len(tables.load(database, Selection()))


def test_of_two_figures_of_a_cell_plots_draw_the_newest(build: Build, opened: Opened) -> None:
    database = opened(*two_runs(build))
    rows = tables.load(database, Selection())
    gallery = Gallery(database, rows, {})
    drawn = {plot.description: plot.figure for plot in gallery}
    (figure,) = (
        figure for text, figure in drawn.items() if text.startswith("throughput (images/s) against batch size")
    )
    containers: list[Any] = [one for axes in figure.axes for one in axes.containers]
    lengths = {one.get_label(): one.patches[0].get_width() for one in containers}
    for level, of_one in (("", 250), (" stock", 50)):
        found = [lengths[f"PyTorch fp32{level}, batch {size}"] for size in (1, 8)]
        assert found == pytest.approx([of_one, 8 * of_one])
    (figure,) = (figure for text, figure in drawn.items() if text.startswith("speed-up"))
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert lines["PyTorch fp32"] == pytest.approx([5, 5])
    assert [text for text in gallery.undrawn if text.startswith("other figures of 4 cells (")]


#: of a row of the view `comparison`, what a speed-up asks for beside its figure
OF_A_ROW = {
    "variant": "torch", "precision": "fp16", "batch_size": 8, "cell_keys": ("k",), "status": "ok", "replicates": 3,
    "created_utc": None, "device": "gpu0", "device_name": "GPU Z", "framework_version": "1",
}  # fmt: skip


def of_run(run: str, tuning: str, rate: float, counts: bool = True, **more: object) -> dict[str, object]:
    """On the GPU that the run's name begins with."""
    return {
        **OF_A_ROW, "tuning": tuning, "images_per_s": rate, "run": run, "device_uuid": f"GPU-{run[0]}", "counts": counts, **more
    }  # fmt: skip


def test_a_speed_up_is_of_a_pair_of_one_run_as_on_the_page_of_results() -> None:
    """Newer tuned rows on another GPU once hid the pairs of the run that had both levels."""
    of_one = [of_run("a1", "stock", 10.0), of_run("a1", "tuned", 40.0, counts=False)]
    assert bars([*of_one, of_run("b9", "tuned", 50.0)]) == {"PyTorch fp16": 4.0}
    assert bars([*of_one, of_run("a9", "tuned", 50.0)]) == {"PyTorch fp16": 4.0}, "of one run before one GPU alone"
    alone = [dict(row, replicates=1) for row in of_one]
    both = [*alone, of_run("a8", "stock", 20.0, counts=False), of_run("a9", "tuned", 50.0)]
    assert bars(both) == {"PyTorch fp16 ‡": 2.5}, "several workers before one run"
    other = of_run("a9", "tuned", 50.0, framework_version="2")
    assert bars([*alone, other]) == {"PyTorch fp16": 4.0}, "of one version"


def test_a_speed_up_is_over_the_baseline_of_the_same_run_and_says_where_it_is_not() -> None:
    row = of_run

    rows = [
        row("a1", "stock", 10.0, counts=False), row("b1", "stock", 100.0), row("b1", "tuned", 200.0),
        row("a1", "rewritten", 30.0),
    ]  # fmt: skip
    assert bars(rows) == {"PyTorch fp16": 2.0, "PyTorch fp16 rewritten": 3.0}
    assert bars(rows[1:]) == {"PyTorch fp16": 2.0, "PyTorch fp16 rewritten †": 0.3}
    assert bars([row("b2", "stock", 100.0), row("b1", "tuned", 200.0)]) == {"PyTorch fp16 ‡": 2.0}


def test_a_speed_up_over_stock_of_another_gpu_has_no_interval() -> None:
    measured = (("a", "stock", 10.0), ("a", "tuned", 20.0), ("b", "rewritten", 30.0))
    rows = [
        of_run(run, tuning, rate, batch_size=size, cell_keys=(tuning,))
        for run, tuning, rate in measured
        for size in (1, 8)
    ]  # fmt: skip
    known = {
        ((tuning,), run, "throughput"): Interval(rate, 0.9 * rate, 1.1 * rate, 0.95, 60, 3, True)
        for run, tuning, rate in measured
    }
    figure = speedup.draw(rows, "all", known)
    assert figure is not None
    bounds = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_marker() == "_"]
    assert bounds == pytest.approx([2 / math.exp(math.log(1.1 / 0.9) / math.sqrt(2))] * 2), "of tuned, at both sizes"


def bars(rows: list[dict[str, object]]) -> dict[str, float]:
    figure = speedup.draw(rows, "all", {})
    assert figure is not None
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    widths = [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]
    return dict(sorted(zip(names, widths, strict=True)))


def test_side_by_side_a_device_with_a_few_cells_measured_again_is_one_side(build: Build, opened: Opened) -> None:
    other = of_day(build, "other", 3, device_name="Other CPU")
    for batch_size in (1, 8):
        other.cell("torch", batch_size, durations_ns=[MS] * 20)
    database = opened(*two_runs(build), other)
    found = side_by_side.build(database, tables.load(database, Selection()), {})
    assert found.sides == ("Test CPU", "Other CPU")
    (table,) = [table for table in found.tables if table.metric.name == "throughput"]
    entries = [table.entry(row, "Test CPU") for row in table.rows]
    assert [(entry.text, entry.run) for entry in entries] == [("250.0", "second"), ("2,000", "second")]
    assert any("measured several times one figure stands here" in line for line in table.footers)


def test_what_is_recommended_says_how_many_older_figures_are_left_out(build: Build, opened: Opened) -> None:
    rows = tables.load(opened(*two_runs(build)), Selection())
    (members,) = candidates.group_rows(rows).values()
    assert {row["run"] for row in members if row["variant"] == "torch"} == {"second"}
    assert len(members) == 12
    assert candidates.left_out(rows) == [LEFT_OUT]


GPUS = f"2 GPUs of one run (gpu2, gpu10) measured them; of each cell one figure counts: {several_runs.GPU_RULE}"


def run_of_two_gpus(build: Build, alone: int = 0) -> RunBuilder:
    """PyTorch at two batch sizes on gpu10 and gpu2 of one run, which is the slower; alone: cells of gpu2 that no other GPU has."""
    run = build("both", device="gpu2", device_name="H100", uuid="GPU-2")
    for device, ms in (("gpu10", 2), ("gpu2", 4)):
        run.device, run.uuid = device, f"GPU-{device}"
        for batch_size in (1, 8):
            run.cell("torch", batch_size, durations_ns=[ms * MS] * 20)
    for batch_size in (1, 8)[:alone]:
        for variant in OTHERS:
            run.cell(variant, batch_size, durations_ns=[20 * MS] * 20)
    return run


def test_of_gpus_of_one_run_none_is_newer_and_the_first_is_recommended(build: Build, opened: Opened) -> None:
    rows = tables.load(opened(run_of_two_gpus(build)), Selection())
    (members,) = candidates.group_rows(rows).values()
    assert [row["device"] for row in members] == ["gpu2", "gpu2"]
    assert candidates.left_out(rows) == [f"Left out: 2 cells of PyTorch: {GPUS}."]


def test_a_gpu_with_several_workers_counts_before_the_first_one_of_its_run(build: Build, opened: Opened) -> None:
    run = run_of_two_gpus(build)
    run.device, run.uuid = "gpu10", "GPU-10"
    run.cell("torch", 8, durations_ns=[2 * MS] * 20, replicate=1)
    rows = several_runs.newest(tables.load(opened(run), Selection()))
    assert {row["batch_size"]: row["device"] for row in rows} == {1: "gpu2", 8: "gpu10"}


def test_beside_gpus_of_one_run_a_newer_run_is_said_to_be_newer(build: Build, opened: Opened) -> None:
    again = of_day(build, "z-again", 9, device="gpu2", device_name="H100", uuid="GPU-2")
    again.cell("torch", 1, durations_ns=[MS] * 20)
    rows = tables.load(opened(run_of_two_gpus(build), again), Selection())
    assert candidates.left_out(rows) == [
        f"Left out: 2 cells of PyTorch: another run measured them too, and of each cell one figure counts: {several_runs.RULE}.",
        f"Left out: 1 cell of PyTorch: {GPUS}.",
    ]


def test_what_is_printed_of_gpus_of_one_run_calls_none_of_them_a_run(build: Build, opened: Opened) -> None:
    run = run_of_two_gpus(build, alone=2)
    for device, ms in (("gpu10", 8), ("gpu2", 12)):
        run.device, run.uuid = device, f"GPU-{device}"
        run.cell("torch", 8, durations_ns=[ms * MS] * 20, tuning="stock")
        run.cell("litert", 8, status="oom", message="out of memory")
    with (console := Console(width=200, force_terminal=False)).capture() as captured:
        terminal.show(throughputs(opened(run)), console)
    text = captured.get()
    lines = [line.split() for line in text.splitlines()]
    assert ["torch", "fp32", "tuned", "gpu2"] in [line[:4] for line in lines]
    assert "run gpu" not in text
    for said in (
        f"run or gpu: measured on several GPUs of one run, one row for each; one figure of a cell counts ({several_runs.GPU_RULE})",
        "torch fp32 of gpu2 batch 8 3.000",
        "litert fp32 of gpu10 at batch 8: oom (out of memory)",
    ):
        assert said in text


def test_where_runs_and_their_gpus_differ_the_label_and_the_footer_name_both(build: Build, opened: Opened) -> None:
    again = of_day(build, "again", 9, device="gpu2", device_name="H100", uuid="GPU-gpu2")
    again.cell("torch", 1, durations_ns=[MS] * 20)
    (table,) = throughputs(opened(run_of_two_gpus(build, alone=2), again))
    assert {row[-1] for row in table.rows if row[0] == "torch"} == {"run again gpu2", "run both gpu2", "run both gpu10"}
    assert any(f"({several_runs.RULE}; of GPUs of one run {several_runs.GPU_RULE})" in line for line in table.footers)


@pytest.mark.parametrize(
    "pivot", ["variant,precision,tuning,batch_size:run", "run,variant,precision,tuning:batch_size"]
)
def test_what_a_pivot_has_in_rows_or_columns_tells_cells_apart(build: Build, opened: Opened, pivot: str) -> None:
    first, second = (
        of_day(build, name, day, device="gpu0", device_name="H100", uuid="GPU-0")
        for day, name in enumerate(("first", "second"), 1)
    )
    for run, factor in ((first, 1), (second, 2)):
        for ms, variant in enumerate(("torch", "onnxrt", "jax", "litert"), 1):
            run.cell(variant, durations_ns=[factor * ms * MS] * 20)
    first.device, first.uuid = "gpu1", "GPU-1"
    first.cell("jax", durations_ns=[MS] * 20)
    (table,) = throughputs(opened(first, second), pivot)
    names = [*table.row_names, table.column_name]
    places = {place: dict(zip(names, (*place[0], place[1]), strict=True)) for place in table.entries}
    other = [where for place, where in places.items() if table.entries[place].older]
    assert [(where["run"], where["variant"], where["run_or_gpu"]) for where in other] == [("first", "jax", "gpu1")]
    own = {place for place, where in places.items() if where["run"] == "first"}
    assert all(table.entries[place].rank is not None for place in own)
    assert any(table.entries[place].best for place in own)


def test_side_by_side_and_plots_do_not_call_a_gpu_of_the_same_run_older(build: Build, opened: Opened) -> None:
    other = of_day(build, "other", 3, device_name="Other CPU")
    for batch_size in (1, 8):
        other.cell("torch", batch_size, durations_ns=[MS] * 20)
    database = opened(run_of_two_gpus(build, alone=2), other)
    rows = tables.load(database, Selection())
    found = side_by_side.build(database, rows, {})
    (table,) = [table for table in found.tables if table.metric.name == "throughput"]
    assert [table.entry(row, "H100").text for row in table.rows] == ["250.0", "2,000"]
    assert f"Of cells that a side measured on several GPUs: {GPUS}" in table.footers
    assert not any("newest" in line for line in table.footers)
    gallery = Gallery(database, rows, {})
    list(gallery)
    (line,) = [line for line in gallery.undrawn if "figures of" in line]
    assert line.startswith("figures of other GPUs of 2 cells (") and GPUS in line


def test_the_page_says_beside_its_chart_what_is_left_out_whatever_the_limits(build: Build, opened: Opened) -> None:
    (group,) = explore(tables.load(opened(*two_runs(build)), Selection()), {}, {}).groups
    assert group["left_out"] == [LEFT_OUT]
    assert not [line for line in group["lines"] if line.startswith("Left out")], "the page's script replaces these"


def test_pairs_of_a_notebook_and_a_script_name_their_run(build: Build, opened: Opened) -> None:
    first, second = two_runs(build)
    for run in (first, second):
        run.cell("torch", 8, durations_ns=[3 * MS] * 20, frontend="notebook")
    database = opened(first, second)
    found = notebook_vs_script.build(database, tables.load(database, Selection()))
    assert found is not None
    assert [texts(pair)[:3] for pair in found.pairs] == [
        ("PyTorch", "fp32 of run first", "8"), ("PyTorch", "fp32 of run second", "8"),
    ]  # fmt: skip


def test_failures_name_their_run(build: Build, opened: Opened) -> None:
    first, second = two_runs(build)
    for run in (first, second):
        run.cell("litert", 8, status="oom", message="out of memory")
    (table,) = throughputs(opened(first, second))
    for run in ("first", "second"):
        assert f"litert fp32 of run {run} at batch 8: oom (out of memory)" in table.footers


def test_a_terminal_of_80_columns_holds_the_runs(build: Build, opened: Opened) -> None:
    with (console := Console(width=80, force_terminal=False)).capture() as captured:
        terminal.show(throughputs(opened(*two_runs(build))), console)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:5] == ["torch", "fp32", "tuned", "run", "second"] for line in lines)
