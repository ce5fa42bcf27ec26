"""Is B faster or slower than A? Verdicts from the ratio of their medians, with unequal sample counts as the normal case.

ratio = median duration of B / median duration of A                SLOWER   ratio above 1
                                                                   FASTER   ratio below 1
SAME     the interval of the ratio lies within the margin around 1 (two one-sided tests, Schuirmann 1987)
SLOWER   the ratio differs from 1 beyond doubt, and by more than the margin; FASTER likewise
UNCLEAR  anything else: more samples or more replicates would tell
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from common.stats.intervals import Draws, Interval, Ratio, percentile_draws, quotient_draws, ratio

#: a difference within this share does not matter
MARGIN = 0.01
#: chance of calling two equal cells different, over all cells of one comparison
ERROR_RATE = 0.02


class Verdict(StrEnum):
    FASTER = "FASTER"
    SLOWER = "SLOWER"
    SAME = "SAME"
    UNCLEAR = "UNCLEAR"


#: how a terminal shows them
STYLES = {Verdict.FASTER: "green", Verdict.SLOWER: "red", Verdict.SAME: "", Verdict.UNCLEAR: "yellow"}


@dataclass(frozen=True)
class Comparison:
    """B relative to A.

    interval: of median duration of B over that of A, at 95 %; None where it cannot be told.
    p_value: of "the medians are equal"; after correction for many cells where there were many.
    notes: sentences for the footer of a table.
    """

    verdict: Verdict
    interval: Interval | None
    p_value: float
    samples_a: int
    samples_b: int
    replicates_a: int
    replicates_b: int
    notes: tuple[str, ...]

    @property
    def ratio_text(self) -> str:
        """The ratio with its interval, for a table."""
        if self.interval is None:
            return "–"
        return f"{self.interval.estimate:.3f} [{self.interval.low:.3f}, {self.interval.high:.3f}]"


@dataclass(frozen=True)
class RunComparison:
    """Two runs, cell by cell.

    cells: identity -> comparison, in the order of run A, for the cells that both have.
    only_a, only_b: identities that the other run lacks. correction: what was done about many cells, for people.
    """

    cells: Mapping[Hashable, Comparison]
    only_a: tuple[Hashable, ...]
    only_b: tuple[Hashable, ...]
    correction: str

    @property
    def slower(self) -> tuple[Hashable, ...]:
        """Cells that got slower: a comparison in CI fails if there are any."""
        return tuple(identity for identity, cell in self.cells.items() if cell.verdict is Verdict.SLOWER)


@dataclass(frozen=True)
class Measured:
    """One cell of a run: identity is the same in both runs; replicates are its durations in ns, one series a worker.

    passes: they are not of single inferences but of passes that somebody published, a handful, each a mean already.
    """

    identity: Hashable
    replicates: Sequence[ArrayLike]
    passes: bool = False


def compare_samples(
    a: Sequence[ArrayLike],
    b: Sequence[ArrayLike],
    *,
    margin: float = MARGIN,
    error_rate: float = ERROR_RATE,
    seed: int = 0,
) -> Comparison:
    """Compares the median durations of two cells.

    a, b: one series of durations (n_r,) per replicate, in the order of time, in the same unit.
    margin: share within which a difference does not matter, such as 0.01.
    error_rate: chance of FASTER or SLOWER for two equal cells. Stricter than the 5 % that the interval shown has, so
        that a table of identical pairs stays below 5 % false verdicts and not merely near it.
    """
    if not 0 < margin < 1 or not 0 < error_rate < 1:
        raise ValueError("margin and error_rate are shares between 0 and 1")
    return _judged(_measure(a, b, seed), margin, error_rate)


def compare_runs(
    run_a: Sequence[Measured],
    run_b: Sequence[Measured],
    *,
    margin: float = MARGIN,
    error_rate: float = ERROR_RATE,
    seed: int = 0,
) -> RunComparison:
    """Compares all cells that two runs share, with Holm's correction (Scandinavian Journal of Statistics 6, 1979).

    error_rate: chance of one or more false FASTER or SLOWER among all cells.
    """
    cells_a, cells_b = _by_identity(run_a), _by_identity(run_b)
    shared = [identity for identity in cells_a if identity in cells_b]
    raw = {
        identity: _measure(a.replicates, b.replicates, seed, a.passes or b.passes)
        for identity, a, b in ((identity, cells_a[identity], cells_b[identity]) for identity in shared)
    }
    corrected = dict(zip(shared, holm([raw[identity].p_value for identity in shared]), strict=True))
    judged = {
        identity: _judged(replace(raw[identity], p_value=corrected[identity]), margin, error_rate)
        for identity in shared
    }
    tested = sum(not math.isnan(p) for p in corrected.values())
    correction = (
        f"{tested} cells compared, p values corrected by Holm's method: the chance of any false FASTER or SLOWER is "
        f"at most {error_rate:.0%}; intervals are 95 % each, uncorrected"
        if tested > 1
        else f"{tested} cell compared, no correction; the chance of a false FASTER or SLOWER is at most {error_rate:.0%}"
    )
    return RunComparison(
        judged,
        tuple(identity for identity in cells_a if identity not in cells_b),
        tuple(identity for identity in cells_b if identity not in cells_a),
        correction,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the given order; what is not a number stays so and does not count."""
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p_values[i] * (len(order) - rank)))
        adjusted[i] = highest
    return adjusted


def _measure(a: Sequence[ArrayLike], b: Sequence[ArrayLike], seed: int, passes: bool = False) -> Comparison:
    """The comparison before a verdict; of means where there are only passes."""
    draws_a, draws_b = (
        _mean_draws(one, drawn) if passes else percentile_draws(one, 50, seed=drawn)
        for one, drawn in ((a, 2 * seed), (b, 2 * seed + 1))
    )
    middle = "mean" if passes else "median"
    notes: list[str] = ["published passes: their means are compared"] if passes else []
    quotient: Ratio | None = None
    if draws_a is None or draws_b is None:
        notes.append(f"n too small for a {middle}")
    elif min(draws_a.estimate, draws_b.estimate) <= 0:
        notes.append(f"the {middle} of {'A' if draws_a.estimate <= 0 else 'B'} is 0")
    else:
        quotient = ratio(draws_b, draws_a)
        if min(len(a), len(b)) == 1:
            notes.append("a single replicate: the spread between workers is unknown and not in the interval")
        elif min(len(a), len(b)) == 2:
            notes.append(
                "two replicates tell little about the spread between workers: 3 or more give far shorter intervals"
            )
    return Comparison(
        verdict=Verdict.UNCLEAR,
        interval=quotient.interval() if quotient else None,
        p_value=quotient.p_value(1.0) if quotient else math.nan,
        samples_a=sum(np.size(one) for one in a),
        samples_b=sum(np.size(one) for one in b),
        replicates_a=len(a),
        replicates_b=len(b),
        notes=tuple(notes),
    )


def _mean_draws(replicates: Sequence[ArrayLike], seed: int) -> Draws | None:
    return quotient_draws(replicates, [np.ones(np.size(one)) for one in replicates], seed)


def _by_identity(run: Sequence[Measured]) -> dict[Hashable, Measured]:
    cells = {cell.identity: cell for cell in run}
    if len(cells) != len(run):
        raise ValueError("an identity occurs twice in a run: its replicates belong into one Measured")
    return cells


def _judged(comparison: Comparison, margin: float, error_rate: float) -> Comparison:
    return replace(comparison, verdict=verdict(comparison.interval, comparison.p_value, margin, error_rate))


def verdict(interval: Interval | None, p_value: float, margin: float, error_rate: float) -> Verdict:
    """The word for a ratio; see the head of this file."""
    if interval is None:
        return Verdict.UNCLEAR
    lower, upper = 1 / (1 + margin), 1 + margin
    if lower <= interval.low and interval.high <= upper:
        return Verdict.SAME
    if p_value < error_rate and interval.estimate > upper:
        return Verdict.SLOWER
    if p_value < error_rate and interval.estimate < lower:
        return Verdict.FASTER
    return Verdict.UNCLEAR
