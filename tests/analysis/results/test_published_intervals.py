from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.results import published_intervals, tables
from analysis.results.selection import Selection
from common import schema
from tests.analysis.conftest import Build, Opened

SECOND = 10**9


def published(build: Build, durations: list[float]) -> Any:
    run = build(device="gpu0")
    folder = run.cell("onnxrt", 8, durations_ns=[])
    (folder / "phases.csv").write_text(schema.to_csv("phases.csv", []))
    passes = [{"i": i, "images": 512, "duration_s": d} for i, d in enumerate(durations)]
    energies = [{"i": i, "domain": "gpu", "energy_mj": 50e3 * d, "time_ns": d * 1e9} for i, d in enumerate(durations)]
    (folder / "passes.csv").write_text(schema.to_csv("passes.csv", passes))
    (folder / "energy.csv").write_text(schema.to_csv("energy.csv", energies))
    return run


def test_students_t_over_the_passes(build: Build, opened: Opened) -> None:
    database = opened(published(build, [0.5, 0.52, 0.48, 0.51, 0.49]))
    rows = tables.load(database, Selection())
    found = {name: interval for (_, _, name), interval in published_intervals.of_rows(database, rows).items()}
    rates = 512 / np.array([0.5, 0.52, 0.48, 0.51, 0.49])
    half = 2.7764451051977987 * rates.std(ddof=1) / np.sqrt(5)  # t of 4 degrees of freedom at 95 %
    assert (found["throughput"].low, found["throughput"].high) == pytest.approx(
        (rates.mean() - half, rates.mean() + half)
    )
    assert found["throughput"].samples == 5
    assert (found["power"].low, found["power"].high) == pytest.approx((50, 50))
    assert found["joules_per_image"].low < rows[0]["joules_per_image"] < found["joules_per_image"].high


def test_two_passes_have_no_interval(build: Build, opened: Opened) -> None:
    database = opened(published(build, [0.5, 0.52]))
    assert published_intervals.of_rows(database, tables.load(database, Selection())) == {}


def test_our_own_energy_by_the_bound_of_its_error(build: Build, opened: Opened) -> None:
    run = build(device="gpu0", uuid="GPU-1")
    begin = run.now_ns
    run.cell("onnxrt", 8, durations_ns=[10**7] * 600)
    run.power(
        {"t_ns": t, "domain": "gpu", "device": 0, "uuid": "GPU-1", "power_source": "instant",
         "power_mw": 100_000 if begin <= t < begin + 6 * SECOND else 50_000}
        for t in range(begin - SECOND, begin + 8 * SECOND, SECOND // 10)
    )  # fmt: skip
    database = opened(run)
    (row,) = tables.load(database, Selection())
    found = {name: interval for (_, _, name), interval in published_intervals.of_rows(database, [row]).items()}
    (energy,) = database.query("SELECT uncertainty_j / gross_j AS share FROM energy WHERE class = 'gpu'")
    assert 0 < energy["share"] < 0.1
    assert found["power"].high == pytest.approx(row["power_gross_w"] * (1 + energy["share"]))
    assert found["joules_per_image"].low == pytest.approx(row["joules_per_image"] * (1 - energy["share"]))
