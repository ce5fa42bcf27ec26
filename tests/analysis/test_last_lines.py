"""What ends well ends with the answer in a sentence, and with one path behind it that exists."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.analyze import analyze, write_report
from analysis.comparisons import recipes
from analysis.comparisons.question import Question
from analysis.comparisons.recommend import recommend
from analysis.comparisons.runs import compare_folders
from analysis.explain import Side, explain
from analysis.history import show_history
from common.host.devices import Device
from common.host.verify.command import LoopComparison, Result
from common.host.verify.report import sentence
from common.stats.intervals import Interval
from tests.analysis.conftest import Build, RunBuilder
from tests.analysis.tracing import kernel, write_trace

MS = 10**6
Ends = Callable[[Callable[[Console], Any]], tuple[str, str]]


@pytest.fixture
def two(build: Callable[..., RunBuilder]) -> list[RunBuilder]:
    """A run and a later one, in which PyTorch takes a third longer at batch 8."""
    runs = [build("before"), build("after").run_json(created_utc="2026-02-03T04:05:06+00:00")]
    for run, factor in zip(runs, (1.0, 4 / 3), strict=True):
        for worker in range(3):
            for size in (1, 8):
                ms = 10 * size * (factor if size == 8 else 1.0)
                durations = [int(ms * MS * (1 + worker / 2000)) + i * 997 for i in range(90)]
                run.cell("torch", size, durations_ns=durations, replicate=worker)
    return runs


@pytest.fixture
def ends() -> Ends:
    """(the sentence, the path) with which a command ends; fails where the path names nothing."""

    def of(command: Callable[[Console], Any]) -> tuple[str, str]:
        output = io.StringIO()
        command(Console(file=output, width=100))
        *_, answer, last = [line for line in output.getvalue().splitlines() if line.strip()]
        if answer.startswith("  throughput "):  # the figures of the sentence before it
            answer = output.getvalue().splitlines()[-3]
        assert answer.endswith("."), answer
        name, _, path = last.partition(": ")
        assert re.fullmatch("Report|Table|History|Run", name)
        assert Path(path.split(" (")[0]).exists()
        return answer, path

    return of


def test_analyze_and_report(two: list[RunBuilder], ends: Ends, tmp_path: Path) -> None:
    answer, path = ends(lambda console: analyze([two[0].folder], tmp_path / "out", console, formats=("md",)))
    assert re.fullmatch(r"PyTorch fp32 reaches 9[\d.]+ images/s at batch \d\.", answer)
    assert path.startswith(f"{tmp_path / 'out' / 'report.html'}")
    answer, path = ends(lambda console: write_report([two[0].folder], tmp_path / "out", console))
    assert re.match(r"On the Test CPU, PyTorch fp32 at batch \d has the highest throughput, ", answer)
    assert f'<p class="lead">{answer}</p>' in Path(path).read_text(), "the page begins with the same sentence"


def test_a_report_ends_in_the_items_of_its_model(undrawn: None, build: Build, ends: Ends, tmp_path: Path) -> None:
    run = build("own")
    for variant, ms in (("torch", 10), ("onnxrt", 30)):
        run.cell(variant, 8, durations_ns=[ms * MS + i * 1000 for i in range(80)], item="sample")
    answer, _ = ends(lambda console: write_report([run.folder], tmp_path / "out", console))
    assert " samples/s" in answer
    assert "image" not in answer


def test_report_of_a_comparison(two: list[RunBuilder], ends: Ends, tmp_path: Path) -> None:
    folders = [run.folder for run in two]
    answer, _ = ends(lambda console: write_report(folders, tmp_path / "out", console, compare=True))
    assert re.match(r"Batch 8\. before: .*; after: PyTorch fp32, .* \(0\.75\d* times before\)\.", answer)


def test_compare(two: list[RunBuilder], ends: Ends, tmp_path: Path) -> None:
    a, b = (run.folder for run in two)
    answer, path = ends(lambda console: compare_folders(a, b, console, out=tmp_path / "out"))
    assert re.fullmatch(
        r"Of the 2 cells that A and B share, B is SLOWER in 1, the SAME in 1, most in PyTorch fp32 batch 8 host: 1\.33\d "
        r"times the duration\.",
        answer,
    )
    assert path == str(tmp_path / "out" / "compare.md")


def test_history(two: list[RunBuilder], ends: Ends, tmp_path: Path) -> None:
    folders = [run.folder for run in two]
    answer, path = ends(lambda console: show_history(folders, tmp_path / "out", console))
    assert answer.startswith(
        "Newest step of 2 configurations: 1 SLOWER, 1 SAME; slowest against before: PyTorch fp32 batch 8, "
    )
    assert path == str(tmp_path / "out" / "history.md")
    answer, _ = ends(lambda console: show_history(folders[:1], tmp_path / "out", console))
    assert answer == "2 configurations, none with two points that ran: there is no step to judge."


def test_recommend(two: list[RunBuilder], ends: Ends) -> None:
    answer, path = ends(lambda console: recommend([two[0].folder], Question(), console))
    assert re.fullmatch(r"Best: PyTorch fp32 at batch \d: the highest throughput, of 2 cells\.", answer)
    assert path == str(two[0].folder)


def test_explain(build: Callable[..., RunBuilder], ends: Ends, tmp_path: Path) -> None:
    run = build("run", device="gpu0", device_name="Test GPU", uuid="GPU-1")
    for variant in ("torch", "onnxrt"):
        records = [
            kernel("sm80_xmma_fprop_implicit_gemm", 1, 4, stream=7),
            kernel("triton_poi_fused_add_0", 4, 6, stream=7),
        ]
        write_trace(run.cell(variant, durations_ns=[9 * MS] * 20), records)
    answer, path = ends(lambda console: explain([Side(run.folder)], tmp_path / "out", console))
    assert re.match(r"Most: (PyTorch|ONNX Runtime) fp32, batch 8: the GPU works 50 % of the time; ", answer)
    assert path == str(tmp_path / "out" / "explain.html")


def test_a_recipe_says_what_it_is() -> None:
    row = {
        "variant": "torch", "precision": "fp16", "tuning": "tuned", "batch_size": 8, "images_per_s": 823.41, "item": "image",
        "device": "gpu0", "device_name": "NVIDIA A2",
    }  # fmt: skip
    made = recipes.Recipe("key", "one", "", row)
    assert made.sentence == (
        "PyTorch fp16 at batch 8 as a program of its own, as measured in run one on NVIDIA A2: 823.4 images/s."
    )


def test_verify_says_in_how_many_cells() -> None:
    def row(low: float, high: float) -> LoopComparison:
        middle = Interval((low + high) / 2, low, high, 0.95, 16, 16, True)
        return LoopComparison("torch", "tuned", "fp32", 1, "host", 1e6, 1e6, middle)

    failed = LoopComparison("tf", "tuned", "fp32", 1, "host", reason="the harness: no GPU")
    device = Device("cpu", "cpu", "a CPU")
    several = [row(0.99, 1.01), row(0.97, 1.0), row(1.1, 1.2), failed]
    assert sentence(Result(several, device, [])) == (
        "The harness measures what the recipe measures in 1 of 3 cells (ratio 0.985 to 1.150); 1 UNCLEAR; 1 OFF; 1 could not be "
        "compared."
    )
    assert sentence(Result([failed], device, [])) == "No cell could be compared with its recipe."
