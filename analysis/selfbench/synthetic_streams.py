"""Streams of durations whose truth is known: what the statistics are tried on. All in ns around LEVEL."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 1e6


def independent(rng: np.random.Generator, count: int, noise: float, shape: str = "normal") -> Floats:
    """Independent samples with this coefficient of variation. shape: normal, lognormal or gamma (both skewed right)."""
    if shape == "lognormal":
        return LEVEL * rng.lognormal(0, noise, count)
    if shape == "gamma":
        return LEVEL * rng.gamma(1 / noise**2, noise**2, count)
    return LEVEL * np.maximum(1 + noise * rng.standard_normal(count), 0.01)


def autoregressive(rng: np.random.Generator, count: int, noise: float, correlation: float, runs: int = 1) -> Floats:
    """(runs, count) lognormal AR(1) samples, stationary from the start; the median is LEVEL."""
    values = rng.standard_normal((runs, count))
    fresh = float(np.sqrt(1 - correlation**2))
    for t in range(1, count):
        values[:, t] = correlation * values[:, t - 1] + fresh * values[:, t]
    out: Floats = LEVEL * np.exp(noise * values)
    return out


def autoregressive_percentile(noise: float, percentile: float) -> float:
    """True percentile of `autoregressive`."""
    return LEVEL * float(np.exp(noise * NormalDist().inv_cdf(percentile / 100)))


def drifting(stream: Floats, per_hundred: float) -> Floats:
    """The stream on a straight line that rises by this share of LEVEL in 100 samples; falling lines never cross 0."""
    line = per_hundred * np.arange(len(stream)) / 100
    return stream * (1 + line) if per_hundred >= 0 else stream / (1 - line)


def ramping(stream: Floats, height: float, samples: float) -> Floats:
    """The stream while a clock settles: slower by `height` at first, by a factor e less after each `samples`."""
    return stream * (1 + height * np.exp(-np.arange(len(stream)) / samples))


def bimodal(
    rng: np.random.Generator, count: int, noise: float, gap: float, upper_share: float, stay: float = 0.0
) -> Floats:
    """Two normal modes at LEVEL and LEVEL * (1 + gap). stay: 0 draws the mode anew each time; above, it persists."""
    modes = rng.random(count) < upper_share
    if stay > 0:
        renewed = rng.random(count) >= stay
        renewed[0] = True
        modes = modes[np.maximum.accumulate(np.where(renewed, np.arange(count), 0))]
    return LEVEL * (1 + gap * modes) * (1 + noise * rng.standard_normal(count))


def bimodal_median(noise: float, gap: float, upper_share: float) -> float:
    lower, upper = NormalDist(1, noise), NormalDist(1 + gap, noise * (1 + gap))
    return LEVEL * _median_of(lambda x: (1 - upper_share) * lower.cdf(x) + upper_share * upper.cdf(x), 0.5, 3 + gap)


def spiky(rng: np.random.Generator, count: int, noise: float, spike_share: float, largest: float) -> Floats:
    """Normal samples of which a share is longer by a factor from 2 to `largest`."""
    spikes = rng.random(count) < spike_share
    factor = np.where(spikes, rng.uniform(2, largest, count), 1.0)
    return LEVEL * (1 + noise * rng.standard_normal(count)) * factor


def spiky_median(noise: float, spike_share: float) -> float:
    """Spikes are at least twice as long, so none lies below the median."""
    return LEVEL * NormalDist(1, noise).inv_cdf(0.5 / (1 - spike_share))


def _median_of(distribution: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if distribution(middle) < 0.5 else (low, middle)
    return (low + high) / 2
