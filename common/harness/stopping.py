"""When to stop warming up and when to stop measuring: pure arithmetic on durations, no clock, no device.

    warm-up                     measured window
    |--b--|--b--|--b--|--b--|   |--block--|--block--| ... |--block--|
       last three medians agree         add()     add()         add() -> converged | noisy | unsteady | budget

The rule of the measured window looks at the stream after each block, but tests it only when it has grown by a fifth:
few looks are cheap, and few looks keep "stop as soon as it looks good" from being a bias of its own.
"""

from __future__ import annotations

import math
from typing import List, Optional, Tuple

import numpy as np

from common import steadiness

#: normal quantile of a 95 % interval
Z95 = 1.96


class WarmupRule:
    """Warm-up is over when the medians of the last blocks lie within a factor of each other.

    agreement: largest ratio of the highest to the lowest of the last `blocks` block medians.
    """

    def __init__(self, agreement: float = 1.05, blocks: int = 3) -> None:
        if agreement < 1 or blocks < 2:
            raise ValueError("agreement must be at least 1 and blocks at least 2")
        self._agreement = agreement
        self._blocks = blocks
        self._medians: List[float] = []

    def add(self, block_median_ns: float) -> None:
        """Takes the median duration of one more block, in ns."""
        self._medians = [*self._medians, float(block_median_ns)][-self._blocks :]

    @property
    def steady(self) -> bool:
        """Whether the last blocks agree; False until there are enough of them."""
        return len(self._medians) == self._blocks and max(self._medians) <= self._agreement * min(self._medians)


class StoppingRule:
    """Measure until the median is known well enough, or cannot be, or time is up.

    `finished()` says, once min_seconds and min_samples are reached:

    - "converged": the interval of the median lies within `precision` of it on either side, and the stream is shown to
      be level: a slope of DRIFT_LIMIT a hundred samples is ruled out, and the fitted line moves by no more than
      `precision` between the middles of the window's two halves.
    - "noisy": level, but the interval has stopped shrinking, or shrinks too slowly to get there before max_seconds
      (after nvbench, which stops when its noise has stabilised above the target).
    - "unsteady": the window's parts differ, or it has a trend or shifts of level (`steadiness`), by more than `precision` from
      its lowest to its highest: its median is not known as well as its noise suggests. Said instead of "converged" where a
      window twice as long as min_seconds has not mended it, instead of "noisy", and instead of "budget".
    - "budget": max_seconds passed with none of these.

    The interval of the median is the pair of order statistics at ranks 1/2 -+ z*se, with se the standard error of the
    share of samples below the median (Woodruff, JASA 47, 1952): no shape is assumed, so two modes of equal weight give
    an interval that spans both. se comes from the means of consecutive groups of samples, widened by (1+r)/(1-r) for
    the correlation r that is left between neighbouring groups, so correlated samples do not count as independent ones.

    At most MAX_KEPT samples are kept. Beyond, one of every `stride` neighbours stays, drawn at random, because a fixed
    step would see one half of a stream that alternates. Thinning can only widen the interval.
    """

    MAX_KEPT = 32768
    #: share of the median by which a stream may not drift within a hundred samples
    DRIFT_LIMIT = 0.01
    #: fewer samples than this say nothing about drift or correlation
    MIN_LOOK = 16
    LOOK_GROWTH = 1.2
    #: normal quantile of the interval: wider than 95 % because the stream is looked at repeatedly
    Z_MEDIAN = 2.8
    #: normal quantile of the bound on the slope: a drifting stream must practically never pass
    Z_DRIFT = 4.5
    #: normal quantile beyond which a slope counts as there: such a stream is not noisy
    Z_SLOPE_SEEN = 3.0
    #: and it is level only if it moves by less than this share of the precision: more may follow, as when a clock settles
    SEEN_SHARE = 0.25
    #: fewer samples than this are not called noisy: their interval says too little about how it will shrink
    MIN_NOISY = 48
    #: number of groups is between this and twice this
    GROUPS = 48
    #: noisy at once where the interval would miss the target by this factor though it shrank as fast as it can
    HOPELESS = 2.0
    #: an interval that shrinks slower than samples ** -PLATEAU_RATE (independent samples: 0.5) has a plateau
    PLATEAU_RATE = 0.2
    #: noisy on a plateau where the interval would miss the target by this factor
    NOISY_MARGIN = 1.25
    #: an unsteady window gets this many times min_seconds to become steady
    PATIENCE = 2.0

    def __init__(self, min_seconds: float, min_samples: int, max_seconds: float, precision: float = 0.01) -> None:
        if not 0 < precision < 1:
            raise ValueError("precision is a share of the median, between 0 and 1")
        self._min_seconds = min_seconds
        self._min_samples = min_samples
        self._max_seconds = max_seconds
        self._precision = precision
        self._rng = np.random.Generator(np.random.PCG64(0))
        self._kept = np.empty(2 * self.MAX_KEPT)
        self._kept_count = 0
        self._stride = 1
        self._pending = np.empty(0)
        self._samples = 0
        self._next_look = self.MIN_LOOK
        self._history: List[Tuple[int, float]] = []
        self._reason: Optional[str] = None

    def add(self, durations_ns: np.ndarray, elapsed_s: float) -> None:
        """Takes one block. durations_ns: (n,) of any real type; elapsed_s: seconds since the window began."""
        if self._reason is not None:
            return
        self._keep(np.asarray(durations_ns, dtype=np.float64))
        out_of_time = elapsed_s >= self._max_seconds
        if self._samples >= self._next_look or (out_of_time and self._samples >= self.MIN_LOOK):
            self._next_look = math.ceil(self._samples * self.LOOK_GROWTH)
            verdict = self._look(elapsed_s)
            if elapsed_s >= self._min_seconds and self._samples >= self._min_samples:
                self._reason = verdict
        if out_of_time and self._reason != "converged":
            self._reason = "unsteady" if self._unsteady(self._kept[: self._kept_count]) else "budget"

    def finished(self) -> Optional[str]:
        """None while measuring should go on, else "converged", "noisy", "unsteady" or "budget"."""
        return self._reason

    def _keep(self, durations: np.ndarray) -> None:
        self._samples += len(durations)
        fresh = np.concatenate([self._pending, durations])
        while self._kept_count + len(fresh) // self._stride > self.MAX_KEPT:
            self._kept_count -= self._kept_count % 2
            pairs = self._kept[: self._kept_count].reshape(-1, 2)
            half = self._one_of_each_row(pairs)
            self._kept_count = len(half)
            self._kept[: self._kept_count] = half
            self._stride *= 2
        whole = len(fresh) - len(fresh) % self._stride
        chosen = self._one_of_each_row(fresh[:whole].reshape(-1, self._stride))
        self._kept[self._kept_count : self._kept_count + len(chosen)] = chosen
        self._kept_count += len(chosen)
        self._pending = fresh[whole:]

    def _one_of_each_row(self, rows: np.ndarray) -> np.ndarray:
        if rows.shape[1] == 1:
            return rows[:, 0]
        picked: np.ndarray = rows[np.arange(len(rows)), self._rng.integers(rows.shape[1], size=len(rows))]
        return picked

    def _look(self, elapsed_s: float) -> Optional[str]:
        """What the stream so far would be called if it may end now."""
        kept = self._kept[: self._kept_count]
        half_width = median_half_width(kept, self.Z_MEDIAN, self.GROUPS)
        self._history.append((self._samples, half_width))
        slope, error, freedom = relative_slope(kept, self.GROUPS)
        seen = abs(slope) > student_quantile(self.Z_SLOPE_SEEN, freedom) * error
        steepest = abs(slope) + student_quantile(self.Z_DRIFT, freedom) * error
        ruled_out = steepest * 100 / self._stride < self.DRIFT_LIMIT
        moved = abs(slope) * len(kept) / 2
        level = ruled_out and moved <= self._precision * (self.SEEN_SHARE if seen else 1)
        if half_width <= self._precision:
            if self._unsteady(kept):
                return "unsteady" if elapsed_s >= self.PATIENCE * self._min_seconds else None
            return "converged" if level else None
        if seen:
            return None
        if not self._out_of_reach(elapsed_s):
            return None
        return "unsteady" if self._unsteady(kept) else "noisy"

    def _unsteady(self, kept: np.ndarray) -> bool:
        """Whether the window moves slowly, more than by chance, and by more than the precision.

        A smaller movement matters to no verdict, however sure it is; the interval allows for it all the same.
        """
        return not steadiness.steady(kept) and steadiness.movement(kept) > self._precision

    def _out_of_reach(self, elapsed_s: float) -> bool:
        """Whether the interval would miss the target even at max_seconds, or no longer shrinks."""
        samples, half_width = self._history[-1]
        if samples < self.MIN_NOISY or not math.isfinite(half_width):
            return False
        growth = max(1.0, self._max_seconds / max(elapsed_s, 1e-9))
        # Independent samples halve the interval for every four times as many; nothing does better for long.
        if half_width / math.sqrt(growth) > self.HOPELESS * self._precision:
            return True
        usable = [(n, width) for n, width in self._history if n * 8 >= samples and 0 < width < math.inf]
        if len(usable) < 8 or usable[0][0] * 4 > samples:
            return False
        log_samples, log_widths = np.log(np.array(usable)).T
        rate = -float(np.polyfit(log_samples, log_widths, 1)[0])
        plateau = rate < self.PLATEAU_RATE
        return plateau and half_width * growth ** -max(rate, 0.0) > self.NOISY_MARGIN * self._precision


def median_half_width(series: np.ndarray, z: float, groups: int) -> float:
    """Longer side of the interval of the median, as a share of the median; infinite where it cannot be known.

    series: (n,) in the order of time. z: normal quantile of the interval. groups: see StoppingRule.
    """
    median = float(np.median(series))
    if median <= 0:
        return math.inf
    # Ties with the median count half, so that a clock with coarse steps does not bias the share.
    below = 0.5 * (np.less(series, median).astype(np.float64) + np.less_equal(series, median))
    shares = _group_means(below, groups)
    independent = 0.25 / len(series)
    variance, freedom = _variance_of_mean(shares, fitted=1)
    spread = student_quantile(z, freedom) * math.sqrt(max(independent, variance))
    if spread >= 0.5:
        return math.inf
    last = len(series) - 1
    low = max(0, math.floor((0.5 - spread) * last))
    high = min(last, math.ceil((0.5 + spread) * last))
    ordered = np.partition(series, (low, high))
    return max(float(ordered[high]) - median, median - float(ordered[low])) / median


def relative_slope(series: np.ndarray, groups: int) -> Tuple[float, float, float]:
    """Slope of a straight line through the series and its standard error, as shares of the median per element, and the
    error's degrees of freedom.

    Values are clipped at three robust standard deviations from the median first, so that spikes do not tilt the line.
    """
    median = float(np.median(series))
    if median <= 0:
        return 0.0, math.inf, 1.0
    deviation = 1.4826 * float(np.median(np.abs(series - median)))
    if deviation > 0:
        series = np.clip(series, median - 3 * deviation, median + 3 * deviation)
    size = max(1, len(series) // groups)
    means = _group_means(series, groups) / median
    count = len(means)
    position = np.arange(count) - (count - 1) / 2
    leverage = float(position @ position)
    slope = float(position @ means) / leverage
    residuals = means - means.mean() - slope * position
    variance, freedom = _variance_of_mean(residuals, fitted=2)
    return slope / size, math.sqrt(variance * count / leverage) / size, freedom


def _group_means(series: np.ndarray, groups: int) -> np.ndarray:
    """Means of consecutive groups of equal size; what is left over is cut from the oldest end."""
    size = max(1, len(series) // groups)
    cut: np.ndarray = series[len(series) % size :].reshape(-1, size).mean(axis=1)
    return cut


def _variance_of_mean(values: np.ndarray, fitted: int) -> Tuple[float, float]:
    """Variance of the mean of an AR(1) series, from its variance and lag-1 correlation, and its degrees of freedom.

    fitted: parameters already taken out of the values: 1 (a level) or 2 (a line).
    """
    count = len(values)
    centred = values - values.mean()
    total = float(centred @ centred)
    if total == 0:
        return 0.0, count - fitted
    # The correlation of what a level leaves is too low by about (1 + 3 r) / n (Marriott and Pope, Biometrika 41, 1954),
    # of what a line leaves by (2 + 4 r) / n (Shaman and Stine, JASA 83, 1988).
    raw = float(centred[1:] @ centred[:-1]) / total
    correlation = min(max(0.0, raw + (fitted + (fitted + 2) * raw) / count), 0.95)
    inflation = (1 + correlation) / (1 - correlation)
    return total / (count - fitted) / count * inflation, (count - fitted) / inflation


def student_quantile(z: float, freedom: float) -> float:
    """Quantile of Student's t with about the tail of the normal quantile z (Abramowitz and Stegun 26.7.5).

    Below five degrees of freedom the expansion is poor; the value for five is scaled up instead.
    """
    if freedom < 5:
        return student_quantile(z, 5) * 5 / max(1.0, freedom)
    inverse = 1.0 / freedom
    return (
        z
        + (z**3 + z) / 4 * inverse
        + (5 * z**5 + 16 * z**3 + 3 * z) / 96 * inverse**2
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384 * inverse**3
    )
