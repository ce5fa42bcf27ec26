"""`invoke explain` from files to files: page, tables, pictures, differences, Chrome's trace."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from analysis.analyze import write_report
from analysis.explain import Side, check_options, explain, folder_name, is_traced, was_to_be_traced
from common.errors import UserError
from tests.analysis.conftest import RunBuilder
from tests.analysis.tracing import MS, kernel, write_trace

CONV, ADD, NEW = "sm80_xmma_fprop_implicit_gemm", "triton_poi_fused_add_0", "nvjet_hsh_64x8"


@pytest.fixture
def traced(build: Callable[..., RunBuilder]) -> Callable[..., Path]:
    """A run of two frameworks on a GPU; add: ms that the elementwise kernel of torch takes."""

    def make(name="run", add=2.0, more=(), variants=("torch", "onnxrt"), device="gpu0", device_name="Test GPU"):
        run = build(name, device=device, device_name=device_name, uuid=f"GPU-of-{device}")
        for variant in variants:
            records = [kernel(CONV, 1, 4, stream=7), kernel(ADD, 4, 4 + add, stream=7), *more]
            write_trace(run.cell(variant, durations_ns=[9 * MS] * 20), records)
        return run.folder

    return make


def run_explain(sides, out, **more):
    output = io.StringIO()
    code = explain(sides, out, Console(file=output, width=200), **more)
    return code, output.getvalue()


def test_one_run_is_explained_in_every_form(traced, tmp_path):
    out = tmp_path / "out"
    code, output = run_explain([Side(traced())], out)
    assert code == 0
    assert "PyTorch fp32, batch 8: 30 % of the time (3 ms) is spent in sm80_xmma_fprop_implicit_gemm" in output
    assert {"explain.md", "explain.html", "explain.xlsx", "plots"} <= {path.name for path in out.iterdir()}
    assert len(list((out / "plots").glob("*.png"))) == 2
    page = (out / "explain.html").read_text()
    assert page.count("<svg") == 2
    assert "gap: host at work" in page
    markdown = (out / "explain.md").read_text()
    assert "| PyTorch |" in markdown
    assert "10 ms" in markdown  # the sum of the classes


def test_a_bar_of_characters_shows_each_framework(traced, tmp_path):
    output = run_explain([Side(traced())], tmp_path / "out")[1]
    # of 10 ms: 3 convolution, 2 elementwise, 5 gaps
    assert f"PyTorch      |{'c' * 15}{'e' * 10}{'.' * 25}| 10 ms" in output
    assert "(a character is 0.2 ms)" in output
    assert "c convolution  e elementwise  . gap: host at work" in output


def test_bars_are_as_long_as_their_inferences(build, tmp_path):
    run = build(device="gpu0", device_name="Test GPU", uuid="GPU-1")
    write_trace(run.cell("torch", durations_ns=[9 * MS] * 20), [kernel(CONV, 0, 10)], untraced_ms=())
    write_trace(run.cell("onnxrt", durations_ns=[9 * MS] * 20), [kernel(CONV, 0, 5)], walls_ms=(5.0,), untraced_ms=())
    output = run_explain([Side(run.folder)], tmp_path / "out")[1]
    assert f"|{'c' * 25}| 5 ms" in output
    assert f"|{'c' * 50}| 10 ms" in output


def test_the_pictures_of_a_page_are_beside_it(traced, build, tmp_path):
    out = tmp_path / "out"
    run_explain([Side(traced())], out)
    links = re.findall(r"!\[.*?\]\((.*?)\)", (out / "explain.md").read_text())
    assert len(links) == 2
    assert all((out / link).is_file() for link in links)
    idle = build("idle", device="gpu0", device_name="Test GPU", uuid="GPU-1")
    write_trace(idle.cell("torch", durations_ns=[9 * MS] * 20), [])
    run_explain([Side(idle.folder)], tmp_path / "idle-out")
    links = re.findall(r"!\[.*?\]\((.*?)\)", (tmp_path / "idle-out" / "explain.md").read_text())
    assert len(links) == 1
    assert (tmp_path / "idle-out" / links[0]).is_file()


def test_the_workbook_has_units_in_its_headings_and_a_chart_of_stacked_bars(traced, tmp_path):
    out = tmp_path / "out"
    run_explain(
        [Side(traced(more=[{**kernel("memcpy H2D", 0, 1), "kind": "memcpy", "detail": "H2D", "bytes": 2_000_000}]))],
        out,
    )
    with zipfile.ZipFile(out / "explain.xlsx") as book:
        texts = re.findall(r"<t[^>]*>(.*?)</t>", book.read("xl/sharedStrings.xml").decode())
        summary = book.read("xl/worksheets/sheet2.xml").decode()
        chart = book.read("xl/charts/chart1.xml").decode()
        charts = [name for name in book.namelist() if "charts/chart" in name]
    assert {"latency (ms)", "recorded (ms)", "busy (%)", "H2D (GB/s)", "convolution (ms)", "time / calls (ms)"} <= set(
        texts
    )
    assert not {"latency", "H2D"} & set(texts)
    cells = dict(re.findall(r'<c r="([A-Z]+5)"[^>]*><v>(.*?)</v>', summary))
    headings = [texts[int(place)] for place in re.findall(r'<c r="[A-Z]+4"[^>]*><v>(.*?)</v>', summary)]
    row = dict(zip(headings, cells.values(), strict=True))
    assert (float(row["recorded (ms)"]), float(row["busy (%)"]), float(row["H2D (GB/s)"])) == (10.0, 60.0, 2.0)
    assert len(charts) == 1
    assert '<c:grouping val="stacked"/>' in chart
    assert chart.count("<c:ser>") == 4  # the classes, and not the sum


def test_two_kernels_of_one_short_name_are_told_apart(traced, tmp_path):
    twins = [
        kernel(f"void onnxruntime::cuda::_Mul<{flag}, OP_Mul<float>>(int)", 6 + n, 6.5 + n)
        for n, flag in enumerate(("true", "false"))
    ]
    output = run_explain([Side(traced(variants=("torch",), more=twins))], tmp_path / "out")[1]
    assert "OP_Mul (1)" in output
    assert "OP_Mul (2)" in output
    assert f"{CONV} (1)" not in output


@pytest.mark.parametrize(("streams", "noted"), [((7, 8), True), ((7, 7), False)])
def test_shared_time_is_explained_where_kernels_overlap(traced, tmp_path, streams, noted):
    more = [kernel(NEW, 6 + n * (not noted), 7 + n * (not noted), stream=stream) for n, stream in enumerate(streams)]
    output = run_explain([Side(traced(variants=("torch",), more=more))], tmp_path / "out")[1]
    assert ("Kernels that overlap share the time evenly" in output) == noted


def test_the_report_has_the_same_section(undrawn, traced, build, tmp_path):
    console = Console(file=io.StringIO())
    page = write_report([traced()], tmp_path / "out", console).report.read_text()
    assert 'id="explained"' in page
    plain = build("plain")
    plain.cell("torch", durations_ns=[MS] * 20)
    assert 'id="explained"' not in write_report([plain.folder], tmp_path / "plain-out", console).report.read_text()


def test_two_runs_are_compared_by_class_and_kernel(traced, tmp_path):
    before, after = traced("before"), traced("after", add=4.0, more=[kernel(NEW, 8.5, 9.5)])
    code, output = run_explain([Side(before), Side(after)], tmp_path / "out")
    assert code == 0
    lines = [line.split() for line in output.splitlines()]
    assert any(line[:2] == ["elementwise", "slower"] for line in lines)
    assert any(line[:2] == [ADD, "slower"] for line in lines)
    assert any(line[:2] == [NEW, "new"] for line in lines)
    assert "1 new, 1 slower" in output
    assert not any(line[:1] == [CONV] for line in lines)  # as before


def test_what_is_gone_is_reported(traced, tmp_path):
    before, after = traced("before", more=[kernel(NEW, 8.5, 9.5)]), traced("after")
    output = run_explain([Side(before), Side(after)], tmp_path / "out")[1]
    assert NEW in output
    assert "1 gone" in output


def test_two_cells_of_one_run_are_compared(traced, tmp_path):
    run = traced()
    keys = sorted(path.name for path in (run / "cells").iterdir())
    code, output = run_explain([Side(run, keys[0]), Side(run, keys[1])], tmp_path / "out")
    assert code == 0
    assert "Nothing differs: a recorded inference takes 10 ms in both" in output


def test_a_run_beside_itself_differs_in_nothing(traced, tmp_path):
    run = traced()
    output = run_explain([Side(run), Side(run)], tmp_path / "out")[1]
    assert output.count("Nothing differs") == 2
    assert "times as long" not in output


def test_what_differs_a_little_is_not_called_equal(traced, tmp_path):
    before, after = traced("before"), traced("after", add=2.01)
    output = run_explain([Side(before), Side(after)], tmp_path / "out")[1]
    assert "Nothing differs" not in output
    assert "kernels: none that matters" in output


@pytest.mark.parametrize(
    ("name", "says"),
    [("Test GPU", "instead of 10 ms (1 times"), ("Other GPU", "10 ms on Other GPU instead of Test GPU (")],
)
def test_cells_of_two_gpus_are_pairs_and_another_kind_is_said(traced, tmp_path, name, says):
    before, after = traced("before"), traced("after", add=2.01, device="gpu1", device_name=name)
    code, output = run_explain([Side(before), Side(after)], tmp_path / "out")
    assert code == 0
    assert output.count(says) == 2


def test_where_a_run_has_several_gpus_cells_of_the_same_are_pairs(traced, tmp_path):
    before, after = traced("before"), traced("after", add=2.01)
    for run in (before, after):
        traced(run.name, add=4.0, device="gpu1")
    output = run_explain([Side(before), Side(after)], tmp_path / "out")[1]
    assert output.count("A recorded inference takes") + output.count("Nothing differs") == 4


def test_runs_without_a_cell_in_common_are_reported_so(traced, tmp_path):
    a, b = traced("a", variants=("torch", "tf")), traced("b", variants=("onnxrt", "keras"))
    with pytest.raises(UserError, match="no recorded cell in common"):
        run_explain([Side(a), Side(b)], tmp_path / "out")


def test_a_run_without_recording_says_how_to_get_one(build, tmp_path):
    run = build()
    run.cell("torch", durations_ns=[MS] * 20)
    assert not is_traced(run.folder) and not was_to_be_traced(run.folder)
    with pytest.raises(UserError, match="invoke explain run"):
        run_explain([Side(run.folder)], tmp_path / "out")


@pytest.fixture
def timed_out(build: Callable[..., RunBuilder]) -> Callable[..., Path]:
    """A run that was to be recorded and whose every cell timed out."""

    def make(name="run"):
        run = build(name, device="gpu0", device_name="Test GPU", uuid="GPU-of-gpu0")
        run.run_json(settings={"trace_runs": 20, "cell_timeout_s": 150.0})
        for variant in ("tfxla", "kerasxla"):
            run.cell(variant, status="timeout", message="the cell took longer than 150 s")
        return run.folder

    return make


def test_a_run_whose_every_cell_timed_out_says_so(timed_out, tmp_path):
    run = timed_out()
    assert was_to_be_traced(run) and not is_traced(run)
    code, output = run_explain([Side(run)], tmp_path / "out")
    assert code == 1
    for name in ("TensorFlow + XLA", "Keras + XLA"):
        assert f"{name} fp32, batch 8: not recorded: timeout: the cell took longer than 150 s" in output
    assert "Nothing was recorded, so nothing can be explained." in output
    assert "without recording" not in output
    assert "timeout: the cell took longer than 150 s" in (tmp_path / "out" / "explain.md").read_text()
    key = next((run / "cells").iterdir()).name
    assert run_explain([Side(run, key)], tmp_path / "of-cell")[1].count("not recorded: timeout") == 1


def test_beside_a_recorded_run_one_that_timed_out_says_so(traced, timed_out, tmp_path):
    run = timed_out("other")
    with pytest.raises(
        UserError, match=r"no cell of run other was recorded, .*: timeout: the cell took .* \(and 1 more\); "
    ):
        run_explain([Side(traced("run", variants=("tfxla", "kerasxla"))), Side(run)], tmp_path / "out")


def test_a_run_that_was_cut_short_before_its_first_cell_ended_says_so(build, tmp_path):
    run = build("run").run_json(settings={"trace_runs": 20})
    (run.folder / "cells").mkdir()
    with pytest.raises(UserError, match=r"run run ended before its first cell did"):
        run_explain([Side(run.folder)], tmp_path / "out")


@pytest.mark.parametrize("settings", [*({"trace_runs": odd} for odd in (0, -1, True, "20", None)), {}, [], None])
def test_a_run_that_was_not_to_be_recorded_is_told_from_one_that_was(build, settings):
    assert not was_to_be_traced(build("run").run_json(settings=settings).folder)


def test_a_cell_that_does_not_exist_is_named_with_those_that_do(traced, tmp_path):
    with pytest.raises(UserError, match=r"no traced cell nothing; there is ResNet50_"):
        run_explain([Side(traced(), "nothing")], tmp_path / "out")


def test_nothing_recorded_is_exit_code_1_with_the_cure(build, tmp_path):
    run = build()
    write_trace(run.cell("torch", durations_ns=[MS] * 20), [], walls_ms=(), message="no CUPTI: install it")
    code, output = run_explain([Side(run.folder)], tmp_path / "out")
    assert code == 1
    assert "no CUPTI: install it" in output


def test_one_cell_without_recording_does_not_stop_the_others(traced, tmp_path, build):
    run = traced(variants=("torch",))
    from tests.analysis.conftest import RunBuilder

    builder = RunBuilder(run, device="gpu0", device_name="Test GPU", uuid="GPU-1")
    write_trace(builder.cell("tensorrt", durations_ns=[MS] * 20), [], walls_ms=(), message="no CUPTI: install it")
    code, output = run_explain([Side(run)], tmp_path / "out")
    assert code == 0
    assert "TensorRT fp32, batch 8: not recorded: no CUPTI: install it" in output


@pytest.mark.parametrize(("lost", "code"), [("kernels.csv", 1), ("traced.csv", 1), ("trace.csv", 1), (None, 0)])
def test_lost_records_are_a_line_and_exit_code_1(traced, tmp_path, lost, code):
    run = traced()
    if lost:
        next(run.glob(f"cells/*torch*/{lost}")).unlink()
    found, output = run_explain([Side(run)], tmp_path / "out")
    assert found == code
    assert output.count("PyTorch fp32, batch 8: not recorded: ") == (1 if lost else 0)
    assert "works 0.0 %" not in output
    assert "ONNX Runtime fp32, batch 8: 30 % of the time" in output


def test_a_cell_that_timed_out_is_a_line_with_its_reason(traced, tmp_path):
    run = traced()
    builder = RunBuilder(run, device="gpu0", device_name="Test GPU", uuid="GPU-1")
    builder.cell("tensorrt", status="timeout", message="the engine took more than 600 s")
    code, output = run_explain([Side(run)], tmp_path / "out")
    assert code == 0
    assert "TensorRT fp32, batch 8: not recorded: timeout: the engine took more than 600 s" in output
    assert "TensorRT" in (tmp_path / "out" / "explain.md").read_text()


def test_chrome_s_trace_holds_every_record_on_its_stream(traced, tmp_path):
    path = tmp_path / "trace.json"
    code, output = run_explain([Side(traced(variants=("torch",)))], tmp_path / "out", trace=path)
    assert code == 0
    events = json.loads(path.read_text())["traceEvents"]
    boxes = [event for event in events if event["ph"] == "X"]
    assert [(box["name"], box["ts"], box["dur"]) for box in boxes] == [
        ("inference 0", 0.0, 10_000.0), (CONV, 1_000.0, 3_000.0), (ADD, 4_000.0, 2_000.0),
    ]  # fmt: skip
    assert {event["args"]["name"] for event in events if event["name"] == "thread_name"} == {
        "inferences",
        "GPU stream 7",
    }
    assert f"{len(boxes)} records" in output
    # 0 is the idle process and thread; what has a name is what has boxes
    assert {(box["pid"], box["tid"]) for box in boxes} == {(1, 1), (1, 2)}
    assert {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"} == {(1, 1), (1, 2)}


def test_records_of_a_stream_that_overlap_stand_beside_each_other_in_chrome_s_trace(traced, tmp_path):
    """As those of a graph's branches: events of one thread may lie in each other or apart, nothing else."""
    path = tmp_path / "trace.json"
    more = [kernel(NEW, 3, 4.5, stream=7), kernel("inside", 1.5, 2.5, stream=7), kernel("after all", 8, 8.5, stream=7)]
    run_explain([Side(traced(variants=("torch",), more=more))], tmp_path / "out", trace=path)
    events = json.loads(path.read_text())["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    where = {event["name"]: names[event["tid"]] for event in events if event["ph"] == "X"}
    assert where == {
        "inference 0": "inferences", CONV: "GPU stream 7", "inside": "GPU stream 7", NEW: "GPU stream 7 (overlapping 1)",
        ADD: "GPU stream 7", "after all": "GPU stream 7",
    }  # fmt: skip


def test_no_time_in_chrome_s_trace_is_negative(traced, tmp_path):
    """The recorder's clock may err by a little, so that a record begins before its inference."""
    path = tmp_path / "trace.json"
    run_explain([Side(traced(variants=("torch",), more=[kernel(NEW, -0.5, 0.5)]))], tmp_path / "out", trace=path)
    boxes = [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == "X"]
    assert {box["name"]: box["ts"] for box in boxes} == {
        NEW: 0.0, "inference 0": 500.0, CONV: 1_500.0, ADD: 4_500.0,
    }  # fmt: skip


def test_names_from_the_data_are_text_in_every_form(build, tmp_path):
    run = build(device="gpu0", device_name="Test GPU", uuid="GPU-1")
    write_trace(run.cell("torch", durations_ns=[9 * MS] * 20), [kernel("=1+1 <script>alert(1)</script>", 0, 5)])
    run_explain([Side(run.folder)], tmp_path / "out")
    assert "<script>alert" not in (tmp_path / "out" / "explain.html").read_text()


def test_options_choose_among_the_cells_of_a_run(traced, tmp_path):
    run = traced()
    output = run_explain([Side(run)], tmp_path / "out", only={"framework": "torch", "precision": "all"})[1]
    assert "PyTorch fp32" in output and "ONNX Runtime" not in output
    with pytest.raises(UserError, match="unknown framework 'nonsense'; there is "):
        run_explain([Side(run)], tmp_path / "out", only={"framework": "nonsense"})
    with pytest.raises(UserError, match="unknown batch size '9'; there is 8"):
        run_explain([Side(run)], tmp_path / "out", only={"batch_sizes": "8,9"})
    sides = [Side(traced("a", variants=("torch",))), Side(traced("b", variants=("onnxrt",)))]
    with pytest.raises(UserError, match="run b has no recorded cell of --framework torch"):
        run_explain(sides, tmp_path / "out", only={"framework": "torch"})


def test_options_that_mean_nothing_beside_a_recorded_run_are_refused():
    check_options(["framework", "batch_sizes", "precision", "tuning", "io"])
    with pytest.raises(
        UserError, match=r"^--min-seconds, --threads would be for measuring, .* is recorded: leave it out"
    ):
        check_options(["threads", "io", "min_seconds"])


def test_each_request_has_a_folder_of_its_own_without_plots_of_another(traced, tmp_path):
    run = traced("run")
    keys = sorted(path.name for path in (run / "cells").iterdir())
    names = [
        folder_name(sides, only)
        for sides, only in (
            ([Side(run)], {}), ([Side(run, keys[0])], {}), ([Side(run, keys[0]), Side(run, keys[1])], {}),
            ([Side(run)], {"io": "host"}), ([Side(run)], {"framework": "torch," * 60 + "a"}),
            ([Side(run)], {"framework": "torch," * 60 + "b"}),
        )
    ]  # fmt: skip
    assert names[0] == "explain-run"
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 200
    plots = tmp_path / "out" / "plots"
    plots.mkdir(parents=True)
    (plots / "of-another-cell.svg").touch()
    run_explain([Side(run)], tmp_path / "out")
    assert len(list(plots.glob("*.svg"))) == 2
    assert not (plots / "of-another-cell.svg").exists()


def test_a_sealed_run_without_recording_is_named_by_its_path(build, tmp_path):
    run = build()
    run.cell("torch", durations_ns=[MS] * 20)
    with pytest.raises(UserError, match=r"`invoke explain 'data/my runs/run\.tar\.xz'` measures its cells again"):
        run_explain([Side(run.folder, "", "data/my runs/run.tar.xz")], tmp_path / "out")
