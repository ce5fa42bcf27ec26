"""Energy against devices whose true power is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from analysis.results import tables
from analysis.results.all_intervals import all_intervals
from analysis.results.selection import Selection
from common import schema
from common.cell import Cell
from tests.analysis.conftest import Build, Opened

MS = 10**6
SECOND = 10**9
UUID = "GPU-1"
LOAD_W, IDLE_W = 300.0, 80.0


def gpu_run(build: Callable[..., Any], name: str = "run", durations: int = 500) -> tuple[Any, int, int, int]:
    """A 5 s window and 2 s of idle after it; returns the run and (begin, end of window, end of idle)."""
    run = build(name, device="gpu0", device_name="Test GPU", uuid=UUID)
    start = run.now_ns
    run.cell(batch_size=8, durations_ns=[10 * MS] * durations, idle_ns=2 * SECOND)
    return run, start, start + durations * 10 * MS, start + durations * 10 * MS + 2 * SECOND


def meter(
    start: int,
    end: int,
    energy_at: Callable[[int], float] | None,
    power_at: Callable[[int], float] | None,
    step_ns: int = 100 * MS,
    poll_ns: int = 20 * MS,
    phase_ns: int = 37 * MS,
    **columns: Any,
) -> Iterator[Mapping[str, Any]]:
    """Readings every poll_ns of a counter that steps every step_ns; energies in J, powers in W."""
    for t in range(start - 3 * SECOND, end + 3 * SECOND, poll_ns):
        stepped = (t - phase_ns) // step_ns * step_ns + phase_ns
        yield {
            "t_ns": t, "domain": "gpu", "uuid": UUID, "device": 0, "power_source": "instant",
            "power_mw": None if power_at is None else power_at(t) * 1000,
            "energy_mj": None if energy_at is None else energy_at(stepped) * 1000,
            "event_reasons": 0, "sm_clock_mhz": 1500, "temperature_c": 60, **columns,
        }  # fmt: skip


def step_load(start: int, end: int) -> tuple[Callable[[int], float], Callable[[int], float]]:
    """Energy in J since long ago and power in W of a device that works in the window and warms up for 2 s before it."""
    begin = start - 2 * SECOND

    def power(t: int) -> float:
        return LOAD_W if begin <= t < end else IDLE_W

    def energy(t: int) -> float:
        return IDLE_W * (t - start) / 1e9 + (LOAD_W - IDLE_W) * (min(max(t, begin), end) - begin) / 1e9 + 1e6

    return energy, power


def energy_of(database: Any, name: str = "gpu") -> dict[str, Any]:
    rows = database.query("FROM energy WHERE class = $1", [name])
    assert len(rows) == 1
    return dict(rows[0])


@pytest.mark.parametrize("phase_ms", [0, 13, 37, 61, 99])
def test_a_load_that_steps_with_the_window(build: Build, opened: Opened, phase_ms: int) -> None:
    run, start, end, idle_end = gpu_run(build)
    energy, power = step_load(start, end)
    run.power(meter(start, idle_end, energy, power, phase_ns=phase_ms * MS))
    database = opened(run)
    row = energy_of(database)
    assert row["basis"] == "counter"
    assert row["counter_j"] == pytest.approx(1500, rel=0.02)
    assert row["integral_j"] == pytest.approx(1500, rel=0.02)
    assert row["idle_w"] == pytest.approx(IDLE_W, rel=0.06)
    assert row["net_j"] == pytest.approx(1500 - 5 * row["idle_w"], rel=0.02)
    assert row["suspect"] is None
    result = database.query("FROM results")[0]
    assert result["joules_per_image"] == pytest.approx(row["gross_j"] / 4000)
    assert result["power_gross_w"] == pytest.approx(row["gross_j"] / 5)
    assert result["images_per_joule"] == pytest.approx(4000 / row["gross_j"])
    assert result["energy_delay_js"] == pytest.approx(row["gross_j"] / 4000 * 5 / 4000)


def test_constant_power_is_exact_and_never_zero(build: Build, opened: Opened) -> None:
    run, start, _, idle_end = gpu_run(build)
    run.power(meter(start, idle_end, lambda t: 100 * t / 1e9, lambda t: 100.0, phase_ns=0))
    row = energy_of(opened(run))
    assert row["counter_j"] == pytest.approx(500, rel=1e-3)
    assert row["integral_j"] == pytest.approx(500, rel=1e-9)
    assert row["net_j"] == pytest.approx(0, abs=0.1)


def test_a_device_without_a_counter_uses_the_integral_and_says_so(build: Build, opened: Opened) -> None:
    run, start, end, idle_end = gpu_run(build)
    run.run_json(devices=[{"device": "gpu0", "uuid": UUID, "compute_capability": "7.0"}])
    run.power(meter(start, idle_end, None, step_load(start, end)[1], power_source="usage"))
    database = opened(run)
    row = energy_of(database)
    assert (row["basis"], row["counter_j"], row["power_source"]) == ("integral", None, "usage")
    assert row["gross_j"] == pytest.approx(1500, rel=0.02)
    assert [mark["mark"] for mark in database.query("FROM marks")] == ["energy_integral"]


def test_disagreement_is_marked_with_both_figures(build: Build, opened: Opened) -> None:
    run, start, end, idle_end = gpu_run(build)
    energy, power = step_load(start, end)
    run.power(meter(start, idle_end, energy, lambda t: 0.9 * power(t)))
    database = opened(run)
    assert "differ by" in energy_of(database)["suspect"]
    assert [mark["mark"] for mark in database.query("FROM marks")] == ["energy_suspect"]


def test_a_hole_in_the_readings_is_marked(build: Build, opened: Opened) -> None:
    run, start, end, idle_end = gpu_run(build)
    energy, power = step_load(start, end)
    hole = range(start + SECOND, start + 3 * SECOND)
    run.power([row for row in meter(start, idle_end, energy, power) if row["t_ns"] not in hole])
    assert energy_of(opened(run))["suspect"].startswith("no power reading for 2.0 s")


def test_a_counter_that_starts_again_is_not_believed(build: Build, opened: Opened) -> None:
    run, start, end, idle_end = gpu_run(build)
    energy, power = step_load(start, end)
    run.power(meter(start, idle_end, lambda t: energy(t) - (1e6 if t > start + SECOND else 0), power))
    row = energy_of(opened(run))
    assert row["suspect"] == "the energy counter ran backwards within the window"
    assert (row["basis"], row["gross_j"]) == ("integral", pytest.approx(1500, rel=0.02))


def test_readings_that_end_early_leave_energy_unknown(build: Build, opened: Opened) -> None:
    run, start, end, idle_end = gpu_run(build)
    energy, power = step_load(start, end)
    run.power([row for row in meter(start, idle_end, energy, power) if row["t_ns"] < start + 2 * SECOND])
    database = opened(run)
    assert database.query("FROM energy") == []
    (result,) = database.query("SELECT joules_per_image, images_per_s FROM results")
    assert result["joules_per_image"] is None and result["images_per_s"] > 0
    (mark,) = database.query("FROM marks")
    assert (mark["mark"], mark["why"]) == ("no_power", "gpu: readings end 2.0 s into the window of 5.0 s")
    (table,) = tables.build(database, tables.load(database, Selection()), ["throughput"])
    assert any(footer.startswith("m  no power was recorded while") for footer in table.footers)


def test_a_cell_after_the_sidecars_death_is_marked_and_the_one_before_is_not(build: Build, opened: Opened) -> None:
    run, start, end, idle_end = gpu_run(build)
    energy, power = step_load(start, end)
    run.cell(batch_size=16, durations_ns=[10 * MS] * 500)
    run.power([row for row in meter(start, idle_end, energy, power) if row["t_ns"] < idle_end])
    database = opened(run)
    assert len(database.query("FROM energy")) == 1
    (mark,) = database.query("FROM marks WHERE mark = 'no_power'")
    assert "_b0016_" in mark["cell_key"] and mark["why"] == "gpu: readings end 1.0 s before the window"


@pytest.mark.parametrize("columns", [{"uuid": "GPU-2", "device": 1}, {}])
def test_without_a_meter_of_its_own_no_cell_is_missing_power(
    build: Build, opened: Opened, columns: dict[str, Any]
) -> None:
    """Another GPU's readings, or a board that tells neither power nor energy: there never was anything to be had."""
    run, start, _, idle_end = gpu_run(build)
    run.power(meter(start, idle_end, None, (lambda t: 5.0) if columns else None, **columns))
    assert opened(run).query("FROM marks WHERE mark = 'no_power'") == []


def test_idle_before_and_after_and_without_a_context(build: Build, opened: Opened) -> None:
    """The level of the idle phases is read at the window's middle from the line through both."""
    run, start, end, _ = gpu_run(build)
    (folder,) = (run.folder / "cells").iterdir()
    phases = [
        {"phase": "idle_before", "start_ns": start - 3 * SECOND, "end_ns": start - 2 * SECOND},
        {"phase": "measure", "start_ns": start, "end_ns": end},
        {"phase": "idle", "start_ns": end + SECOND, "end_ns": end + 2 * SECOND},
    ]
    (folder / "phases.csv").write_text(schema.to_csv("phases.csv", phases))
    spell = {"start_ns": start - 9 * SECOND, "end_ns": start - 8 * SECOND}
    run.run_json(idle_without_context={"gpu0": [spell, {"start_ns": "junk"}, 7], "gpu1": [spell], "cpu": 3})

    def power(t: int) -> float:
        return 60 if t < start - 5 * SECOND else 100 if t < start - SECOND else 300 if t < end else 109

    run.power(meter(start - 10 * SECOND, end + 2 * SECOND, None, power))
    database = opened(run)
    row = energy_of(database)
    # middles of what counts: 2.25 s before the window and 6.75 s after its begin, so that 2.5 s is 4.75 of 9 on the way
    assert (row["idle_before_w"], row["idle_after_w"]) == (pytest.approx(100), pytest.approx(109))
    assert row["idle_w"] == pytest.approx(100 + 9 * 4.75 / 9)
    assert row["net_j"] == pytest.approx(row["gross_j"] - 5 * row["idle_w"])
    assert row["idle_without_context_w"] == pytest.approx(60)
    assert database.query("SELECT idle_without_context_w AS w FROM comparison")[0]["w"] == pytest.approx(60)
    (table,) = tables.build(database, tables.load(database, Selection()), ["joules_per_image_net"])
    assert "Idle on Test GPU: 104.8 W with a worker's context open, 60.0 W without one." in table.footers


def test_no_power_file_is_unknown_not_zero(build: Build, opened: Opened) -> None:
    run, *_ = gpu_run(build)
    assert opened(run).query("SELECT joules_per_image, power_gross_w FROM results") == [
        {"joules_per_image": None, "power_gross_w": None}
    ]


def test_another_gpu_is_another_meter(build: Build, opened: Opened) -> None:
    run, start, end, idle_end = gpu_run(build)
    energy, power = step_load(start, end)
    run.power(meter(start, idle_end, energy, power))
    run.power(meter(start, idle_end, lambda t: t / 1e9, lambda t: 1.0, uuid="GPU-2", device=1), name="power-1.csv")
    assert energy_of(opened(run))["gross_j"] == pytest.approx(1500, rel=0.02)


def test_package_and_dram_stand_beside_the_gpu_and_two_sockets_add_up(build: Build, opened: Opened) -> None:
    run, start, end, idle_end = gpu_run(build)
    energy, power = step_load(start, end)
    rows = list(meter(start, idle_end, energy, power))
    blank = {"uuid": None, "device": None, "power_source": None, "event_reasons": None, "sm_clock_mhz": None}
    for domain, watts in (("package-0", 50), ("package-1", 30), ("dram-0", 5)):
        rows += meter(
            start, idle_end, lambda t, w=watts: w * t / 1e9, None, step_ns=MS, phase_ns=0,
            domain=domain, temperature_c=None, **blank,
        )  # fmt: skip
    run.power(sorted(rows, key=lambda row: row["t_ns"]))
    database = opened(run)
    assert energy_of(database)["gross_j"] == pytest.approx(1500, rel=0.02)
    package = energy_of(database, "package")
    assert (package["meters"], package["basis"]) == (2, "counter")
    assert package["gross_j"] == pytest.approx(400, rel=1e-6)
    result = database.query("FROM results")[0]
    assert result["dram_joules_per_image"] == pytest.approx(25 / 4000, rel=1e-6)


def test_a_falling_share_of_clock_event_reasons(build: Build, opened: Opened) -> None:
    run, start, end, idle_end = gpu_run(build)
    energy, power = step_load(start, end)
    slow = range(start + SECOND, start + 2 * SECOND)
    rows = [
        {
            **row,
            "event_reasons": 4 | 64 if row["t_ns"] in slow else 0,
            "temperature_c": 60 + (row["t_ns"] - start) // SECOND,
        }
        for row in meter(start, idle_end, energy, power)
    ]
    run.power(rows)
    database = opened(run)
    row = database.query("FROM conditions")[0]
    assert row["share_hardware_thermal"] == pytest.approx(0.2, abs=0.01)
    assert row["share_power_cap"] == pytest.approx(0.2, abs=0.01)
    assert row["share_hardware_slowdown"] == 0
    assert (row["temperature_start_c"], row["temperature_end_c"]) == (60, 64)
    assert {mark["mark"] for mark in database.query("FROM marks")} == {"slowdown"}


def test_published_passes_and_energies_keep_their_own_measure(build: Build, opened: Opened) -> None:
    run = build(device="gpu0", device_name="Test GPU", uuid=UUID)
    folder = run.cell(batch_size=8, origin="a study")
    (folder / "passes.csv").write_text(
        schema.to_csv("passes.csv", [{"i": i, "images": 512, "duration_s": s} for i, s in enumerate((0.5, 1.0))])
    )
    regions = [
        {"i": i, "domain": domain, "energy_mj": energy, "time_ns": 0.6e9 + i * 1e8, "source": "meter"}
        for i in range(2)
        for domain, energy in (("gpu", 60e3 + i * 1e3), ("package-0", 5e3))
    ]
    (folder / "energy.csv").write_text(schema.to_csv("energy.csv", regions))
    database = opened(run)
    assert database.problems == []
    row = database.query("FROM results")[0]
    assert row["images_per_s"] == pytest.approx((1024 + 512) / 2, rel=1e-12)
    assert row["seconds_per_image"] == pytest.approx(0.75 / 512, rel=1e-12)
    assert row["median_ms"] is None
    assert row["power_gross_w"] == pytest.approx(121 / 1.3, rel=1e-12)
    assert row["joules_per_image"] == pytest.approx(121 / 1024, rel=1e-12)
    assert row["energy_delay_js"] == pytest.approx(60.5 * 0.65 / 512**2, rel=1e-12)
    assert row["package_joules_per_image"] == pytest.approx(10 / 1024, rel=1e-12)


@pytest.mark.parametrize(
    "junk",
    [
        b"123,",
        b'1,"gpu,,,\n',
        b"1,gpu,,,nan,,,,,,,,,,\n",
        b"\x00\x01\n",
        b"5,gpu,,,100,,,,,,,,,,,\n",
        b"1,gpu,,,-4,,,,,,,,,,\n",
    ],
)
def test_a_damaged_power_file_costs_its_lines(build: Build, opened: Opened, junk: bytes) -> None:
    run, start, end, idle_end = gpu_run(build)
    energy, power = step_load(start, end)
    run.power(meter(start, idle_end, energy, power))
    with (run.folder / "power.csv").open("ab") as file:
        file.write(junk)
    database = opened(run)
    assert energy_of(database)["gross_j"] == pytest.approx(1500, rel=0.02)
    assert len(database.problems) == 1
    assert "power.csv:" in str(database.problems[0])
    assert database.exit_code == 1


def test_readings_of_another_boot_have_another_clock(build: Build, opened: Opened) -> None:
    """Power failed in the middle of the run; the second boot's clock passes the same instants, at another power."""
    run, start, end, idle_end = gpu_run(build)
    first = Cell("ResNet50", "onnxrt", "fp32", 8, device="gpu0").key
    run.now_ns = start + 2 * SECOND
    run.cell(batch_size=16, durations_ns=[10 * MS] * 500, idle_ns=2 * SECOND)
    again, again_end = start + 2 * SECOND, start + 7 * SECOND
    energy, power = step_load(start, end)
    run.power(meter(start, idle_end, energy, power), name="power-boot1.csv")
    run.power(
        meter(again - 2 * SECOND, again_end + 2 * SECOND, None, lambda t: 500.0 if again <= t < again_end else 50.0)
    )
    spell = {"start_ns": start - 29 * SECOND // 10, "end_ns": start - 21 * SECOND // 10}
    before = {"boot_id": "a", "cells": [first], "power": ["power-boot1.csv"], "idle_without_context": {"gpu0": [spell]}}
    run.run_json(boot_id="b", earlier_boots=[before], idle_without_context={"gpu0": [{**spell}]})
    database = opened(run)
    assert database.problems == []
    rows = {row["cell_key"]: row for row in database.query("FROM energy")}
    assert len(rows) == 2 and database.query("FROM marks WHERE mark = 'energy_suspect'") == []
    one, two = rows[first], next(row for key, row in rows.items() if key != first)
    assert (one["gross_j"], one["basis"]) == (pytest.approx(1500, rel=0.02), "counter")
    assert (two["gross_j"], two["basis"]) == (pytest.approx(2500, rel=0.02), "integral")
    assert (one["idle_w"], two["idle_w"]) == (pytest.approx(80, rel=0.06), pytest.approx(50, rel=0.06))
    assert (one["idle_without_context_w"], two["idle_without_context_w"]) == (pytest.approx(80), pytest.approx(50))
    assert database.query("SELECT count(*) AS n FROM conditions") == [{"n": 2}]
    found = all_intervals(database, tables.load(database, Selection()))
    for key, watts in ((first, 300), (two["cell_key"], 500)):
        interval = found[(key,), run.folder.name, "joules_per_image"]
        images = 4000 if key == first else 8000
        assert interval.estimate == pytest.approx(5 * watts / images, rel=0.02)


@pytest.mark.parametrize("junk", [3, [3, {"cells": 4, "power": {}}], [{"cells": ["x", 3], "idle_without_context": []}]])
def test_junk_about_boots_is_unknown(build: Build, opened: Opened, junk: Any) -> None:
    run, start, end, idle_end = gpu_run(build)
    run.run_json(earlier_boots=junk)
    energy, power = step_load(start, end)
    run.power(meter(start, idle_end, energy, power))
    assert energy_of(opened(run))["gross_j"] == pytest.approx(1500, rel=0.02)
