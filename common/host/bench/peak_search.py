"""The highest arrival rate whose 99th percentile stays under a bound: when to believe it, and which rate to try next.

    0 ---------- met ---------[ next ]--------- missed ---------- capacity
    each try counts its queries and those that were late; "met" and "missed" need 99 % confidence, as in MLPerf's LoadGen

A rate meets the bound when so few late queries among so many would be seen at most once in a hundred tries if a share of
1 % or more were late. With one late query that takes 662 queries, with none 459. It misses it when so many late ones
would be as rare if 1 % or fewer were. In between nothing is known, and more queries are asked for.

LoadGen counts queries as if they were independent. In a queue they are not: who waits, waits with others, and late
queries come in clumps. At a rate whose p99 lies exactly at the bound, the plain count claimed "met" in 5 to 90 % of
simulated tries (M/D/1 at 40 to 96 % load) instead of in 1 %. So queries and late ones are both divided by the size of a clump first
(`clump_size`), after which it was 1 % or less; where queries are independent the counts stay LoadGen's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.stats.intervals import CLUMP_GAP
from common.stats.percentiles import CONFIDENCE, chance_of_at_most, fewest

Latencies = NDArray[np.int64]

PERCENTILE = 0.99
#: clumps are looked for among the slowest of the queries, this share of them, because late ones may be too few
SLOW_SHARE = 0.05


def verdict(queries: int, late: int, percentile: float = PERCENTILE, confidence: float = CONFIDENCE) -> str:
    """met, missed, or unclear: whether the share of late queries is below 1 - percentile."""
    share = round(1 - percentile, 12)
    if chance_of_at_most(late, queries, share) <= 1 - confidence:
        return "met"
    if 1 - chance_of_at_most(late - 1, queries, share) <= 1 - confidence:
        return "missed"
    return "unclear"


def queries_needed(late: int, percentile: float = PERCENTILE, confidence: float = CONFIDENCE) -> int:
    """The fewest queries among which so many late ones still meet the bound: 459, 662, 838, ... for p99."""
    return fewest(late, round(1 - percentile, 12), confidence)


def clump_size(series: Sequence[Latencies]) -> float:
    """How many queries a slow one has in its clump, itself included, on average over the slow ones: 1 where they are alone.

    This is the factor by which clumps of varying size widen the spread of a count (its index of dispersion): E[size^2] / E[size].
    series: latencies in the order of arrival, one array a try.
    """
    threshold = np.quantile(np.concatenate(series), 1 - SLOW_SHARE)
    sizes: list[int] = []
    for one in series:
        slow = np.flatnonzero(one > threshold)
        if len(slow):
            sizes += [len(clump) for clump in np.split(slow, np.flatnonzero(np.diff(slow) > CLUMP_GAP + 1) + 1)]
    if not sizes:
        return 1.0
    squares = float(np.square(np.array(sizes, dtype=np.float64)).sum())
    return squares / sum(sizes)


def judge(series: Sequence[Latencies], bound: float) -> str:
    """met, missed or unclear, from the latencies of all tries of a rate and the bound in the same unit."""
    queries = sum(len(one) for one in series)
    if queries == 0:
        return "unclear"
    late = sum(int(np.sum(one > bound)) for one in series)
    clump = clump_size(series)
    apart = int(queries / clump)
    # rounded so that neither claim gets easier
    if verdict(apart, math.ceil(late / clump)) == "met":
        return "met"
    return "missed" if verdict(apart, int(late / clump)) == "missed" else "unclear"


@dataclass
class Search:
    """Bisection between a rate that was met (0 at first) and one that was not (the limit at first, untried).

    limit: a rate that cannot be served. resolution: ends when the two are within this share of the upper one.
    least: lowest rate that is worth a try.
    """

    limit: float
    resolution: float
    least: float
    met: float = 0.0
    not_met: float = field(init=False)

    def __post_init__(self) -> None:
        self.not_met = self.limit

    def next_rate(self) -> float | None:
        """The next rate to try, three digits long, or None when the search has ended."""
        if self.not_met - self.met <= self.resolution * self.not_met:
            return None
        rate = float(f"{(self.met + self.not_met) / 2:.3g}")
        if not self.met < rate < self.not_met or rate < self.least:
            return None
        return rate

    def record(self, rate: float, was_met: bool) -> None:
        if was_met:
            self.met = max(self.met, rate)
        else:
            self.not_met = min(self.not_met, rate)
