"""When a rate counts as met, and how the search for the highest goes on."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from common.host.bench.peak_search import Search, chance_of_at_most, clump_size, judge, queries_needed, verdict


@pytest.mark.parametrize(("queries", "late", "share"), [(10, 0, 0.1), (50, 3, 0.01), (200, 150, 0.7), (662, 1, 0.01)])
def test_binomial_tail_against_exact_fractions(queries: int, late: int, share: float) -> None:
    p = Fraction(share)
    exact = sum(math.comb(queries, k) * p**k * (1 - p) ** (queries - k) for k in range(late + 1))
    assert chance_of_at_most(late, queries, share) == pytest.approx(float(exact), rel=1e-9)


def test_binomial_tail_at_its_ends() -> None:
    assert chance_of_at_most(-1, 5, 0.1) == 0
    assert chance_of_at_most(5, 5, 0.1) == 1
    assert chance_of_at_most(9000, 1_000_000, 0.01) < 1e-20


def test_counts_of_early_stopping_are_those_of_loadgen() -> None:
    assert [queries_needed(late) for late in range(4)] == [459, 662, 838, 1001]
    assert [queries_needed(1, percentile) for percentile in (0.9, 0.95, 0.999)] == [64, 130, 6636]


def test_in_between_nothing_is_claimed() -> None:
    assert verdict(661, 1) == "unclear" and verdict(662, 1) == "met"
    assert verdict(1000, 10) == "unclear"
    assert verdict(1000, 30) == "missed" and verdict(10, 0) == "unclear"


def test_wrong_claims_are_rare() -> None:
    rng = np.random.default_rng(3)
    late = rng.binomial(1000, 0.01, 3000)  # exactly at the bound: neither claim may be made more often than in 1 %
    claims = [verdict(1000, int(count)) for count in late]
    assert claims.count("met") / 3000 < 0.016 and claims.count("missed") / 3000 < 0.016


@pytest.mark.parametrize("truth", [3.0, 47.0, 99.0])
def test_bisection_ends_around_the_truth(truth: float) -> None:
    search, tried = Search(limit=110.0, resolution=0.05, least=0.1), 0
    while (rate := search.next_rate()) is not None:
        assert search.met < rate < search.not_met
        search.record(rate, rate <= truth)
        tried += 1
    assert search.met <= truth <= search.not_met
    assert search.not_met - search.met <= 0.05 * search.not_met
    assert tried <= 12


def test_rates_that_would_take_for_ever_are_not_tried() -> None:
    search = Search(limit=100.0, resolution=0.05, least=10.0)
    tried = []
    while (rate := search.next_rate()) is not None:
        tried.append(rate)
        search.record(rate, False)
    assert tried == [50, 25, 12.5] and search.met == 0


def test_nothing_can_be_told_from_what_was_met_by_luck_at_the_limit() -> None:
    search = Search(limit=100.0, resolution=0.05, least=0.1)
    while (rate := search.next_rate()) is not None:
        search.record(rate, True)
    assert search.not_met == 100 and 95 <= search.met < 100


def queue(load: float, service: float, queries: int, rng: np.random.Generator) -> np.ndarray:
    """Latencies of an M/D/1 queue by Lindley's recursion: each wait is the one before it, longer by the service and shorter
    by the gap, and never negative."""
    steps = service - rng.exponential(service / load, queries)
    total = np.concatenate([[0.0], np.cumsum(steps[:-1])])
    return total - np.minimum.accumulate(total) + service


def test_independent_latencies_have_no_clumps() -> None:
    alone = clump_size([np.random.default_rng(0).exponential(1.0, 50_000)])
    assert 1.0 <= alone < 1.5
    assert clump_size([np.full(1000, 5)]) == 1.0


def test_clumps_are_counted_within_each_try() -> None:
    one = np.ones(1000, dtype=np.int64)
    one[100:110] = one[500:510] = one[700:720] = 9  # sizes 10, 10 and 20
    assert clump_size([one]) == pytest.approx(600 / 40)
    first, second = np.ones(500, dtype=np.int64), np.ones(500, dtype=np.int64)
    first[-5:] = second[:5] = 9
    assert clump_size([first, second]) == 5


def test_waiting_together_is_no_reason_for_confidence() -> None:
    """At a load whose p99 is the bound, a claim in either direction is wrong; the plain count makes it in half of all tries."""
    rng = np.random.default_rng(8)
    load, tries = 0.774, 200
    bound = float(np.quantile(queue(load, 1.0, 2_000_000, rng), 0.99))
    claims, plain = [], []
    for _ in range(tries):
        latencies = queue(load, 1.0, 3000, rng)
        claims.append(judge([latencies], bound))
        plain.append(verdict(len(latencies), int(np.sum(latencies > bound))))
    assert claims.count("met") / tries <= 0.03 and claims.count("missed") / tries <= 0.03
    assert plain.count("met") / tries > 0.2
    # and it still finds out
    assert judge([queue(0.5, 1.0, 10_000, rng)], bound) == "met"
    assert judge([queue(0.9, 1.0, 10_000, rng)], bound) == "missed"
    assert judge([np.empty(0)], bound) == "unclear"
