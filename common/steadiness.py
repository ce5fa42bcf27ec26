"""Does a window hold one level? Its slow movement against its quick one: pure arithmetic, no clock, no device.

    level, independent or briefly correlated     drift, trend, few switches between levels
    power at slow cosines ~ at quicker ones      slow ones far above quicker ones
    |:::::|:::::|:::::|:::::|                    |:.   |..   | ..::|:::::|

The window is averaged into up to GROUPS parts and projected on cosines of half a period, one, one and a half, ... per window.
Under a steady level, however briefly correlated, all projections have the same variance, that of the window's mean, so that the
mean square of the slowest over that of quicker ones follows an F distribution. A trend is mostly the first cosine, a shift
of level the first few, parts that differ any of them (Mueller and Watson, Econometrica 76, 2008, section 3: tests of
low-frequency behaviour by cosine weights; Lazarus, Lewis, Stock and Watson, JBES 36, 2018, for the variance from the same).
"""

from __future__ import annotations

import math
from typing import Tuple

import numpy as np

GROUPS = 128
#: cosines whose mean square tells slow movement: up to two periods a window
SLOW = 4
#: and those it is held against: 4.5 to 12 periods a window
QUICK = (9, 24)
#: 99 % point of F with SLOW and 16 degrees of freedom: a steady window is called unsteady once in a hundred
UNSTEADY = 4.77
#: 95 % point: from here on an interval allows for slow movement, which costs little where there is none
SUSPECT = 3.01
#: parts whose medians tell how far a window moves: a few samples each at the least, so that a spike is none of it
MOVED_GROUPS = 32
#: fewer samples than this have no parts to speak of
MIN_STEADY_SAMPLES = 64
#: the slow cosines' mean square falls short of what movement slower than the window does to the mean: this many times in
#: the standard error, found on the drifting and switching streams of the selfbench
SHORTFALL = 2.0


def steady(series: np.ndarray) -> bool:
    """Whether a series (n,), any positive unit, in the order of time, holds one level; True where n is too small to tell."""
    return slow_ratio(series) <= UNSTEADY


def slow_ratio(series: np.ndarray) -> float:
    """Slow movement over quick movement, 1 in the mean for a steady level; 0 where there is too little to tell.

    Values are clipped at three robust standard deviations from the median first: a spike moves all cosines alike, but drowns
    what is slow.
    """
    if len(series) < MIN_STEADY_SAMPLES:
        return 0.0
    values = np.asarray(series, dtype=np.float64)
    median = float(np.median(values))
    deviation = 1.4826 * float(np.median(np.abs(values - median)))
    if deviation > 0:
        values = np.clip(values, median - 3 * deviation, median + 3 * deviation)
    slow, quick = _mean_squares(values)
    if quick <= 0:
        return math.inf if slow > 0 else 0.0
    return slow / quick


def movement(series: np.ndarray) -> float:
    """How far a series (n,) moves slowly, from its lowest to its highest, as a share of its median: the swing of the curve
    that the slow cosines draw through the medians of MOVED_GROUPS parts. 0 where there is too little to tell.

    Says nothing of whether chance does that: `steady` does.
    """
    if len(series) < MIN_STEADY_SAMPLES:
        return 0.0
    size = len(series) // MOVED_GROUPS
    medians = np.median(np.asarray(series[len(series) % size :], dtype=np.float64).reshape(-1, size), axis=1)
    median = float(np.median(medians))
    cosines = _cosines(len(medians), SLOW)
    curve = (cosines @ (medians - medians.mean()) / len(medians)) @ cosines
    return float(curve.max() - curve.min()) / median if median > 0 else 0.0


def slow_variance(series: np.ndarray) -> float:
    """Variance of the series' mean about the process's own level, as the slow movement within the window suggests it.

    It has SLOW degrees of freedom.
    """
    return SHORTFALL**2 * _mean_squares(np.asarray(series, dtype=np.float64))[0]


def _mean_squares(values: np.ndarray) -> Tuple[float, float]:
    """Mean square of the slow and of the quick projections, each an estimate of the variance of the mean of `values`."""
    size = max(1, len(values) // GROUPS)
    means = values[len(values) % size :].reshape(-1, size).mean(axis=1)
    squares = _squares_of_projections(means - means.mean())
    return float(squares[:SLOW].mean()), float(squares[QUICK[0] - 1 :].mean())


def _squares_of_projections(centred: np.ndarray) -> np.ndarray:
    squares: np.ndarray = (_cosines(len(centred), QUICK[1]) @ centred / len(centred)) ** 2
    return squares


def _cosines(count: int, most: int) -> np.ndarray:
    """(most, count): the first cosines at the middles of `count` parts, of mean square 1."""
    places = (np.arange(count) + 0.5) / count
    cosines: np.ndarray = math.sqrt(2) * np.cos(math.pi * np.outer(np.arange(1, most + 1), places))
    return cosines
