"""What is drawn from which data, and that everything else is said and not drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis import style
from analysis.database.connection import Database
from analysis.plots import files
from analysis.plots.catalogue import Gallery, Plot
from analysis.plots.roofline import Limits
from analysis.results import published_intervals, tables
from analysis.results import sample_intervals as result_intervals
from analysis.results.selection import Selection

MS = 10**6
SECOND = 10**9


def drawn(database: Database, folder: Path | None = None, **choices: Any) -> tuple[dict[str, Plot], list[str]]:
    """(what was drawn by the name of its file, what was not); with a folder every figure is also written."""
    rows = tables.load(database, Selection())
    intervals = {**published_intervals.of_rows(database, rows), **result_intervals.of_rows(database, rows)}
    with mpl.rc_context(style.RC):
        gallery = Gallery(database, rows, intervals, **choices)
        plots = list(gallery)
        for plot in plots if folder else ():
            svg, png = files.save(plot.figure, folder or Path(), plot.name)
            ElementTree.parse(svg)
            assert png.read_bytes().startswith(b"\x89PNG")
    assert len({plot.name for plot in plots}) == len(plots), "no plot overwrites another"
    return {plot.name: plot for plot in plots}, gallery.undrawn


def kinds(plots: dict[str, Plot]) -> set[str]:
    return {name.split("-resnet50")[0] for name in plots}


@pytest.fixture
def metered(build: Any) -> Any:
    """Two frameworks at five batch sizes on a GPU whose power was read."""
    run = build(device="gpu0", device_name="GPU Z", uuid="GPU-1")
    run.run_json(
        devices=[{"device": "gpu0", "uuid": "GPU-1", "name": "GPU Z", "pcie_generation": 4, "pcie_width": 16}],
        model={"name": "ResNet50", "input_shape": [224, 224, 3]},
    )
    begin = run.now_ns - 20 * SECOND
    for i, variant in enumerate(("onnxrt", "torch")):
        for batch_size in (8, 16, 32, 64, 128):
            run.now_ns += 5 * SECOND
            run.cell(
                variant, batch_size, durations_ns=[(2 + i) * batch_size * MS // 4 + j * 100 for j in range(150)],
                idle_ns=SECOND, phases={"import": SECOND, "load": SECOND, "compile": SECOND, "first": SECOND // 2},
            )  # fmt: skip
    readings = range(begin, run.now_ns, SECOND // 10)
    run.power(
        {"t_ns": t, "domain": "gpu", "device": 0, "uuid": "GPU-1", "power_source": "instant",
         "power_mw": 100_000 + (t - begin) / SECOND * 500}
        for t in readings
    )  # fmt: skip
    return run


AGAINST = {
    "throughput", "latency", "seconds-per-image", "power", "joules-per-image", "images-per-joule",
    "images-per-s-per-watt", "time-efficiency", "images-per-joule-second",
}  # fmt: skip


def test_everything_of_a_metered_run(metered: Any, opened: Any, tmp_path: Path) -> None:
    plots, undrawn = drawn(opened(metered), tmp_path)
    others = {
        "speed-up",
        "pareto-front",
        "latency-distribution",
        "cold-start",
        "power-against-throughput",
        "best-efficiency",
        "roofline",
    }
    assert kinds(plots) == AGAINST | others | {"power-over-time-run"}
    assert undrawn == ["latency p99: no cell has it", "frameworks across GPUs: there is one device only"]


def test_what_the_data_do_not_allow_is_said(build: Any, opened: Any) -> None:
    run = build()
    run.cell("onnxrt", 8, durations_ns=[MS] * 5)
    plots, undrawn = drawn(opened(run))
    assert kinds(plots) == {"throughput", "seconds-per-image", "time-efficiency"}
    told = "; ".join(undrawn)
    for what in (
        "median latency: no cell has it", "speed-up: it needs two frameworks at one batch size", "Pareto front: no throughput with",
        "latency distribution: no cell has 11 samples", "cold start: no phases are known", "power against throughput: no power",
        "roofline: compute limit: the peak of the device is unknown", "power over time: no power readings",
    ):  # fmt: skip
        assert what in told


def test_failures_alone_draw_nothing(build: Any, opened: Any) -> None:
    run = build()
    run.cell("tf", 8, status="oom", message="no room")
    plots, undrawn = drawn(opened(run))
    assert plots == {}
    assert undrawn


def test_one_batch_size_and_unknown_frameworks(build: Any, opened: Any) -> None:
    run = build()
    for i, variant in enumerate(("onnxrt", "my-own", "another_one")):
        run.cell(variant, 8, durations_ns=[(10 + i) * MS + j * 1000 for j in range(20)])
    plots, _ = drawn(opened(run))
    assert {"throughput", "speed-up", "latency-distribution", "pareto-front"} <= kinds(plots)


def test_two_gpus_are_drawn_beside_each_other(build: Any, opened: Any) -> None:
    runs = [build(name, device="gpu0", device_name=f"GPU {name}") for name in ("a", "b")]
    for i, run in enumerate(runs):
        for variant in ("onnxrt", "torch"):
            run.cell(variant, 8, durations_ns=[(10 + i) * MS] * 20)
            run.cell(variant, 16, durations_ns=[(20 + i) * MS] * 20)
    plots, _ = drawn(opened(*runs))
    across = next(plot for name, plot in plots.items() if name.startswith("throughput-across-gpus"))
    titles = [axes.get_title() or axes.get_title(loc="left") for axes in across.figure.axes]
    assert titles == ["ONNX Runtime", "PyTorch"]
    assert all(axes.get_ylim()[0] == 0 for axes in across.figure.axes)
    assert all(len(axes.lines) == 2 for axes in across.figure.axes)


def test_bars_and_powers_begin_at_zero(metered: Any, opened: Any) -> None:
    plots, _ = drawn(opened(metered))

    def figure(kind: str) -> Figure:
        return next(plot.figure for name, plot in plots.items() if name.startswith(f"{kind}-resnet50"))

    assert all(axes.get_xlim()[0] == 0 for axes in figure("cold-start").axes)
    assert figure("power").axes[0].get_ylim()[0] == 0
    assert figure("power").axes[0].get_xscale() == "log"
    ticks = [label.get_text() for label in figure("power").axes[0].get_xticklabels()]
    assert ticks == ["8", "16", "32", "64", "128"]


def test_the_baseline_that_was_asked_for(metered: Any, opened: Any) -> None:
    plots, _ = drawn(opened(metered), baseline="onnxrt")
    axes = next(plot.figure.axes[0] for name, plot in plots.items() if name.startswith("speed-up"))
    assert axes.get_ylabel() == "throughput over that of ONNX Runtime"
    torch = next(line for line in axes.lines if line.get_label() == "PyTorch")
    assert np.asarray(torch.get_ydata()) == pytest.approx([2 / 3] * 5, rel=1e-3)


def test_the_compute_limit_when_the_user_knows_it(metered: Any, opened: Any) -> None:
    plots, _ = drawn(opened(metered), known=Limits(peak_flops=10e12, flops_per_image=1e9))
    axes = next(plot.figure.axes[0] for name, plot in plots.items() if name.startswith("roofline"))
    texts = [text.get_text() for text in axes.texts]
    assert texts == [
        "52,322 images/s: copies, 31.5 GB/s by PCIe 4 x16 (not measured)",
        "10,000 images/s: arithmetic at 10 TFLOP/s",
    ]
