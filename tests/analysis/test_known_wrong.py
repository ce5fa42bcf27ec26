"""Rows whose figures are known to be wrong (mark k) are shown, are best of nothing and get no verdict; all others as ever."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from rich.console import Console

from analysis import style
from analysis.comparisons import summary
from analysis.comparisons.question import Question
from analysis.comparisons.recommend import recommend
from analysis.comparisons.runs import GOT_SLOWER, compare_folders, floors_for
from analysis.database.open_runs import open_runs
from analysis.plots.catalogue import COLD_START, Gallery
from analysis.results import sample_intervals, tables
from analysis.results.selection import Selection
from common.errors import UserError
from tests.analysis.conftest import Build, Opened, RunBuilder
from tests.analysis.tracing import T0, kernel, write_trace

MS = 10**6
COPIED_ONCE = '{"host_memory": "page-locked (asked of the driver)", "io": "host"}'
COPIED_EACH_TIME = '{"host_memory": "page-locked (asked of the driver)", "input_copy": "each inference", "io": "host"}'
WHY = "input copied once, not in each inference: too fast (framewatt until 29 November 2026)"


def gpu_run(build: Build, name: str = "run") -> RunBuilder:
    return build(name, device="gpu0", device_name="GPU Z", uuid="GPU-1")


def three(run: RunBuilder, variant: str, ms: float, batch_size: int = 8, **columns: Any) -> None:
    """Three workers that differ by 0.1 %, their inferences by less."""
    for replicate in range(3):
        durations = [round(ms * MS * (1 + 0.001 * replicate)) + i * 7919 % 200 for i in range(200)]
        run.cell(variant, batch_size, durations_ns=durations, replicate=replicate, **columns)


@pytest.mark.parametrize("variant", ["tf", "tfxla", "keras", "kerasxla", "tftrt"])
@pytest.mark.parametrize("scenario", ["single-stream", "offline", "server"])
def test_an_old_row_on_a_gpu_with_copies_is_marked_with_why(
    build: Build, opened: Opened, variant: str, scenario: str
) -> None:
    run = gpu_run(build)
    run.cell(variant, 8, durations_ns=[MS] * 50, settings=COPIED_ONCE, scenario=scenario)
    run.cell(variant, 32, durations_ns=[MS] * 50, scenario=scenario)
    rows = opened(run).query("SELECT mark, why FROM marks WHERE mark = 'input_kept'")
    assert [dict(row) for row in rows] == [{"mark": "input_kept", "why": WHY}] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": COPIED_EACH_TIME},
        {"io": "device"},
        {"variant": "torch"},
        {"variant": "jax"},
        {"variant": "keras-torch"},
        {"origin": "PERFACCT study"},
        {"status": "crashed", "message": "it fell"},
    ],
    ids=str,
)
def test_other_rows_are_not(build: Build, opened: Opened, changes: dict[str, Any]) -> None:
    run = gpu_run(build)
    run.cell(**{"variant": "tf", "batch_size": 8, "durations_ns": [MS] * 50, "settings": COPIED_ONCE, **changes})
    database = opened(run)
    assert database.query("FROM marks WHERE mark = 'input_kept'") == []
    assert [row["known_wrong"] for row in database.query("FROM comparison")] == [None]


def test_nor_is_a_run_of_others_or_the_cpu(build: Build, opened: Opened) -> None:
    imported, on_cpu = gpu_run(build, "a").run_json(origin="a study"), build("b")
    imported.cell("tf", 8, durations_ns=[MS] * 50, origin=None)
    on_cpu.cell("tf", 8, durations_ns=[MS] * 50, settings=COPIED_ONCE)
    assert opened(imported, on_cpu).query("FROM marks WHERE mark = 'input_kept'") == []


FED_FLOAT32 = "fed float32, not uint8: figures of float32 input (framewatt on 28 November 2026)"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, FED_FLOAT32),
        ({"variant": "torchcompile", "tuning": "stock", "scenario": "offline", "io": "device"}, FED_FLOAT32),
        ({"started_utc": "2026-11-28T19:51:02.000Z"}, None),
        ({"input": "float32"}, None),
        ({"input": None}, None),
        ({"origin": "a study"}, None),
        ({"status": "crashed", "message": "it fell"}, None),
        ({"variant": "tf", "settings": COPIED_ONCE}, WHY),
    ],
    ids=str,
)
def test_a_row_of_bytes_from_before_bytes_were_fed_is_wrong(
    build: Build, opened: Opened, changes: dict[str, Any], why: str | None
) -> None:
    run = gpu_run(build)
    usual = {"variant": "onnxrt", "batch_size": 8, "input": "uint8", "started_utc": "2026-11-28T19:25:53.031Z"}
    run.cell(**{**usual, "durations_ns": [MS] * 50, **changes})
    database = opened(run)
    assert [row["known_wrong"] for row in database.query("FROM comparison")] == [why]
    assert [row["why"] for row in database.query("FROM marks WHERE mark = 'input_kept'")] == ([why] if why else [])


FOLDED = "scales and shifts folded into convolutions, which is not stock: too fast (framewatt until 29 November 2026)"


def of_model(told: str) -> str:
    return json.dumps(
        {"model": f"2 constants lifted, {told}, 29 hard-swish and hard-sigmoid fused", "layout": "as imported"}
    )


OLD = "30 scales and shifts folded into convolutions"
LATER = "30 scales and shifts and 0 batch normalisations folded into convolutions"
NORMALISED = "0 scales and shifts and 4 batch normalisations folded into convolutions"
NOTHING = "0 scales and shifts and 0 batch normalisations folded into convolutions"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, FOLDED),
        ({"variant": "torchcompile", "io": "device", "scenario": "offline"}, FOLDED),
        ({"device": "cpu", "device_uuid": None}, FOLDED),
        ({"settings": of_model(LATER)}, FOLDED),
        ({"settings": of_model(NORMALISED)}, FOLDED),
        ({"settings": of_model(NOTHING)}, None),
        ({"settings": of_model("0 scales and shifts folded into convolutions")}, None),
        ({"settings": of_model("2 outputs told apart")}, None),
        ({"settings": None}, None),
        ({"tuning": "tuned"}, None),
        ({"tuning": "rewritten"}, None),
        ({"tuning": None}, None),
        ({"variant": "onnxrt"}, None),
        ({"variant": "keras-torch"}, None),
        ({"origin": "a study"}, None),
        ({"status": "crashed", "message": "it fell"}, None),
    ],
    ids=str,
)
def test_a_row_of_stock_with_scales_folded_is_wrong(
    build: Build, opened: Opened, changes: dict[str, Any], why: str | None
) -> None:
    run = gpu_run(build)
    usual = {"variant": "torch", "batch_size": 8, "tuning": "stock", "settings": of_model(OLD)}
    run.cell(**{**usual, "durations_ns": [MS] * 50, **changes})
    database = opened(run)
    assert [row["known_wrong"] for row in database.query("FROM comparison")] == [why]
    assert [row["why"] for row in database.query("FROM marks WHERE mark = 'input_kept'")] == ([why] if why else [])


@pytest.mark.parametrize(("told", "steps"), [(OLD, 0), (LATER, 0), (NOTHING, 1)])
def test_no_pair_no_worth_and_no_verdict_comes_of_a_stock_that_folded(
    build: Build, opened: Opened, told: str, steps: int
) -> None:
    run, other = gpu_run(build, "a"), gpu_run(build, "b")
    for one, ms in ((run, 2.0), (other, 3.0)):
        three(one, "torch", ms, settings=of_model(told), tuning="stock")
        three(one, "torch", 1, settings=of_model(LATER), tuning="tuned")
    database = opened(run)
    assert len(database.query("FROM level_steps")) == steps
    assert len(database.query("FROM worth")) == steps
    assert {row["known_wrong"] for row in database.query("FROM comparison WHERE tuning = 'tuned'")} == {None}
    code, text = compared(run, other)
    assert (code == GOT_SLOWER) is bool(steps)
    assert (f"UNCLEAR, durations known to be wrong: A: {FOLDED}" in text) is (steps == 0)
    assert "1 SAME" in text


IMAGE_BYTES = 224 * 224 * 3 * 4


def copies(*of_inferences: list[int], to: str = "H2D") -> list[dict[str, Any]]:
    """Records of copies of these sizes in bytes, for each inference."""
    return [
        kernel(f"memcpy {to}", i, i + 0.5, inference, kind="memcpy", detail=to, bytes=size)
        for inference, sizes in enumerate(of_inferences)
        for i, size in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("records", "wrong"),
    [
        (copies([8 * IMAGE_BYTES]) + copies([], [8 * IMAGE_BYTES]), False),
        (copies([12, 8 * IMAGE_BYTES], [8 * IMAGE_BYTES // 4, 788]), False),
        ([], True),
        (copies([8 * IMAGE_BYTES], []), True),
        (copies([8 * IMAGE_BYTES], [12]), True),
        (copies([IMAGE_BYTES], [IMAGE_BYTES]), True),
        (copies([788, 788, 197], [788, 788, 197]), True),
        (copies([8 * IMAGE_BYTES], [8 * IMAGE_BYTES], to="D2H"), True),
    ],
    ids=["each", "beside constants, as bytes too", "none", "first alone", "constant later", "one image of eight", "constants", "back"],
)  # fmt: skip
def test_an_explained_row_that_shows_its_copies_is_not_wrong(
    build: Build, opened: Opened, records: list[dict[str, Any]], wrong: bool
) -> None:
    run = gpu_run(build)
    cell = run.cell("tf", 8, durations_ns=[MS] * 50, settings=COPIED_ONCE)
    write_trace(cell, [kernel("gemm", 1, 2, 0), *records], walls_ms=(10, 10))
    run.cell("tf", 16, durations_ns=[MS] * 50, settings=COPIED_ONCE)
    database = opened(run)
    expected = {8, 16} if wrong else {16}
    assert {row["batch_size"] for row in database.query("FROM comparison") if row["known_wrong"]} == expected
    marked = database.query(
        "SELECT DISTINCT batch_size FROM marks JOIN cells USING (cell_key) WHERE mark = 'input_kept'"
    )
    assert {row["batch_size"] for row in marked} == expected


def test_a_damaged_trace_proves_nothing(build: Build, opened: Opened) -> None:
    run = gpu_run(build)
    cell = run.cell("tf", 8, durations_ns=[MS] * 50, settings=COPIED_ONCE)
    write_trace(cell, copies([8 * IMAGE_BYTES]))
    assert [row["known_wrong"] for row in opened(run).query("FROM comparison")] == [None]
    with (cell / "kernels.csv").open("a") as file:
        file.write("no,record\n")
    assert [row["known_wrong"] for row in opened(run).query("FROM comparison")] == [WHY]


def test_proof_is_kept_with_the_aggregates(build: Build, tmp_path: Path) -> None:
    run = gpu_run(build)
    write_trace(run.cell("tf", 8, durations_ns=[MS] * 50, settings=COPIED_ONCE), copies([8 * IMAGE_BYTES]))
    run.cell("tf", 16, durations_ns=[MS] * 50, settings=COPIED_ONCE)
    for path in run.folder.rglob("*"):
        os.utime(path, ns=(T0, T0))
    for _ in range(2):
        with open_runs([run.folder], tmp_path / "cache") as database:
            assert {row["batch_size"] for row in database.query("FROM cells") if row["known_wrong"]} == {16}
        assert str(run.folder) in json.loads((tmp_path / "cache/index.json").read_text())["runs"]


def throughput(run: RunBuilder, opened: Opened) -> tuple[tables.Table, str]:
    """The table and its sentence."""
    database = opened(run)
    rows = tables.load(database, Selection())
    (table,) = tables.build(database, rows, ["throughput"])
    return table, summary.conclusion(table, sample_intervals.of_rows(database, rows)) or ""


@pytest.mark.parametrize(("settings", "wrong"), [(COPIED_ONCE, True), (COPIED_EACH_TIME, False)])
def test_the_best_and_the_sentence(build: Build, opened: Opened, settings: str, wrong: bool) -> None:
    run = gpu_run(build)
    three(run, "tfxla", 1, settings=settings)
    three(run, "torch", 2)
    three(run, "onnxrt", 4)
    table, sentence = throughput(run, opened)
    found = {row[0]: table.entry(row, 8) for row in table.rows}
    assert found["tfxla"].value == pytest.approx(8000, rel=0.01), "shown all the same"
    assert (found["tfxla"].signs, found["tfxla"].best, found["tfxla"].rank is None) == (
        "k" if wrong else "",
        not wrong,
        wrong,
    )
    assert found["torch"].best is wrong
    if wrong:
        assert sentence == (
            "PyTorch is fastest: 2 times ONNX Runtime, the next; "
            "figures of TensorFlow + XLA are known to be wrong (k) and left out."
        )
        assert any(line.startswith("k  known to be wrong, so never the best") for line in table.footers)
    else:
        assert sentence == "TensorFlow + XLA is fastest: 2 times PyTorch, the next."


def test_what_the_fault_does_not_concern_is_ranked_and_not_marked(build: Build, opened: Opened) -> None:
    run = gpu_run(build)
    phases = {"import": 10**9, "load": 10**9, "first": 10**9}
    run.cell("tf", 8, durations_ns=[MS] * 50, settings=COPIED_ONCE, phases=phases)
    run.cell("torch", 8, durations_ns=[MS] * 50, phases={name: 2 * length for name, length in phases.items()})
    database = opened(run)
    (table,) = tables.build(database, tables.load(database, Selection()), ["cold_start"])
    entry = table.entry(next(row for row in table.rows if row[0] == "tf"), 8)
    assert (entry.best, entry.signs, entry.wrong) == (True, "", False)


def recommended(run: RunBuilder) -> str:
    console = Console(width=300)
    with console.capture() as captured:
        recommend([run.folder], Question(), console)
    return captured.get()


def test_recommend_leaves_it_out_and_says_so(build: Build) -> None:
    run = gpu_run(build)
    three(run, "tf", 1, settings=COPIED_ONCE)
    three(run, "torch", 2)
    text = recommended(run)
    assert "Best: PyTorch fp32 at batch 8" in text
    assert f"Left out: 1 cell of TensorFlow: {WHY}." in text


def test_recommend_takes_a_row_that_copied_each_time(build: Build) -> None:
    run = gpu_run(build)
    three(run, "tf", 1, settings=COPIED_EACH_TIME)
    three(run, "torch", 2)
    text = recommended(run)
    assert "Best: TensorFlow fp32 at batch 8" in text
    assert "Left out" not in text


def test_recommend_with_nothing_else_is_an_error_that_says_why(build: Build) -> None:
    run = gpu_run(build)
    three(run, "tf", 1, settings=COPIED_ONCE)
    with pytest.raises(UserError, match=r"can be recommended\. Left out: 1 cell of TensorFlow: input copied once"):
        recommended(run)


def compared(a: RunBuilder, b: RunBuilder) -> tuple[int, str]:
    console = Console(width=300)
    with console.capture() as captured:
        code = compare_folders(a.folder, b.folder, console)
    return code, captured.get()


def test_an_old_run_against_a_new_one_has_no_verdict_on_it(build: Build) -> None:
    old, new = gpu_run(build, "old"), gpu_run(build, "new")
    three(old, "tf", 1, settings=COPIED_ONCE)
    three(new, "tf", 2, settings=COPIED_EACH_TIME)
    for run, ms in ((old, 4), (new, 3)):
        three(run, "torch", ms)
    code, text = compared(old, new)
    assert code == 0, "that the copies are there now is no alarm"
    assert "1 FASTER, 1 UNCLEAR" in text
    assert f"UNCLEAR, durations known to be wrong: A: {WHY}" in text
    assert "TensorFlow  fp32" in text and "UNCLEAR k" in text


def test_two_new_runs_have_one(build: Build) -> None:
    a, b = gpu_run(build, "a"), gpu_run(build, "b")
    three(a, "tf", 1, settings=COPIED_EACH_TIME)
    three(b, "tf", 2, settings=COPIED_EACH_TIME)
    code, text = compared(a, b)
    assert code == GOT_SLOWER
    assert "known to be wrong" not in text


@pytest.mark.parametrize(("settings", "steps"), [(COPIED_ONCE, 0), (COPIED_EACH_TIME, 1)])
def test_what_tuning_buys_is_not_told_by_it(build: Build, opened: Opened, settings: str, steps: int) -> None:
    run = gpu_run(build)
    three(run, "tf", 2, settings=settings, tuning="stock")
    three(run, "tf", 1, settings=settings)
    assert len(opened(run).query("FROM level_steps")) == steps


@pytest.mark.parametrize("settings", [COPIED_ONCE, COPIED_EACH_TIME])
def test_plots_that_draw_it_say_so(build: Build, opened: Opened, settings: str) -> None:
    run = gpu_run(build)
    for size in (8, 32):
        run.cell("tf", size, durations_ns=[MS] * 50, settings=settings, phases={"import": MS, "load": MS, "first": MS})
        run.cell("torch", size, durations_ns=[2 * MS] * 50, phases={"import": MS, "load": MS, "first": MS})
    database = opened(run)
    said = {}
    with mpl.rc_context(style.RC):
        for plot in Gallery(database, tables.load(database, Selection()), {}):
            texts = [plot.figure.get_supxlabel(), *(one.get_title().get_text() for one in plot.figure.legends)]
            said[plot.name.split("-resnet50")[0]] = any(f"k  TensorFlow:\n{WHY}" in text for text in texts)
    assert said["throughput"] is said["pareto-front"] is said["latency-distribution"] is (settings == COPIED_ONCE)
    assert said[COLD_START.replace(" ", "-")] is False


@pytest.mark.parametrize(("settings", "known"), [(COPIED_ONCE, False), (COPIED_EACH_TIME, True)])
def test_its_workers_tell_nothing_of_how_far_those_of_others_lie_apart(
    build: Build, opened: Opened, settings: str, known: bool
) -> None:
    """TensorFlow at batch 8 has three workers, at batch 32 one: its interval over workers comes from batch 8, unless that is wrong."""
    run = gpu_run(build)
    three(run, "tf", 4.0, settings=settings)
    run.cell("tf", 32, durations_ns=[8 * MS + i * 7919 % 200 for i in range(200)], settings=COPIED_EACH_TIME)
    database = opened(run)
    rows = database.query("SELECT * FROM comparison ORDER BY batch_size")
    found = sample_intervals.of_rows(database, rows)
    (one,) = (interval for (keys, _, name), interval in found.items() if name == "throughput" and len(keys) == 1)
    assert one.over_workers is known
    wanted = [row for row in rows if row["replicates"] == 1]
    assert bool(floors_for(wanted, [run.folder])) is known
