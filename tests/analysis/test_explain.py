"""`invoke explain` from files to files: page, tables, pictures, differences, Chrome's trace."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from analysis.analyze import write_report
from analysis.explain import Side, check_options, explain, folder_name, is_traced
from common.errors import UserError
from tests.analysis.conftest import RunBuilder
from tests.analysis.tracing import MS, kernel, write_trace

CONV, ADD, NEW = "sm80_xmma_fprop_implicit_gemm", "triton_poi_fused_add_0", "nvjet_hsh_64x8"


@pytest.fixture
def traced(build: Callable[..., RunBuilder]) -> Callable[..., Path]:
    """A run of two frameworks on a GPU; add: ms that the elementwise kernel of torch takes."""

    def make(name="run", add=2.0, more=(), variants=("torch", "onnxrt")):
        run = build(name, device="gpu0", device_name="Test GPU", uuid="GPU-1")
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
    assert "kernels: none that matters" in output


def test_runs_without_a_cell_in_common_are_reported_so(traced, tmp_path):
    a, b = traced("a", variants=("torch", "tf")), traced("b", variants=("onnxrt", "keras"))
    with pytest.raises(UserError, match="no recorded cell in common"):
        run_explain([Side(a), Side(b)], tmp_path / "out")


def test_a_run_without_recording_says_how_to_get_one(build, tmp_path):
    run = build()
    run.cell("torch", durations_ns=[MS] * 20)
    assert not is_traced(run.folder)
    with pytest.raises(UserError, match="invoke explain run"):
        run_explain([Side(run.folder)], tmp_path / "out")


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
