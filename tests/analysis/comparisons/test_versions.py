"""Versions as an axis of tables and comparisons, over runs as a history, and as other programs take them."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from rich.console import Console

from analysis.comparisons.runs import GOT_SLOWER, compare_cells, compare_folders
from analysis.history import show_history
from analysis.output.compare_formats import writer
from analysis.results import tables
from analysis.results.selection import parse_pivot, parse_where
from analysis.results.versions import version_key
from common.errors import UserError
from tests.analysis.comparisons.test_runs import noisy, three
from tests.analysis.conftest import Build, Opened, RunBuilder


def by_version(run: Any, **times: float) -> None:
    """Cells of onnxrt by three workers each: version with _ for . -> ms; locked: asked for none."""
    for seed, (name, ms) in enumerate(times.items()):
        version = name.removeprefix("v").replace("_", ".")
        columns = (
            {"framework_version": "1.31.1"} if name == "locked" else {"version": version, "framework_version": version}
        )
        three(run, "onnxrt", 8, ms, seed, **columns)


def output(function: Any, *arguments: Any, **more: Any) -> tuple[int, str]:
    console = Console(width=300)
    with console.capture() as captured:
        code = function(*arguments, console, **more)
    return code, captured.get()


def test_versions_are_rows_of_a_table_and_columns_on_request(build: Build, opened: Opened) -> None:
    run = build("a")
    by_version(run, v1_9_0=20, v1_30_0=10, locked=10)
    run.cell("onnxrt", 8, version="2.0", status="unsupported", message="no such release")
    run.cell("torch", 8, durations_ns=noisy(30, 9))
    database = opened(run)
    rows = tables.load(database, parse_where("", database))
    (table,) = tables.build(database, rows, ["throughput"])
    assert table.row_names == ("variant", "precision", "version")
    assert sorted(row[2] for row in table.rows) == ["", "1.30.0", "1.31.1 (locked)", "1.9.0", "2.0"]
    assert any("onnxrt fp32 2.0 at batch 8: unsupported (no such release)" in line for line in table.footers)
    (table,) = tables.build(
        database, [row for row in rows if row["variant"] == "onnxrt"], ["throughput"], parse_pivot("version")
    )
    assert table.columns == ("1.9.0", "1.30.0", "1.31.1 (locked)", "2.0")


def test_without_versions_tables_are_as_they_were(build: Build, opened: Opened) -> None:
    run = build("a")
    run.cell("onnxrt", 8, durations_ns=noisy(10, 1), framework_version="1.31.1")
    database = opened(run)
    (table,) = tables.build(database, tables.load(database, parse_where("", database)), ["throughput"])
    assert table.row_names == ("variant", "precision")


def test_conditions_mean_a_version_whether_it_was_asked_for_or_not(build: Build, opened: Opened) -> None:
    run = build("a")
    by_version(run, v1_30_0=10, locked=10)
    database = opened(run)
    for condition, count in (
        ("version=1.31.1", 1),
        ("version=1.30.0|1.31.1", 2),
        ("version~1.3", 2),
        ("version!=1.30.0", 1),
    ):
        assert len(tables.load(database, parse_where(condition, database))) == count, condition
    with pytest.raises(UserError, match=r"1\.32"):
        parse_where("version=1.32", database)


@pytest.mark.parametrize(("after", "verdict"), [(11.0, "SLOWER"), (9.0, "FASTER")])
def test_two_versions_of_one_run_are_compared(build: Build, after: float, verdict: str) -> None:
    run = build("a")
    by_version(run, v1_30_0=10, locked=after)
    code, text = output(lambda console: compare_cells([run.folder], "version=1.30.0", "version=1.31.1", console))
    assert f"1 {verdict}" in text
    assert "1.30.0" in text
    assert "1.31.1" in text
    assert code == (GOT_SLOWER if verdict == "SLOWER" else 0)


def test_a_version_that_breaks_is_a_reason_to_stop(build: Build) -> None:
    run = build("a")
    by_version(run, v1_30_0=10)
    run.cell("onnxrt", 8, version="2.0", status="crashed", message="no such function")
    out = io.StringIO()
    code, text = output(lambda console: compare_cells([run.folder], "version=1.30.0", "version=2.0", console))
    assert code == GOT_SLOWER
    assert "batch 8 host: ok in A, crashed in B: no such function" in text
    assert "No cell ran on both sides" in text
    assert "0 cell" not in text
    compare_cells([run.folder], "version=1.30.0", "version=2.0", Console(file=io.StringIO()), write=writer("json", out))
    assert [line.split(": ")[-1] for line in json.loads(out.getvalue())["failed_in_b"]] == ["no such function"]
    # one of several cells
    three(run, "onnxrt", 1, 10, 5, version="1.30.0", framework_version="1.30.0")
    three(run, "onnxrt", 1, 10, 6, version="2.0", framework_version="2.0")
    code, text = output(lambda console: compare_cells([run.folder], "version=1.30.0", "version=2.0", console))
    assert code == GOT_SLOWER
    assert "ok in A, crashed in B" in text
    assert "1 cell compared" in text
    with pytest.raises(
        UserError, match=r"--cell-a 'version=2.0,batch=8' names no cell of a that ran \(crashed: no such"
    ):
        compare_cells([run.folder], "version=2.0,batch=8", "version=1.30.0,batch=8", Console())


def test_a_version_that_breaks_is_a_reason_to_stop_also_where_its_framework_is_named(build: Build) -> None:
    run = build("a")
    by_version(run, v1_30_0=10)
    run.cell("onnxrt", 8, version="2.0", status="crashed", message="no such function")
    a, b = "framework=onnxrt,version=1.30.0", "framework=onnxrt,version=2.0"
    code, text = output(lambda console: compare_cells([run.folder], a, b, console))
    assert code == GOT_SLOWER
    assert "B cannot be judged: 1 cell that ran in A does not run in B." in text


def test_a_framework_that_cannot_is_no_regression_of_another(build: Build) -> None:
    run = build("a")
    three(run, "onnxrt", 8, 10, 1)
    run.cell("tf", 8, status="unsupported", message="needs a Keras model")
    three(run, "onnxrt", 1, 10, 2)
    three(run, "tf", 1, 10, 3)
    code, text = output(lambda console: compare_cells([run.folder], "framework=onnxrt", "framework=tf", console))
    assert code == 0, text
    assert "batch 8 host: ok in A, unsupported in B: needs a Keras model" in text


def test_two_runs_pair_by_the_version_that_was_asked_for(build: Build) -> None:
    a, b = build("a"), build("b")
    by_version(a, v1_30_0=10, locked=10)
    by_version(b, v1_30_0=10, locked=12)
    code, text = output(lambda console: compare_folders(a.folder, b.folder, console))
    assert code == GOT_SLOWER
    assert "1 SLOWER, 1 SAME" in text


def test_a_history_goes_by_date_then_version_with_a_verdict_at_each_step(build: Build, tmp_path: Any) -> None:
    later, first = build("b"), build("a")
    later.run_json(created_utc="2026-03-01T00:00:00Z")
    by_version(first, v1_9_0=20, v1_30_0=10)
    three(later, "onnxrt", 8, 15, 7, framework_version="1.31.1")
    later.cell("torch", 8, durations_ns=noisy(30, 9))
    code, text = output(
        lambda console: show_history([later.folder, first.folder], tmp_path / "out", console, framework="onnxrt")
    )
    assert code == GOT_SLOWER, "the newest step is slower"
    steps = [line.split() for line in text.splitlines() if line.startswith("2026-")]
    assert [(words[0], words[1]) for words in steps] == [
        ("2026-01-02", "1.9.0"), ("2026-01-02", "1.30.0"), ("2026-03-01", "1.31.1"),
    ]  # fmt: skip
    assert [words[-1] for words in steps[1:]] == ["FASTER", "SLOWER"]
    assert "PyTorch" not in text
    assert "Holm" in text
    rows = list(csv.DictReader((tmp_path / "out/history.csv").open()))
    assert [row["verdict"] for row in rows] == ["", "FASTER", "SLOWER"]
    assert float(rows[1]["value"]) == pytest.approx(10, rel=0.02)
    assert float(rows[2]["ratio"]) == pytest.approx(1.5, rel=0.02)
    assert "1.31.1" in (tmp_path / "out/history.md").read_text()
    (picture,) = (tmp_path / "out/plots").glob("*.svg")
    assert "1.30.0" in picture.read_text()


def test_a_version_that_does_not_run_is_a_point_with_its_reason_and_the_next_step_passes_over_it(
    build: Build, tmp_path: Any
) -> None:
    run = build("a")
    by_version(run, v1_0=10, v3_0=20)
    run.cell("onnxrt", 8, version="2.0", status="unsupported", message="no such release")
    code, text = output(lambda console: show_history([run.folder], tmp_path, console, of="throughput"))
    assert code == GOT_SLOWER
    run.cell("onnxrt", 8, version="4.0", status="crashed", message="no such function")
    again, _ = output(lambda console: show_history([run.folder], tmp_path, console, where="version=1.0|4.0"))
    assert again == GOT_SLOWER, "the newest no longer runs"
    lines = [line for line in text.splitlines() if line.startswith("2026-")]
    assert ["1.0" in lines[0], "no such release" in lines[1], lines[2].rstrip().endswith("SLOWER")] == [True] * 3
    assert "throughput (images/s)" in text


def test_machines_and_frameworks_are_no_steps_of_each_other(build: Build, tmp_path: Any) -> None:
    a, b = build("a"), build("b", device_name="Another CPU")
    three(a, "onnxrt", 8, 10, 1)
    three(b, "onnxrt", 8, 20, 2)
    three(b, "torch", 8, 20, 3)
    code, text = output(lambda console: show_history([a.folder, b.folder], tmp_path, console))
    assert code == 0
    assert not any(word in text for word in ("SLOWER.", "FASTER ", "UNCLEAR "))
    with pytest.raises(UserError, match="tf"):
        show_history([a.folder], tmp_path, Console(), framework="tf")


def test_steps_between_two_cards_of_one_kind_have_a_sign(build: Build, tmp_path: Any) -> None:
    runs = []
    for day, uuid in enumerate(("GPU-1", "GPU-1", "GPU-2"), start=1):
        facts = [{"device": "gpu0", "uuid": uuid, "name": "H9"}]
        run = build(f"day{day}", device="gpu0", device_name="H9", uuid=uuid)
        runs.append(run.run_json(devices=facts, created_utc=f"2026-01-0{day}T00:00:00Z"))
        three(runs[-1], "onnxrt", 8, 10 if day < 3 else 20, day)
    code, text = output(lambda console: show_history([run.folder for run in runs], tmp_path, console))
    verdicts = [line.split("]")[-1].split() for line in text.splitlines() if line.startswith("2026-01-0")]
    assert code == GOT_SLOWER
    assert verdicts[1] in (["SAME"], ["UNCLEAR"]) and verdicts[2] == ["SLOWER", "†"]
    assert "†: against another card of the kind" in text and "†" in (tmp_path / "history.md").read_text()
    _, text = output(lambda console: show_history([run.folder for run in runs[:2]], tmp_path, console))
    assert "†" not in text


def test_versions_are_ordered_as_people_do() -> None:
    ordered = ["", "1.9", "1.10", "1.10.1", "2.0rc1", "2.0", "2.0.1 (locked)", "10"]
    assert sorted(set(ordered), key=version_key) == ordered


def formatted(a: Any, b: Any, form: str) -> tuple[int, str]:
    out = io.StringIO()
    code = compare_folders(a.folder, b.folder, Console(file=io.StringIO()), write=writer(form, out))
    return code, out.getvalue()


@pytest.fixture
def two(build: Build) -> tuple[RunBuilder, RunBuilder]:
    a, b = build("a"), build("b")
    for variant, before, after in (("onnxrt", 10, 12), ("torch", 20, 20)):
        three(a, variant, 8, before, 1)
        three(b, variant, 8, after, 2)
    a.cell("tf", 8, durations_ns=noisy(10, 3))
    b.cell("tf", 8, status="oom", message="no | room")
    return a, b


def test_json_has_every_figure(two: tuple[Any, Any]) -> None:
    code, text = formatted(*two, "json")
    assert code == GOT_SLOWER
    document = json.loads(text)
    assert (document["a"], document["b"]) == ("a", "b")
    assert document["verdicts"]["SLOWER"] == 1
    assert sum(document["verdicts"].values()) == len(document["cells"]) == 2
    slower = next(cell for cell in document["cells"] if cell["verdict"] == "SLOWER")
    assert slower["name"] == "ONNX Runtime fp32 batch 8 host"
    assert slower["ratio_low"] < 1.2 < slower["ratio_high"]
    assert slower["b_median_ms"] == pytest.approx(12, rel=0.01)
    (failed,) = document["failed_in_b"]
    assert failed.startswith("ResNet50 tf fp32 8 host single-stream script")
    assert failed.endswith(": ok in A, oom in B: no | room")


def test_github_action_benchmark_gets_a_list_of_its_keys(two: tuple[Any, Any]) -> None:
    _, text = formatted(*two, "customSmallerIsBetter")
    entries = json.loads(text)
    assert [set(entry) for entry in entries] == [{"name", "unit", "value", "extra"}] * 2
    names = {entry["name"]: entry for entry in entries}
    assert len(names) == 2, "a name is one series of a dashboard"
    slower = names["ONNX Runtime fp32 batch 8 host ResNet50 Test CPU"]
    assert (slower["unit"], slower["extra"].split(":")[0]) == ("ms", "SLOWER")
    assert slower["value"] == pytest.approx(12, rel=0.01)


def test_releases_are_one_series_of_a_dashboard(build: Build) -> None:
    run = build("a")
    by_version(run, v1_29_0=10, v1_30_0=11, v1_31_1=12)
    names = set()
    for version in ("1.30.0", "1.31.1"):
        out = io.StringIO()
        write = writer("customSmallerIsBetter", out)
        compare_cells([run.folder], "version=1.29.0", f"version={version}", Console(file=io.StringIO()), write=write)
        (entry,) = json.loads(out.getvalue())
        names.add(entry["name"])
        assert entry["extra"].endswith(f"A: a, version=1.29.0, B: a, version={version}")
    assert names == {"ONNX Runtime fp32 batch 8 host ResNet50 Test CPU"}


def test_markdown_is_one_table_with_what_no_longer_runs(two: tuple[Any, Any]) -> None:
    _, text = formatted(*two, "markdown")
    assert text.startswith("# a (A) and b (B)")
    assert "| ONNX Runtime | fp32 | 8 | host |" in text
    assert "oom in B" in text


def test_a_format_that_does_not_exist() -> None:
    with pytest.raises(UserError, match="unknown format 'xml'; there is markdown, json, customSmallerIsBetter"):
        writer("xml")


def test_lines_of_a_history_tell_level_and_input(build: Build, tmp_path: Any) -> None:
    run = build("a")
    for seed, more in enumerate(({"tuning": "stock"}, {"tuning": "tuned"}, {"input": "uint8"})):
        for worker, version in enumerate(("1.0", "2.0")):
            three(run, "onnxrt", 8, 10, 10 * seed + worker, version=version, **more)
    _, text = output(lambda console: show_history([run.folder], tmp_path, console))
    titles = [line for line in text.splitlines() if line.startswith("ONNX Runtime fp32")]
    assert len(set(titles)) == 3
    assert sum("stock" in line for line in titles) == sum("uint8 input" in line for line in titles) == 1
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    reported = {(row["model"], row["tuning"], row["input"], row["io"], row["scenario"]) for row in rows}
    assert len(reported) == 3
    assert len(list((tmp_path / "plots").glob("*.svg"))) == 2, "what is fed is never mixed in one picture"


def test_names_of_a_dashboard_tell_what_is_fed_and_how_fast(build: Build) -> None:
    a, b = build("a"), build("b")
    for seed, run in enumerate((a, b)):
        three(run, "onnxrt", 8, 10, seed)
        three(run, "onnxrt", 8, 10, seed + 2, input="uint8")
        for rate in (10.0, 20.0):
            three(run, "onnxrt", 1, 10, seed + 4, scenario="server", target_rate_per_s=rate)
    _, text = formatted(a, b, "customSmallerIsBetter")
    names = [entry["name"] for entry in json.loads(text)]
    assert len(set(names)) == 4
    assert any("uint8 input" in name for name in names)
    assert any("20/s" in name for name in names)
