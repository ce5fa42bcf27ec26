"""Intervals for a statistic of timings that depend on each other: a calibrated block bootstrap.

A *replicate* is one worker's series in the order of time. Within it, blocks of neighbouring values are drawn (circular
block bootstrap), so that a slow phase stays a slow phase. With several replicates whole replicates are drawn as well
(hierarchical bootstrap), so that the interval covers the next worker, not only the next minute of this one.

Everything is drawn as a mean, because block means of a cumulated sum cost one subtraction per block:

- a percentile through the share of values at or below it: the drawn shares are read off the sorted values
  (Woodruff, JASA 47, 1952, with the bootstrap's distribution of the share in place of the normal one);
- throughput through the mean duration;
- a quotient of sums (joules per image) through its influence values (Davison and Hinkley, Bootstrap Methods, 2.7.2).

Block length: the automatic choice of Politis and White (Econometric Reviews 23, 2004) with the correction of Patton,
Politis and White (28, 2009): it adapts to the correlation seen, where n ** (1/3) fits only one strength of it.

Plain bootstrap intervals are too narrow for few or correlated values. Two known shortfalls are put back into the
deviations (the *calibration*): blocks of finite length lose part of the long-run variance, and the variance itself is an
estimate (Student's factor for the number of blocks; Hesterberg, American Statistician 69, 2015, section 3.2).
`analysis/selfbench/operating_characteristics.py` measures what coverage that gives.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.stats.student_t import two_sided_p, two_sided_quantile

Floats = NDArray[np.float64]

DRAWS = 2000
#: Longer series are first averaged over neighbours, down to between this and twice this many values, and at most about
#: MOST_BLOCKS blocks are drawn at a time, longer ones than need be if need be: a table of 200 cells stays a matter of
#: seconds. No sample is left out, and so many blocks tell the variance well enough.
GROUPS = 512
MOST_BLOCKS = 256
MOST_PAIRS = 20_000
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """An estimate with the interval that holds the truth in `confidence` of all repetitions, in the statistic's unit.

    samples: values that went in, over all replicates. replicates: 1 means that the spread between workers is not in it.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    samples: int
    replicates: int


@lru_cache(maxsize=64)
def samples_needed(percentile: float) -> int:
    """Fewest samples with which a percentile (above 0, below 100) may be shown.

    As MLPerf's LoadGen counts for early stopping: the least n for which, were the true percentile above every sample
    but one, that would have had a chance of at most 1 %: p**n + n (1-p) p**(n-1) <= 0.01.
    p50 11, p90 64, p95 130, p99 662, p99.9 6636.
    """
    share = _share(percentile)
    share = max(share, 1 - share)

    def enough(n: int) -> bool:
        return share**n + n * (1 - share) * share ** (n - 1) <= 0.01

    high = 2
    while not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def too_small(percentile: float, samples: int) -> str | None:
    """None where a percentile of so many samples may be shown, else "n too small" with both numbers."""
    needed = samples_needed(percentile)
    return None if samples >= needed else f"n too small ({samples} samples, p{percentile:g} needs {needed})"


@dataclass(frozen=True)
class Uncertain(ABC):
    """An estimate whose interval is known at any confidence.

    freedom: degrees of freedom behind the size of the interval.
    """

    estimate: float
    freedom: float
    samples: int
    replicates: int

    def interval(self, confidence: float = 0.95) -> Interval:
        """The interval at any confidence.

        Its ends are always the 2.5 % and 97.5 % points of the draws, stretched by Student's quantile at this confidence
        over the normal one at 95 %: far tails would need far more draws than is sensible.
        """
        low, high = self.ends(two_sided_quantile(confidence, self.freedom) / _Z95)
        return Interval(self.estimate, low, high, confidence, self.samples, self.replicates)

    def p_value(self, truth: float) -> float:
        """Two-sided p of "the statistic is `truth`": one minus the confidence at which the interval just reaches it."""
        if not math.isfinite(self.estimate) or self.estimate == truth:
            return 1.0
        low, high = 0.0, 1.0
        while not self._reaches(high, truth):
            low, high = high, 2 * high
            if high > 1e6:
                return 0.0
        for _ in range(16):
            middle = (low + high) / 2
            low, high = (low, middle) if self._reaches(middle, truth) else (middle, high)
        return two_sided_p(high * _Z95, self.freedom)

    def _reaches(self, stretch: float, truth: float) -> bool:
        low, high = self.ends(stretch)
        return low <= truth <= high

    @abstractmethod
    def ends(self, stretch: float) -> tuple[float, float]:
        """The ends of the interval when all deviations are multiplied by `stretch`; they enclose the estimate."""


@dataclass(frozen=True)
class Draws(Uncertain):
    """A statistic and its bootstrap distribution.

    values(stretch): (DRAWS,) drawn values with all deviations multiplied by `stretch`.
    spread: standard deviation of values(1).
    """

    values: Callable[[float], Floats]
    spread: float

    def ends(self, stretch: float) -> tuple[float, float]:
        values = self.values(stretch)
        outside = round(0.025 * len(values))
        ordered = np.partition(values, (outside, -1 - outside))
        return min(float(ordered[outside]), self.estimate), max(float(ordered[-1 - outside]), self.estimate)


@dataclass(frozen=True)
class Ratio(Uncertain):
    """b / a of independent b and a.

    The distances of the four ends from their estimates are added in squares, as logarithms (Zou and Donner, Statistics
    in Medicine 27, 2008: limits recovered from limits). Dividing draw by draw would make the interval too long: drawn
    medians of few samples sit on the steps between single samples, which leaves the ends of one interval in their place
    but adds its own variance to a quotient of two, 16 % of it with 100 samples.
    """

    b: Draws
    a: Draws

    def ends(self, stretch: float) -> tuple[float, float]:
        if not math.isfinite(self.estimate) or self.estimate <= 0:
            return math.nan, math.nan
        (b_low, b_high), (a_low, a_high) = self.b.ends(stretch), self.a.ends(stretch)
        down = math.hypot(_log_distance(self.b.estimate, b_low), _log_distance(a_high, self.a.estimate))
        # A divisor that may be 0 or negative leaves the ratio open above.
        up = math.hypot(_log_distance(b_high, self.b.estimate), _log_distance(self.a.estimate, a_low))
        return self.estimate * math.exp(-down), self.estimate * math.exp(up) if up < 700 else math.inf


def _log_distance(above: float, below: float) -> float:
    """log(above / below); infinite where `below` is not positive."""
    return math.log(above / below) if below > 0 else math.inf


def percentile_draws(replicates: Sequence[ArrayLike], percentile: float, seed: int = 0) -> Draws | None:
    """Percentile (50 is the median) of each replicate's values, averaged over replicates; None where n is too small.

    replicates: series of shape (n_r,), any positive unit, in the order of time; each must have enough samples.
    """
    series = _series(replicates)
    if any(too_small(percentile, len(one)) for one in series):
        return None
    rng = np.random.default_rng(seed)
    return _over_replicates([_one_percentile(one, _share(percentile), rng) for one in series], rng)


def throughput_draws(replicates: Sequence[ArrayLike], images: float, seed: int = 0) -> Draws | None:
    """Images per second: `images` per inference over the mean duration in ns; None with fewer than two samples.

    Where inferences overlap, give the times between completions instead of durations.
    """
    series = _series(replicates)
    if any(len(one) < 2 for one in series):
        return None
    rng = np.random.default_rng(seed)
    return _over_replicates([_one_throughput(one, images, rng) for one in series], rng)


def quotient_draws(numerators: Sequence[ArrayLike], denominators: Sequence[ArrayLike], seed: int = 0) -> Draws | None:
    """Sum over sum, such as joules per image from the joules and the images of consecutive stretches of a window.

    Both: one series (n_r,) per replicate, of equal lengths; None with fewer than two values or a denominator of 0.
    Numerators may be negative (energy net of idle).
    """
    above, below = _series(numerators), _series(denominators)
    if [len(one) for one in above] != [len(one) for one in below]:
        raise ValueError("numerators and denominators differ in length")
    if any(len(one) < 2 or one.sum() <= 0 for one in below):
        return None
    rng = np.random.default_rng(seed)
    return _over_replicates([_one_quotient(*pair, rng) for pair in zip(above, below, strict=True)], rng)


def ratio(b: Draws, a: Draws) -> Ratio:
    """b / a for independent b and a (different seeds).

    Degrees of freedom after Welch and Satterthwaite, from the relative spreads.
    """
    estimate = b.estimate / a.estimate if a.estimate > 0 else math.nan
    parts = [((one.spread / one.estimate) ** 2 if one.estimate else 0.0, one.freedom) for one in (b, a)]
    total = sum(variance for variance, _ in parts)
    rest = sum(variance**2 / freedom for variance, freedom in parts)
    freedom = total**2 / rest if rest > 0 else min(a.freedom, b.freedom)
    return Ratio(estimate, freedom, a.samples + b.samples, min(a.replicates, b.replicates), b, a)


def block_length(series: ArrayLike) -> int:
    """Block length for the circular block bootstrap of the mean (Politis and White 2004, Patton and others 2009)."""
    return _dependence(np.asarray(series, dtype=np.float64))[0]


def _one_percentile(series: Floats, share: float, rng: np.random.Generator) -> Draws:
    ordered = np.sort(series)
    estimate = float(np.quantile(ordered, share))
    # Ties count half, so that a clock with coarse steps does not bias the share.
    below = 0.5 * ((series < estimate).astype(np.float64) + (series <= estimate))
    deviations, freedom = _mean_deviations(below, rng, _share_variance(series, ordered, share))
    last = len(ordered) - 1

    # The exact ends of the interval are order statistics, up to half a place beyond what interpolation gives (Hettmansperger
    # and Sheather, Statistics and Probability Letters 4, 1986). It matters where neighbours are far apart, out in a tail.
    outwards = np.copysign(0.25 * abs(2 * share - 1), deviations)

    def values(stretch: float) -> Floats:
        place = np.clip((share + stretch * deviations) * last + outwards, 0, last)
        left = place.astype(np.int64)
        right = np.minimum(left + 1, last)
        read: Floats = ordered[left] + (place - left) * (ordered[right] - ordered[left])
        return read

    return Draws(estimate, freedom, len(series), 1, values, float(np.std(values(1.0))))


def _one_throughput(series: Floats, images: float, rng: np.random.Generator) -> Draws:
    mean = float(series.mean())
    deviations, freedom = _mean_deviations(series, rng)
    scale = images * 1e9

    def values(stretch: float) -> Floats:
        drawn: Floats = scale / np.maximum(mean + stretch * deviations, mean * 1e-9)
        return drawn

    return Draws(scale / mean, freedom, len(series), 1, values, float(np.std(values(1.0))))


def _one_quotient(above: Floats, below: Floats, rng: np.random.Generator) -> Draws:
    estimate = float(above.sum() / below.sum())
    deviations, freedom = _mean_deviations((above - estimate * below) / below.mean(), rng)
    return _linear(estimate, deviations, freedom, len(above), 1)


def _linear(estimate: float, deviations: Floats, freedom: float, samples: int, replicates: int) -> Draws:
    def values(stretch: float) -> Floats:
        return estimate + stretch * deviations

    return Draws(estimate, freedom, samples, replicates, values, float(np.std(deviations)))


def _over_replicates(parts: Sequence[Draws], rng: np.random.Generator) -> Draws | None:
    """The outer level: replicates drawn with replacement, each with its own drawn value.

    The variance between replicates' estimates already holds what varies within each (Davison and Hinkley, 3.8), so the
    deviations are set to the standard error of the mean of the estimates; the inner draws give the shape only.
    """
    if not parts:
        return None
    if len(parts) == 1:
        return parts[0]
    estimates = np.array([part.estimate for part in parts])
    count = len(parts)
    drawn = np.stack([part.values(1.0) for part in parts])
    chosen = rng.integers(count, size=(count, drawn.shape[1]))
    deviations = np.take_along_axis(drawn, chosen, axis=0).mean(axis=0)
    deviations = deviations - deviations.mean()
    size = float(np.std(deviations))
    wanted = float(np.std(estimates, ddof=1)) / math.sqrt(count)
    deviations = deviations * (wanted / size) if size > 0 else deviations
    return _linear(float(estimates.mean()), deviations, count - 1, sum(part.samples for part in parts), count)


def _mean_deviations(series: Floats, rng: np.random.Generator, least_variance: float = 0.0) -> tuple[Floats, float]:
    """(DRAWS,) calibrated deviations of the mean of a series from its mean, and their degrees of freedom.

    least_variance: of the mean, where the caller knows more than the series shows; without it, that of an AR(1) series with
    the lag-1 correlation of this one is the least that is assumed.
    """
    size = max(1, len(series) // GROUPS) if len(series) > 2 * GROUPS else 1
    grouped = series[len(series) % size :].reshape(-1, size).mean(axis=1)
    count = len(grouped)
    length, long_run_variance = _dependence(grouped)
    independent = length == 1
    if not least_variance:
        long_run_variance = max(long_run_variance, _first_order_variance(grouped))
    length = max(length, math.ceil(count / MOST_BLOCKS))
    blocks = max(2, round(count / length))
    centred = grouped - grouped.mean()
    cumulated = np.concatenate([[0.0], np.cumsum(np.concatenate([centred, centred[: length - 1]]))])
    block_means = (cumulated[length:] - cumulated[:-length]) / length
    kept = float(np.mean(block_means**2))
    if kept <= 0:
        return np.zeros(DRAWS), float(count - 1)
    deviations = block_means[rng.integers(count, size=(DRAWS, blocks))].mean(axis=1)
    wanted = max(long_run_variance, kept * length) / count
    if least_variance:
        # Where the series itself shows no dependence, the larger of two estimates would only be the noisier one.
        wanted = least_variance if independent else max(wanted, least_variance)
    return deviations * math.sqrt(wanted / (kept / blocks)), max(1.0, count / length - 1)


def _dependence(series: Floats) -> tuple[int, float]:
    """Block length, and the long-run variance: n times the variance of the mean of n values."""
    count = len(series)
    covariances = _autocovariances(series)
    if covariances[0] <= 0:
        return 1, 0.0
    correlations = covariances / covariances[0]
    # Politis and White: the first lag after which a run of correlations is negligible, doubled, is the bandwidth.
    run = max(5, math.ceil(math.sqrt(math.log10(count))))
    limit = 2 * math.sqrt(math.log10(count) / count)
    highest = min(math.ceil(math.sqrt(count)) + run, count - 1)
    small = np.abs(correlations[1 : highest + 1]) < limit
    starts = [lag for lag in range(len(small) - run + 1) if small[lag : lag + run].all()]
    if starts:
        last_large = starts[0]
    else:
        large = np.flatnonzero(~small)
        last_large = int(large[-1]) + 1 if len(large) else 0
    bandwidth = min(2 * max(last_large, 1), count - 1)
    lags = np.arange(1, bandwidth + 1)
    window = np.clip(2 * (1 - lags / bandwidth), 0, 1)
    weighted = window * covariances[1 : bandwidth + 1]
    spectrum = float(covariances[0] + 2 * weighted.sum())
    first_moment = float(2 * (lags * weighted).sum())
    length = 1
    if last_large == 0:
        # No correlation to speak of: its estimate would only add noise.
        spectrum = float(covariances[0])
    elif spectrum > 0:
        length = math.ceil((1.5 * (first_moment / spectrum) ** 2 * count) ** (1 / 3))
    length = max(1, min(length, math.ceil(min(3 * math.sqrt(count), count / 3))))
    return length, spectrum


def _first_order_variance(series: Floats) -> float:
    """Long-run variance of an AR(1) series with the lag-1 correlation of this one."""
    count, centred = len(series), series - series.mean()
    variance = float(centred @ centred) / count
    if variance <= 0:
        return 0.0
    correlation = _unbiased(float(centred[1:] @ centred[:-1]) / count / variance, count)
    return variance * count / (count - 1) * (1 + correlation) / (1 - correlation)


def _share_variance(series: Floats, ordered: Floats, share: float) -> float:
    """Variance of the share of n values below a percentile, for a Gaussian AR(1) series seen through any monotone lens.

    Far out, the zeros and ones of "below" show little of the correlation that the values have; their ranks show it.
    With r the lag-1 correlation of the ranks' normal scores, Mehler's expansion of the bivariate normal gives the
    long-run variance as the sum over k >= 1 of phi(a)**2 He_{k-1}(a)**2 / k! * (1 + r**k) / (1 - r**k).
    """
    count = len(series)
    # Neighbours from all over the series: so many pairs tell a correlation to better than a hundredth.
    first = np.unique(np.linspace(0, count - 2, min(count - 1, MOST_PAIRS)).astype(np.int64))
    scores = _normal_scores(np.stack([series[first], series[first + 1]]), ordered)
    variance = float(np.mean(scores**2))
    if variance == 0:
        return 0.0
    correlation = _unbiased(float(np.mean(scores[0] * scores[1])) / variance, count, least=-1 / math.sqrt(count))
    normal = NormalDist()
    point = normal.inv_cdf(share)
    left = share * (1 - share)
    total = 0.0
    # term = phi(a) He_{k-1}(a) / sqrt(k!), by the recurrence of the Hermite polynomials
    before, term = 0.0, normal.pdf(point)
    for k in range(1, 60):
        power = correlation**k
        total += term**2 * (1 + power) / (1 - power)
        left -= term**2
        before, term = term, (point * term - before * (k - 1) / math.sqrt(k)) / math.sqrt(k + 1)
    return (total + max(left, 0.0)) / count


def _unbiased(correlation: float, count: int, least: float = 0.0) -> float:
    """A lag-1 correlation without its bias (1 + 3 r) / n (Marriott, Pope 1954), from `least` to what n values can tell."""
    return min(max(least, correlation + (1 + 3 * correlation) / count), 1 - 6 / (count + 20))


def _normal_scores(values: Floats, ordered: Floats) -> Floats:
    """Normal quantiles of the values' ranks among all, from a table fine enough for correlations; their mean is 0."""
    # Tied values share the middle of their ranks.
    ranks = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2
    scores: Floats = np.interp(ranks / len(ordered), *_normal_table())
    scores -= scores.mean()
    return scores


@lru_cache(maxsize=1)
def _normal_table() -> tuple[Floats, Floats]:
    points = np.linspace(-5, 5, 2001)
    return np.array([NormalDist().cdf(point) for point in points]), points


def _autocovariances(series: Floats) -> Floats:
    """(n,) biased autocovariances at lags 0 to n - 1, by FFT."""
    centred = series - series.mean()
    size = 1 << (2 * len(series) - 1).bit_length()
    transformed = np.fft.rfft(centred, size)
    covariances: Floats = np.fft.irfft(transformed * transformed.conj(), size)[: len(series)] / len(series)
    return covariances


def _series(replicates: Sequence[ArrayLike]) -> list[Floats]:
    series = [np.asarray(one, dtype=np.float64) for one in replicates]
    if any(one.ndim != 1 for one in series):
        raise ValueError("each replicate is a series of one dimension")
    return series


def _share(percentile: float) -> float:
    if not 0 < percentile < 100:
        raise ValueError(f"a percentile lies between 0 and 100, not {percentile:g}")
    return percentile / 100
