"""The SQL view `energy` against boards whose true energy is known (nvml_simulator.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.database.open_runs import open_runs
from common.sidecar.gpu import ENERGY_SPAN_MJ
from tests.analysis.nvml_simulator import Board, Curve, Measurement, Sidecar, inferences, write_run


def _board(rng: np.random.Generator, **known: Any) -> Board:
    """Steps of 100 ms at any phase, up to 100 ms late; half of the counters pass 2**32 mJ within or near the window."""
    near_its_end = int(ENERGY_SPAN_MJ - rng.uniform(0, 4e6))
    start = near_its_end if rng.random() < 0.5 else int(rng.uniform(1, 1e9))
    return Board(lag_s=rng.uniform(0, 0.1), phase_s=rng.uniform(0, 0.1), counter_start_mj=start, **known)


def _steady(rng: np.random.Generator, ripple: float = 0.2, **board: Any) -> Measurement:
    """5 s of inferences of 2 to 25 ms at 150 to 700 W after 1.5 s of the same, then idle; readings lost for up to 0.2 s.

    ripple: between inferences the power falls by up to this share; boards smooth what their input sees.
    """
    busy, idle = rng.uniform(150, 700), rng.uniform(60, 130)
    start = 1000 + rng.uniform(0, 1)
    end = start + 5
    rest = max(idle, busy * rng.uniform(1 - ripple, 1))
    times, watts = inferences(start - 1.5, end, rng.uniform(0.002, 0.025), rng.uniform(0.3, 0.95), busy, rest, rng)
    curve = Curve([start - 3, *times, end], [idle, *watts, idle])
    return Measurement(curve, start, end, _board(rng, **board), Sidecar(gap_s=0.2), idle=(end + 0.1, end + 2.1))


def _warming(rng: np.random.Generator) -> tuple[Measurement, float, float]:
    """A whole cell: 1 s of idling, 1 to 8 s of warm-up, 5 s of window, 1 s of idling; idling costs up to 20 W more on a
    board that the load has warmed up, with a time constant of 5 to 60 s, and the load draws its own power on top of it.

    Returns it with the load's own power and the cold board's idle power, in W.
    """
    began = 1000 + rng.uniform(0, 1)
    start = began + 1 + rng.uniform(1, 8)
    end = start + 5
    load, idle, rise, slowness = rng.uniform(100, 500), rng.uniform(60, 130), rng.uniform(0, 20), rng.uniform(5, 60)
    times = np.sort(np.concatenate([np.arange(began - 2.5, end + 3, 0.01), [began + 1, start, end]]))
    warmed = np.clip(times - began - 1, 0, end - began - 1)
    own = np.where((times >= began + 1) & (times < end), load, 0.0)
    curve = Curve(times, idle + rise * (1 - np.exp(-warmed / slowness)) + own)
    measurement = Measurement(
        curve, start, end, _board(rng), Sidecar(gap_s=0.1), idle=(end, end + 1), idle_before=(began, began + 1),
        without_context=(began - 2, began - 1),
    )  # fmt: skip
    return measurement, load, idle


def _step(rng: np.random.Generator) -> Measurement:
    """5 s in which the power changes once and for all, as when a limit begins to bite."""
    start = 1000 + rng.uniform(0, 1)
    before, after = rng.uniform(150, 700, 2)
    times = [start - 3, start + rng.uniform(1, 4)]
    return Measurement(Curve(times, [before, after]), start, start + 5, _board(rng), Sidecar(gap_s=0.2))


def _burst(rng: np.random.Generator, **board: Any) -> Measurement:
    """0.1 to 2 s of 150 to 700 W out of idle and back."""
    start = 1000 + rng.uniform(0, 1)
    end = start + rng.uniform(0.1, 2)
    busy, idle = rng.uniform(150, 700), rng.uniform(60, 130)
    curve = Curve([start - 3, start, end], [idle, busy, idle])
    return Measurement(curve, start, end, _board(rng, **board), Sidecar(gap_s=0.1))


def _constant(rng: np.random.Generator, seconds: float, **board: Any) -> Measurement:
    start = 1000 + rng.uniform(0, 1)
    watts = rng.uniform(15, 700)
    return Measurement(Curve([start - 3], [watts]), start, start + seconds, _board(rng, **board))


def _energy(folder: Path, measurements: list[Measurement], seed: int, around_s: float = 0.8) -> list[dict[str, Any]]:
    """The rows of the view `energy`, in the order of the measurements, one each."""
    write_run(folder / "run", measurements, np.random.default_rng(seed), around_s)
    with open_runs([folder / "run"]) as database:
        assert [problem for problem in database.problems if problem.loses] == []
        rows = database.query("SELECT * FROM energy ORDER BY regexp_extract(cell_key, '_r([0-9]+)$', 1)::BIGINT")
    assert len(rows) == len(measurements)
    return rows


def _relative_errors(rows: list[dict[str, Any]], measurements: list[Measurement], column: str) -> np.ndarray:
    return np.array([row[column] / m.true_j - 1 for row, m in zip(rows, measurements, strict=True)])


def test_the_simulator_knows_its_truth() -> None:
    curve = Curve([0, 1, 2], [100, 300, 50])
    assert curve.joules([-1, 0, 0.5, 1, 1.5, 2, 4]).tolist() == [-100, 0, 50, 100, 250, 400, 500]
    times, watts = inferences(0, 1, 0.1, 0.25, 400, 200)
    assert Curve(times, watts).joules(1.0) == pytest.approx(0.25 * 400 + 0.75 * 200)


def test_steady_windows_of_5_s_are_within_2_percent(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    measurements = [_steady(rng, counter_from_sensor=i % 2 == 1) for i in range(400)]
    rows = _energy(tmp_path, measurements, 12)
    assert {row["basis"] for row in rows} == {"counter"}
    assert np.abs(_relative_errors(rows, measurements, "gross_j")).max() <= 0.02
    # the second estimate agrees, so that none of these right rows is called suspect
    assert np.abs(_relative_errors(rows, measurements, "integral_j")).max() <= 0.02
    assert [row["suspect"] for row in rows if row["suspect"]] == []
    within = [abs(row["gross_j"] - m.true_j) <= row["uncertainty_j"] for row, m in zip(rows, measurements, strict=True)]
    assert np.mean(within) >= 0.95
    # idle with the context open, although the readings of its first moments still show the load
    idle = [row["idle_w"] / m.curve.watts[-1] - 1 for row, m in zip(rows, measurements, strict=True)]
    assert np.quantile(np.abs(idle), 0.98) <= 0.02, "but where a gap hides the moment in which the load ended"
    net = [
        (row["net_j"] - (m.true_j - m.curve.watts[-1] * (m.end_s - m.start_s))) / m.true_j
        for row, m in zip(rows, measurements, strict=True)
    ]
    assert np.abs(net).max() <= 0.02


def test_net_of_an_idle_level_that_the_load_raises(tmp_path: Path) -> None:
    """What the load draws on top of idling is known here; the idle level after the window alone would understate it."""
    rng = np.random.default_rng(91)
    measurements, load_w, cold_w = zip(*(_warming(rng) for _ in range(300)), strict=True)
    rows = _energy(tmp_path, list(measurements), 92)
    known = {name: np.array([row[name] for row in rows]) for name in rows[0] if name.endswith(("_j", "_w"))}
    net_j, cold = 5 * np.array(load_w), np.array(cold_w)
    line = known["net_j"] / net_j - 1
    one_level = [(known["gross_j"] - 5 * known[name]) / net_j - 1 for name in ("idle_before_w", "idle_after_w")]
    assert np.abs(line).max() <= 0.02
    assert np.sqrt(np.mean(line**2)) <= 0.6 * min(np.sqrt(np.mean(error**2)) for error in one_level)
    # before the load, and before any worker, nothing has warmed the board
    for name in ("idle_before_w", "idle_without_context_w"):
        assert np.abs(known[name] / cold - 1).max() <= 0.01


@pytest.mark.parametrize("seconds", [1.0, 2.5])
def test_a_board_that_tells_averages_over_a_second_needs_longer_idle_phases(tmp_path: Path, seconds: float) -> None:
    """It still shows the load when the phase begins: too short a phase tells nothing, rather than something wrong."""
    rng = np.random.default_rng(95)
    measurements = []
    for _ in range(40):
        m = _steady(rng, sensing_s=1.0, power_source="average")
        measurements.append(replace(m, idle=(m.end_s, m.end_s + seconds)))
    rows = _energy(tmp_path, measurements, 96)
    if seconds < 1.5:
        assert {(row["idle_w"], row["net_j"]) for row in rows} == {(None, None)}
        return
    error = [row["idle_w"] / m.curve.watts[-1] - 1 for row, m in zip(rows, measurements, strict=True)]
    assert np.quantile(np.abs(error), 0.95) <= 0.02


def test_deep_ripple(tmp_path: Path) -> None:
    """Half of the power comes and goes with each inference. A counter of the true energy does not mind; where the board
    itself looks a quarter of the time, no reader can know what it missed, and the errors of a few windows are larger."""
    rng = np.random.default_rng(15)
    measurements = [_steady(rng, ripple=0.5, counter_from_sensor=i % 2 == 1) for i in range(300)]
    errors = np.abs(_relative_errors(_energy(tmp_path, measurements, 16), measurements, "gross_j"))
    assert errors[::2].max() <= 0.02
    assert np.quantile(errors[1::2], 0.95) <= 0.02


def test_a_step_within_the_window_is_within_the_stated_bound(tmp_path: Path) -> None:
    rng = np.random.default_rng(21)
    measurements = [_step(rng) for _ in range(150)]
    rows = _energy(tmp_path, measurements, 22)
    errors = np.array([row["gross_j"] - m.true_j for row, m in zip(rows, measurements, strict=True)])
    assert np.mean(np.abs(errors) <= [row["uncertainty_j"] for row in rows]) >= 0.95
    # late readings shift the window, so the error is the lateness (0.2 s at the worst) times the height of the step
    assert np.median(np.abs(_relative_errors(rows, measurements, "gross_j"))) <= 0.02


def test_a_board_without_a_counter_is_within_2_percent(tmp_path: Path) -> None:
    rng = np.random.default_rng(31)
    measurements = [_steady(rng, counter=False) for _ in range(150)]
    rows = _energy(tmp_path, measurements, 32)
    assert {row["basis"] for row in rows} == {"integral"}
    assert {row["counter_j"] for row in rows} == {None}
    assert np.abs(_relative_errors(rows, measurements, "gross_j")).max() <= 0.02


@pytest.mark.parametrize("counter", [True, False])
def test_bursts_are_within_the_stated_bound(tmp_path: Path, counter: bool) -> None:
    """In 95 % of 1,000 runs the truth lies within uncertainty_j of gross_j; and the bound is no blank cheque."""
    rng = np.random.default_rng(41 + counter)
    measurements = [_burst(rng, counter=counter) for _ in range(1000)]
    rows = _energy(tmp_path, measurements, 43, around_s=0.5)
    errors = np.array([row["gross_j"] - m.true_j for row, m in zip(rows, measurements, strict=True)])
    bounds = np.array([row["uncertainty_j"] for row in rows])
    assert np.mean(np.abs(errors) <= bounds) >= 0.95
    swing = np.array([m.curve.watts[1] - m.curve.watts[0] for m in measurements])
    assert np.quantile(bounds / swing, 0.95) <= 1.3, (
        "0.6 s of lateness and 0.3 s in short windows at full swing, and what steps add"
    )


def test_an_idle_load_is_measured_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(51)
    measurements = [_constant(rng, 5.0) for _ in range(50)]
    rows = _energy(tmp_path, measurements, 52)
    assert np.abs(_relative_errors(rows, measurements, "gross_j")).max() <= 0.005


@pytest.mark.parametrize("counter", [True, False])
def test_constant_power_never_gives_nothing(tmp_path: Path, counter: bool) -> None:
    """However short the window: within one step of the counter its difference is interpolated, never 0."""
    rng = np.random.default_rng(61 + counter)
    lengths = np.exp(rng.uniform(np.log(0.0005), np.log(0.5), 300))
    measurements = [_constant(rng, seconds, counter=counter) for seconds in lengths]
    rows = _energy(tmp_path, measurements, 63)
    assert min(row["gross_j"] for row in rows) > 0
    # right as well: what is left is the jitter of the readings at the edges of the counter's steps
    assert np.median(np.abs(_relative_errors(rows, measurements, "gross_j"))) <= 0.02


def test_a_counter_that_stands_still_is_not_believed(tmp_path: Path) -> None:
    """Power says 300 W, the counter stays where it is: the integral counts, not 0 J."""
    rng = np.random.default_rng(71)
    measurements = [_constant(rng, 5.0, counter=True) for _ in range(5)]
    write_run(tmp_path / "run", measurements, rng)
    power = tmp_path / "run" / "power.csv"
    lines = [line.split(",") for line in power.read_text().splitlines()]
    place = lines[0].index("energy_mj")
    for fields in lines[1:]:
        fields[place] = "5000" if fields[place] else ""
    power.write_text("".join(",".join(fields) + "\n" for fields in lines))
    with open_runs([tmp_path / "run"]) as database:
        rows = database.query("SELECT * FROM energy ORDER BY cell_key")
    assert {row["basis"] for row in rows} == {"integral"}
    assert np.abs(_relative_errors(rows, measurements, "gross_j")).max() <= 0.005


def test_a_counter_that_starts_again_within_the_window_is_not_believed(tmp_path: Path) -> None:
    """A reloaded driver: what the counter missed is unknown, and the row says so."""
    rng = np.random.default_rng(81)
    (measurement,) = (replace(_constant(rng, 5.0), board=Board(counter_start_mj=900_000_000)),)
    write_run(tmp_path / "run", [measurement], rng)
    power = tmp_path / "run" / "power.csv"
    lines = [line.split(",") for line in power.read_text().splitlines()]
    place, middle = lines[0].index("energy_mj"), (measurement.start_s + 2.5) * 1e9
    for fields in lines[1:]:
        if fields[place] and int(fields[0]) > middle:
            fields[place] = str(int(fields[place]) - 899_000_000)
    power.write_text("".join(",".join(fields) + "\n" for fields in lines))
    with open_runs([tmp_path / "run"]) as database:
        (row,) = database.query("SELECT * FROM energy")
    assert row["basis"] == "integral" and "backwards" in row["suspect"]
    assert row["gross_j"] == pytest.approx(measurement.true_j, rel=0.005)
