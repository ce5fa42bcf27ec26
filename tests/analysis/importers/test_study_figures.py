"""Every figure of the study's own tables, through the SQL views."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.database.connection import Database
from analysis.importers.study import FRAMEWORKS

#: names of GPUs in the study's tables -> device names
GPUS = {
    "Ampere_A2": "NVIDIA A2", "Ampere A2": "NVIDIA A2", "Volta_100": "Tesla V100S-PCIE-32GB",
    "Tesla V100": "Tesla V100S-PCIE-32GB", "Titan_x": "NVIDIA TITAN X (Pascal)", "Titan_X": "NVIDIA TITAN X (Pascal)",
}  # fmt: skip

Cell = tuple[str, str, str, int]


def expected(path: Path) -> dict[Cell, float]:
    """(GPU, variant, precision, batch size) -> figure of a table with one column per GPU."""
    with path.open(newline="") as file:
        _, gpus, _, *rows = list(csv.reader(file))
    found: dict[Cell, float] = {}
    for batch_size, *figures, framework in rows:
        for gpu, figure in zip(gpus[1:], figures, strict=False):
            found[(GPUS[gpu], *FRAMEWORKS[framework.lower()], int(batch_size))] = float(figure)
    return found


def cells(study: Database) -> dict[Cell, dict[str, Any]]:
    """The same keys -> rows of `results`, with the images and passes of the source and the energy of its passes."""
    rows = study.query(
        "SELECT r.*, e.gross_j AS all_j, e.seconds AS all_s, p.passes, p.images AS pass_images FROM results AS r "
        "JOIN (SELECT run, cell_key, count(*) AS passes, avg(images) AS images FROM pass_row GROUP BY ALL) AS p "
        "USING (run, cell_key) JOIN energy AS e ON e.run = r.run AND e.cell_key = r.cell_key AND e.class = 'gpu'"
    )
    return {(row["device_name"], row["variant"], row["precision"], row["batch_size"]): row for row in rows}


@pytest.mark.parametrize(
    ("table", "unit", "figure"),
    [
        ("gpu_throughput_benchmark_py.csv", 1.0, lambda row: row["images_per_s"]),
        ("gpu_latency_benchmark_py.csv", 1.0, lambda row: row["seconds_per_image"]),
        ("py_energy.csv", 1.0, lambda row: row["joules_per_image"] * row["pass_images"]),
        ("py_time.csv", 1e-6, lambda row: row["all_s"] / row["passes"]),
        ("py_power.csv", 1.0, lambda row: row["power_gross_w"]),
        ("py_energyxtime.csv", 1.0, lambda row: row["energy_delay_js"] * row["pass_images"] ** 2),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_cell_of_a_table(
    published: Path, study: Database, table: str, unit: float, figure: Callable[[dict[str, Any]], float]
) -> None:
    wanted = expected(published / "expected" / table)
    found = cells(study)
    assert len(wanted) == len(found) == 162
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert figure(found[key]) == pytest.approx(value * unit, rel=1e-9), key


def test_every_cell_of_the_long_table(published: Path, study: Database) -> None:
    found = cells(study)
    with (published / "expected" / "py_all_benchmarks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 162
    for row in rows:
        one = found[(GPUS[row["gpu_name"]], *FRAMEWORKS[row["framework"].lower()], int(row["batch_size"]))]
        joules = one["joules_per_image"] * one["pass_images"]
        for name, value in {
            "Throughput": one["images_per_s"],
            "Latency": one["seconds_per_image"],
            "power_watts": one["power_gross_w"],
            "ema_energy_joules": joules,
            "ema_time_sec": one["all_s"] / one["passes"],
            "ema_energy_x_time_joulsec": one["energy_delay_js"] * one["pass_images"] ** 2,
            "energy_eff": one["images_per_s"] / joules,
            "power_eff": one["images_per_s_per_watt"],
        }.items():
            assert value == pytest.approx(float(row[name]), rel=1e-9), (row, name)


FASTEST = {
    "NVIDIA A2": ["onnxrt", "tftrt fp16", "tftrt fp16", "tftrt fp32", "tftrt fp32", "onnxrt", "onnxrt"],
    "Tesla V100S-PCIE-32GB": ["onnxrt"] * 7,
    "NVIDIA TITAN X (Pascal)": ["onnxrt", "onnxrt", "tfxla", "onnxrt", "onnxrt", "onnxrt", "onnxrt"],
}
THRIFTIEST = {
    "NVIDIA A2": ["tf"] * 3 + ["tftrt fp16"] * 4,
    "Tesla V100S-PCIE-32GB": ["tf"] * 3 + ["tftrt fp16"] * 4,
    "NVIDIA TITAN X (Pascal)": ["tf"] * 3 + ["tftrt fp32", "tftrt fp16", "tftrt fp32", "tftrt fp32"],
}


@pytest.mark.parametrize("gpu", FASTEST)
def test_leaders_by_batch_size(study: Database, gpu: str) -> None:
    rows = study.query(
        "SELECT batch_size, arg_max(variant || ' ' || precision, images_per_s) AS fastest, "
        "arg_min(variant || ' ' || precision, power_gross_w) AS thriftiest "
        "FROM comparison WHERE device_name = $1 GROUP BY batch_size ORDER BY batch_size",
        [gpu],
    )

    def shortened(name: str) -> str:
        return name if name.startswith("tftrt") else name.removesuffix(" fp32")

    assert [row["batch_size"] for row in rows] == [8, 16, 32, 64, 128, 256, 512]
    assert [shortened(row["fastest"]) for row in rows] == FASTEST[gpu]
    assert [shortened(row["thriftiest"]) for row in rows] == THRIFTIEST[gpu]


def test_memory_and_cpu_energy_where_they_were_measured(study: Database) -> None:
    rows = study.query("SELECT * FROM comparison")
    assert all(row["device_memory_peak_bytes"] > 2**28 for row in rows)
    with_cpu = {row["device_name"] for row in rows if row["package_joules_per_image"] is not None}
    assert with_cpu == {"NVIDIA TITAN X (Pascal)"}
    assert all(row["median_ms"] is None and row["cold_start_s"] is None for row in rows), "not measured stays unknown"
    assert study.problems == []
