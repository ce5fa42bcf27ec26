"""The report: one HTML file that needs nothing beside it, with the answer first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from analysis import style
from analysis.comparisons import side_by_side
from analysis.comparisons import summary as answers
from analysis.comparisons.notebook_vs_script import FrontEnds
from analysis.comparisons.side_by_side import Comparison
from analysis.database.connection import Database
from analysis.output import notebook_vs_script as render_front_ends
from analysis.output.colour_scale import colour
from analysis.readers.run_json import DEVICE
from analysis.results.metrics import HEADLINES
from analysis.results.sample_intervals import Intervals
from analysis.results.tables import Entry, Table, describe, idle_levels, machines
from common.stats.comparison import RULE
from common.stats.percentiles import FEWEST
from common.text import visible

Row = Mapping[str, Any]

MOST_MARKS = 200
MOST_MACHINES = 20
MOST_PROBLEMS = 200
#: Below these a page stays under 5 MB; what is left out is counted and named.
MOST_PLACES = 7_000
MOST_PLOT_BYTES = 2_600_000

_TEMPLATES = Path(__file__).parent / "templates"
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_TEMPLATES),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
    # what is put in is text of others, but for what this module itself has marked safe
    finalize=lambda value: value if not isinstance(value, str) or hasattr(value, "__html__") else visible(value),
)


@dataclass(frozen=True)
class Drawing:
    """svg: an <svg> element. description: its caption."""

    svg: str
    description: str


def render(
    database: Database,
    rows: Sequence[Row],
    tables: Sequence[Table],
    plots: Sequence[Drawing],
    intervals: Intervals,
    comparison: Comparison | None = None,
    command: str = "invoke report",
    compared: FrontEnds | None = None,
    explained: Mapping[str, Any] | None = None,
) -> str:
    """The whole page. rows: of `comparison`, as selected. command: what makes this page again from the same files.

    compared: the front ends, where the rows have two. explained: section of traced cells (output.explained), where there are any.
    """
    models = sorted({row["model"] for row in rows})
    devices = sorted({row["device_name"] or row["device"] for row in rows})
    keys = {(row["run"], key) for row in rows for key in row["cell_keys"]}
    marks = [mark for mark in database.query("FROM marks ORDER BY ALL") if (mark["run"], mark["cell_key"]) in keys]
    used = {mark["mark"] for mark in marks}
    facts = _machine_facts(database)
    shown, left_out = _fitting(tables)
    drawn = _drawn(plots)
    measured = database.query("SELECT DISTINCT command FROM run WHERE command IS NOT NULL ORDER BY 1")
    return _ENVIRONMENT.get_template("report.html.j2").render(
        title=f"{', '.join(models)} on {', '.join(devices)}" if rows else "nothing measured",
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=(_TEMPLATES / "report.js").read_text(encoding="utf-8"),
        machines=machines(rows),
        answers=answers.answers(tables, intervals),
        front_ends=render_front_ends.section(compared) if compared else None,
        explained=explained,
        comparison=comparison,
        comparison_tables=[_compared(table, intervals) for table in comparison.tables] if comparison else [],
        problems=[str(problem) for problem in database.problems[:MOST_PROBLEMS]],
        more_problems=max(0, len(database.problems) - MOST_PROBLEMS),
        headlines=[_table(table, intervals) for table in shown if table.metric.name in HEADLINES],
        further=[_table(table, intervals) for table in shown if table.metric.name not in HEADLINES],
        left_out=left_out,
        intervals=bool(intervals),
        plots=drawn,
        more_plots=len(plots) - len(drawn),
        meanings=[meaning for meaning in database.query("FROM mark_meaning") if meaning["mark"] in used],
        marks=marks[:MOST_MARKS],
        more_marks=max(0, len(marks) - MOST_MARKS),
        machine_facts=facts[:MOST_MACHINES],
        more_machines=max(0, len(facts) - MOST_MACHINES),
        versions=_versions(database, rows),
        commands=[row["command"] for row in measured][:MOST_MACHINES],
        more_commands=max(0, len(measured) - MOST_MACHINES),
        command=command,
        fewest=", ".join(f"{count:,} for {'the median' if share == 50 else f'p{share:g}'}" for share, count in FEWEST.items()),
        rule=RULE,
    )  # fmt: skip


def render_explained(explained: Mapping[str, Any], intro: Sequence[str]) -> str:
    """The page of `invoke explain` alone. intro: sentences above all."""
    return _ENVIRONMENT.get_template("explained.html.j2").render(
        explained=explained,
        intro=intro,
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=(_TEMPLATES / "report.js").read_text(encoding="utf-8"),
    )


def _fitting(tables: Sequence[Table]) -> tuple[list[Table], int]:
    """The tables that fit into a page, headlines first, and how many do not."""
    room = MOST_PLACES
    kept: set[int] = set()
    for headline in (True, False):
        for table in tables:
            places = len(table.rows) * (len(table.columns) + 1)
            if (table.metric.name in HEADLINES) is headline and places <= room:
                room -= places
                kept.add(id(table))
    return [table for table in tables if id(table) in kept], len(tables) - len(kept)


def _drawn(plots: Sequence[Drawing]) -> list[Drawing]:
    room, kept = MOST_PLOT_BYTES, []
    for plot in plots:
        if len(plot.svg) <= room:
            room -= len(plot.svg)
            kept.append(plot)
    return kept


def _table(table: Table, intervals: Intervals) -> dict[str, Any]:
    return {
        "title": table.title,
        "metric": table.metric.title,
        "subtitle": table.subtitle,
        "row_names": table.row_names,
        "headings": [describe(table.column_name, column) for column in table.columns],
        "rows": [
            {
                "labels": _labels(table, row),
                "places": [_place(table, table.entry(row, column), intervals) for column in table.columns],
            }
            for row in table.rows
        ],
        "footers": table.footers,
    }


def _compared(table: Table, intervals: Intervals) -> dict[str, Any]:
    """As `_table`, each place with how it stands to the one in the first column."""
    shown = _table(table, intervals)
    for row, line in zip(table.rows, shown["rows"], strict=True):
        first = table.entry(row, table.columns[0])
        for column, place in list(zip(table.columns, line["places"], strict=True))[1:]:
            place["ratio"] = side_by_side.ratio(table, first, table.entry(row, column), intervals)
    return shown


def _labels(table: Table, row: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"text": style.look(label).title if name == "variant" else str(label), "value": label}
        for name, label in zip(table.row_names, row, strict=True)
    ]


def _place(table: Table, entry: Entry, intervals: Intervals) -> dict[str, Any]:
    return {
        "text": entry.text,
        "value": entry.value,
        "signs": entry.signs,
        "best": entry.best,
        "colour": None if entry.rank is None else colour(entry.rank),
        "interval": answers.uncertainty(table, entry, intervals).strip() if entry.value is not None else "",
        "ratio": "",
        "keys": ", ".join(entry.keys),
    }


def _versions(database: Database, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One line per variant and version that ran: framework, Python, runner, image."""
    runs = sorted({row["run"] for row in rows})
    return database.query(
        "SELECT DISTINCT device_name, variant, framework_version, python_version, runner, image_digest FROM cells "
        "WHERE run IN (SELECT unnest($1)) AND framework_version IS NOT NULL ORDER BY ALL LIMIT 200",
        [runs],
    )


def _machine_facts(database: Database) -> list[dict[str, Any]]:
    """For each run: (name, value) of what is known of its host and devices."""
    machines = []
    runs = database.query("FROM run ORDER BY run")
    idle = database.query(
        "SELECT run, device_name, device, idle_w, idle_without_context_w FROM results "
        "WHERE idle_w IS NOT NULL AND run IN (SELECT unnest($1))",
        [[run["run"] for run in runs[:MOST_MACHINES]]],
    )
    for run in runs:
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
        levels = idle_levels([row for row in idle if row["run"] == run["run"]])
        facts += [("idle power", level) for level in levels]
        machines.append({"run": run["run"], "facts": [(name, _fact(name, value)) for name, value in facts]})
    return machines


def _fact(name: str, value: Any) -> str:
    if name in ("memory", "memory_bytes"):
        return f"{value / 2**30:.1f} GiB"
    if name == "power_limit_mw":
        return f"{value / 1000:g} W"
    return str(value)
