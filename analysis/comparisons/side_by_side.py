"""Two or more runs or GPUs beside each other: `invoke report --compare`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.comparisons import summary
from analysis.database.connection import Database, Row
from analysis.results import several_runs, tables
from analysis.results.cards import Card, card_of, perhaps_one, two_cards
from analysis.results.metrics import shown
from analysis.results.sample_intervals import Intervals
from analysis.results.selection import Pivot, Sort
from analysis.results.tables import Table
from common.errors import UserError

METRICS = ("throughput", "latency", "joules_per_image", "cold_start")
_PIVOT = Pivot(("batch_size", "variant", "precision", "tuning", "version"), "device_name")
#: kind of device, run, device
Place = tuple[Any, Any, Any]
#: below tables of sides that have cells several times
_ONE_OF_SEVERAL = f"Of a cell that a side measured several times one figure stands here: {several_runs.RULE}"


@dataclass(frozen=True)
class Comparison:
    """sides: names of the columns. tables: one column per side. sentences: (heading, best of each side by batch size). notes: what
    holds for all of them."""

    sides: tuple[str, ...]
    tables: tuple[Table, ...]
    sentences: tuple[tuple[str, tuple[str, ...]], ...]
    notes: tuple[str, ...] = ()


def build(database: Database, rows: Sequence[Row], intervals: Intervals) -> Comparison:
    """Sides are kinds of devices; of one kind its runs, or the GPUs of one run; or both where a kind of several has several runs.

    Raises UserError where there is nothing to put side by side.
    """
    sides_of = {place: _side(row, rows) for place, row in _first_of_each(rows).items()}
    every = [{**row, "device_name": name} for row in rows for name in [sides_of[_place(row)]]]
    named = several_runs.newest(every)
    given = list(database.runs)
    sides = tuple(dict.fromkeys(row["device_name"] for row in sorted(named, key=lambda row: given.index(row["run"]))))
    if len(sides) < 2:
        only = (
            f"there is only {named[0]['device']} of run {named[0]['run']}: name another run too"
            if named
            else "there is no result"
        )
        raise UserError(f"--compare needs two or more runs or GPUs; {only}")
    others, of_other_gpus = several_runs.passed_over(every)
    footers = (
        *_of_one_kind(rows, sides_of),
        *(("; ".join([_ONE_OF_SEVERAL, *several_runs.far_apart(every, intervals)]),) if others else ()),
        *(
            (f"Of cells that a side measured on several GPUs: {several_runs.gpus_of_one_run(of_other_gpus, every)}",)
            if of_other_gpus
            else ()
        ),
    )
    built = _in_order(sides, tables.build(database, named, METRICS, _PIVOT, Sort("batch_size", falling=False)), footers)
    leading = sorted(built, key=lambda one: not_usual(one.group))
    sentences = tuple(
        (table.subtitle, found)
        for table in leading
        if table.metric.name == "throughput" and (found := tuple(_sentences(table, intervals)))
    )
    return Comparison(sides, tuple(shared for table in leading if (shared := _shared(table)).rows), sentences, footers)


def not_usual(group: Mapping[str, Any]) -> tuple[bool, bool]:
    """Sorts what most ask for first: copies included, one inference at a time."""
    return group.get("scenario") != "single-stream", group.get("io") != "host"


def _shared(table: Table) -> Table:
    """Only the rows that two sides have; the others stand in the tables of each side."""
    sides = {row: sum(table.entry(row, column).value is not None for column in table.columns) for row in table.rows}
    rows = [row for row in table.rows if sides[row] > 1]
    alone = len(table.rows) - len(rows)
    if not alone:
        return table
    count = "1 row that only one side has is" if alone == 1 else f"{alone} rows that only one side has are"
    return replace(table, rows=tuple(rows), footers=(*table.footers, f"{count} left out here"))


def _in_order(sides: Sequence[str], built: Sequence[Table], footers: tuple[str, ...]) -> list[Table]:
    """Columns in the order in which the runs were named: the first is what the others are held against. footers: further ones."""
    return [
        replace(
            table,
            columns=tuple(side for side in sides if side in table.columns),
            footers=(*table.footers, *footers),
        )
        for table in built
    ]


def _of_one_kind(rows: Sequence[Row], sides_of: Mapping[Place, str]) -> list[str]:
    """That sides are, or may be, of different cards of one kind, in a sentence each; [] where none are."""
    cards: dict[str, set[Card]] = {}
    for row in rows:
        cards.setdefault(sides_of[_place(row)], set()).add(card_of(row))
    apart = {
        (perhaps_one(one, beside), one.kind)
        for own, other in itertools.combinations(cards.values(), 2)
        for one, beside in itertools.product(own, other)
        if two_cards(one, beside)
    }
    kinds = {unsure: ", ".join(sorted(kind for one, kind in apart if one is unsure)) for unsure, _ in sorted(apart)}
    are = {
        False: "Sides are of different cards",
        True: "It is not known whether sides are of one card or of different ones",
    }
    return [
        f"{are[unsure]} of one kind ({names}): a difference may be that of the cards" for unsure, names in kinds.items()
    ]


def _place(row: Row) -> Place:
    return row["device_name"] or row["device"], row["run"], row["device"]


def _first_of_each(rows: Sequence[Row]) -> dict[Place, Row]:
    """A row of each device of a run: what side it is on does not differ among them."""
    return {_place(row): row for row in reversed(rows)}


def _side(row: Row, rows: Sequence[Row]) -> str:
    """A kind of device, where its runs complement each other; with the run, where they measured so many cells several times that
    tables of them are split (several_runs). Where there is one kind alone, the run, the GPU of the only run, or both."""
    device = str(row["device_name"] or row["device"])
    own = [other for other in rows if str(other["device_name"] or other["device"]) == device]
    if len(own) == len(rows):
        gpus = {other["device"] for other in own if other["run"] == row["run"]}
        of_one_run = len({other["run"] for other in own}) == 1
        words = [] if of_one_run and len(gpus) > 1 else [str(row["run"])]
        return " ".join([*words, *([str(row["device"])] if len(gpus) > 1 else [])])
    return f"{device}, {row['run']}" if several_runs.split_by(own, ("run",)) else device


def _sentences(table: Table, intervals: Intervals) -> list[str]:
    """For each batch size that two sides have the best of every side, and how it stands to the first side's."""
    place = table.row_names.index("batch_size")
    found = []
    for size in sorted({row[place] for row in table.rows}):
        best: list[tuple[Any, Any, Any]] = []
        for column in table.columns:
            known = [(row, table.entry(row, column)) for row in table.rows if row[place] == size]
            known = [(row, entry) for row, entry in known if entry.value is not None and not entry.wrong]
            if known:
                row, entry = max(known, key=lambda pair: pair[1].value or 0.0)
                best.append((column, row, entry))
        if len(best) < 2:
            continue
        parts = []
        first = best[0][2]
        for column, row, entry in best:
            name = summary.name_of(table, row).removeprefix(f"batch {size} ")
            text = f"{column}: {name}, {summary.figure(table, entry, intervals)}"
            if entry is not first:
                times, comma, unclear = ratio(table, first, entry, intervals).partition(", ")
                text += f" ({times} {best[0][0]}{comma}{unclear})"
            parts.append(text)
        found.append(f"Batch {size}. " + "; ".join(parts) + ".")
    return found


def ratio(table: Table, first: tables.Entry, other: tables.Entry, intervals: Intervals) -> str:
    """ "1.84 times", with UNCLEAR unless the intervals of the two are over workers and apart; "" where one of them has no figure."""
    if not first.value or other.value is None:
        return ""
    unclear = not summary.clear(table, first, other, intervals)
    return f"{shown(other.value / first.value)} times{', UNCLEAR' if unclear else ''}"
