"""Recommendations and plots on the published data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from rich.console import Console

from analysis import style
from analysis.comparisons.question import Question
from analysis.comparisons.recommend import recommend
from analysis.database.connection import Database
from analysis.plots.catalogue import Gallery
from analysis.results import published_intervals, tables
from analysis.results.selection import Selection


def requested(runs: Mapping[str, Path], question: Question, where: str | None = None) -> tuple[int, str]:
    console = Console(width=300)
    with console.capture() as captured:
        code = recommend(list(runs.values()), question, console, where=where)
    return code, captured.get()


def test_batch_256_on_the_a2_belongs_to_onnx_runtime(imported_runs: Mapping[str, Path]) -> None:
    code, text = requested(imported_runs, Question(gpu="A2"), where="batch_size=256")
    assert code == 0
    assert "NVIDIA A2" in text
    assert "Best: ONNX Runtime fp32 at batch 256: the highest throughput" in text
    assert "one worker tells nothing of the next one; --replicates 3 or more would tell." in text


def test_under_20_ms_and_50_w_on_the_a2(imported_runs: Mapping[str, Path]) -> None:
    code, text = requested(imported_runs, Question(gpu="A2", max_latency_ms=20, max_power_w=50))
    assert code == 0
    assert "Best: TF-TRT fp16 at batch 16" in text
    assert "mean latency of a batch at most 20 ms and power at most 50 W" in text
    assert "UNCLEAR whether it keeps --max-latency-ms 20" in text
    assert "--max-latency-ms 33.2 ms lets in TF-TRT fp16 at batch 32" in text


def test_the_cost_is_that_of_the_energy(imported_runs: Mapping[str, Path]) -> None:
    _, text = requested(imported_runs, Question(gpu="V100S", objective="cost", price_per_kwh=0.3))
    assert "energy cost of a million images at 0.3 per kWh 0.00" in text


def test_every_plot_of_the_study_comes_out_of_its_data(study: Database) -> None:
    rows = tables.load(study, Selection())
    with mpl.rc_context(style.RC):
        gallery = Gallery(study, rows, published_intervals.of_rows(study, rows))
        names = [plot.name for plot in gallery]
    for gpu in ("nvidia-a2", "tesla-v100s-pcie-32gb", "nvidia-titan-x-pascal"):
        for kind in (
            "throughput", "seconds-per-image", "power", "joules-per-image", "images-per-joule",
            "time-efficiency", "images-per-joule-second", "speed-up", "pareto-front", "power-against-throughput", "best-efficiency",
        ):  # fmt: skip
            assert f"{kind}-mobilenetv3l-{gpu}-host-single-stream" in names
    for kind in ("throughput", "power-gross", "energy-per-image"):
        assert f"{kind}-across-gpus-mobilenetv3l-host-single-stream" in names
    assert "latency distribution: no cell has 11 samples" in gallery.undrawn
