"""Notebook against script: pairs of one run, verdicts, and the same figures in every output."""

from __future__ import annotations

import csv
import html
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from analysis.analyze import AnalyzeResult, analyze, write_report
from analysis.comparisons import notebook_vs_script as front_ends
from analysis.results.selection import Selection, parse_where
from analysis.results.tables import load
from common.stats import comparison
from tests.analysis.conftest import Build, Opened, RunBuilder

MS = 10**6


def durations(rng: np.random.Generator, ms: float, spread: float = 0.01, count: int = 300) -> list[int]:
    return [int(value) for value in rng.normal(ms * MS, spread * ms * MS, count)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunBuilder:
    """torch is 10 % slower in a notebook, onnxrt the same, keras too noisy to tell, tf dies in it, tfxla is a script only."""
    run, rng = RunBuilder(tmp_path_factory.mktemp("results") / "run").run_json(), np.random.default_rng(6)
    for replicate in range(3):
        for frontend, factor in (("script", 1.0), ("notebook", 1.1)):
            run.cell("torch", 8, durations(rng, 10 * factor), frontend=frontend, replicate=replicate)
            run.cell("onnxrt", 8, durations(rng, 5), frontend=frontend, replicate=replicate)
    for frontend in ("script", "notebook"):
        run.cell("keras", 8, durations(rng, 50, spread=0.4, count=15), frontend=frontend)
    run.cell("tf", 8, durations(rng, 7))
    run.cell("tf", 8, frontend="notebook", status="crashed", message="<b>SIGKILL</b> | in phase measure")
    run.cell("tfxla", 8, durations(rng, 9))
    return run


@pytest.fixture(scope="module")
def analyzed(run: RunBuilder) -> tuple[AnalyzeResult, str, Path]:
    """(result, what was printed, folder) of one analysis."""
    output, out = io.StringIO(), run.folder.parent / "out"
    result = analyze([run.folder], out, Console(file=output, width=140), formats=("md", "csv", "xlsx"))
    return result, output.getvalue(), out


def found(opened: Opened, *runs: Any, where: str | None = None) -> front_ends.FrontEnds | None:
    database = opened(*runs)
    return front_ends.build(database, load(database, parse_where(where, database) if where else Selection()))


def by_name(compared: front_ends.FrontEnds) -> dict[str, front_ends.Pair]:
    return {pair.script["variant"]: pair for pair in compared.pairs}


def test_every_pair_has_its_verdict(run: Any, opened: Opened) -> None:
    compared = found(opened, run)
    assert compared is not None
    pairs = by_name(compared)
    assert {name: pair.verdict for name, pair in pairs.items()} == {
        "torch": "SLOWER", "onnxrt": "SAME", "keras": "UNCLEAR", "tf": "–",
    }  # fmt: skip
    torch = pairs["torch"].comparison
    assert torch is not None and torch.interval is not None
    assert torch.interval.low < 1.1 < torch.interval.high
    assert (torch.replicates_a, torch.replicates_b, torch.samples_a) == (3, 3, 900)
    assert pairs["torch"].script_ms == pytest.approx(10, rel=0.01)
    assert pairs["torch"].notebook_ms == pytest.approx(11, rel=0.01)
    assert pairs["tf"].comparison is None
    assert pairs["tf"].why == "notebook crashed (<b>SIGKILL</b> | in phase measure)"
    assert compared.counts == "1 SLOWER, 1 SAME, 1 UNCLEAR"
    assert any("Holm" in line for line in compared.footers)
    assert comparison.ONE_WORKER in compared.footers, "keras has one on either side"


def test_no_pairs_no_section(undrawn: None, run: Any, opened: Opened, tmp_path: Path) -> None:
    assert found(opened, run, where="frontend=script") is None
    output = io.StringIO()
    result = analyze([run.folder], tmp_path / "out", Console(file=output, width=120), where="frontend=script")
    assert front_ends.TITLE not in output.getvalue()
    assert front_ends.TITLE not in result.report.read_text()
    assert not (tmp_path / "out" / "frontends.csv").exists()
    assert found(opened, run, where="framework=onnxrt").pairs[0].script["variant"] == "onnxrt"  # type: ignore[union-attr]


def test_runs_are_not_mixed_and_what_differs_stands_in_the_heading(build: Build, opened: Opened) -> None:
    rng = np.random.default_rng(5)
    runs = [build(name) for name in ("first", "second")]
    for one, factor in zip(runs, (1.0, 1.2), strict=True):
        for io_mode in ("host", "device"):
            for frontend, slow in (("script", 1.0), ("notebook", factor)):
                for replicate in range(3):
                    times = durations(rng, 10 * slow)
                    one.cell("torch", 8, times, frontend=frontend, io=io_mode, replicate=replicate)
    compared = found(opened, *runs)
    assert compared is not None
    assert [(pair.script["run"], pair.script["io"], pair.verdict) for pair in compared.pairs] == [
        ("first", "device", "SAME"), ("first", "host", "SAME"), ("second", "device", "SLOWER"), ("second", "host", "SLOWER"),
    ]  # fmt: skip
    assert all(pair.script["run"] == pair.notebook["run"] for pair in compared.pairs)
    assert len(compared.groups()) == 4


def test_the_same_figures_in_every_output(analyzed: tuple[AnalyzeResult, str, Path]) -> None:
    result, output, out = analyzed
    with (out / "frontends.csv").open(newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    torch = rows["torch"]
    ratio = f"{float(torch['ratio']):.3f} [{float(torch['ratio_low']):.3f}, {float(torch['ratio_high']):.3f}]"
    assert (torch["verdict"], torch["script_replicates"], torch["notebook_samples"]) == ("SLOWER", "3", "900")
    assert torch["notebook_cell_keys"].count("_notebook_") == 3
    assert (rows["tf"]["ratio"], rows["tf"]["verdict"], rows["tf"]["notebook_median_ms"]) == ("", "", "")
    page, markdown = result.report.read_text(), (out / "comparison.md").read_text()
    for text in (output, page, markdown):
        assert ratio in html.unescape(text)
        assert front_ends.TITLE in text
        assert "1 SLOWER, 1 SAME, 1 UNCLEAR" in text
        assert "tf fp32 at batch 8: notebook crashed" in text
    assert "<b>SIGKILL" not in page and "<b>SIGKILL" not in markdown
    assert re.search(r"\| PyTorch \| fp32 \| 8 \| (9\.9|10\.0)", markdown)
    with zipfile.ZipFile(out / "comparison.xlsx") as book:
        assert 'name="notebook against script"' in book.read("xl/workbook.xml").decode()
        assert torch["ratio"][:12] in "".join(
            book.read(name).decode() for name in book.namelist() if name.startswith("xl/worksheets/")
        )
    assert any(path.name.startswith("notebook-against-script") for path in result.paths)


def test_the_report_alone_has_them_too(
    undrawn: None, run: Any, analyzed: tuple[AnalyzeResult, str, Path], tmp_path: Path
) -> None:
    with (analyzed[2] / "frontends.csv").open(newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if row["variant"] == "torch")
    ratio = f"{float(row['ratio']):.3f} [{float(row['ratio_low']):.3f}, {float(row['ratio_high']):.3f}]"
    assert ratio in write_report([run.folder], tmp_path / "again", Console(file=io.StringIO())).report.read_text()


def test_the_plot_shows_intervals_and_answers_to_the_pointer(analyzed: tuple[AnalyzeResult, str, Path]) -> None:
    page = analyzed[0].report.read_text()
    (figure,) = re.findall(r'<figure aria-label="notebook against script[^"]*">.*?</figure>', page, flags=re.S)
    targets = re.findall(r"<title>(PyTorch|ONNX Runtime|Keras)\n[^<]*</title>", figure)
    assert sorted(targets) == ["Keras", "ONNX Runtime", "PyTorch"]
    assert "SAME: within 1%" in figure
