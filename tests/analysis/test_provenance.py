"""What run.json knows of the machine stands beside every cell, and conditions that make a row doubtful are marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from analysis.results import tables
from analysis.results.selection import Selection
from common import schema
from common.cell import Cell
from tests.analysis.conftest import Build, Opened

MS, SECOND = 10**6, 10**9

DEVICE = {
    "device": "gpu0", "uuid": "GPU-1", "name": "G", "driver": "580.1", "cuda": "13.0", "compute_capability": "9.0",
    "memory_bytes": 2**36, "power_limit_mw": 700000, "power_limit_default_mw": 700000, "ecc": True, "persistence": False,
    "mig_mode": False, "pcie_generation": 4, "pcie_generation_max": 5, "pcie_width": 8, "pcie_width_max": 16,
    "sm_clock_default_mhz": 1755, "sm_clock_max_mhz": 1980, "processes": [{"pid": 9}],
}  # fmt: skip
HOST = {
    "cpu_model": "C", "logical_cores": 4, "usable_cores": 2, "memory_bytes": 2**34, "kernel": "6.1", "os": "Debian",
    "governor": "powersave", "turbo": "0", "clock_source": "tsc", "hypervisor": "KVM",
}  # fmt: skip


def test_every_condition_is_joined_to_every_cell(build: Build, opened: Opened) -> None:
    run = build(device="gpu0", device_name="G", uuid="GPU-1")
    run.run_json(
        devices=[DEVICE], host=HOST, seed=7, command="invoke bench --gpu 0", source_revision="abc+changes",
        settings={"cool_to_c": 45}, power={"gpu0": {"recording": True, "no_cpu_energy": "root only"}, "gpu1": 3},
    )  # fmt: skip
    for size in (1, 2):
        run.cell(batch_size=size, durations_ns=[MS] * 20, runner="docker", image_digest="sha256:1")
    rows = opened(run).query("FROM cells")
    assert len(rows) == 2
    renamed = {"memory_bytes": "device_memory_bytes", "processes": "foreign_processes"}
    expected: dict[str, Any] = {renamed.get(name, name): value for name, value in DEVICE.items()}
    expected |= {name: value for name, value in HOST.items() if name != "hypervisor"}
    expected |= {
        "foreign_processes": 1, "ecc": "on", "persistence": "off", "mig_mode": "off", "virtualization": "KVM", "seed": 7,
        "runner": "docker", "image_digest": "sha256:1", "command": "invoke bench --gpu 0", "source_revision": "abc+changes",
        "cool_to_c": 45, "load_average_start": 0.5, "no_cpu_energy": "root only",
    }  # fmt: skip
    expected["device_uuid"], expected["device_name"] = expected.pop("uuid"), expected.pop("name")
    for row in rows:
        assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("waited", "why"),
    [
        ({"seconds": 12.0, "temperature_c": 45, "target_c": 45}, None),
        ({"seconds": 300.0, "temperature_c": 61, "target_c": 45}, "61 C instead of 45 C"),
        ({"seconds": 0.0, "temperature_c": None, "target_c": 45}, "temperature unknown"),
    ],
)
def test_a_cell_that_began_too_warm_is_marked(
    build: Build, opened: Opened, waited: dict[str, Any], why: str | None
) -> None:
    run = build()
    key = Cell("ResNet50", "onnxrt", "fp32", 8).key
    run.run_json(cooling={key: waited, "junk": 3})
    run.cell(durations_ns=[MS] * 20)
    assert [row["why"] for row in opened(run).query("FROM marks WHERE mark = 'warm'")] == ([why] if why else [])


def _metered(build: Callable[..., Any], length_ms: int, low_w: float, high_w: float, warm_ms: int = 0) -> Any:
    """A window at high_w, which began warm_ms before it, within low_w; a true counter and true power every 20 ms."""
    run = build(device="gpu0", device_name="G", uuid="GPU-1")
    start = run.now_ns
    run.cell(durations_ns=[10 * MS] * (length_ms // 10), idle_ns=2 * SECOND)
    end = start + length_ms * MS
    rows = []
    for t in range(start - 2 * SECOND, end + 3 * SECOND, 20 * MS):
        inside = min(max(t, start - warm_ms * MS), end) - start
        joules = (low_w * (t - start) + (high_w - low_w) * inside) / 1e9 + 1e6
        rows.append({
            "t_ns": t, "domain": "gpu", "uuid": "GPU-1", "device": 0, "power_source": "instant", "energy_mj": joules * 1000,
            "power_mw": 1000 * (high_w if start - warm_ms * MS <= t < end else low_w), "event_reasons": 0, "temperature_c": 60,
        })  # fmt: skip
    (run.folder / "power.csv").write_text(schema.to_csv("power.csv", rows))
    return run


def test_energy_of_a_burst_is_marked_as_coarse_and_of_a_long_window_is_not(build: Build, opened: Opened) -> None:
    burst = opened(_metered(build, 400, 80, 300))
    (mark,) = burst.query("FROM marks WHERE mark = 'energy_coarse'")
    (row,) = burst.query("SELECT gross_j, uncertainty_j, net_j, net_uncertainty_j FROM energy")
    assert row["uncertainty_j"] > 0.05 * row["gross_j"]
    both = [("", "gross_j", "uncertainty_j"), ("net ", "net_j", "net_uncertainty_j")]
    assert mark["why"] == "gpu: " + ", ".join(f"{n}{row[a]:.2f} J, give or take {row[b]:.2f} J" for n, a, b in both)


def test_a_long_window_at_constant_power_is_not_coarse(build: Build, opened: Opened) -> None:
    long = opened(_metered(build, 5000, 80, 300, warm_ms=1000))
    assert long.query("FROM marks WHERE mark = 'energy_coarse'") == []
    assert long.query("SELECT uncertainty_j FROM energy")[0]["uncertainty_j"] > 0


@pytest.mark.parametrize("reason", ["energy_uj may be read by root only", ""])
def test_energy_of_the_cpu_that_is_unknown_is_said_under_the_table(build: Build, opened: Opened, reason: str) -> None:
    run = _metered(build, 5000, 80, 300)
    run.run_json(power={"gpu0": {"recording": True, "reason": "", "no_cpu_energy": reason}})
    database = opened(run)
    (table,) = tables.build(database, tables.load(database, Selection()), ["joules_per_image"])
    footers = [footer for footer in table.footers if footer.startswith("Energy of CPU and DRAM is unknown")]
    assert footers == ([f"Energy of CPU and DRAM is unknown on G: {reason}."] if reason else [])


def test_marks_are_explained_under_the_table(build: Build, opened: Opened) -> None:
    run = build()
    run.cell(durations_ns=[MS] * 20, load_average_end=9.0)
    database = opened(run)
    (table,) = tables.build(database, tables.load(database, Selection()), ["throughput"])
    assert any(footer.startswith("l  something else wanted the CPUs") for footer in table.footers)
