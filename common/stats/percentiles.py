"""How many samples a percentile takes: the one place that tables, SQL, intervals and the peak search ask.

As MLPerf's LoadGen counts for early stopping: so few late ones among so many must be rarer than 1 in 100, were the share of
late ones the one in question.
"""

from __future__ import annotations

from functools import lru_cache

CONFIDENCE = 0.99
#: Percentile -> the fewest samples with which a table shows it. `fewest(1, 1 - percentile / 100)` gives these numbers; they
#: stand here because SciPy takes longer to import than a table that comes from the cache.
MIN_SAMPLES_OF_PERCENTILE = {50.0: 11, 90.0: 64, 95.0: 130, 99.0: 662, 99.9: 6636}


def chance_of_at_most(late: int, count: int, share: float) -> float:
    """Chance of `late` or fewer late ones among `count`, each late with probability `share` (0 to 1, exclusive)."""
    from scipy.special import bdtr

    if late < 0:
        return 0.0
    return 1.0 if late >= count else float(bdtr(late, count, share))


@lru_cache(maxsize=256)
def fewest(late: int, share: float, confidence: float = CONFIDENCE) -> int:
    """The fewest samples with so many late ones that show, with this confidence, that less than `share` is late.

    For 1 %: 459 with none late, 662 with one, 838 with two.
    """
    low, high = late, 1
    while chance_of_at_most(late, high, share) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance_of_at_most(late, middle, share) <= 1 - confidence else (middle, high)
    return high


def samples_needed(percentile: float) -> int:
    """Fewest samples with which a percentile (above 0, below 100) may be shown.

    The least n for which, were the true percentile above every sample but one, that would have had a chance of at most 1 %:
    p**n + n (1-p) p**(n-1) <= 0.01. p50 11, p90 64, p95 130, p99 662, p99.9 6636.
    """
    if not 0 < percentile < 100:
        raise ValueError(f"a percentile lies between 0 and 100, not {percentile:g}")
    if percentile in MIN_SAMPLES_OF_PERCENTILE:
        return MIN_SAMPLES_OF_PERCENTILE[percentile]
    # rounded: 1 - 0.999 is a little more than 0.001
    return fewest(1, round(min(percentile, 100 - percentile) / 100, 12))


def sql_variables() -> dict[str, int]:
    """Name of a SQL variable -> fewest samples: needs_p50, needs_p90, needs_p95, needs_p99, needs_p999."""
    return {f"needs_p{percentile:g}".replace(".", ""): count for percentile, count in MIN_SAMPLES_OF_PERCENTILE.items()}
