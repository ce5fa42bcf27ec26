"""Pairs of measurements in the order AB BA AB ..., so that a drift of the machine meets both sides alike.

Each pair gives one ratio. A pair that a neighbour disturbed is one of many: the result is their median.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import TypeVar

from common.errors import UserError
from common.stats.intervals import Interval, percentile_draws
from common.stats.percentiles import samples_needed

T = TypeVar("T")
#: durations in ns of one block of inferences of either side
BlockPair = tuple[Sequence[int], Sequence[int]]


def alternate(first: Callable[[], T], second: Callable[[], T], count: int) -> list[tuple[T, T]]:
    """`count` pairs in the order AB BA AB ..., each as (first's, second's)."""
    pairs = []
    for number in range(count):
        if number % 2 == 0:
            one = first()
            pairs.append((one, second()))
        else:
            other = second()
            pairs.append((first(), other))
    return pairs


def latency_ratios(pairs: Sequence[BlockPair]) -> list[float]:
    """Median latency of the first over that of the second, of each pair."""
    return [median(one) / median(other) for one, other in pairs]


def throughput_ratios(pairs: Sequence[BlockPair]) -> list[float]:
    """Images/s of the first over that of the second, of each pair."""
    return [fmean(other) / fmean(one) for one, other in pairs]


def interval_of(rounds: Sequence[Sequence[float]]) -> Interval:
    """Median over the ratios of a round, averaged over rounds, with its 95 % interval. Raises UserError for too few ratios."""
    draws = percentile_draws(rounds, 50)
    if draws is None:
        shortest = min((len(ratios) for ratios in rounds), default=0)
        raise UserError(f"{shortest} pairs are too few for an interval; at least {samples_needed(50)} are needed")
    return draws.interval()
