"""Cells that several of the given runs measured, or several GPUs of one product: which tables are split by run, and how rows are
told apart in the others.

The rule, for each table by itself: where SPLIT_SHARE of its cells or more were measured several times, the runs are there to be held
against each other, and each has a table of its own. Where fewer were, as after measuring some cells again, the table stays whole:
the rows in which such cells stand name their run, once for each run, and of each cell one figure counts (`standing`). The best of a
table, sentences and plots are of figures that count; the others are shown beside them. No figure is a mean over runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from analysis import style
from analysis.database.connection import Row
from analysis.results.cards import FAR_APART, card_of, perhaps_one, two_cards
from analysis.results.metrics import is_wrong
from analysis.results.selection import DIMENSIONS

#: of a table's cells, from which on it is split
SPLIT_SHARE = 0.5
#: What may differ between two measurements of one cell.
PLACE = ("run", "device")
#: columns that `told_apart` gives a row: the run or GPU that its label names ("run a", "gpu0"), and whether its figures count
OF_RUN, COUNTS = "run_or_gpu", "counts"
#: which figure of a cell counts (`standing`), as sentences say it
RULE = "the newest that has several workers, else the newest"
#: and of a cell that several GPUs of one run measured, none of which is newer
GPU_RULE = "the first GPU with several workers, else the first"
_CELL = tuple(name for name in DIMENSIONS if name not in (*PLACE, "device_name"))

Key = tuple[Any, ...]


def split_by(rows: Sequence[Row], places: Sequence[str] = PLACE, inside: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns of `places` by which a table of these rows is split; () where it stays whole.

    inside: columns of PLACE that tell the table's rows or columns apart themselves, so that cells which differ in them are two.
    """
    found = _places(rows, places, inside)
    several = [seen for seen in found.values() if len(seen) > 1]
    if not several or len(several) < SPLIT_SHARE * len(found):
        return ()
    return tuple(
        name
        for number, name in enumerate(places)
        if any(len({place[number] for place in seen}) > 1 for seen in several)
    )


def told_apart(
    rows: Sequence[Row], labels: Sequence[str], places: Sequence[str] = PLACE, inside: Sequence[str] = ()
) -> list[Row]:
    """Rows of one table that is not split, as they are where no cell is among them twice; else copies with OF_RUN and COUNTS.

    labels: columns by whose values the table names its rows. Where several runs share a cell of such a row, what they have in it, and
    in rows that differ from it in the level of tuning alone, names its run: which levels are of one run is then seen. Others have "".
    inside: as of `split_by`.
    """
    several = {cell for cell, seen in _places(rows, places, inside).items() if len(seen) > 1}
    if not several:
        return list(rows)
    beside = [name for name in labels if name != "tuning"]
    sharing: dict[Key, set[Key]] = {}
    for row in rows:
        if cell_of(row, inside) in several:
            sharing.setdefault(_values(row, beside), set()).add(_values(row, places))
    counting = {id(row) for row in newest(rows, inside)}
    return [
        {
            **row,
            OF_RUN: _name(places, _values(row, places), sharing.get(_values(row, beside), set())),
            COUNTS: id(row) in counting,
        }
        for row in rows
    ]


def newest(rows: Sequence[Row], inside: Sequence[str] = ()) -> list[Row]:
    """One row of each cell, in the order of the rows: the one of the highest standing, which mostly is the newest.

    inside: as of `split_by`.
    """
    chosen = {id(row) for row in _chosen(rows, inside).values()}
    return [row for row in rows if id(row) in chosen]


def passed_over(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows that `newest` leaves out: (those in whose place one of another run counts, those of another GPU of the same run)."""
    chosen = _chosen(rows)
    pairs = [(row, chosen[cell_of(row)]) for row in rows if chosen[cell_of(row)] is not row]
    return [row for row, other in pairs if row["run"] != other["run"]], [
        row for row, other in pairs if row["run"] == other["run"]
    ]


def far_apart(rows: Sequence[Row], intervals: Mapping[Any, Any] = MappingProxyType({})) -> list[str]:
    """What is said beside RULE of the rows that those of another run stand for: how far the two lie apart, where that is more than
    FAR_APART or, on one card and where intervals over workers are given (all_intervals), than these. A sentence, without its end, for
    each kind of pair (same card, another), of the farthest one.

    rows: as of `passed_over`.
    """
    chosen = _chosen(rows)
    found: dict[str, list[tuple[float, Row, Row]]] = {}
    for row in passed_over(rows)[0]:
        other = chosen[cell_of(row)]
        if not (row["images_per_s"] and other["images_per_s"]) or is_wrong(row) or is_wrong(other):
            continue
        times = row["images_per_s"] / other["images_per_s"]
        if max(times, 1 / times) > FAR_APART or _apart_on_one_card(row, other, intervals):
            found.setdefault(_whose(row, other), []).append((times, row, other))
    lines = []
    for whose, pairs in found.items():
        times, row, other = max(pairs, key=lambda pair: abs(math.log(pair[0])))
        which = f"{_named(row)}: run {row['run']} against {other['run']}"
        which += f", the farthest of {len(pairs)}" if len(pairs) > 1 else ""
        lines.append(f"{whose} reached {times:.3g} times the throughput of what counts ({which})")
    return lines


def _apart_on_one_card(row: Row, other: Row, intervals: Mapping[Any, Any]) -> bool:
    one, beside = (intervals.get((tuple(own["cell_keys"]), own["run"], "throughput")) for own in (row, other))
    if one is None or beside is None or not (one.over_workers and beside.over_workers):
        return False
    return not two_cards(card_of(row), card_of(other)) and (one.low > beside.high or beside.low > one.high)


def _whose(row: Row, other: Row) -> str:
    card, counting = card_of(row), card_of(other)
    if perhaps_one(card, counting):
        return f"what is perhaps another {card.device} of this kind"
    if two_cards(card, counting):
        return f"another {card.device} of this kind"
    return "the same GPU" if card.is_known and not card.is_cpu else "another run"


def _named(row: Row) -> str:
    return f"{row['model']}, {style.look(row['variant']).title} {style.kind(row)} batch {row['batch_size']} {row['io']}"


def gpus_of_one_run(left_out: Sequence[Row], rows: Sequence[Row]) -> str:
    """Why those that another GPU of their run stands for are left out: which GPUs, and which figure counts.

    left_out: the second of `passed_over`. rows: what they were left out of.
    """
    cells = {(row["run"], cell_of(row)) for row in left_out}
    devices = {row["device"] for row in rows if (row["run"], cell_of(row)) in cells}
    names = sorted(devices, key=_number)
    return (
        f"{len(names)} GPUs of one run ({', '.join(names)}) measured them; of each cell one figure counts: {GPU_RULE}"
    )


def _chosen(rows: Sequence[Row], inside: Sequence[str] = ()) -> dict[Key, Row]:
    """cell -> the row that counts"""
    found: dict[Key, Row] = {}
    for row in rows:
        other = found.setdefault(cell_of(row, inside), row)
        if standing(row) > standing(other):
            found[cell_of(row, inside)] = row
    return found


def legend(rows: Sequence[Row]) -> str:
    """What the column OF_RUN of a table says, and which figures of its cells count; "" where no row has such a label."""
    places = {(row["run"], row["device"]) for row in rows if row.get(OF_RUN)}
    runs = {run for run, _ in places}
    if not places:
        return ""
    if len(runs) == 1:
        where, rule = "on several GPUs of one run", GPU_RULE
    elif len(places) == len(runs):
        where, rule = "in several of these runs", RULE
    else:
        where, rule = "in several of these runs or on several GPUs of one", f"{RULE}; of GPUs of one run {GPU_RULE}"
    text = f"run or gpu: measured {where}, one row for each; one figure of a cell counts ({rule}), others are never the best"
    return "; ".join([text, *far_apart(rows)])


def counting(rows: Sequence[Row]) -> list[Row]:
    """Of rows that `told_apart` may have gone through, those whose figures count."""
    return [row for row in rows if row.get(COUNTS, True)]


def standing(row: Row) -> tuple[Any, ...]:
    """Of rows of the view `comparison` that measured one cell the largest counts, wherever one figure is told of it.

    Those that are ok and not known to be wrong come first, then those of several workers, which alone tell how far a worker is from
    the next, then the newest, and of the GPUs of one run the first. How many several are decides nothing: an older figure would
    outlive what was mended since.
    """
    several = row["replicates"] > 1
    created, first_gpu = str(row["created_utc"] or ""), -_number(row["device"])
    return row["status"] == "ok", not is_wrong(row), several, created, row["run"], first_gpu


def standing_of_pair(upper: Row, lower: Row) -> tuple[Any, ...]:
    """Of several pairs of two configurations, such as tuned and stock of a framework, the largest counts: workers enough for an
    interval, then one run, then the newest. What two cards or versions are is for the caller."""
    return (
        min(upper["replicates"], lower["replicates"]) > 1,
        upper["run"] == lower["run"],
        *(standing(row) for row in (upper, lower)),
    )


def _number(device: str) -> int:
    """3 of gpu3; 0 of cpu."""
    return int(re.sub(r"\D", "", device) or 0)


def _places(rows: Sequence[Row], places: Sequence[str], inside: Sequence[str]) -> dict[Key, set[Key]]:
    """cell -> where it was measured"""
    found: dict[Key, set[Key]] = {}
    for row in rows:
        found.setdefault(cell_of(row, inside), set()).add(_values(row, places))
    return found


def cell_of(row: Row, inside: Sequence[str] = ()) -> Key:
    """What tells a cell from another, wherever it was measured."""
    return row["device_name"] or row["device"], *(row[name] for name in (*_CELL, *inside))


def _values(row: Row, names: Sequence[str]) -> Key:
    return tuple(row[name] for name in names)


def _name(places: Sequence[str], place: Key, sharing: set[Key]) -> str:
    """ "run a" where the run tells the places apart, or their GPU, "gpu0", where they are of one run; else both, "run a gpu0"."""
    if place not in sharing:
        return ""
    words = [f"run {value}" if name == "run" else str(value) for name, value in zip(places, place, strict=True)]
    for number, word in enumerate(words):
        if len({other[number] for other in sharing}) == len(sharing):
            return word
    return " ".join(words)
