"""The figures behind plots: fits, limits, responses, looks."""

from __future__ import annotations

import itertools
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis import style
from analysis.plots import (
    against_batch_size,
    cold_start,
    pareto_front,
    power_throughput,
    roofline,
    speedup,
)
from analysis.plots.axes import engineering, title
from analysis.plots.roofline import Limit, Limits
from analysis.results.latency import response_ms
from analysis.results.metrics import METRICS
from common.schema import PHASE_NAMES


def test_a_line_with_its_r2() -> None:
    slope, intercept, r2 = power_throughput.fit([1, 2, 3, 4, 5], [12, 14, 16, 18, 20]) or (0, 0, 0)
    assert (slope, intercept, r2) == pytest.approx((2, 10, 1))
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3.0, 1.0, 4.0, 1.0, 5.0, 9.0]
    fitted = power_throughput.fit(x, y)
    assert fitted is not None
    assert fitted[2] == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)


@pytest.mark.parametrize(
    ("x", "y"), [([1, 2, 3, 4], [1, 2, 3, 4]), ([2] * 6, [1, 2, 3, 4, 5, 6]), ([1, 2, 3, 4, 5], [7] * 5), ([], [])]
)
def test_no_line(x: list[float], y: list[float]) -> None:
    assert power_throughput.fit(x, y) is None


def document(**device: Any) -> dict[str, Any]:
    return {"devices": [{"device": "gpu0", **device}], "model": {"input_shape": [224, 224, 3]}}


def test_the_copy_limit_by_what_is_known_best() -> None:
    link = document(pcie_generation=3, pcie_width=8)
    (limit,), missing = roofline.limits(link, "gpu0", "host", Limits())
    assert limit.images_per_s == pytest.approx(8 * 0.985e9 / 602_112)
    assert "not measured" in limit.name
    assert missing == ["compute limit: the peak of the device is unknown"]
    measured = document(pcie_generation=3, pcie_width=8, copy_bytes_per_s=54.8e9)
    (limit,), _ = roofline.limits(measured, "gpu0", "host", Limits())
    assert limit.images_per_s == pytest.approx(54.8e9 / 602_112)
    (limit,), _ = roofline.limits(measured, "gpu0", "host", Limits(copy_bytes_per_s=1e9))
    assert limit.name == "copies, 1 GB/s as given"


def test_limits_that_are_unknown_or_do_not_apply() -> None:
    known, missing = roofline.limits({}, "gpu0", "host", Limits(peak_flops=1e12))
    assert known == []
    assert missing == [
        "copy limit: the copy bandwidth is unknown",
        "compute limit: the number of operations of one image is unknown",
    ]
    assert roofline.limits(document(pcie_generation=4, pcie_width=16), "gpu0", "device", Limits())[0] == []
    assert roofline.limits(document(), "cpu", "host", Limits())[0] == []
    odd = {"devices": "none", "model": {"input_shape": ["x"]}}
    assert roofline.limits(odd, "gpu0", "host", Limits(copy_bytes_per_s=1e9))[1][0] == (
        "copy limit: the size of an input image is unknown"
    )


ROW = {
    "median_ms": None,
    "p99_ms": None,
    "scenario": "single-stream",
    "samples": None,
    "seconds_per_image": 0.001,
    "batch_size": 8,
    "framework_version": "1",
    "replicates": 1,
    "created_utc": None,
    "device": "gpu0",
}


def test_how_long_an_inference_takes() -> None:
    assert response_ms({**ROW, "median_ms": 5.0}) == (5.0, "median")
    assert response_ms(ROW) == (8.0, "mean over a pass")
    assert response_ms(ROW, 99) == (None, "unknown"), "a mean is no percentile"
    assert response_ms({**ROW, "samples": 5}) == (None, "unknown"), "5 samples are too few for a median, not unmeasured"
    assert response_ms({**ROW, "scenario": "multi-stream"}) == (None, "unknown")


def test_devices_are_told_apart_by_more_than_colour() -> None:
    looks = style.device_looks(["a", "b", "c", "d"])
    assert len({look.color for look in looks.values()}) == 4
    assert len({look.marker for look in looks.values()}) == 4
    assert len({str(look.line) for look in looks.values()}) == 4


def test_precisions_and_levels_of_a_framework_are_told_apart_with_and_without_lines() -> None:
    kinds = ["fp32", "tf32", "fp16", "bf16", "int8", "int8-dynamic"]
    assert len({str(style.curve("torch", kind)["linestyle"]) for kind in kinds}) == len(kinds)
    assert len({style.points("torch", kind)["fillstyle"] for kind in kinds}) == len(kinds)
    assert len({style.bar("torch", kind) for kind in kinds}) == len(kinds)
    levels = [style.curve("torch", kind) for kind in ("fp16", "fp16 stock", "fp16 rewritten")]
    assert len({str(one) for one in levels}) == 3
    assert len({str(one["linestyle"]) for one in levels}) == 1, "a precision looks the same at every level"


def test_a_legend_has_room_for_every_dash_pattern() -> None:
    """Two periods beside the marker: patterns scale with the width of the line, handles with the size of the text (8.5)."""
    handle = style.RC["legend.handlelength"] * 8.5
    for kind in ("tf32", "fp16", "bf16", "int8", "int8-dynamic", "unheard-of"):
        _, pattern = style.line(kind)
        assert 2 * sum(pattern) * style.RC["lines.linewidth"] <= handle


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.02, "0.02"), (5e-5, "50 \u00b5"), (0.0005, "500 \u00b5"), (999, "999"), (1000, "1 k"), (2500, "2.5 k"),
        (2.5e6, "2.5 M"), (1e9, "1 G"), (-20_000, "-20 k"), (12.5, "12.5"),
    ],
)  # fmt: skip
def test_numbers_of_axes(value: float, text: str) -> None:
    assert engineering(value) == text


def test_a_row_is_named_by_what_is_not_usual_about_it() -> None:
    row = {"variant": "torch", "precision": "fp16"}
    assert style.kind(row) == style.kind({**row, "tuning": "tuned", "version": None}) == "fp16"
    assert style.kind({**row, "tuning": "stock", "version": "2.11.0"}) == "fp16 stock 2.11.0"


def test_every_phase_of_a_cell_has_a_colour() -> None:
    assert set(style.PHASES) == set(PHASE_NAMES)


HEADING = "MobileNetV3L, NVIDIA H100 80GB HBM3, copies included (io=host), multi-stream, 2 in flight"


def one_batch(variant: str, rate: float) -> dict[str, Any]:
    figures = {
        "images_per_s": rate,
        "power_gross_w": rate / 50,
        "joules_per_image": 0.02,
        "median_ms": 3.0,
        "samples": 99,
    }
    names = {
        "variant": variant,
        "status": "ok",
        "precision": "fp16",
        "tuning": "tuned",
        "version": None,
        "input": "float32",
    }
    return {**ROW, **figures, **names, "batch_size": 32, "streams": 2, "cell_keys": [variant], "run": "r"}


RATES = {"torch": 20_700.0, "onnxrt": 18_400.0}


def plots_of_one_batch() -> dict[str, Figure | None]:
    rows = [one_batch(name, rate) for name, rate in RATES.items()]
    metric = next(metric for metric in METRICS.values() if metric.column == "images_per_s")
    limit = Limit(104_000.0, "copies")
    with matplotlib.rc_context(style.RC):
        return {
            "against batch size": against_batch_size.draw(rows, metric, HEADING),
            "speed-up": speedup.draw(rows, HEADING, {}, "onnxrt"),
            "power": power_throughput.draw(rows, HEADING),
            "roofline": roofline.draw(rows, HEADING, [limit], []),
            "Pareto": pareto_front.draw(rows, HEADING),
        }


def of_batches(*sizes: int, **rates: float) -> list[dict[str, Any]]:
    """Throughput that rises with the batch size."""
    return [
        {**one_batch(name, rate * size), "batch_size": size}
        for name, rate in (rates or RATES).items()
        for size in sizes
    ]


def test_every_batch_size_is_within_the_axes() -> None:
    rows = of_batches(1, 2, 8, 32, 512)
    rows.append({**one_batch("tf", 9_000.0), "batch_size": 1})
    metric = METRICS["throughput"]
    with matplotlib.rc_context(style.RC):
        drawn = [
            against_batch_size.draw(rows, metric, HEADING),
            speedup.draw(rows, HEADING, {}, "onnxrt"),
            roofline.draw(rows, HEADING, [Limit(104_000.0, "copies")], []),
        ]
    for figure in drawn:
        assert figure is not None
        low, high = figure.axes[0].get_xlim()
        assert low < 1 and high > 512


def drawn_against_batch_size(rows: list[dict[str, Any]], name: str = "throughput") -> Any:
    with matplotlib.rc_context(style.RC):
        figure = against_batch_size.draw(rows, METRICS[name], HEADING)
        assert figure is not None
        figure.draw_without_rendering()
    return figure


def bars_of(axes: Any) -> dict[str, float]:
    """Name of a bar -> its length."""
    return {str(one.get_label()): one.patches[0].get_width() for one in axes.containers}


def test_of_few_batch_sizes_each_has_an_axis_of_its_own() -> None:
    """2,000 images/s of batch 1 were nothing beside 40,000 of batch 512."""
    rows = of_batches(1, 32, 512)
    rows += [{**one_batch("tf", 9.0), "batch_size": 1}]
    rows += [{**one_batch("tf", 0.0), "batch_size": 32, "images_per_s": None, "status": "parity_failed"}]
    figure = drawn_against_batch_size(rows)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["batch 1", "batch 32", "batch 512"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["TensorFlow", "ONNX Runtime", "PyTorch"]
    for axes, size in zip(figure.axes, (1, 32, 512), strict=True):
        found = bars_of(axes)
        assert found.pop(f"TensorFlow, batch {size}", None) == (9.0 if size == 1 else None)
        assert found == {f"ONNX Runtime, batch {size}": 18_400 * size, f"PyTorch, batch {size}": 20_700 * size}
        low, high = axes.get_xlim()
        assert low == 0 and 1.1 < high / max(found.values()) < 2
        room = axes.get_window_extent().x1 + 15  # what lies between two panels
        assert all(text.get_window_extent().x1 < room for text in axes.texts)
    assert "parity failed" in {text.get_text() for text in figure.axes[1].texts}
    assert len(figure.axes[2].texts) == 2, "what was not measured is no failure"


def test_bars_of_many_frameworks_do_not_touch() -> None:
    rows = of_batches(1, 32, 512, **{f"framework-{number}": 100.0 + number for number in range(19)})
    figure = drawn_against_batch_size(rows)
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) == 19
    assert not any(upper.overlaps(lower) for lower, upper in itertools.pairwise(boxes))


def test_of_many_batch_sizes_rates_are_lines_on_an_axis_that_shows_both_ends() -> None:
    (axes,) = drawn_against_batch_size(of_batches(1, 2, 8, 32, 512)).axes
    assert axes.get_yscale() == "log"
    assert len(axes.lines) == 2
    (axes,) = drawn_against_batch_size(of_batches(8, 9, 10, 11, 12)).axes
    assert (axes.get_yscale(), axes.get_ylim()[0]) == ("linear", 0)


def test_what_is_less_the_better_is_a_line_also_of_few_batch_sizes() -> None:
    (axes,) = drawn_against_batch_size(of_batches(1, 32, 512), "latency").axes
    assert len(axes.lines) == 2


def titles(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text().startswith("MobileNetV3L")]


def test_headings_stay_within_their_figure() -> None:
    narrow = Figure(figsize=(4.0, 3.0))
    title(narrow, HEADING, "marks at 50 and 90 %")
    for name, figure in {**plots_of_one_batch(), "narrow": narrow}.items():
        assert figure is not None, name
        figure.draw_without_rendering()
        (heading,) = titles(figure)
        assert heading.get_window_extent().x1 <= figure.bbox.x1 + 1, name


def test_marks_of_a_single_batch_size_are_whole() -> None:
    figure = plots_of_one_batch()["against batch size"]
    assert figure is not None
    axes: Any
    (axes,) = figure.axes
    assert axes.get_xlim()[1] >= 1.05 * 20_700
    assert [bar.get_width() for bar in axes.patches] == [18_400, 20_700], "bars, the longest on top"
    assert {"20,700", "18,400"} <= {text.get_text() for text in axes.texts}


def test_a_narrow_logarithmic_axis_has_labels() -> None:
    """A speed-up of 1.12 alone: 1 was the only label."""
    rows = [{**one_batch(name, rate), "batch_size": size} for name, rate in RATES.items() for size in (8, 32)]
    with matplotlib.rc_context(style.RC):
        figure = speedup.draw(rows, HEADING, {}, "onnxrt")
    assert figure is not None
    figure.draw_without_rendering()
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    shown = [label.get_text() for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert len(shown) >= 3 and len(set(shown)) == len(shown)


def test_a_build_of_minutes_does_not_press_all_other_starts_into_the_axis() -> None:
    assert cold_start._longest_drawn([10.0, 12.0, 20.0, 300.0]) == pytest.approx(23)
    assert cold_start._longest_drawn([10.0, 12.0, 20.0]) == np.inf
