"""Comparison tables: framework by batch size, one table for each metric, model, device, io and scenario.

A table is data: what each place says, which is best, how it ranks. `analysis/render_*.py` turn it into text, files and HTML.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis import style
from analysis.database.connection import Database, Row
from analysis.results import algorithms, level_steps, several_runs
from analysis.results.cards import UNKNOWN, Card, card_of, cards_of, count_of
from analysis.results.level_steps import AS_TUNED
from analysis.results.metrics import HEADLINES, Metric, concerns, is_wrong, item_of, metric, shown, spoken_of
from analysis.results.selection import DIMENSIONS, Pivot, Selection, Sort, named_columns, parse_where
from analysis.results.several_runs import COUNTS, OF_RUN, PLACE
from analysis.results.versions import label_versions, version_key
from common.errors import UserError
from common.schema import SCENARIOS
from common.text import shortened

#: Sign of a cell that beats the same cell on a newer GPU.
OLDER_BEATS_NEWER = "^"

#: A figure so many times worse than the best of its batch size is as far from it as a table can show.
FAR = 4.0
#: of a column, in an error
_MOST_VALUES = 12

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Entry:
    """One place of a table.

    value: in the metric's unit, None where there is none; `text` then says why. rank: how near to the best of its batch size: 1
    for the best, 0.5 where it is twice away (half as fast, twice as long), 0 from FAR times on; None where it is not ranked.
    signs: of its marks. keys: the cells of `run` that it comes from. card: where it was measured. wrong: the value is known to
    be, so that it is never the best. older: nor is one of a cell of which another run's or GPU's counts (see several_runs), or
    another level's (see level_steps.AS_TUNED).
    """

    text: str
    value: float | None = None
    rank: float | None = None
    best: bool = False
    signs: str = ""
    keys: tuple[str, ...] = ()
    run: str = ""
    card: Card = UNKNOWN
    wrong: bool = False
    older: bool = False

    @property
    def marked(self) -> str:
        return f"{self.text} {self.signs}" if self.signs else self.text


NOTHING = Entry("")


@dataclass(frozen=True)
class Table:
    """rows: one tuple of labels per row, one label per name in `row_names`. footers: sentences that belong under it; those
    of them that say only where it comes from also stand in `provenance`."""

    metric: Metric
    group: Mapping[str, Any]
    row_names: tuple[str, ...]
    column_name: str
    rows: tuple[Key, ...]
    columns: tuple[Any, ...]
    entries: Mapping[tuple[Key, Any], Entry]
    footers: tuple[str, ...]
    provenance: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        direction = {1: ", more is better", -1: ", less is better", 0: ""}[self.metric.better]
        return f"{self.metric.label}{direction}"

    @property
    def subtitle(self) -> str:
        return heading(self.group)

    def entry(self, row: Key, column: Any) -> Entry:
        return self.entries.get((row, column), NOTHING)


def heading(group: Mapping[str, Any]) -> str:
    """What all cells of a group have in common, in words."""
    known = {name: value for name, value in group.items() if value is not None}
    if known.get("scenario", "multi-stream") != "multi-stream":
        known.pop("streams", None)  # the others have one stream, whatever an adapter keeps in flight
    return ", ".join(describe(name, value) for name, value in known.items())


def describe(name: str, value: Any) -> str:
    """A dimension's value for a heading."""
    return {
        "io": "copies included (io=host)" if value == "host" else "device-resident (io=device)",
        "streams": f"{value} in flight",
        "target_rate_per_s": f"{value:g}/s asked for" if isinstance(value, float) else "",
        "input": f"{value} input",
        "run": f"run {value}",
        OF_RUN: f"of {value}" if value else "",
        "batch_size": f"batch {value}",
    }.get(name, str(value))


def load(database: Database, selection: Selection) -> list[dict[str, Any]]:
    """Rows of `comparison`, in a fixed order; `version` as tables say it (results/versions.py); some with level_steps.AS_TUNED."""
    order = ", ".join(f'"{name}"' for name in DIMENSIONS)
    rows = database.query(
        f"SELECT * FROM comparison WHERE {selection.condition} ORDER BY {order}", selection.parameters
    )
    label_versions(rows)
    return level_steps.marked_as_tuned(rows, database)


def selected(database: Database, where: str | Sequence[str] | None) -> list[dict[str, Any]]:
    """Rows of `comparison` that meet the conditions (see selection.parse_where).

    Raises UserError where there are conditions that no row meets, with the values that there are.
    """
    chosen = parse_where(where, database)
    rows = load(database, chosen)
    if rows or chosen == Selection():
        return rows
    terms = [where] if isinstance(where, str) else list(where or ())
    columns = sorted({column for term in terms for column in named_columns(term)} & {*DIMENSIONS})
    present = [f"{column} {_values_of(database, column)}" for column in columns]
    raise UserError(f"no cell meets '{', '.join(terms)}'{'; measured: ' if present else ''}{'; '.join(present)}")


def _values_of(database: Database, column: str) -> str:
    """Those that there are, as far as they fit a line."""
    found = database.query(
        f'SELECT DISTINCT "{column}" AS value FROM comparison WHERE "{column}" IS NOT NULL ORDER BY 1'
    )
    words = [
        shortened(f"{row['value']:g}" if isinstance(row["value"], float) else str(row["value"]), 40) for row in found
    ]
    more = len(words) - _MOST_VALUES
    return ", ".join(words[:_MOST_VALUES]) + (f" and {more} more" if more > 0 else "") if words else "nowhere given"


def build(
    database: Database,
    rows: Sequence[Row],
    metrics: Sequence[str] = HEADLINES,
    pivot: Pivot | None = None,
    sort: Sort | None = None,
) -> list[Table]:
    """One table per group of rows and metric; a metric that nobody measured in a group has none there
    (but throughput, where the reasons of failed cells stand).

    rows: from `load`. Raises UserError for an unknown metric.
    """
    pivot = pivot or Pivot()
    signs = {row["mark"]: (row["sign"], row["meaning"]) for row in database.query("FROM mark_meaning")}
    newer = {name: _figures_by_age(metric(name), rows) for name in metrics}
    known = level_steps.steps(database) if len({row["tuning"] for row in rows}) > 1 else {}
    tables: list[Table] = []
    for group, members in groups(rows, pivot):
        own = _with_runs(_without_unused(pivot, members), members)
        row_order = _row_order(members, own, sort)
        # models of several kinds in one analysis: each table counts in its own items
        with spoken_of(item_of(members)):
            bought = [
                *level_steps.unchanged_sentence(members),
                *level_steps.sentences(members, known),
                *algorithms.differing(database, members),
            ]
            tables.extend(
                _table(metric(name), group, members, own, row_order, newer[name], signs, bought)
                for name in metrics
                if any(
                    row[metric(name).column] is not None or (name == "throughput" and row["status"] != "ok")
                    for row in members
                )
            )
    return tables


def _without_unused(pivot: Pivot, members: Sequence[Row]) -> Pivot:
    """The pivot without a column of labels that say nothing: all empty, or all `tuned`, which a footer tells."""
    usual = {"version": ("", None), "tuning": ("tuned",)}
    used = tuple(
        name
        for name in pivot.rows
        if name not in usual or len(pivot.rows) == 1 or any(row[name] not in usual[name] for row in members)
    )
    return replace(pivot, rows=used)


def _with_runs(pivot: Pivot, members: Sequence[Row]) -> Pivot:
    """The pivot with a column of labels that tells rows of several runs apart, where the members have that."""
    return replace(pivot, rows=(*pivot.rows, OF_RUN)) if any(OF_RUN in row for row in members) else pivot


def groups(rows: Sequence[Row], pivot: Pivot) -> list[tuple[dict[str, Any], list[Row]]]:
    """(what the heading says, members): what is not in rows or columns and differs, or must never be mixed.

    Models and devices by name, and of each the scenarios in the order in which they are explained, single-stream first. Runs and GPUs
    of one product share a group, unless so many of its cells were measured in several of them that it is split (several_runs); else
    rows of such cells come as `several_runs.told_apart` has them.
    """
    inside = {*pivot.rows, pivot.column}
    apart = [name for name in DIMENSIONS if name not in inside and name not in PLACE]
    places = [name for name in PLACE if name not in inside]
    places_inside = [name for name in PLACE if name in inside]
    differing = {name for name in apart if len({row[name] for row in rows}) > 1}
    if any(row["input"] != "float32" for row in rows):
        differing.add("input")
    whole = _by(rows, apart)
    splits = {key: several_runs.split_by(members, places, places_inside) for key, members in whole.items()}
    # beside groups that name their run, one that is of a single run names it too
    named = [name for name in places if any(name in split for split in splits.values())]
    shown = {"model", "device_name", "io", "scenario", *differing}
    found = []
    for key, members in whole.items():
        facts = {name: value for name, value in zip(apart, key, strict=True) if name in shown}
        for part, own in _by(members, splits[key]).items():
            alone = {name: own[0][name] for name in named if len({row[name] for row in own}) == 1}
            every = {**facts, **alone, **dict(zip(splits[key], part, strict=True))}
            heading = {name: every[name] for name in DIMENSIONS if name in every}
            found.append((heading, several_runs.told_apart(own, pivot.rows, places, places_inside)))
    return sorted(found, key=lambda item: _place({name: item[0].get(name) for name in DIMENSIONS}))


def _by(rows: Sequence[Row], names: Sequence[str]) -> dict[Key, list[Row]]:
    found: dict[Key, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def _place(group: Mapping[str, Any]) -> tuple[Any, ...]:
    scenario = group.get("scenario")
    rank = SCENARIOS.index(scenario) if scenario in SCENARIOS else len(SCENARIOS)
    first = (group.get("model"), group.get("device_name"))
    return (*map(_sortable, first), rank, *map(_sortable, group.values()))


def _configuration(row: Row, without: Iterable[str] = ()) -> Key:
    return tuple(row[name] for name in DIMENSIONS if name != "run" and name not in without)


def _row_order(members: Sequence[Row], pivot: Pivot, sort: Sort | None) -> list[Key]:
    """Row labels, the fastest framework first unless asked otherwise; unknown comes last."""
    keys = list(dict.fromkeys(tuple(row[name] for name in pivot.rows) for row in members))
    column, falling = (sort.column, sort.falling) if sort else ("images_per_s", True)

    def rank(key: Key) -> tuple[Any, ...]:
        values = [
            row[column] for row in members if tuple(row[name] for name in pivot.rows) == key and row[column] is not None
        ]
        if not values:
            return (1, 0)
        best = max(values) if falling else min(values)
        return (0, -best if falling and isinstance(best, (int, float)) else best)

    ordered = sorted(keys, key=lambda key: tuple(map(_sortable, key)))
    if sort and sort.falling and any(isinstance(row[column], str) for row in members):
        known = sorted((key for key in ordered if rank(key)[0] == 0), key=rank, reverse=True)
        return known + [key for key in ordered if rank(key)[0] == 1]
    return sorted(ordered, key=rank)


def _sortable(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, (int, float)) else (1, str(value or ""))


def _table(
    one: Metric,
    group: dict[str, Any],
    members: Sequence[Row],
    pivot: Pivot,
    row_order: list[Key],
    newer: _FiguresByAge,
    signs: Mapping[str, tuple[str, str]],
    bought: Sequence[str],
) -> Table:
    by = version_key if pivot.column == "version" else _sortable
    columns = tuple(sorted({row[pivot.column] for row in members}, key=by))
    scales = _scales(one, members, pivot)
    used: dict[str, str] = {}
    entries: dict[tuple[Key, Any], Entry] = {}
    beaten = _beats_newer(one, members, newer)
    for row in members:
        place = (tuple(row[name] for name in pivot.rows), row[pivot.column])
        marks = [signs[mark] for mark in row["marks"] or () if mark in signs and concerns(mark, one, row)]
        if (row["run"], *_configuration(row)) in beaten and row[one.column] is not None:
            marks.append((OLDER_BEATS_NEWER, "beats the same framework on a newer GPU"))
        used.update(marks)
        entries[place] = _entry(one, row, scales[_scale_of(row, pivot)], "".join(sorted(sign for sign, _ in marks)))
    footers = _footers(one, members, pivot, used, entries.values(), bought if one.name == "throughput" else ())
    provenance = frozenset([*versions(members), *machines(members)])
    return Table(one, group, pivot.rows, pivot.column, tuple(row_order), columns, entries, footers, provenance)


def _scale_of(row: Row, pivot: Pivot) -> Key:
    return (row["batch_size"], row[pivot.column])


def _scales(one: Metric, members: Sequence[Row], pivot: Pivot) -> dict[Key, list[float]]:
    """Known figures that count by (batch size, column): what a figure is ranked against."""
    scales: dict[Key, list[float]] = {}
    for row in members:
        values = scales.setdefault(_scale_of(row, pivot), [])
        if row[one.column] is not None and not is_wrong(row, one) and _counts(row):
            values.append(float(row[one.column]))
    return scales


def _counts(row: Row) -> bool:
    return bool(row.get(COUNTS, True)) and not row.get(AS_TUNED)


def _entry(one: Metric, row: Row, against: Sequence[float], signs: str) -> Entry:
    place: dict[str, Any] = {"keys": tuple(row["cell_keys"]), "run": row["run"], "card": card_of(row)}
    if row["status"] != "ok":
        return Entry(row["status"], signs=signs.replace("x", ""), **place)
    value = row[one.column]
    if value is None:
        too_few = row["samples"] is not None and one.needs > row["samples"] / row["replicates"]
        return Entry(f"n<{one.needs}" if too_few else "–", signs=signs, **place)
    if is_wrong(row, one):
        return Entry(shown(value * one.scale), value * one.scale, signs=signs, wrong=True, **place)
    older = not _counts(row)
    if not against:
        return Entry(shown(value * one.scale), value * one.scale, signs=signs, older=older, **place)
    low, high = min(against), max(against)
    # an older figure may lie beyond those that count
    away = _rank(value, min(low, value), high, one.better) if one.better and high > low else None
    rank = None if away is None else min(1.0, max(0.0, away))
    best = bool(one.better) and len(against) > 1 and value == (high if one.better > 0 else low) and not older
    return Entry(shown(value * one.scale), value * one.scale, rank, best, signs, older=older, **place)


def _rank(value: float, low: float, high: float, better: int) -> float | None:
    """By the distance from the best alone: how slow the slowest is must not colour all others."""
    if low > 0:
        away = high / value if better > 0 else value / low
        return max(0.0, 1 - math.log(away) / math.log(FAR))
    # net of idle a figure can be zero or below it: between the ends then
    share = (value - low) / (high - low)
    return share if better > 0 else 1 - share


#: configuration but for the device -> (age of the GPU, figure times what is better) of each cell
_FiguresByAge = Mapping[Key, Sequence[tuple[float, float]]]
_DEVICE = ("device_name", "device")


def _figures_by_age(one: Metric, everything: Sequence[Row]) -> _FiguresByAge:
    found: dict[Key, list[tuple[float, float]]] = {}
    for row in everything if one.better else ():
        if row["compute_capability"] and row[one.column] is not None and not is_wrong(row, one):
            found.setdefault(_configuration(row, _DEVICE), []).append((_age(row), one.better * row[one.column]))
    return found


def _beats_newer(one: Metric, members: Sequence[Row], figures: _FiguresByAge) -> set[Key]:
    """(run, *configuration) of those whose figure is better than the same one's on a GPU of a higher compute capability."""
    return {
        (row["run"], *_configuration(row))
        for row in members
        if row["compute_capability"] and row[one.column] is not None and one.better and not is_wrong(row, one)
        and any(
            age > _age(row) and figure < one.better * row[one.column]
            for age, figure in figures[_configuration(row, _DEVICE)]
        )
    }  # fmt: skip


def _age(row: Row) -> float:
    """Compute capability as a number that rises with the generation: 8.6 is 8.06, 12.0 is 12."""
    major, _, minor = str(row["compute_capability"]).partition(".")
    return float(major) + float(minor or 0) / 100 if major.isdigit() and (minor or "0").isdigit() else 0.0


def _footers(
    one: Metric,
    members: Sequence[Row],
    pivot: Pivot,
    used: Mapping[str, str],
    entries: Iterable[Entry],
    bought: Sequence[str],
) -> tuple[str, ...]:
    texts = {entry.text for entry in entries}
    lines = [f"{one.title}: {one.definition}"]
    lines += [f"{sign}  {meaning}" for sign, meaning in sorted(used.items())]
    if any(text.startswith("n<") for text in texts):
        lines.append(f"n<{one.needs}  n too small: fewer inferences than this percentile needs")
    if "–" in texts:
        lines.append("–  not measured")
    if of_runs := several_runs.legend(members):
        lines.append(of_runs)
    lines += _mixed_cards([row for row in members if row[one.column] is not None], pivot)
    if one.name == "throughput":
        lines += _failures(members)
    if one.column in ("joules_per_image", "joules_per_image_net", "power_gross_w", "power_net_w"):
        lines += sorted(
            {
                f"Energy of CPU and DRAM is unknown on {row['device_name'] or row['device']}: {row['no_cpu_energy']}."
                for row in members
                if row["no_cpu_energy"] and row["package_joules_per_image"] is None and row[one.column] is not None
            }
        )
    if one.column in ("idle_w", "power_net_w", "joules_per_image_net"):
        lines += idle_levels(members)
    lines += [levels(members), *bought]
    lines += sorted({row["weights_note"] for row in members if row["weights_note"]})
    lines += sorted({f"Model: {row['model_born']}." for row in members if row["model_born"]})
    lines += versions(members)
    lines += machines(members)
    return tuple(lines)


def _mixed_cards(known: Sequence[Row], pivot: Pivot) -> list[str]:
    """One sentence where figures of one kind of GPU that a table ranks against each other are of several cards, else none."""
    ranked: dict[Key, list[Row]] = {}
    for row in known:
        ranked.setdefault((_scale_of(row, pivot), row["device_name"]), []).append(row)
    mixed = {device for own in ranked.values() for device, cards in cards_of(own).items() if len(cards) > 1}
    kinds = [f"{count_of(cards)} {device}" for device, cards in cards_of(known).items() if device in mixed]
    if not kinds:
        return []
    return [f"Cells of {' and of '.join(kinds)}: differences below what cards of one kind differ by are not told"]


#: what a level of tuning means, in a footer
LEVELS = {
    "stock": "stock: as the framework's first tutorial has it",
    "tuned": "tuned: by the framework's public interface alone",
    "rewritten": "rewritten: framewatt changed the model or replaced kernels",
}


def levels(rows: Sequence[Row]) -> str:
    """Which levels of tuning the rows have, in one sentence."""
    return (
        f"Tuning: {'; '.join(text for level, text in LEVELS.items() if any(row['tuning'] == level for row in rows))}."
    )


def versions(rows: Sequence[Row]) -> list[str]:
    """Which version of each framework was measured; with the devices where they differ, or a source does not tell."""
    found: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        if row["status"] == "ok":
            devices = found.setdefault(row["variant"], {}).setdefault(row["framework_version"] or "unknown", set())
            devices.add(str(row["device_name"] or row["device"]))
    if not any(version != "unknown" for known in found.values() for version in known):
        return []
    words = [
        f"{variant} "
        + ", ".join(
            f"{version} ({', '.join(sorted(devices))})" if len(known) > 1 else version
            for version, devices in sorted(known.items(), key=lambda item: (item[0] == "unknown", item[0]))
        )
        for variant, known in sorted(found.items())
    ]
    return [f"Versions: {'; '.join(words)}."]


def _failures(members: Sequence[Row]) -> list[str]:
    """One sentence per framework, precision and reason: no failed cell is without its reason."""
    found: dict[Key, list[str]] = {}
    for row in members:
        if row["status"] != "ok":
            of_run = describe(OF_RUN, row.get(OF_RUN))
            reason = (row["variant"], f"{style.kind(row)} {of_run}".strip(), row["status"], row["message"])
            found.setdefault(reason, []).append(str(row["batch_size"]))
    return [
        f"{variant} {precision} at batch {', '.join(sizes)}: {status}{f' ({message})' if message else ''}"
        for (variant, precision, status, message), sizes in found.items()
    ]


def idle_levels(rows: Sequence[Row]) -> list[str]:
    """One sentence per device: what it draws when it waits, with a worker's context open and without one."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        if row["idle_w"] is not None:
            found.setdefault(row["device_name"] or row["device"], []).append(row)
    lines = []
    for device, members in found.items():
        without = [row["idle_without_context_w"] for row in members if row["idle_without_context_w"] is not None]
        known = f"{_span(without)} without one" if without else "not measured without one"
        lines.append(
            f"Idle on {device}: {_span([row['idle_w'] for row in members])} with a worker's context open, {known}."
        )
    return lines


def _span(watts: Sequence[float]) -> str:
    low, high = f"{min(watts):.1f}", f"{max(watts):.1f}"
    return f"{low} W" if low == high else f"{low} to {high} W"


def machines(rows: Sequence[Row]) -> list[str]:
    """One sentence per device: where it was measured, on how many of that product, and when."""
    found: dict[str, set[str]] = {}
    cells: dict[str, dict[Key, list[Row]]] = {}
    for row in rows:
        day = (row["created_utc"] or "")[:10]
        source = "" if row["origin"] == "framewatt" else f", published by {row['origin']}"
        device = str(row["device_name"] or row["device"])
        cells.setdefault(device, {}).setdefault(several_runs.cell_of(row), []).append(row)
        found.setdefault(device, set()).add(f"run {row['run']}{f' of {day}' if day else ''}{source}")
    cards = cards_of(rows)
    return [
        f"Measured on {f'{count_of(cards[device])} ' if len(cards[device]) > 1 else ''}{device}"
        f"{_spread_over_cards(cells[device].values()) if len(cards[device]) > 1 else ''}: {', '.join(sorted(runs))}."
        for device, runs in found.items()
    ]


def _spread_over_cards(cells: Iterable[Sequence[Row]]) -> str:
    """On how many cards each cell was measured, of cells with all their rows."""
    several = [len(cards) > 1 for own in cells for cards in cards_of(own).values()]
    if not any(several):
        return ", each cell on one of them"
    return f", {'each cell' if all(several) else 'some cells'} on several of them"
