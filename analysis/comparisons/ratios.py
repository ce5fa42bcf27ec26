"""How much faster one row is than another: many pairs of a page, with verdicts that hold for all of them together.

The figure is the ratio of throughputs with its 95 % interval over workers; the verdict follows the rule of `invoke compare`
(common.stats.comparison), at the confidence that Holm's method asks for of so many pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.database.connection import Database, Row
from analysis.results.cards import card_of, two_cards
from analysis.results.sample_intervals import group_of, throughput_of
from common.stats.comparison import ERROR_RATE, MARGIN, Verdict, holm, quotient_of, verdict
from common.stats.intervals import Draws, Interval, Ratio, over_workers
from common.stats.workers import Pool, pools_of

#: (run, keys of a row's cells)
Place = tuple[str, tuple[str, ...]]
Pair = tuple[Place, Place]


def place_of(row: Row) -> Place:
    return row["run"], tuple(row["cell_keys"])


@dataclass(frozen=True)
class Said:
    """B against A. times: throughput of B over that of A, with its 95 % interval; ends are None where nothing tells the spread
    between workers. other_gpu: the two were measured on two GPUs of one kind; an interval over workers knows nothing of the difference
    between cards, so there is none, and no verdict. other_run: they are of two runs, whose spread the interval lacks."""

    times: float
    low: float | None
    high: float | None
    verdict: Verdict
    other_gpu: bool = False
    other_run: bool = False

    @property
    def known(self) -> bool:
        """Whether there is an interval, and with it a verdict."""
        return self.low is not None

    @property
    def text(self) -> str:
        """`1.234 [1.200, 1.260]`; without an interval the ratio alone."""
        ends = "" if self.low is None or self.high is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.times:.3f}{ends}"


class Throughputs:
    """The throughputs of rows of the view `comparison` that are ok, with the spread between their workers."""

    def __init__(self, database: Database, rows: Iterable[Row]) -> None:
        measured = [row for row in rows if row["status"] == "ok" and row["images_per_s"] and row["samples"]]
        self._parts: dict[Place, Sequence[Draws]] = {}
        self._rows: dict[Place, Row] = {}
        for row in measured:
            if parts := throughput_of(database, row):
                self._parts[place_of(row)], self._rows[place_of(row)] = parts, row
        self._pools = pools_of(
            (group_of(self._rows[place]), [part.estimate for part in parts]) for place, parts in self._parts.items()
        )

    def _pool(self, place: Place) -> Pool | None:
        return self._pools.get(group_of(self._rows[place]))

    def interval(self, row: Row) -> Interval | None:
        """Of a row, at 95 %; None where nothing tells how the next worker would do."""
        place = place_of(row)
        drawn = over_workers(self._parts.get(place, ()), self._pool(place)) if place in self._parts else None
        return drawn.interval() if drawn is not None and drawn.over_workers else None

    def judge(self, pairs: Iterable[tuple[Row, Row]]) -> dict[Pair, Said]:
        """(B, A) of each pair -> what is said of B. Each pair counts once, whichever way round and however often it was asked."""
        asked = {(place_of(b), place_of(a)): (b, a) for b, a in pairs if b["images_per_s"] and a["images_per_s"]}
        # of durations, as verdicts have it: of B over A
        quotients = {
            pair: None if two_cards(card_of(b), card_of(a)) else self._time_ratio(*pair)
            for pair, (b, a) in asked.items()
        }
        once = {frozenset(pair): pair for pair in asked if quotients[pair] is not None}
        p_values = holm([self._p_value(quotients[pair]) for pair in once.values()])
        corrected = dict(zip(once, p_values, strict=True))
        tested = sum(not math.isnan(p) for p in p_values)
        apart = sum(p < ERROR_RATE for p in p_values)
        confidence = 1 - ERROR_RATE / max(1, tested - apart)
        return {
            pair: _said(b, a, quotients[pair], corrected.get(frozenset(pair), math.nan), confidence)
            for pair, (b, a) in asked.items()
        }

    def _time_ratio(self, b: Place, a: Place) -> Ratio | None:
        if b not in self._parts or a not in self._parts:
            return None
        pool_b, pool_a = self._pool(b), self._pool(a)
        drawn_b, drawn_a = over_workers(self._parts[b], pool_b), over_workers(self._parts[a], pool_a)
        if drawn_b is None or drawn_a is None or min(drawn_b.estimate, drawn_a.estimate) <= 0:
            return None
        return quotient_of(drawn_a, drawn_b, pool_a, pool_b)

    @staticmethod
    def _p_value(quotient: Ratio | None) -> float:
        return quotient.p_value(1.0) if quotient is not None and quotient.over_workers else math.nan


def _said(b: Row, a: Row, quotient: Ratio | None, p_value: float, confidence: float) -> Said:
    times = b["images_per_s"] / a["images_per_s"]
    others = two_cards(card_of(b), card_of(a)), b["run"] != a["run"]
    if quotient is None or not quotient.over_workers:
        return Said(times, None, None, Verdict.UNCLEAR, *others)
    shown = quotient.interval()
    judged = verdict(quotient.interval(confidence), p_value, MARGIN, ERROR_RATE)
    if not (shown.low > 0 and math.isfinite(shown.high)):
        return Said(1 / shown.estimate, None, None, judged, *others)
    return Said(1 / shown.estimate, 1 / shown.high, 1 / shown.low, judged, *others)


def count_of(said: Mapping[Pair, Said]) -> dict[Verdict, int]:
    """How many pairs that have an interval have each verdict, each pair once; with which side first does not matter."""
    once = {frozenset(pair): one.verdict for pair, one in said.items() if one.known}
    return {word: list(once.values()).count(word) for word in Verdict if word in once.values()}
