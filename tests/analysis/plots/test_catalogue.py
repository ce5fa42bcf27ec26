"""What is drawn from which data, and that everything else is said and not drawn."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis import style
from analysis.database.connection import Database
from analysis.database.open_runs import open_runs
from analysis.plots import catalogue, files, speedup
from analysis.plots.catalogue import Gallery, Plot
from analysis.plots.roofline import Limits
from analysis.results import published_intervals, sample_intervals, tables
from analysis.results.selection import Selection
from tests.analysis.conftest import Build, Opened, RunBuilder

MS = 10**6
SECOND = 10**9


def drawn(database: Database, folder: Path | None = None, **choices: Any) -> tuple[dict[str, Plot], list[str]]:
    """(what was drawn by the name of its file, what was not); with a folder every figure is also written."""
    rows = tables.load(database, Selection())
    intervals = {**published_intervals.of_rows(database, rows), **sample_intervals.of_rows(database, rows)}
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


@pytest.fixture(scope="module")
def metered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Two frameworks at five batch sizes on a GPU whose power was read: one run and one reading of it for all tests."""
    folder = tmp_path_factory.mktemp("metered") / "run"
    run = RunBuilder(folder, device="gpu0", device_name="GPU Z", uuid="GPU-1").run_json(
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
    with open_runs([run.folder]) as database:
        yield database


@pytest.fixture(scope="module")
def everything(metered: Database, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Plot], list[str]]:
    """All figures of it, which were also written."""
    return drawn(metered, tmp_path_factory.mktemp("plots"))


AGAINST = {
    "throughput", "latency", "seconds-per-image", "power", "joules-per-image", "images-per-joule",
    "time-efficiency", "images-per-joule-second",
}  # fmt: skip


def test_everything_of_a_metered_run(everything: tuple[dict[str, Plot], list[str]]) -> None:
    plots, undrawn = everything
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
    assert undrawn == ["latency p99: no cell has it"], "nobody expects GPUs beside each other where there is one"


def test_what_the_data_do_not_allow_is_said(build: Build, opened: Opened) -> None:
    run = build()
    for size in (8, 16):
        run.cell("onnxrt", size, durations_ns=[MS] * 5)
    plots, undrawn = drawn(opened(run))
    assert kinds(plots) == {"throughput", "seconds-per-image", "time-efficiency"}
    assert undrawn == [
        "median latency: no cell has it", "latency p99: no cell has it", "power and energy: no power was read",
        "Pareto front: no throughput with energy or latency", "latency distribution: no cell has 11 samples",
        "cold start: no phases are known",
    ]  # fmt: skip


def test_what_one_group_lacks_and_another_has_is_not_named(build: Build, opened: Opened) -> None:
    run = build()
    for size in (8, 16):
        run.cell("onnxrt", size, durations_ns=[MS] * 5)
        run.cell("onnxrt", size, io="device", durations_ns=[MS + i for i in range(70)])
    _, undrawn = drawn(opened(run))
    assert not [line for line in undrawn if line.startswith(("median latency", "latency distribution"))]


def test_limits_that_were_asked_for_and_cannot_be_drawn_are_named(build: Build, opened: Opened) -> None:
    run = build()
    run.cell("onnxrt", 8, durations_ns=[MS] * 20)
    _, undrawn = drawn(opened(run), known=Limits(peak_flops=1e12))
    assert "roofline: compute limit: the number of operations of one image is unknown" in undrawn


def test_failures_alone_draw_nothing(build: Build, opened: Opened) -> None:
    run = build()
    run.cell("tf", 8, status="oom", message="no room")
    plots, undrawn = drawn(opened(run))
    assert plots == {}
    assert undrawn


def test_one_batch_size_and_unknown_frameworks(build: Build, opened: Opened) -> None:
    run = build()
    for i, variant in enumerate(("onnxrt", "my-own", "another_one")):
        run.cell(variant, 8, durations_ns=[(10 + i) * MS + j * 1000 for j in range(20)])
    plots, _ = drawn(opened(run))
    assert {"throughput", "speed-up", "latency-distribution", "pareto-front"} <= kinds(plots)


def test_two_gpus_are_drawn_beside_each_other(build: Build, opened: Opened) -> None:
    runs = [build(name, device="gpu0", device_name=f"GPU {name}") for name in ("a", "b")]
    for i, run in enumerate(runs):
        for variant in ("onnxrt", "torch"):
            run.cell(variant, 8, durations_ns=[(10 + i) * MS] * 20)
            run.cell(variant, 16, durations_ns=[(20 + i) * MS] * 20)
    runs[0].cell("keras", 8, durations_ns=[900 * MS] * 20)
    plots, _ = drawn(opened(*runs))
    across = next(plot for name, plot in plots.items() if name.startswith("throughput-across-gpus"))
    titles = [axes.get_title() or axes.get_title(loc="left") for axes in across.figure.axes]
    assert titles == ["ONNX Runtime", "PyTorch"]
    assert {axes.get_ylim()[0] for axes in across.figure.axes} == {0.0}
    assert len({axes.get_ylim() for axes in across.figure.axes}) == 1, "all panels have one scale"
    assert all(len(axes.lines) == 2 for axes in across.figure.axes)


def test_bars_and_powers_begin_at_zero(everything: tuple[dict[str, Plot], list[str]]) -> None:
    plots, _ = everything

    def figure(kind: str) -> Figure:
        return next(plot.figure for name, plot in plots.items() if name.startswith(f"{kind}-resnet50"))

    assert all(axes.get_xlim()[0] == 0 for axes in figure("cold-start").axes)
    assert figure("power").axes[0].get_ylim()[0] == 0
    assert figure("power").axes[0].get_xscale() == "log"
    ticks = [label.get_text() for label in figure("power").axes[0].get_xticklabels()]
    assert ticks == ["8", "16", "32", "64", "128"]


def test_the_baseline_that_was_asked_for(metered: Database) -> None:
    plots, _ = drawn(metered, baseline="onnxrt")
    axes = next(plot.figure.axes[0] for name, plot in plots.items() if name.startswith("speed-up"))
    assert axes.get_ylabel() == "throughput over that of ONNX Runtime"
    torch = next(line for line in axes.lines if line.get_label() == "PyTorch")
    assert np.asarray(torch.get_ydata()) == pytest.approx([2 / 3] * 5, rel=1e-3)


def test_the_compute_limit_when_the_user_knows_it(metered: Database) -> None:
    plots, _ = drawn(metered, known=Limits(peak_flops=10e12, flops_per_image=1e9))
    axes = next(plot.figure.axes[0] for name, plot in plots.items() if name.startswith("roofline"))
    texts = [text.get_text() for text in axes.texts]
    assert texts == [
        "52,322 images/s: copies, 31.5 GB/s by PCIe 4 x16 (not measured)",
        "10,000 images/s: arithmetic at 10 TFLOP/s",
    ]


def test_cold_and_warm_starts_stand_apart(build: Build, opened: Opened) -> None:
    """The engine was built for the first cell of the worker, and says how long that took; the second cell found it there."""
    run = build()
    for io, compiled in (("device", 40 * SECOND), ("host", SECOND // 10)):
        phases = {"import": SECOND, "load": SECOND, "compile": compiled, "first": SECOND // 2}
        run.cell("torch", 8, io=io, durations_ns=[MS + i for i in range(20)], phases=phases)
    phases = {"import": SECOND, "load": SECOND, "compile": SECOND // 5, "first": SECOND // 2}
    reported = {"engine": "cache, built in 370.0 s"}
    run.cell("tensorrt", 8, durations_ns=[MS + i for i in range(20)], phases=phases, settings=json.dumps(reported))
    run.cell("tf", 8, durations_ns=[MS + i for i in range(20)], phases={**phases, "compile": 3 * SECOND})
    plots, _ = drawn(opened(run))
    figure = next(plot.figure for name, plot in plots.items() if name.startswith("cold-start") and "host" in name)
    cold, warm = figure.axes
    names = [label.get_text() for label in cold.get_yticklabels()]
    assert names == ["TensorFlow", "PyTorch", "TensorRT"]
    assert [text.get_text() for text in cold.texts] == [
        "5.5 s",
        "42 s",
        "\N{BLACK RIGHT-POINTING TRIANGLE} 372 s, cut off here",
    ]
    assert [label.get_text() for label in warm.get_yticklabels()] == ["PyTorch", "TensorRT"]
    assert [text.get_text() for text in warm.texts] == ["2.6 s, build of 40 s reused", "2.7 s, build of 370 s reused"]


def test_builds_of_other_models_and_inputs_are_no_cold_start_of_this_one(build: Build, opened: Opened) -> None:
    run = build()
    for more, compiled in (({}, 3), ({"model": "VGG"}, 60), ({"input": "uint8"}, 30), ({"replicate": 1}, 5)):
        phases = {"import": SECOND, "load": SECOND, "compile": compiled * SECOND, "first": SECOND}
        named = {"cell_key": "VGG_torch_fp32_b0008_host_single-stream_script_cpu_r0"} if "model" in more else {}
        run.cell("torch", 8, durations_ns=[MS + i for i in range(20)], phases=phases, **more, **named)
    plots, _ = drawn(opened(run))
    reported = {
        tuple(text.get_text() for text in plot.figure.axes[0].texts)
        for name, plot in plots.items()
        if name.startswith("cold-start")
    }
    assert reported == {("7 s",), ("63 s",), ("33 s",)}, "of workers that all built it the mean"


def figure_of(plots: dict[str, Plot], kind: str) -> Figure:
    return next(plot.figure for name, plot in plots.items() if name.startswith(kind))


def test_the_median_framework_is_the_usual_baseline(build: Build, opened: Opened) -> None:
    run = build()
    for variant, ms in (("keras", 300), ("torch", 4), ("onnxrt", 3), ("tf", 6), ("openvino", 2)):
        for size in (8, 16):
            run.cell(variant, size, durations_ns=[ms * MS] * 20)
    plots, _ = drawn(opened(run))
    assert figure_of(plots, "speed-up").axes[0].get_ylabel() == "throughput over that of PyTorch"


def test_the_stock_level_is_the_baseline_where_it_was_measured() -> None:
    rows = [
        {"variant": variant, "precision": "fp16", "tuning": tuning, "batch_size": size, "images_per_s": rate * size,
         "cell_keys": ("k",), "run": "r", "status": "ok", "replicates": 1, "created_utc": None, "device": "gpu0",
         "framework_version": "1"}
        for variant, tuning, rate in (
            ("torch", "stock", 10.0), ("torch", "tuned", 20.0), ("torch", "rewritten", 30.0), ("onnxrt", "stock", 40.0),
            ("onnxrt", "tuned", 44.0), ("keras", "tuned", 1.0),
        )
        for size in (1, 8)
    ]  # fmt: skip
    axes = speedup.draw(rows, "all", {}).axes[0]
    assert axes.get_ylabel() == "throughput over that of the framework's stock level"
    lines = {
        line.get_label(): list(line.get_ydata()) for line in axes.lines if not line.get_label().endswith("(baseline)")
    }
    assert lines == {
        "PyTorch fp16": [2, 2],
        "PyTorch fp16 rewritten": [3, 3],
        "ONNX Runtime fp16": [1.1, 1.1],
    }


def test_axes_never_show_powers_of_ten(everything: tuple[dict[str, Plot], list[str]]) -> None:
    plots, _ = everything
    labels = {
        label.get_text()
        for plot in plots.values() for axes in plot.figure.axes
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels())
    }  # fmt: skip
    assert len(labels) > 50
    assert not [label for label in labels if re.search(r"\de[+-]?\d|10\^|\$", label)]


def test_tick_labels_of_the_pareto_plot_do_not_collide(build: Build, opened: Opened) -> None:
    """Figures over five decades, as Keras beside TensorRT."""
    run = build()
    for i, variant in enumerate(("keras", "onnxrt", "tf", "torch")):
        for size in (1, 16, 512):
            run.cell(variant, size, durations_ns=[int(MS * 200 / 12**i * size**0.5) + j for j in range(20)])
    plots, _ = drawn(opened(run))
    figure = figure_of(plots, "pareto")
    with mpl.rc_context(style.RC):
        figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axis in (one for axes in figure.axes for one in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        shown = [
            label
            for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
            if low <= place <= high
        ]
        boxes = [label.get_window_extent(renderer) for label in shown if label.get_text()]
        assert len(boxes) > 2
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_power_over_time_says_what_ran_and_bridges_no_hole(build: Build, opened: Opened) -> None:
    """Kept runs have readings around measured windows only: a line from one to the next would be invented."""
    run = build(device="gpu0", device_name="GPU Z", uuid="GPU-1")
    run.run_json(devices=[{"device": "gpu0", "uuid": "GPU-1", "name": "GPU Z"}])
    windows = []
    for size in (8, 64):
        run.now_ns += 30 * SECOND
        windows.append(run.now_ns)
        run.cell("torch", size, precision="fp16", durations_ns=[50 * MS] * 40)
    run.power(
        {"t_ns": t, "domain": "gpu", "device": 0, "uuid": "GPU-1", "power_source": "instant", "power_mw": 100_000}
        for window in windows
        for t in range(window, window + 2 * SECOND, SECOND // 20)
    )
    plots, _ = drawn(opened(run))
    figure = next(plot.figure for plot in plots.values() if plot.name.startswith("power-over-time"))
    upper = figure.axes[0]
    (line,) = upper.lines
    assert np.isnan(line.get_ydata()).sum() == 1
    (title,) = [text.get_text() for text in figure.texts if "run run" in text.get_text()] or [figure.get_suptitle()]
    assert title.startswith("ResNet50, GPU Z, run run\n") and title.endswith("no line where no readings were kept")
    assert [text.get_text() for text in upper.texts] == ["fp16  b8", "fp16  b64"]
    legend = upper.get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == ["PyTorch"]
    highest = max(text.get_window_extent().y0 for text in upper.texts)
    assert upper.transData.transform((0, 100))[1] < highest, "names stand above the line"


def test_a_precision_that_all_have_is_said_in_the_heading(build: Build, opened: Opened) -> None:
    run = build()
    for variant in ("onnxrt", "torch"):
        for size in (8, 16):
            run.cell(variant, size, precision="fp16", durations_ns=[MS] * 20)
    plots, _ = drawn(opened(run))
    for plot in plots.values():
        assert "single-stream, fp16" in " ".join(text.get_text() for text in plot.figure.findobj(mpl.text.Text)), (
            plot.name
        )


def test_groups_with_several_frameworks_come_first_and_one_cell_has_nothing_to_compare(
    build: Build, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build()
    times = [MS + i for i in range(20)]
    run.cell("torch", 8, io="device", durations_ns=times)
    for model, variants in (("ResNet50", ("torch",)), ("ViT-B16", ("onnxrt", "tf", "torch"))):
        for variant in variants:
            for size in (1, 8):
                run.cell(variant, size, model=model, durations_ns=times)
    plots, undrawn = drawn(opened(run))
    groups = list(dict.fromkeys(plot.group for plot in plots.values() if plot.group))
    assert [group.split(", ")[0] for group in groups] == ["ViT-B16", "ResNet50", "ResNet50"]
    assert "io=device" in groups[-1]
    assert [plot.description.split(" (")[0] for plot in plots.values() if plot.group == groups[-1]] == [
        "latency distribution"
    ]
    assert "plots that compare cells: a group of one cell has none" in undrawn
    monkeypatch.setattr(catalogue, "MOST_GROUPS", 1)
    plots, undrawn = drawn(opened(run))
    assert {plot.group for plot in plots.values()} == {groups[0]}, "the group that many take part in"
    assert "plots of 2 more groups: choose fewer with --where" in undrawn
