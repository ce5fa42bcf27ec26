"""Boards whose true energy is known: a power curve, what NVML and the sidecar would have made of it, a run folder.

The board: readings change every `step_s` and are the mean of the true power over the `sensing_s` before, `lag_s` late;
the energy counter is the true energy (or what the sensor saw of it), `lag_s` late, shown at the same steps in whole mJ,
kept in 32 bits.
The sidecar: reads each `interval_s` with jitter, loses single readings and now and then a few hundred ms of them, and
needs `energy_read_s` for the counter, which it reads each `energy_interval_s`. All times are seconds, powers watts.
"""

from __future__ import annotations

import csv
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import schema
from common.cell import Cell
from common.sidecar.counter import Unwrapper
from common.sidecar.gpu import ENERGY_SPAN_MJ

Floats = NDArray[np.float64]


class Curve:
    """Power over time: `watts[i]` from `times[i]` to `times[i + 1]`, the last for ever, the first also before."""

    def __init__(self, times: Any, watts: Any) -> None:
        self.times = np.asarray(times, float)
        self.watts = np.asarray(watts, float)
        self._joules = np.concatenate([[0.0], np.cumsum(np.diff(self.times) * self.watts[:-1])])

    def joules(self, t: Any) -> Floats:
        """Exact energy from times[0] to t (negative before it)."""
        at = np.asarray(t, float)
        i = np.clip(np.searchsorted(self.times, at, side="right") - 1, 0, None)
        return np.asarray(self._joules[i] + (at - self.times[i]) * self.watts[i])


def inferences(
    start: float,
    end: float,
    period: float,
    duty: float,
    busy: float,
    rest: float,
    rng: np.random.Generator | None = None,
) -> tuple[Floats, Floats]:
    """Times and watts of a load that draws `busy` for a share `duty` of each period and `rest` in between.

    rng: makes each period vary by 5 % (standard deviation), as inference times do; without it they are all equal.
    """
    count = int((end - start) / period * 1.5) + 2
    periods = period * np.maximum(0.5, rng.normal(1, 0.05, count)) if rng else np.full(count, period)
    begins = start + np.concatenate([[0.0], np.cumsum(periods[:-1])])
    times = np.column_stack([begins, begins + duty * periods]).ravel()
    kept = times < end
    return times[kept], np.tile([busy, rest], count)[kept]


@dataclass(frozen=True)
class Board:
    step_s: float = 0.1
    sensing_s: float = 0.025
    lag_s: float = 0.0
    #: of the counter, where it is another; when it starts again at 0, if it does
    counter_lag_s: float | None = None
    counter_reset_s: float | None = None
    #: when the first step falls, 0 to step_s
    phase_s: float = 0.0
    counter: bool = True
    #: the counter adds up what the sensor saw of each step (as boards that look 25 % of the time may do), not the truth
    counter_from_sensor: bool = False
    counter_start_mj: int = 5_000_000
    power_source: str = "instant"
    compute_capability: str = "8.0"


@dataclass(frozen=True)
class Sidecar:
    interval_s: float = 0.02
    energy_interval_s: float = 0.1
    jitter_s: float = 0.001
    energy_read_s: float = 0.0028
    #: share of rounds that are lost
    missing: float = 0.02
    #: longest gap in which nothing is read at all; one of random length at a random moment
    gap_s: float = 0.0
    #: reads of the counter wait for the round after the one in which the power was renewed
    waits: bool = False


@dataclass
class Measurement:
    """One cell on one board: its window, its truth."""

    curve: Curve
    start_s: float
    end_s: float
    board: Board = field(default_factory=Board)
    sidecar: Sidecar = field(default_factory=Sidecar)
    #: (begin, end) of the idle phases after and before the load, and of the run's spell without a worker, where there are any
    idle: tuple[float, float] | None = None
    idle_before: tuple[float, float] | None = None
    without_context: tuple[float, float] | None = None
    images: int = 20

    @property
    def true_j(self) -> float:
        return float(self.curve.joules(self.end_s) - self.curve.joules(self.start_s))


def readings(m: Measurement, first_s: float, last_s: float, rng: np.random.Generator) -> dict[str, list[Any]]:
    """Columns of power.csv from first_s to last_s."""
    s, b = m.sidecar, m.board
    rounds = np.arange(first_s, last_s, s.interval_s)
    # every n-th round reads the counter, from an arbitrary one on, as absolute deadlines make it
    every = max(1, round(s.energy_interval_s / s.interval_s))
    reads_energy = (np.arange(len(rounds)) - rng.integers(every)) % every == 0
    begin = rounds + rng.exponential(s.jitter_s, len(rounds)) if s.jitter_s else rounds.copy()
    kept = rng.random(len(rounds)) >= s.missing
    if s.gap_s:
        gap_at = rng.uniform(first_s, last_s)
        kept &= ~((rounds > gap_at) & (rounds < gap_at + rng.uniform(0, s.gap_s)))
    if s.waits:
        step = np.floor((begin - b.phase_s) / b.step_s)
        renewed = np.flatnonzero(np.diff(step, prepend=step[0]) > 0) + 1
        later = renewed[np.minimum(np.searchsorted(renewed, np.flatnonzero(reads_energy)), len(renewed) - 1)]
        reads_energy = np.isin(np.arange(len(rounds)), later)
    begin, reads_energy = np.sort(begin[kept]), reads_energy[kept]
    done = begin + np.where(reads_energy, s.energy_read_s, 0.0)

    def last_step(t: Floats) -> Floats:
        return np.asarray(np.floor((t - b.phase_s) / b.step_s) * b.step_s + b.phase_s - b.lag_s)

    sensed = last_step(done)
    watts = (m.curve.joules(sensed) - m.curve.joules(sensed - b.sensing_s)) / b.sensing_s
    unwrap = Unwrapper(ENERGY_SPAN_MJ, certain=False)
    late = 0.0 if b.counter_lag_s is None else b.counter_lag_s - b.lag_s
    steps = last_step(begin) - late
    counted = b.counter_start_mj + np.floor(_counter_joules(m, steps) * 1000 + 1e-6)
    if b.counter_reset_s is not None and (again := steps >= b.counter_reset_s).any():
        counted = np.where(again, counted - counted[again][0], counted)
    energy = [
        int(unwrap(value % ENERGY_SPAN_MJ)) if reads and b.counter else ""
        for value, reads in zip(counted.tolist(), reads_energy.tolist(), strict=True)
    ]
    return {
        "t_ns": np.round(done * 1e9).astype(np.int64).tolist(),
        "power_mw": np.round(watts * 1000).astype(np.int64).tolist(),
        "energy_mj": energy,
    }


def _counter_joules(m: Measurement, steps: Floats) -> Floats:
    """The board's counter at its own steps, from the first of them on."""
    b = m.board
    if not b.counter_from_sensor:
        return m.curve.joules(steps) - m.curve.joules(steps[0])
    numbers = np.round((steps - steps[0]) / b.step_s).astype(int)
    each = steps[0] + np.arange(numbers[-1] + 1) * b.step_s
    seen = (m.curve.joules(each) - m.curve.joules(each - b.sensing_s)) / b.sensing_s * b.step_s
    return np.asarray((np.cumsum(seen) - seen[0])[numbers])


def write_run(folder: Path, measurements: list[Measurement], rng: np.random.Generator, around_s: float = 1.0) -> None:
    """A run folder with one cell and one GPU per measurement; replicate numbers tell them apart."""
    folder.mkdir(parents=True)
    spells = {
        f"gpu{number}": [dict(zip(("start_ns", "end_ns"), (round(t * 1e9) for t in m.without_context), strict=True))]
        for number, m in enumerate(measurements)
        if m.without_context
    }
    devices = [
        {"device": f"gpu{number}", "uuid": _uuid(number), "compute_capability": m.board.compute_capability}
        for number, m in enumerate(measurements)
    ]
    (folder / "run.json").write_text(json.dumps({"idle_without_context": spells, "devices": devices}))
    names = schema.header("power.csv")
    with (folder / "power.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for number, m in enumerate(measurements):
            last = max(m.end_s, m.idle[1] if m.idle else 0.0) + around_s
            first = min(m.start_s, *(spell[0] for spell in (m.idle_before, m.without_context) if spell), m.start_s)
            columns: dict[str, Any] = readings(m, first - around_s, last, rng)
            constant = {
                "domain": "gpu", "device": number, "uuid": _uuid(number), "power_source": m.board.power_source
            }  # fmt: skip
            rows = len(columns["t_ns"])
            columns |= {name: [value] * rows for name, value in constant.items()}
            writer.writerows(zip(*(columns.get(name, [""] * rows) for name in names), strict=True))
    for number, m in enumerate(measurements):
        _write_cell(folder / "cells", number, m)


def _uuid(number: int) -> str:
    return f"GPU-{number:08d}-0000-0000-0000-000000000000"


def _write_cell(cells: Path, number: int, m: Measurement) -> None:
    cell = Cell(
        model="simulated", variant="torch", precision="fp32", batch_size=1, device=f"gpu{number}", replicate=number
    )
    row = {
        **cell.to_dict(), "cell_key": cell.key, "device_uuid": _uuid(number), "status": "ok", "samples": m.images,
        "stop_reason": "budget", "min_seconds": 5.0, "max_seconds": 30.0,
    }  # fmt: skip
    edges = np.round(np.linspace(m.start_s, m.end_s, m.images + 1) * 1e9).astype(np.int64).tolist()
    phases = [{"phase": "measure", "start_ns": edges[0], "end_ns": edges[-1]}]
    for name, spell in (("idle_before", m.idle_before), ("idle", m.idle)):
        if spell:
            begin, end = (round(t * 1e9) for t in spell)
            phases.append({"phase": name, "start_ns": begin, "end_ns": end})
    samples = [{"i": i, "start_ns": begin, "end_ns": end} for i, (begin, end) in enumerate(itertools.pairwise(edges))]
    folder = cells / cell.key
    folder.mkdir(parents=True)
    (folder / "cell.csv").write_text(schema.to_csv("cell.csv", [row]))
    (folder / "phases.csv").write_text(schema.to_csv("phases.csv", phases))
    (folder / "samples.csv").write_text(schema.to_csv("samples.csv", samples))
