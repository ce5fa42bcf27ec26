"""What became of a framework over time: each configuration's measurements by date and version, with a verdict at each step.

A *point* is one configuration of one run; points that differ in date or version alone are one *series*: run by run as
they were made, the versions of a run in their order. Each point is held against the last one before it that ran, with one
correction for all steps together.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from analysis.comparisons.runs import IDENTITY, floors_for
from analysis.database.connection import Database, Row
from analysis.results import durations
from analysis.results.cards import card_of, two_cards
from analysis.results.sample_intervals import group_of
from analysis.results.versions import version_key
from common.stats.comparison import Comparison, Measured, RunComparison, compare_runs

#: what the sign behind a verdict says
OTHER_CARD = (
    "†: against another card of the kind, or one that has no UUID and may be another, so that a difference may be that of the "
    "cards"
)

#: What makes points one series: another model, made by the same name, is another one.
SERIES = (*(name for name in IDENTITY if name != "version"), "model_hash", "device_name", "device")


@dataclass(frozen=True)
class Point:
    """row: of `comparison`. step: against the last point before that is ok; None where there is none, or this one is not ok.
    other_card: whether that one was measured on another card of the kind."""

    row: Row
    step: Comparison | None = None
    other_card: bool = False

    @property
    def version(self) -> str:
        return str(self.row["version"] or self.row["framework_version"] or "unknown")

    @property
    def date(self) -> str:
        return str(self.row["created_utc"] or "")[:10] or "unknown"


@dataclass(frozen=True)
class History:
    """series: identity, by SERIES -> its points, the oldest first. correction: what was done about many steps, in words."""

    series: Mapping[tuple[Any, ...], tuple[Point, ...]]
    correction: str

    @property
    def steps(self) -> list[Comparison]:
        return [point.step for points in self.series.values() for point in points if point.step]


def history(database: Database, rows: Sequence[Row], earlier: Sequence[Path] = ()) -> History:
    """The series among these rows of `comparison` that have a point at all. earlier: see `floors_for`."""
    series: dict[tuple[Any, ...], list[Row]] = {}
    for row in sorted(rows, key=_order):
        series.setdefault(tuple(row[name] for name in SERIES), []).append(row)
    before, after = _steps(database, series)
    floors = floors_for([row for points in series.values() for row in points if row["status"] == "ok"], earlier)
    found = compare_runs(before, after, floors=floors) if before else RunComparison({}, (), (), "")
    history = {key: tuple(_points(key, rows, found)) for key, rows in series.items()}
    apart = any(point.other_card for points in history.values() for point in points)
    return History(history, f"{found.correction}. {OTHER_CARD}" if apart else found.correction)


def _points(key: tuple[Any, ...], rows: Sequence[Row], found: RunComparison) -> Iterator[Point]:
    before: Row | None = None
    for place, row in enumerate(rows):
        step = found.cells.get((key, place))
        yield Point(row, step, step is not None and before is not None and two_cards(card_of(before), card_of(row)))
        before = row if row["status"] == "ok" else before


def _order(row: Row) -> tuple[Any, ...]:
    return (*(str(row[name]) for name in SERIES if name != "batch_size"), row["batch_size"], *_age(row))


def _age(row: Row) -> tuple[Any, ...]:
    return str(row["created_utc"] or ""), row["run"], version_key(row["version"] or row["framework_version"])


def _steps(
    database: Database, series: Mapping[tuple[Any, ...], Sequence[Row]]
) -> tuple[list[Measured], list[Measured]]:
    """The two sides of every step between neighbours that both ran, by (series, place of the later one)."""
    before: list[Measured] = []
    after: list[Measured] = []
    for key, points in series.items():
        ran = [(place, row) for place, row in enumerate(points) if row["status"] == "ok"]
        known = [_measured(database, row) for _, row in ran]
        for (one, other), (place, _) in zip(pairwise(known), ran[1:], strict=False):
            before.append(Measured((key, place), *one))
            after.append(Measured((key, place), *other))
    return before, after


def _measured(database: Database, row: Row) -> tuple[Sequence[durations.Durations], bool, Hashable, str | None]:
    """Durations, whether they are of published passes, the group and why they are wrong, as Measured takes them."""
    return durations.of_row(database, row), not row["samples"], group_of(row), row["known_wrong"]
