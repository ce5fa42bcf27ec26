"""The figures behind plots: fits, limits, responses, looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis import style
from analysis.plots import power_throughput, roofline
from analysis.plots.roofline import Limits
from analysis.results.latency import response_ms


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
