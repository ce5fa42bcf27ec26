"""The report: one HTML file that needs nothing beside it, with the answer first."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from analysis import style
from analysis.comparisons import side_by_side, summary
from analysis.comparisons.candidates import unusual
from analysis.comparisons.notebook_vs_script import FrontEnds
from analysis.comparisons.side_by_side import Comparison
from analysis.database.connection import Database, Row
from analysis.output import colour_scale, explorer
from analysis.output import notebook_vs_script as render_front_ends
from analysis.readers.run_json import DEVICE
from analysis.results.bench_commands import bench_command
from analysis.results.metrics import HEADLINES
from analysis.results.sample_intervals import Intervals
from analysis.results.tables import Entry, Table, describe, heading, idle_levels, machines
from common.stats.comparison import RULE
from common.stats.percentiles import MIN_SAMPLES_OF_PERCENTILE
from common.text import shell_line, visible

#: Tables that stand open in a page; the others fold away.
FIRST = ("throughput", "latency", "joules_per_image")
#: Metrics whose number another one has too: they have no table in a page.
SAME_AS_ANOTHER = ("images_per_s_per_watt",)
MOST_MARKS = 200
MOST_MACHINES = 20
MOST_PROBLEMS = 200
#: Below these a page stays under 5 MB; what is left out is counted and named.
MOST_PLACES = 7_000
MOST_PAGE_BYTES = 4_900_000
#: of the markup around a plot, but for its description, which stands there twice
_FRAME_BYTES = 100
#: behind an interval
ONE_WORKER_SIGN = "1w"
#: Of MOST_PLACES, one after the other until the page fits.
_SHARES = (1.0, 0.5, 0.25, 0.0)

_UNEXPLORED = explorer.Explored()
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
    """svg: an <svg> element. description: its caption. group: whose plot it is, in words; "" where it is of all."""

    svg: str
    description: str
    group: str = ""


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
    undrawn: Sequence[str] = (),
    recipe: str | None = None,
    explored: explorer.Explored = _UNEXPLORED,
    words: Sequence[str] = (),
) -> str:
    """The whole page. rows: of `comparison`, as selected. command: what makes this page again from the same files.

    explored: of `explore`, the first screen.

    compared: the front ends, where the rows have two. explained: section of traced cells (output.explained), where there are any.
    undrawn: what a reader could miss among the plots, and why. recipe: task that takes a cell's key and prints what measures it,
    where there is one. words: that name the runs on a command line.
    """
    models = sorted({row["model"] for row in rows})
    devices = sorted({row["device_name"] or row["device"] for row in rows})
    compared_tables = [_compared(table, intervals) for table in _leading_first(comparison.tables if comparison else ())]
    page = functools.partial(
        _ENVIRONMENT.get_template("report.html.j2").render,
        title=f"{', '.join(models)} on {', '.join(devices)}" if rows else "nothing measured",
        style=_style(),
        script=(_TEMPLATES / "report.js").read_text(encoding="utf-8"),
        explorer_script=(_TEMPLATES / "explorer.js").read_text(encoding="utf-8"),
        machines=machines(rows),
        runs=len({row["run"] for row in rows}),
        explored=explored.groups,
        uncharted=explored.uncharted,
        devices=explorer.device_sentences(explored.groups),
        recipe=recipe,
        recipe_runs=shell_line(words),
        undrawn=undrawn,
        answers=summary.answers(tables, intervals),
        front_ends=render_front_ends.section(compared) if compared else None,
        explained=explained,
        comparison=comparison,
        comparison_tables=compared_tables[:1],
        compared_further=_by_group(compared_tables[1:]),
        intervals=bool(intervals),
        command=command,
        fewest=", ".join(
            f"{count:,} for {'the median' if share == 50 else f'p{share:g}'}"
            for share, count in MIN_SAMPLES_OF_PERCENTILE.items()
        ),
        rule=RULE,
        **_doubts(database, rows),
        **_provenance(database, rows),
    )  # fmt: skip
    own = [table for table in tables if table.metric.name not in SAME_AS_ANOTHER]
    return _fitted(page, own, comparison.tables if comparison else (), plots, intervals, explored.groups)


def _fitted(
    page: Callable[..., str],
    tables: Sequence[Table],
    compared: Sequence[Table],
    plots: Sequence[Drawing],
    intervals: Intervals,
    explored: Sequence[Mapping[str, Any]],
) -> str:
    """The page with as many of the tables as fit into MOST_PAGE_BYTES, then as many plots. compared: tables that it has anyway."""
    text = ""
    for share in _SHARES:
        shown, left_out = _fitting(tables, int(share * MOST_PLACES))
        first = _first_groups(shown, explored)
        filled = functools.partial(
            page,
            headlines=[_table(table, intervals) for table in shown if _comes_first(table, first)],
            further=_by_group([_table(table, intervals) for table in shown if not _comes_first(table, first)]),
            metrics=list(dict.fromkeys(table.metric.title for table in (*compared, *shown))),
            left_out=left_out,
        )
        text = _with_plots(filled, plots, first)
        if len(text.encode()) <= MOST_PAGE_BYTES:
            break
    return text


def _limited(name: str, more: str, values: Sequence[Any], most: int) -> dict[str, Any]:
    """For the template: the first values, and how many more there are."""
    return {name: values[:most], more: max(0, len(values) - most)}


def _doubts(database: Database, rows: Sequence[Row]) -> dict[str, Any]:
    """For the template: marks of the rows with their meanings, and problems of the files."""
    keys = {(row["run"], key) for row in rows for key in row["cell_keys"]}
    marks = [mark for mark in database.query("FROM marks ORDER BY ALL") if (mark["run"], mark["cell_key"]) in keys]
    used = {mark["mark"] for mark in marks}
    lost = [str(problem) for problem in database.problems if problem.loses]
    notes = [str(problem) for problem in database.problems if not problem.loses]
    return {
        "meanings": [meaning for meaning in database.query("FROM mark_meaning") if meaning["mark"] in used],
        **_limited("marks", "more_marks", marks, MOST_MARKS),
        **_limited("problems", "more_problems", lost, MOST_PROBLEMS),
        **_limited("notes", "more_notes", notes, MOST_PROBLEMS),
    }


def _provenance(database: Database, rows: Sequence[Row]) -> dict[str, Any]:
    """For the template: machines, versions and commands of the runs."""
    measured = database.query("SELECT DISTINCT command FROM run WHERE command IS NOT NULL ORDER BY 1")
    return {
        "versions": _versions(database, rows),
        **_limited("machine_facts", "more_machines", _machine_facts(database), MOST_MACHINES),
        **_limited("commands", "more_commands", [row["command"] for row in measured], MOST_MACHINES),
    }


def explore(
    database: Database, rows: Sequence[Row], intervals: Intervals, runs: Sequence[str], where: str = ""
) -> explorer.Explored:
    """Of the first screen: see `explorer.explore`."""
    meanings = {one["mark"]: one["meaning"] for one in database.query("FROM mark_meaning")}
    given = list(database.runs)  # devices stand in the order in which their runs were named
    in_order = sorted(rows, key=lambda row: given.index(row["run"]))
    return explorer.explore(in_order, intervals, meanings, runs, where)


def _with_plots(page: Callable[..., str], plots: Sequence[Drawing], first: set[str]) -> str:
    """The page with as many plots as fit into MOST_PAGE_BYTES: of all groups together, then of those that stand open, then others.

    Of the others the first plot of each group comes before the second of any: no group goes without one for the twelfth of another.
    """
    shown = sorted(plots, key=lambda plot: (plot.group not in first, plot.group != ""))
    seen: Counter[str] = Counter()
    turns: dict[int, int] = {}
    for plot in shown:
        turns[id(plot)] = seen[plot.group] if plot.group not in first else 0
        seen[plot.group] += 1
    wanted = sorted(shown, key=lambda plot: (plot.group not in first, turns[id(plot)]))

    def made(room: int) -> str:
        kept = {id(plot) for plot in _drawn(wanted, room)}
        drawn = [plot for plot in shown if id(plot) in kept]
        return page(
            plots=[plot for plot in drawn if plot.group in first],
            further_plots=_by_group([plot for plot in drawn if plot.group not in first]),
            more_plots=len(plots) - len(drawn),
        )

    room = MOST_PAGE_BYTES - len(made(0).encode())
    text = made(room)
    excess = len(text.encode()) - MOST_PAGE_BYTES
    return made(room - excess) if excess > 0 else text


def render_explained(explained: Mapping[str, Any], intro: Sequence[str]) -> str:
    """The page of `invoke explain` alone. intro: sentences above all."""
    return _ENVIRONMENT.get_template("explained.html.j2").render(
        explained=explained,
        intro=intro,
        style=_style(),
        script=(_TEMPLATES / "report.js").read_text(encoding="utf-8"),
    )


def _style() -> str:
    return f"{(_TEMPLATES / 'report.css').read_text(encoding='utf-8')}{colour_scale.css()}\n"


def _first_groups(tables: Sequence[Table], explored: Sequence[Mapping[str, Any]]) -> set[str]:
    """Headings of the groups that stand open: of each device the one that its sentence is about; else what most ask for first."""
    leading = {group["device"]: group["heading"] for group in reversed(explored)}
    # the explorer says of no other input than that of most models
    open_groups = {table.subtitle for table in tables if heading(unusual(table.group)) in leading.values()}
    return (open_groups or {table.subtitle for table in _leading_first(tables)[:1]}) | {""}


def _comes_first(table: Table, first: set[str]) -> bool:
    return table.metric.name in FIRST and table.subtitle in first


def _leading_first(tables: Sequence[Table]) -> list[Table]:
    """What most ask for first: copies included, one inference at a time."""
    return sorted(tables, key=lambda table: side_by_side.not_usual(table.group))


def _by_group(items: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    """(heading, members) in the order of the first of each."""
    found: dict[str, list[Any]] = {}
    for item in items:
        found.setdefault(item["subtitle"] if isinstance(item, dict) else item.group, []).append(item)
    return list(found.items())


def _fitting(tables: Sequence[Table], room: int) -> tuple[list[Table], int]:
    """The tables that fit into so many places, headlines first, and how many do not."""
    kept: set[int] = set()
    for headline in (True, False):
        for table in tables:
            places = len(table.rows) * (len(table.columns) + 1)
            if (table.metric.name in HEADLINES) is headline and places <= room:
                room -= places
                kept.add(id(table))
    return [table for table in tables if id(table) in kept], len(tables) - len(kept)


def _drawn(plots: Sequence[Drawing], room: int) -> list[Drawing]:
    """Those that fit into so many bytes, the first ones first."""
    kept = []
    for plot in plots:
        size = len(plot.svg.encode()) + _FRAME_BYTES + 2 * len(plot.description)
        if size <= room:
            room -= size
            kept.append(plot)
    return kept


def _table(table: Table, intervals: Intervals) -> dict[str, Any]:
    sign, meaning = _of_one_worker(table, intervals)
    return {
        "title": table.title,
        "metric": table.metric.title,
        "subtitle": table.subtitle,
        "row_names": table.row_names,
        "headings": [describe(table.column_name, column) for column in table.columns],
        "rows": [
            {
                "labels": (labels := _labels(table, row)),
                "more": " ".join(label["text"] for label in labels[1:] if label["text"]),
                "command": bench_command(table, row),
                "places": [_place(table, table.entry(row, column), intervals, sign) for column in table.columns],
            }
            for row in table.rows
        ],
        "footers": [
            *table.footers[:1],
            *meaning,
            *(line for line in table.footers[1:] if line not in table.provenance),
        ],
        "runs": len({table.entry(row, column).run for row in table.rows for column in table.columns} - {""}),
    }


def _of_one_worker(table: Table, intervals: Intervals) -> tuple[str, list[str]]:
    """(sign of intervals that are of one worker alone, and what it means): of a table whose other ones are over workers. Where none
    is, words alone."""
    known = [entry for entry in table.entries.values() if summary.ends(table, entry, intervals) is not None]
    alone = [summary.of_one_worker(table, entry, intervals) for entry in known]
    if not any(alone):
        return "", []
    lacks = "what differs from worker to worker is not in it, so that it may be too narrow"
    if all(alone):
        return "", [f"Each interval is of one worker alone: {lacks}."]
    return ONE_WORKER_SIGN, [f"{ONE_WORKER_SIGN}  an interval of one worker alone: {lacks}"]


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


def _place(table: Table, entry: Entry, intervals: Intervals, one_worker: str) -> dict[str, Any]:
    """one_worker: sign of an interval of one worker."""
    uncertainty = summary.uncertainty(table, entry, intervals).strip() if entry.value is not None else ""
    if uncertainty and one_worker and summary.of_one_worker(table, entry, intervals):
        uncertainty += f" {one_worker}"
    return {
        "text": entry.text,
        "value": entry.value,
        "signs": entry.signs,
        "best": entry.best,
        "colour": None if entry.rank is None else colour_scale.css_class(entry.rank),
        "interval": uncertainty,
        "ratio": "",
        "key": entry.keys[0] if entry.keys else "",
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
