"""What cells of a framework and device tell together of how far workers lie apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from common.stats.comparison import quotient_of
from common.stats.intervals import of_figures, over_workers, throughput_parts
from common.stats.workers import LEAST_FREEDOM, SMALLEST, Spread, pool, pools_of, spread_of


def spreads(rng: np.random.Generator, cells: int, workers: int, unlike: float = 0.0, sd: float = 0.01) -> list[Spread]:
    """unlike: standard deviation of the logarithm of the cells' true standard deviations."""
    true = sd * np.exp(unlike * rng.standard_normal(cells))
    return [spread_of(np.exp(one * rng.standard_normal(workers))) for one in true]


def test_of_logarithms_and_so_of_no_unit() -> None:
    one = spread_of([1.0, 1.1, 1.3])
    assert one.freedom == 2 and one.variance == pytest.approx(np.var(np.log([1.0, 1.1, 1.3]), ddof=1))
    assert spread_of([10.0, 11.0, 13.0]).variance == pytest.approx(one.variance)
    assert spread_of([2.0]).freedom == 0
    assert spread_of([2.0, 2.0]).variance == SMALLEST


def test_nothing_is_known_of_single_workers_alone() -> None:
    assert pool([]) is None and pool([Spread(0.0, 0)] * 5) is None
    assert pools_of([("a", [1.0]), ("b", [1.0, -1.0])]) == {}


def test_few_cells_are_not_proof_of_anything() -> None:
    own, other = Spread(1e-4, 2), Spread(4e-4, 2)
    found = pool([own, other])
    assert found is not None
    assert found.moderated(own) == own
    # a single worker gets the larger of the two, never the smaller
    assert found.moderated(Spread(0.0, 0)) == other
    assert found.most_freedom(2, 2) == math.inf


def test_cells_alike_are_worth_many_degrees_of_freedom() -> None:
    found = pool(spreads(np.random.default_rng(1), 60, 3))
    assert found is not None
    one = found.moderated(Spread(1e-6, 2))
    assert one.freedom > 8
    assert one.variance == pytest.approx(1e-4, rel=0.4), "a lucky cell is drawn to the others"


def test_cells_unlike_keep_to_themselves() -> None:
    found = pool(spreads(np.random.default_rng(1), 60, 3, unlike=1.5))
    assert found is not None
    assert found.common.freedom < 2
    noisy = Spread(0.05**2, 2)
    assert found.moderated(noisy).variance > 0.3 * noisy.variance


def test_a_single_worker_learns_nothing_from_cells_that_disagree() -> None:
    """A row of one worker was once printed as 7,594 [801.7, 71,942]: its framework's cells lent half a degree of freedom."""
    alone = Spread(0.0, 0)
    unlike = pool(spreads(np.random.default_rng(1), 60, 3, unlike=1.5))
    assert unlike is not None and unlike.common.freedom < LEAST_FREEDOM
    assert unlike.moderated(alone) == alone
    alike = pool(spreads(np.random.default_rng(1), 60, 3))
    assert alike is not None and alike.moderated(alone).freedom >= LEAST_FREEDOM
    # of too few cells to tell whether they agree the noisiest stands in, if it has three workers
    for workers, lent in ((2, 0), (3, 2)):
        few = pool([Spread(1e-4, workers - 1)] * 2)
        assert few is not None and few.moderated(alone).freedom == lent


def test_the_interval_of_a_single_worker_is_then_of_its_own_window() -> None:
    rng = np.random.default_rng(2)
    (part,) = throughput_parts([1e6 * (1 + 0.01 * rng.standard_normal(400))], 1.0)
    unlike = pool(spreads(np.random.default_rng(1), 60, 3, unlike=1.5))
    own = over_workers([part], unlike)
    assert own is not None and not own.interval().over_workers
    assert own.interval() == over_workers([part]).interval()
    alike = pool(spreads(np.random.default_rng(1), 60, 3))
    sure = of_figures([500.0, 505.0, 495.0])
    assert sure is not None
    lent = over_workers([part], alike)
    assert lent is not None and lent.over_workers
    assert quotient_of(lent, sure, alike, None).over_workers
    assert not quotient_of(own, sure, unlike, None).over_workers, "a ratio knows no more than its worse side"


def test_no_more_freedom_than_there_is() -> None:
    found = pool([Spread(1e-4, 2)] * 5)
    assert found is not None
    for own in (Spread(1e-4, 2), Spread(0.0, 0)):
        assert found.moderated(own).freedom <= 10
    assert found.most_freedom(2, 2) <= 10


@pytest.mark.parametrize(("cells", "unlike"), [(4, 0.0), (14, 0.5), (40, 1.0)])
def test_a_moderated_t_holds_its_level(cells: int, unlike: float) -> None:
    from scipy.stats import t

    rng, inside, total = np.random.default_rng(5), 0, 0
    for _ in range(60):
        true = 0.01 * np.exp(unlike * rng.standard_normal(cells))
        logs = true[:, None] * rng.standard_normal((cells, 3))
        found = pool([spread_of(np.exp(one)) for one in logs])
        assert found is not None
        for one in logs:
            used = found.moderated(spread_of(np.exp(one)))
            inside += abs(one.mean()) <= t.ppf(0.975, used.freedom) * math.sqrt(used.variance / 3)
            total += 1
    assert 0.95 - 3 * math.sqrt(0.05 * 0.95 / total) <= inside / total


def test_zero_between_workers_is_no_fault() -> None:
    found = pool([spread_of([1.0, 1.0, 1.0])] * 4)
    assert found is not None and found.moderated(Spread(SMALLEST, 2)).variance > 0
