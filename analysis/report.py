"""The report: one HTML file that needs nothing beside it, with the answer first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from analysis import style
from analysis.colour_scale import colour
from analysis.database import Database
from analysis.metrics import shown
from analysis.result_intervals import Intervals
from analysis.run_facts import DEVICE
from analysis.tables import Entry, Table, describe, machines

Row = Mapping[str, Any]

MOST_MARKS = 200
MOST_MACHINES = 20

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def render(
    database: Database, rows: Sequence[Row], tables: Sequence[Table], plots: Sequence[str], intervals: Intervals
) -> str:
    """The whole page. rows: of `comparison`, as selected. plots: <svg> elements."""
    models = sorted({row["model"] for row in rows})
    devices = sorted({row["device_name"] or row["device"] for row in rows})
    marks = database.query("SELECT DISTINCT cell_key, mark, why FROM marks ORDER BY ALL")
    keys = {key for row in rows for key in row["cell_keys"]}
    marks = [mark for mark in marks if mark["cell_key"] in keys]
    facts = _machine_facts(database)
    return _ENVIRONMENT.get_template("report.html.j2").render(
        title=f"{', '.join(models)} on {', '.join(devices)}" if rows else "nothing measured",
        machines=machines(rows),
        answers=answers(tables, intervals),
        problems=[str(problem) for problem in database.problems],
        tables=[_table(table, intervals) for table in tables],
        intervals=bool(intervals),
        plots=plots,
        marks=marks[:MOST_MARKS],
        more_marks=max(0, len(marks) - MOST_MARKS),
        machine_facts=facts[:MOST_MACHINES],
        more_machines=max(0, len(facts) - MOST_MACHINES),
        commands=[row["command"] for row in database.query("SELECT DISTINCT command FROM run WHERE command IS NOT NULL ORDER BY 1")]
        + ["invoke analyze"],
    )  # fmt: skip


def answers(tables: Sequence[Table], intervals: Intervals) -> list[dict[str, Any]]:
    """For each table of throughput, one sentence per batch size: the fastest, its interval, and the runner-up."""
    found = []
    for table in tables:
        if table.metric.name == "throughput" and table.column_name == "batch_size":
            sentences = [text for column in table.columns if (text := _answer(table, column, intervals))]
            if sentences:
                found.append({"subtitle": table.subtitle, "sentences": sentences})
    return found


def _answer(table: Table, column: Any, intervals: Intervals) -> str | None:
    ranked = sorted(
        ((entry, row) for row in table.rows if (entry := table.entry(row, column)).value is not None),
        key=lambda place: place[0].value or 0.0,
        reverse=True,
    )
    if not ranked:
        return None
    (first, row), *others = ranked
    text = f"Batch {column}: {_name(table, row)}, {first.text} {table.metric.unit}{_between(table, first, intervals)}"
    if others:
        second, other = others[0]
        share = 100 * ((first.value or 0.0) / (second.value or 1.0) - 1)
        clear = _clear(table, first, second, intervals)
        verdict = "" if clear is None or clear else "; UNCLEAR, their intervals overlap"
        text += (
            f", {share:.1f} % above {_name(table, other)} ({second.text}{_between(table, second, intervals)}){verdict}"
        )
    return text + "."


def _name(table: Table, row: Sequence[Any]) -> str:
    names = dict(zip(table.row_names, row, strict=True))
    words = [style.look(value).title if name == "variant" else describe(name, value) for name, value in names.items()]
    return " ".join(words)


def _interval(table: Table, entry: Entry, intervals: Intervals) -> tuple[float, float] | None:
    """In the table's unit."""
    found = intervals.get((entry.keys, entry.run, table.metric.name))
    return None if found is None else (found.low * table.metric.scale, found.high * table.metric.scale)


def _between(table: Table, entry: Entry, intervals: Intervals) -> str:
    ends = _interval(table, entry, intervals)
    return "" if ends is None else f" [{shown(ends[0])}, {shown(ends[1])}]"


def _clear(table: Table, first: Entry, second: Entry, intervals: Intervals) -> bool | None:
    """Whether the intervals of two places are apart; None where one has none."""
    one, other = _interval(table, first, intervals), _interval(table, second, intervals)
    if one is None or other is None:
        return None
    return one[0] > other[1] or other[0] > one[1]


def _table(table: Table, intervals: Intervals) -> dict[str, Any]:
    return {
        "title": table.title,
        "subtitle": table.subtitle,
        "row_names": table.row_names,
        "headings": [describe(table.column_name, column) for column in table.columns],
        "rows": [
            {"labels": row, "places": [_place(table, table.entry(row, column), intervals) for column in table.columns]}
            for row in table.rows
        ],
        "footers": table.footers,
    }


def _place(table: Table, entry: Entry, intervals: Intervals) -> dict[str, Any]:
    return {
        "text": entry.text,
        "signs": entry.signs,
        "best": entry.best,
        "known": entry.value is not None,
        "colour": None if entry.rank is None else colour(entry.rank),
        "interval": _between(table, entry, intervals).strip() if entry.value is not None else "",
        "keys": ", ".join(entry.keys),
    }


def _machine_facts(database: Database) -> list[dict[str, Any]]:
    """For each run: (name, value) of what is known of its host and devices."""
    machines = []
    for run in database.query("FROM run ORDER BY run"):
        facts = [
            (title, run[name])
            for name, title in (
                ("created_utc", "measured"), ("origin", "origin"), ("runner", "runner"), ("cpu_model", "CPU"),
                ("logical_cores", "logical cores"), ("memory_bytes", "memory"), ("os", "system"), ("kernel", "kernel"),
                ("governor", "CPU governor"), ("virtualization", "virtualization"),
            )
            if run[name] is not None
        ]  # fmt: skip
        for device in database.query("FROM run_device WHERE run = $1", [run["run"]]):
            if device["device"] != "cpu":
                known = [
                    f"{name.replace('_', ' ')} {_fact(name, device[name])}"
                    for name in DEVICE
                    if device[name] is not None
                ]
                facts.append((device["device"] or "device", ", ".join(known[1:])))
        machines.append({"run": run["run"], "facts": [(name, _fact(name, value)) for name, value in facts]})
    return machines


def _fact(name: str, value: Any) -> str:
    if name in ("memory", "memory_bytes"):
        return f"{value / 2**30:.1f} GiB"
    if name == "power_limit_mw":
        return f"{value / 1000:g} W"
    return str(value)
