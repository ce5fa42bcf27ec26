from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.results import energy_intervals
from analysis.results.all_intervals import all_intervals
from analysis.results.selection import Selection
from analysis.results.tables import load
from tests.analysis.conftest import Build, Opened

MS = 10**6
SECOND = 10**9


def gpu_run(build: Build, power_mw: Any, seconds: int = 20, **cell: Any) -> Any:
    """A GPU at `power_mw(t in s)`, read every 100 ms from 2 s before to 2 s after a window of 19 ms inferences."""
    run = build(device="gpu0", device_name="NVIDIA Test", uuid="GPU-1")
    begin = run.now_ns
    run.cell("torch", 8, durations_ns=[19 * MS] * (50 * seconds), **cell)
    times = begin - 2 * SECOND + np.arange(10 * (seconds + 4)) * 100 * MS
    run.power(
        {"t_ns": int(t), "domain": "gpu", "device": 0, "uuid": "GPU-1",
         "power_mw": power_mw((t - begin) / 1e9), "power_source": "instant"}
        for t in times
    )  # fmt: skip
    return run


def interval_of(database: Any) -> Any:
    (row,) = load(database, Selection())
    return row, all_intervals(database, [row])[tuple(row["cell_keys"]), row["run"], "joules_per_image"]


def test_steady_power_has_a_narrow_interval_around_the_figure(build: Build, opened: Opened) -> None:
    row, found = interval_of(opened(gpu_run(build, lambda t: 200_000.0)))
    assert found.estimate == pytest.approx(row["joules_per_image"])
    assert row["joules_per_image"] == pytest.approx(200 * 0.019 / 8, rel=1e-6)
    assert found.high - found.low <= 1e-6 * found.estimate


def test_wandering_power_widens_it_beyond_the_error_of_the_meter(build: Build, opened: Opened) -> None:
    rng = np.random.default_rng(1)
    levels = rng.normal(200_000, 30_000, 100)
    database = opened(gpu_run(build, lambda t: float(levels[int(t) + 10])))
    row, found = interval_of(database)
    error = database.query("SELECT uncertainty_j / gross_j AS share FROM energy")[0]["share"]
    share = (found.high - found.low) / 2 / found.estimate
    assert found.low < found.estimate < found.high
    assert share >= error * 0.999, "never below the meter's error"
    # 20 independent seconds of 15 %: a half width of about 2.1 * 15 % / sqrt(20)
    drawn = energy_intervals.of_rows(database, [row], {})
    (only,) = drawn.values()
    assert 0.04 < (only.high - only.low) / 2 / only.estimate < 0.13


def test_a_short_window_keeps_the_error_of_the_meter(build: Build, opened: Opened) -> None:
    database = opened(gpu_run(build, lambda t: 150_000.0 if 0 <= t <= 2 else 50_000.0, seconds=2))
    row, found = interval_of(database)
    assert energy_intervals.of_rows(database, [row], {}) == {}
    assert found.high > found.estimate


def test_a_meter_of_another_gpu_does_not_count(build: Build, opened: Opened) -> None:
    run = gpu_run(build, lambda t: 200_000.0)
    database = opened(run)
    (row,) = load(database, Selection())
    assert energy_intervals.of_rows(database, [{**row, "device_uuid": "GPU-2"}], {}) == {}


def test_counters_alone(build: Build, opened: Opened) -> None:
    run = build(device_name="Test CPU")
    begin = run.now_ns
    run.cell("torch", 8, durations_ns=[20 * MS] * 500)
    run.power(
        {"t_ns": begin - SECOND + i * 100 * MS, "domain": "package-0", "energy_mj": 5000 * i} for i in range(130)
    )  # fmt: skip
    database = opened(run)
    (row,) = load(database, Selection())
    ((place, found),) = energy_intervals.of_rows(database, [row], {}).items()
    assert place[2] == "joules_per_image"
    assert found.estimate == pytest.approx(50 * 0.020 / 8, rel=1e-3)


def test_inferences_that_end_together_were_done_one_after_the_other() -> None:
    edges = np.linspace(0, 1000, 11)
    alone = energy_intervals.images_done(edges, 0.0, np.arange(25, 1001, 25), 8)
    together = energy_intervals.images_done(edges, 0.0, np.repeat([250, 500, 750, 1000], 10), 8)
    assert alone == pytest.approx(np.arange(11) * 32)
    assert together == pytest.approx(alone), (
        "or the stretches of an offline window would seem to differ by their passes"
    )
