"""Boards that measure energy badly, each kind with whole cells: 1 s of idling, 2 s of warm-up, 5 s of window, 1 s of idling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tests.analysis.nvml_simulator import Board, Curve, Measurement, Sidecar, inferences

Rng = np.random.Generator


def cell(
    rng: Rng, board: Board, sidecar: Sidecar | None = None, throttle: tuple[float, float] | None = None
) -> Measurement:
    """throttle: (s after the window's begin from which on, share of the load's power that is left)."""
    start = 1000 + rng.uniform(0, 1)
    end, warm = start + 5, start - 2
    idle, load = 60.0, rng.uniform(150, 400)
    times, watts = inferences(warm, end, rng.uniform(0.003, 0.019), 0.7, load, 0.8 * load, rng)
    if throttle:
        watts = np.where(times >= start + throttle[0], idle + (watts - idle) * throttle[1], watts)
    curve = Curve([warm - 3, *times, end], [idle, *watts, idle])
    return Measurement(
        curve, start, end, replace(board, phase_s=rng.uniform(0, 0.1)), sidecar or Sidecar(), idle=(end, end + 1),
        idle_before=(warm - 1, warm), images=500,
    )  # fmt: skip


def _averaging(counter: bool, compute_capability: str = "8.6") -> Board:
    return Board(sensing_s=1.0, counter=counter, power_source="usage", compute_capability=compute_capability)


def in_step(rng: Rng) -> Measurement:
    """A load that repeats with the sensor's looks, which last a quarter of the time; the counter adds up what it saw."""
    start, load = 1000 + rng.uniform(0, 0.1), rng.uniform(150, 400)
    times, watts = inferences(start - 2, start + 5, 0.1, 0.5, load, 0.4 * load)
    curve = Curve([start - 5, *times, start + 5], [60, *watts, 60])
    board = Board(phase_s=rng.uniform(0, 0.1), counter_from_sensor=True)
    return Measurement(
        curve, start, start + 5, board, idle=(start + 5, start + 6), idle_before=(start - 3, start - 2), images=50
    )


def short(rng: Rng, waits: bool, ripple: float = 0.2) -> Measurement:
    """3 s at 150 to 700 W, in which the counter is read three or four times; `waits`: in step with the board."""
    start, load, idle = 1000 + rng.uniform(0, 0.1), rng.uniform(150, 700), rng.uniform(60, 130)
    rest = max(idle, load * rng.uniform(1 - ripple, 1))
    times, watts = inferences(start - 2, start + 3, rng.uniform(0.002, 0.02), rng.uniform(0.3, 0.95), load, rest, rng)
    board = Board(phase_s=rng.uniform(0, 0.1), lag_s=rng.uniform(0, 0.1), counter_from_sensor=rng.random() < 0.5)
    return Measurement(
        Curve([start - 6, *times, start + 3], [idle, *watts, idle]), start, start + 3, board,
        Sidecar(energy_interval_s=0.9, waits=waits), idle=(start + 3.1, start + 4.1), idle_before=(start - 3.5, start - 2.5),
        images=500,
    )  # fmt: skip


def _near_the_end(rng: Rng) -> tuple[float, float]:
    return rng.uniform(4.2, 4.9), 0.4


#: kind -> a measurement of it
KINDS: dict[str, Callable[[Rng], Measurement]] = {
    "counter read every 0.5 to 3 s": lambda rng: cell(rng, Board(), Sidecar(energy_interval_s=rng.uniform(0.5, 3))),
    "counter up to 0.5 s late": lambda rng: cell(rng, Board(counter_lag_s=rng.uniform(0.1, 0.5))),
    "counter up to 0.5 s late, a throttle near the end": lambda rng: cell(
        rng, Board(counter_lag_s=rng.uniform(0.1, 0.5)), throttle=_near_the_end(rng)
    ),
    "counter and power late, a throttle near the end": lambda rng: cell(
        rng, Board(lag_s=rng.uniform(0.1, 0.5)), throttle=_near_the_end(rng)
    ),
    "averages over 1 s, no counter": lambda rng: cell(rng, _averaging(False)),
    "averages over 1 s, no counter, a throttle at half": lambda rng: cell(rng, _averaging(False), throttle=(2.5, 0.5)),
    "averages over 1 s, no counter, a throttle near the end": lambda rng: cell(
        rng, _averaging(False), throttle=_near_the_end(rng)
    ),
    "averages over 1 s and a counter, a throttle near the end": lambda rng: cell(
        rng, _averaging(True), throttle=_near_the_end(rng)
    ),
    "averages over 1 s, compute capability unknown": lambda rng: cell(rng, _averaging(True, "")),
    "counter starts again within the window": lambda rng: _reset(rng, rng.uniform(0.5, 4.5)),
    "counter starts again before the window": lambda rng: _reset(rng, -rng.uniform(0.05, 1)),
    "a load in step with a sensor that looks 25 % of the time": in_step,
    "3 s, counter read every 0.9 s": lambda rng: short(rng, False),
    "3 s, counter read every 0.9 s in step with the board": lambda rng: short(rng, True),
    "3 s, counter read every 0.9 s, half of the power comes and goes": lambda rng: short(rng, False, 0.5),
}


def _reset(rng: Rng, after_s: float) -> Measurement:
    m = cell(rng, Board(counter_start_mj=int(rng.uniform(1e4, 5e5))))
    return replace(m, board=replace(m.board, counter_reset_s=m.start_s + after_s))
