"""A window of one level against windows that drift, have a trend or shift."""

from __future__ import annotations

import numpy as np
import pytest

from common import steadiness
from common.harness.stopping import StoppingRule


def noise(seed: int, count: int, sd: float = 0.02, correlation: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(count)
    for i in range(1, count):
        values[i] = correlation * values[i - 1] + (1 - correlation**2) ** 0.5 * values[i]
    return np.exp(sd * values)


@pytest.mark.parametrize(("count", "correlation"), [(64, 0.0), (300, 0.3), (700, 0.6), (3000, 0.8)])
def test_a_level_is_steady_99_times_in_100(count: int, correlation: float) -> None:
    unsteady = sum(not steadiness.steady(noise(seed, count, correlation=correlation)) for seed in range(150))
    assert unsteady <= 9, "1 in 100, correlation that the groups do not average away, and the luck of the draw"


SHAPES = {
    "trend": lambda t: 1 + 0.03 * t,
    "shift": lambda t: 1 + 0.03 * (t > 0.5),
    "late shift": lambda t: 1 + 0.05 * (t > 0.85),
    "two clocks": lambda t: 1 + 0.03 * (np.floor(5 * t) % 2),
    "bow": lambda t: 1 + 0.03 * np.sin(np.pi * t),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_moves_is_seen_whatever_the_unit(shape: str) -> None:
    t = np.linspace(0, 1, 1000)
    for seed in range(10):
        series = noise(seed, 1000) * SHAPES[shape](t)
        assert not steadiness.steady(series)
        assert steadiness.slow_ratio(series) == pytest.approx(steadiness.slow_ratio(5e6 * series))


def test_spikes_and_short_windows_are_not_movement() -> None:
    spiky = noise(1, 1000)
    spiky[500:503] *= 50
    assert steadiness.steady(spiky)
    assert steadiness.slow_ratio(np.linspace(1, 2, steadiness.MIN_STEADY_SAMPLES - 1)) == 0
    assert steadiness.steady(np.ones(500))


def stopped(level: np.ndarray, seed: int = 0) -> str:
    stream = noise(seed, len(level), sd=0.003) * level * 6e6  # 6 ms each
    rule, elapsed = StoppingRule(5.0, 20, 30.0), 0.0
    for start in range(0, len(stream), 40):
        block = stream[start : start + 40]
        elapsed += float(block.sum()) / 1e9
        rule.add(block, elapsed)
        reason = rule.finished()
        if reason is not None:
            return reason
    return "none"


@pytest.mark.parametrize(("shape", "share"), [("trend", 0.03), ("shift", 0.03), ("bow", 0.03), ("two clocks", 0.03)])
def test_how_far_a_window_moves_is_reported_without_its_noise_and_spikes(shape: str, share: float) -> None:
    series = SHAPES[shape](np.linspace(0, 1, 1000)) * noise(3, 1000, sd=0.003)
    series[::70] *= 20
    assert 0.5 * share <= steadiness.movement(series) <= 1.3 * share
    assert steadiness.movement(5e6 * series) == pytest.approx(steadiness.movement(series))
    assert steadiness.movement(noise(4, 1000, sd=0.003)) < 0.002
    assert steadiness.movement(np.linspace(1, 2, steadiness.MIN_STEADY_SAMPLES - 1)) == 0


@pytest.mark.parametrize(("moves", "reason"), [(0.001, "converged"), (0.004, "converged"), (0.03, "unsteady")])
def test_a_movement_that_no_verdict_sees_is_none(moves: float, reason: str) -> None:
    """However significant: durations on a GPU scatter by 0.1 %."""
    t = np.arange(6000)
    level = 1 + moves / 2 * np.sin(t / 300)
    series = noise(6, 6000, sd=0.0005) * level
    assert not steadiness.steady(series)
    assert stopped(level, 6) == reason


def test_such_a_window_is_not_converged() -> None:
    t = np.arange(6000)
    for seed in range(5):
        assert stopped(np.ones(6000), seed) == "converged"
        assert stopped(1 + 0.015 * (t > 700), seed) == "unsteady"
        assert stopped(1 + 0.008 * np.sin(t / 500), seed) == "unsteady"
