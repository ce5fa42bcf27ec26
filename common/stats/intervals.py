"""Intervals for a statistic of timings that depend on each other: a calibrated block bootstrap.

A *replicate* is one worker's series in the order of time. Within it, blocks of neighbouring values are drawn (circular
block bootstrap), so that a slow phase stays a slow phase. With several replicates the interval is over workers: Student's t
on their figures, whose spread is never taken to be less than one window shows within itself, and may be moderated by what
other cells tell (`workers`). It covers the next worker, not only the next minute of this one.

A window that drifts or switches between levels (`common.steadiness`) tells its process's level worse than any bootstrap
of it can say: its slow movement, with few degrees of freedom, then gives the size of the interval.

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
from functools import cached_property, lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common import steadiness
from common.stats.percentiles import samples_needed
from common.stats.student_t import two_sided_p, two_sided_quantile
from common.stats.workers import Pool, spread_of

Floats = NDArray[np.float64]

DRAWS = 2000
#: Longer series are first averaged over neighbours, down to between this and twice this many values, and at most about
#: MOST_BLOCKS blocks are drawn at a time, longer ones than need be if need be: a table of 200 cells stays a matter of
#: seconds. No sample is left out, and so many blocks tell the variance well enough.
GROUPS = 512
MOST_BLOCKS = 256
MOST_PAIRS = 20_000
#: Clumps of extreme values are looked for among this share of the values.
TAIL = 0.05
CLUMP_GAP = 2
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """An estimate with the interval that holds the truth in `confidence` of all repetitions, in the statistic's unit.

    samples: values that went in, over all replicates. over_workers: whether the spread between workers is in it; without it
    the interval is of this one worker alone, and no verdict follows from it.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    samples: int
    replicates: int
    over_workers: bool = False


def too_small(percentile: float, samples: int) -> str | None:
    """None where a percentile of so many samples may be shown, else "n too small" with both numbers."""
    needed = samples_needed(percentile)
    return None if samples >= needed else f"n too small ({samples} samples, p{percentile:g} needs {needed})"


@dataclass(frozen=True)
class Uncertain(ABC):
    """An estimate whose interval is known at any confidence.

    freedom: degrees of freedom behind the size of the interval. spread: its standard error.
    """

    estimate: float
    freedom: float
    samples: int
    replicates: int
    spread: float

    @property
    def over_workers(self) -> bool:
        """Whether the spread between workers is in the interval."""
        return self.replicates > 1

    def interval(self, confidence: float = 0.95) -> Interval:
        """The interval at any confidence.

        Its ends are always the 2.5 % and 97.5 % points of the draws, stretched by Student's quantile at this confidence
        over the normal one at 95 %: far tails would need far more draws than is sensible.
        """
        low, high = self.ends(two_sided_quantile(confidence, self.freedom) / _Z95)
        return Interval(self.estimate, low, high, confidence, self.samples, self.replicates, self.over_workers)

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

    values(stretch): (DRAWS,) drawn values with all deviations multiplied by `stretch`; spread is the deviation of values(1).
    shortfall: how many times larger that is than what the window shows, because slow movement shows only in part.
    """

    values: Callable[[float], Floats]
    shortfall: float = 1.0

    def ends(self, stretch: float) -> tuple[float, float]:
        values = self.values(stretch)
        outside = round(0.025 * len(values))
        ordered = np.partition(values, (outside, -1 - outside))
        return min(float(ordered[outside]), self.estimate), max(float(ordered[-1 - outside]), self.estimate)


@dataclass(frozen=True)
class OverWorkers(Uncertain):
    """The mean of workers' figures with what lies between workers; `spread` is the standard error of that mean.

    relative: the figures are positive, and the interval is that of their logarithms. known_from_others: a single worker,
    whose spread is that of other cells.
    """

    relative: bool = True
    known_from_others: bool = False

    @property
    def over_workers(self) -> bool:
        return self.replicates > 1 or self.known_from_others

    def ends(self, stretch: float) -> tuple[float, float]:
        half = stretch * _Z95 * self.spread
        if not self.relative:
            return self.estimate - half, self.estimate + half
        factor = math.exp(min(half / self.estimate, 700.0))
        return self.estimate / factor, self.estimate * factor


@dataclass(frozen=True)
class Ratio(Uncertain):
    """b / a of independent b and a.

    The distances of the four ends from their estimates are added in squares, as logarithms (Zou and Donner, Statistics
    in Medicine 27, 2008: limits recovered from limits). Dividing draw by draw would make the interval too long: drawn
    medians of few samples sit on the steps between single samples, which leaves the ends of one interval in their place
    but adds its own variance to a quotient of two, 16 % of it with 100 samples.
    """

    b: Uncertain
    a: Uncertain

    @property
    def over_workers(self) -> bool:
        return self.a.over_workers and self.b.over_workers

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


def percentile_draws(replicates: Sequence[ArrayLike], percentile: float, seed: int = 0) -> Uncertain | None:
    """Percentile (50 is the median) of each replicate's values, averaged over replicates; None where n is too small.

    replicates: series of shape (n_r,), any positive unit, in the order of time; each must have enough samples.
    """
    return over_workers(percentile_parts(replicates, percentile, seed))


def throughput_draws(replicates: Sequence[ArrayLike], images: float, seed: int = 0) -> Uncertain | None:
    """Images per second: `images` per inference over the mean duration in ns; None with fewer than two samples.

    Where inferences overlap, give the times between completions instead of durations.
    """
    return over_workers(throughput_parts(replicates, images, seed))


def quotient_draws(
    numerators: Sequence[ArrayLike], denominators: Sequence[ArrayLike], seed: int = 0
) -> Uncertain | None:
    """Sum over sum, such as joules per image from the joules and the images of consecutive stretches of a window.

    Both: one series (n_r,) per replicate, of equal lengths; None with fewer than two values or a denominator of 0.
    Numerators may be negative (energy net of idle).
    """
    return over_workers(quotient_parts(numerators, denominators, seed))


def percentile_parts(replicates: Sequence[ArrayLike], percentile: float, seed: int = 0) -> list[Draws]:
    """As `percentile_draws`, for each replicate by itself; empty where n is too small."""
    series, share = _series(replicates), _share(percentile)
    if any(too_small(percentile, len(one)) for one in series):
        return []
    rng = np.random.default_rng(seed)
    return [_one_percentile(one, share, rng) for one in series]


def throughput_parts(replicates: Sequence[ArrayLike], images: float, seed: int = 0) -> list[Draws]:
    """As `throughput_draws`, for each replicate by itself; empty with fewer than two samples."""
    series = _series(replicates)
    if any(len(one) < 2 for one in series):
        return []
    rng = np.random.default_rng(seed)
    return [_one_throughput(one, images, rng) for one in series]


def quotient_parts(numerators: Sequence[ArrayLike], denominators: Sequence[ArrayLike], seed: int = 0) -> list[Draws]:
    """As `quotient_draws`, for each replicate by itself; empty where it gives None."""
    above, below = _series(numerators), _series(denominators)
    if [len(one) for one in above] != [len(one) for one in below]:
        raise ValueError("numerators and denominators differ in length")
    if any(len(one) < 2 or one.sum() <= 0 for one in below):
        return []
    rng = np.random.default_rng(seed)
    return [_one_quotient(*pair, rng) for pair in zip(above, below, strict=True)]


def over_workers(parts: Sequence[Draws], pooled: Pool | None = None) -> Uncertain | None:
    """The mean over workers, with the spread between them; None without any.

    pooled: what other cells of the same framework and device tell of that spread. A single worker is taken for itself
    without it, and where they tell too little (workers.LEAST_FREEDOM). The spread is never taken to be less than the windows
    show within themselves, as workers differ by that at the least; among few they would often seem to differ less.
    """
    if not parts or (len(parts) == 1 and pooled is None):
        return parts[0] if parts else None
    figures = [part.estimate for part in parts]
    samples = sum(part.samples for part in parts)
    if min(figures) <= 0:
        return parts[0] if len(parts) == 1 else of_figures(figures, samples=samples)
    # the median: of some windows the correlation is overestimated manyfold
    within = float(np.median([(part.spread / part.shortfall / part.estimate) ** 2 for part in parts]))
    found = of_figures(figures, pooled, samples, within)
    return parts[0] if found is None else found


def of_figures(
    figures: Sequence[float], pooled: Pool | None = None, samples: int = 0, within: float = 0.0
) -> OverWorkers | None:
    """The mean of workers' figures with the spread between workers; None where that is unknown.

    within: relative variance of one figure as its own window tells it. Figures that are not all positive are taken as they
    are, without `pooled` and `within`.
    """
    count, mean = len(figures), float(np.mean(figures))
    if count > 1 and min(figures) <= 0:
        error = float(np.std(figures, ddof=1)) / math.sqrt(count)
        return OverWorkers(mean, count - 1, samples, count, error, relative=False)
    own = spread_of(figures)
    between = own if pooled is None else pooled.moderated(own)
    if between.freedom == 0:
        return None
    error = mean * math.sqrt(max(between.variance, within) / count)
    # where the windows decide, they add what the slow cosines of one of them tell
    freedom = between.freedom + (steadiness.SLOW if within > between.variance else 0)
    return OverWorkers(mean, freedom, samples, count, error, known_from_others=count == 1)


def ratio(b: Uncertain, a: Uncertain, most_freedom: float = math.inf) -> Ratio:
    """b / a for independent b and a (different seeds).

    Degrees of freedom after Welch and Satterthwaite, from the relative spreads, at most `most_freedom`: what both of them take
    from the same pool counts once.
    """
    estimate = b.estimate / a.estimate if a.estimate > 0 else math.nan
    parts = [((one.spread / one.estimate) ** 2 if one.estimate else 0.0, one.freedom) for one in (b, a)]
    total = sum(variance for variance, _ in parts)
    rest = sum(variance**2 / freedom for variance, freedom in parts)
    freedom = min(total**2 / rest if rest > 0 else min(a.freedom, b.freedom), most_freedom)
    spread = estimate * math.sqrt(total)
    return Ratio(estimate, freedom, a.samples + b.samples, min(a.replicates, b.replicates), spread, b, a)


def block_length(series: ArrayLike) -> int:
    """Block length for the circular block bootstrap of the mean (Politis and White 2004, Patton and others 2009)."""
    return _dependence(np.asarray(series, dtype=np.float64))[0]


def _one_percentile(series: Floats, share: float, rng: np.random.Generator) -> Draws:
    ordered = np.sort(series)
    estimate = float(np.quantile(ordered, share))
    # Ties count half, so that a clock with coarse steps does not bias the share.
    below = 0.5 * ((series < estimate).astype(np.float64) + (series <= estimate))
    least = max(_share_variance(series, ordered, share), _clumped_variance(series, ordered, share))
    deviations = _mean_deviations(below, rng, least)
    last = len(ordered) - 1
    # The exact ends of the interval are order statistics, up to half a place beyond what interpolation gives (Hettmansperger
    # and Sheather, Statistics and Probability Letters 4, 1986). It matters where neighbours are far apart, out in a tail.
    outwards = 0.25 * abs(2 * share - 1)

    def read(deviation: Floats) -> Floats:
        place = np.clip((share + deviation) * last + np.copysign(outwards, deviation), 0, last)
        left = place.astype(np.int64)
        right = np.minimum(left + 1, last)
        found: Floats = ordered[left] + (place - left) * (ordered[right] - ordered[left])
        return found

    return _drawn(estimate, deviations, len(series), read)


def _one_throughput(series: Floats, images: float, rng: np.random.Generator) -> Draws:
    mean = float(series.mean())
    scale = images * 1e9

    def read(deviation: Floats) -> Floats:
        found: Floats = scale / np.maximum(mean + deviation, mean * 1e-9)
        return found

    return _drawn(scale / mean, _mean_deviations(series, rng), len(series), read)


def _one_quotient(above: Floats, below: Floats, rng: np.random.Generator) -> Draws:
    estimate = float(above.sum() / below.sum())
    deviations = _mean_deviations((above - estimate * below) / below.mean(), rng)
    return _drawn(estimate, deviations, len(above), lambda deviation: estimate + deviation)


def _drawn(estimate: float, deviations: _Deviations, samples: int, read: Callable[[Floats], Floats]) -> Draws:
    """The statistic that `read` makes of a mean's deviations from it."""
    spread = float(np.std(read(deviations.size * _normal_scores_of_draws())))
    return Draws(
        estimate, deviations.freedom, samples, 1, spread,
        values=lambda stretch: read(stretch * deviations.drawn), shortfall=deviations.shortfall,
    )  # fmt: skip


@lru_cache(maxsize=1)
def _normal_scores_of_draws() -> Floats:
    """(64,) evenly spread normal quantiles: what a standard error needs of a distribution takes no drawing."""
    scores = np.array([NormalDist().inv_cdf((i + 0.5) / 64) for i in range(64)])
    return scores / float(np.std(scores))


class _Deviations:
    """Calibrated deviations of a series' mean from itself, drawn when they are asked for.

    size: their standard deviation. freedom: the degrees of freedom behind it. shortfall: see Draws.
    """

    def __init__(
        self, size: float, freedom: float, block_means: Floats, blocks: int, seed: int, shortfall: float = 1.0
    ) -> None:
        self.size = size
        self.freedom = freedom
        self.shortfall = shortfall
        self._block_means = block_means
        self._blocks = blocks
        self._seed = seed

    @cached_property
    def drawn(self) -> Floats:
        """(DRAWS,) deviations."""
        if self.size == 0:
            return np.zeros(DRAWS)
        places = np.random.default_rng(self._seed).integers(len(self._block_means), size=(DRAWS, self._blocks))
        drawn: Floats = self._block_means[places].mean(axis=1)
        return drawn * (self.size / math.sqrt(float(np.mean(self._block_means**2)) / self._blocks))


def _mean_deviations(series: Floats, rng: np.random.Generator, least_variance: float = 0.0) -> _Deviations:
    """Of the mean of a series.

    least_variance: of the mean, where the caller knows more than the series shows; without it, that of an AR(1) series with
    the lag-1 correlation of this one is the least that is assumed.
    """
    seed = int(rng.integers(2**62))
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
        return _Deviations(0.0, float(count - 1), block_means, blocks, seed)
    freedom = max(1.0, count / length - 1)
    wanted = max(long_run_variance, kept * length) / count
    if least_variance:
        # Where the series itself shows no dependence, the larger of two estimates would only be the noisier one.
        wanted = least_variance if independent else max(wanted, least_variance)
    shortfall = 1.0
    if steadiness.slow_ratio(grouped) > steadiness.SUSPECT and (slow := steadiness.slow_variance(grouped)) > wanted:
        shortfall = min(steadiness.SHORTFALL, math.sqrt(slow / wanted))
        wanted, freedom = slow, min(freedom, float(steadiness.SLOW))
    return _Deviations(math.sqrt(wanted), freedom, block_means, blocks, seed, shortfall)


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
    if count - 1 <= MOST_PAIRS:
        every = _normal_scores(series, ordered)
        scores = np.stack([every[:-1], every[1:]])
    else:  # neighbours from all over the series: so many pairs tell a correlation to better than a hundredth
        first = np.linspace(0, count - 2, MOST_PAIRS).astype(np.int64)
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


def _clumped_variance(series: Floats, ordered: Floats, share: float) -> float:
    """Variance of the share of n values below a percentile far out, where the values beyond come in clumps; 0 elsewhere.

    A count of clumps of varying size spreads by E[size**2] / E[size] times as much as one of single values. Few values lie
    beyond a high percentile, so clumps are looked for among the outermost TAIL, and thinned to those beyond: each value of
    a clump is taken to go that far by itself. Values with at most CLUMP_GAP others between them are of one clump (the runs
    method for clusters of extremes: Smith and Weissman, JRSS B 56, 1994), as independent ones are now and then too.
    """
    outside, count = min(share, 1 - share), len(series)
    if outside >= TAIL or count * TAIL < 10:
        return 0.0
    bound = ordered[int(count * TAIL)] if share < 0.5 else ordered[count - 1 - int(count * TAIL)]
    places = np.flatnonzero(series < bound if share < 0.5 else series > bound)
    if len(places) < 2:
        return 0.0
    sizes = np.diff(np.flatnonzero(np.concatenate([[True], np.diff(places) > CLUMP_GAP + 1, [True]]))).astype(
        np.float64
    )
    seen = float(np.square(sizes).sum() / sizes.sum())
    chance = 1 - (1 - TAIL) ** (CLUMP_GAP + 1)
    excess = max(0.0, seen / ((1 + chance) / (1 - chance)) - 1)
    return outside * (1 - outside) / count * (1 + excess * outside / TAIL)


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
