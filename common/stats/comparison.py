"""Is B faster or slower than A? Verdicts from the ratio of their medians over workers, with unequal counts as the normal case.

ratio = median duration of B / median duration of A, each averaged over workers

SLOWER   the interval of the ratio leaves out 1, and the ratio is above 1 by more than the margin; FASTER likewise below
SAME     the interval of the ratio lies within the margin around 1 (two one-sided tests, Schuirmann 1987)
UNCLEAR  anything else: more workers would tell

The interval is the one that is shown: at 98 %, and where many cells are compared as much wider as Holm's method asks for. It
is over workers. A side of one worker has none, so that its verdict is UNCLEAR, unless the spread between workers is known from
other cells of the same framework and device (`workers.Pool`).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from common.job import WORKERS
from common.stats.intervals import (
    Draws,
    Interval,
    Ratio,
    Uncertain,
    over_workers,
    percentile_parts,
    quotient_parts,
    ratio,
)
from common.stats.workers import Pool, pools_of

#: a difference within this share does not matter
MARGIN = 0.01
#: chance of calling two equal cells different, over all cells of one comparison: intervals are at one minus this. Stricter than
#: the usual 5 %, so that a table of identical pairs stays below 5 % false verdicts and not merely near it
ERROR_RATE = 0.02

#: The rule in a sentence, for the footers of tables, help and reports.
RULE = (
    f"FASTER or SLOWER: the {1 - ERROR_RATE:.0%} interval of the ratio leaves out 1, and the ratio is more than {MARGIN:.0%} "
    f"from it; SAME: the interval lies within {MARGIN:.0%} of 1; UNCLEAR: anything else"
)
ONE_WORKER = (
    "UNCLEAR with one worker a side: it tells nothing of how the next one would do, and the interval shown is of these workers "
    f"alone; for a verdict measure both sides with --replicates {WORKERS} or more"
)
FROM_OTHERS = (
    "one worker a side: its spread is taken from other cells of the same framework and device that have several workers"
)
TWO_WORKERS = (
    "two workers tell little about the spread between workers: the interval is as wide as one degree of freedom makes it, "
    f"and {WORKERS} or more give a far shorter one"
)


class Verdict(StrEnum):
    FASTER = "FASTER"
    SLOWER = "SLOWER"
    SAME = "SAME"
    UNCLEAR = "UNCLEAR"


@dataclass(frozen=True)
class Comparison:
    """B relative to A.

    interval: of median duration of B over that of A, at the confidence that decides; None where it cannot be known.
    p_value: of "the medians are equal", after correction for many cells where there were many; not a number where the spread
    between workers is unknown.
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
    group: cells of one group (framework and device) tell the spread between workers together; None is by itself.
    wrong: why the durations are known to be wrong; a comparison with them is UNCLEAR, and says this, and other cells learn nothing
    from them.
    """

    identity: Hashable
    replicates: Sequence[ArrayLike]
    passes: bool = False
    group: Hashable = None
    wrong: str | None = None


def compare_samples(
    a: Sequence[ArrayLike],
    b: Sequence[ArrayLike],
    *,
    margin: float = MARGIN,
    error_rate: float = ERROR_RATE,
    seed: int = 0,
    pooled: Pool | None = None,
) -> Comparison:
    """Compares the median durations of two cells.

    a, b: one series of durations (n_r,) per worker, in the order of time, in the same unit.
    margin: share within which a difference does not matter, such as 0.01.
    error_rate: chance of FASTER or SLOWER for two equal cells. pooled: what other cells of the same framework and device
    tell of the spread between workers.
    """
    _check(margin, error_rate)
    one = _measure(_Side.of(Measured(None, a), 2 * seed), _Side.of(Measured(None, b), 2 * seed + 1), pooled, pooled)
    return one.judged(one.p_value, margin, error_rate, 1 - error_rate)


def compare_runs(
    run_a: Sequence[Measured],
    run_b: Sequence[Measured],
    *,
    margin: float = MARGIN,
    error_rate: float = ERROR_RATE,
    seed: int = 0,
    floors: Mapping[Hashable, Pool] | None = None,
) -> RunComparison:
    """Compares all cells that two runs share, with Holm's correction (Scandinavian Journal of Statistics 6, 1979).

    error_rate: chance of one or more false FASTER or SLOWER among all cells. floors: group -> what earlier runs tell of the
    spread between workers; asked only for groups of which no cell here has several workers.
    """
    _check(margin, error_rate)
    measured_a, measured_b = _by_identity(run_a), _by_identity(run_b)
    shared = [identity for identity in measured_a if identity in measured_b]
    for identity in shared:  # what one side knows as passes alone is compared by the means of both
        if measured_a[identity].passes or measured_b[identity].passes:
            for cells in (measured_a, measured_b):
                cells[identity] = replace(cells[identity], passes=True)
    sides = [
        {key: _Side.of(cell, 2 * seed + place) for key, cell in cells.items()}
        for place, cells in enumerate((measured_a, measured_b))
    ]
    cells_a, cells_b = sides
    spreads = (
        (side.cell.group, [part.estimate for part in side.parts])
        for cells in sides
        for side in cells.values()
        if side.cell.group is not None and side.cell.wrong is None
    )
    pools = {**(floors or {}), **pools_of(spreads)}
    raw = {
        identity: _measure(a, b, pools.get(a.cell.group), pools.get(b.cell.group))
        for identity, a, b in ((identity, cells_a[identity], cells_b[identity]) for identity in shared)
    }
    corrected = dict(zip(shared, holm([raw[identity].p_value for identity in shared]), strict=True))
    tested = sum(not math.isnan(p) for p in corrected.values())
    rejected = sum(p < error_rate for p in corrected.values())
    # One level for the table: of the first cell that Holm's method does not reject, which those that it rejects satisfy too.
    confidence = 1 - error_rate / max(1, tested - rejected)
    judged = {
        identity: raw[identity].judged(corrected[identity], margin, error_rate, confidence) for identity in shared
    }
    correction = _words_on(len(shared), tested, confidence, error_rate)
    return RunComparison(
        judged,
        tuple(identity for identity in cells_a if identity not in cells_b),
        tuple(identity for identity in cells_b if identity not in cells_a),
        f"{RULE}. {correction}" if shared else correction,
    )


def _words_on(shared: int, tested: int, confidence: float, error_rate: float) -> str:
    """What was done about many cells. shared: cells of both sides; tested: those whose difference could be judged."""
    chance = f"false FASTER or SLOWER is at most {error_rate:.0%}"
    level = f"{100 * confidence:.4g} %"
    if tested > 1:
        words = f"{tested} cells compared: intervals are at {level} each, so that by Holm's method the chance of any {chance}"
    elif tested == 1:
        words = f"1 cell compared, no correction; the chance of a {chance}"
    elif shared:
        sides = "1 cell has" if shared == 1 else f"{shared} cells have"
        words = f"{sides} both sides, and none could be judged; intervals are at {level}"
    else:
        return "No cell ran on both sides, so that nothing could be compared"
    if tested and shared > tested:
        words += f"; {shared - tested} more could not be judged"
    return words


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the given order; what is not a number stays so and does not count."""
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p_values[i] * (len(order) - rank)))
        adjusted[i] = highest
    return adjusted


def _check(margin: float, error_rate: float) -> None:
    if not 0 < margin < 1 or not 0 < error_rate < 1:
        raise ValueError("margin and error_rate are shares between 0 and 1")


@dataclass(frozen=True)
class _Side:
    """A cell with the middle of each of its workers: the median, of published passes the mean; empty where n is too small."""

    cell: Measured
    parts: Sequence[Draws]

    @classmethod
    def of(cls, cell: Measured, seed: int) -> _Side:
        if cell.passes:
            return cls(cell, quotient_parts(cell.replicates, [np.ones(np.size(one)) for one in cell.replicates], seed))
        return cls(cell, percentile_parts(cell.replicates, 50, seed))

    @property
    def samples(self) -> int:
        return sum(np.size(one) for one in self.cell.replicates)

    def middle(self, pooled: Pool | None) -> Uncertain | None:
        return over_workers(self.parts, pooled)


@dataclass(frozen=True)
class _Raw:
    """A comparison before its verdict. quotient: None where there is none."""

    a: _Side
    b: _Side
    quotient: Ratio | None
    notes: tuple[str, ...]

    @property
    def p_value(self) -> float:
        return self.quotient.p_value(1.0) if self.quotient and self.quotient.over_workers else math.nan

    def judged(self, p_value: float, margin: float, error_rate: float, confidence: float) -> Comparison:
        interval = self.quotient.interval(confidence) if self.quotient else None
        known = interval is not None and interval.over_workers
        return Comparison(
            verdict=verdict(interval, p_value, margin, error_rate) if known else Verdict.UNCLEAR,
            interval=interval,
            p_value=p_value,
            samples_a=self.a.samples,
            samples_b=self.b.samples,
            replicates_a=len(self.a.cell.replicates),
            replicates_b=len(self.b.cell.replicates),
            notes=self.notes,
        )


def _measure(a: _Side, b: _Side, pool_a: Pool | None, pool_b: Pool | None) -> _Raw:
    passes = a.cell.passes
    notes = ["published passes: their means are compared"] if passes else []
    wrong = [f"{name}: {side.cell.wrong}" for name, side in (("A", a), ("B", b)) if side.cell.wrong]
    if wrong:
        return _Raw(a, b, None, (*notes, f"UNCLEAR, durations known to be wrong: {'; '.join(wrong)}"))
    middle_a, middle_b = a.middle(pool_a), b.middle(pool_b)
    if middle_a is None or middle_b is None:
        return _Raw(a, b, None, (*notes, f"n too small for a {'mean' if passes else 'median'}"))
    if min(middle_a.estimate, middle_b.estimate) <= 0:
        name = "A" if middle_a.estimate <= 0 else "B"
        return _Raw(a, b, None, (*notes, f"the {'mean' if passes else 'median'} of {name} is 0"))
    workers = [len(side.parts) for side in (a, b)]
    quotient = quotient_of(middle_b, middle_a, pool_b, pool_a)
    if min(workers) == 1:
        notes.append(FROM_OTHERS if quotient.over_workers else ONE_WORKER)
    elif min(workers) == 2:
        notes.append(TWO_WORKERS)
    return _Raw(a, b, quotient, tuple(notes))


def quotient_of(b: Uncertain, a: Uncertain, pool_b: Pool | None = None, pool_a: Pool | None = None) -> Ratio:
    """b / a of two cells' means over workers, with no more degrees of freedom than their workers, and the pools that helped, have."""
    workers = (a.replicates, b.replicates)
    shared = pool_a is not None and pool_a is pool_b
    most = pool_a.most_freedom(*(count - 1 for count in workers)) if shared and pool_a is not None else math.inf
    if min(workers) == 2 and not all(pool is not None and pool.common.freedom for pool in (pool_a, pool_b)):
        most = min(
            most, 1.0
        )  # two that agree by chance would make Welch's degrees of freedom, or their windows', too many
    return ratio(b, a, most)


def _by_identity(run: Sequence[Measured]) -> dict[Hashable, Measured]:
    cells = {cell.identity: cell for cell in run}
    if len(cells) != len(run):
        raise ValueError("an identity occurs twice in a run: its replicates belong into one Measured")
    return cells


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
