"""`invoke history`: from kept runs to a table, a picture and files: a framework's metric by date and version, step by step."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis import style
from analysis.comparisons.history import SERIES, History, Point, history
from analysis.comparisons.runs import GOT_SLOWER
from analysis.database.open_runs import open_runs
from analysis.plots import files, over_time
from analysis.results.all_intervals import all_intervals
from analysis.results.metrics import Metric, metric, shown
from analysis.results.sample_intervals import Intervals
from analysis.results.selection import parse_where
from analysis.results.tables import describe
from common.errors import UserError
from common.host.whole_files import check_targets, whole, write_text
from common.stats.comparison import Verdict
from common.text import markdown, shortened, spreadsheet

EACH = "Each step is B, the last point before it that ran A."
HEADINGS = ("date", "version", "run", "B / A of durations", "verdict")
COLUMNS = (
    *SERIES, "date", "version", "run", "status", "metric", "value", "low", "high",
    "ratio", "ratio_low", "ratio_high", "verdict",
)  # fmt: skip


def show_history(
    runs: Sequence[Path],
    out: Path,
    console: Console,
    *,
    framework: str = "",
    where: str = "",
    of: str = "latency",
    cache: Path | None = None,
    earlier: Sequence[Path] = (),
) -> int:
    """Prints and writes `history.{md,csv}` and `plots/*`; 3 where the newest step of a series is SLOWER or its newest point no
    longer runs, 1 where input was lost.

    where: conditions as of `analyze --where`. of: metric that is shown; verdicts are on durations, whatever is shown. earlier:
    runs that may tell the spread between workers. Raises UserError where nothing is left, and for a folder that cannot be written.
    """
    chosen_metric = metric(of)
    check_targets(out, ("history.md", "history.csv"))
    conditions = ",".join(filter(None, [f"framework={framework.replace(',', '|')}" if framework else "", where]))
    with open_runs(runs, cache) as database:
        chosen = parse_where(conditions, database)
        rows = database.query(f"SELECT * FROM comparison WHERE {chosen.condition} ORDER BY ALL", chosen.parameters)
        if not rows:
            raise UserError("no cell of these runs is left; choose more with --where, or name more runs")
        intervals = all_intervals(database, rows)
        found = history(database, rows, earlier)
        for key, points in found.series.items():
            _show(key, points, chosen_metric, intervals, console)
        console.print()
        if found.correction:
            console.print(Text(f"{EACH} {found.correction}", style="dim"), soft_wrap=True)
        try:
            _write(found, chosen_metric, intervals, out)
        except OSError as error:
            raise UserError(f"cannot write to {error.filename or out}: {error.strerror or error}") from error
        for problem in database.problems:
            console.print(Text(str(problem), style="red" if problem.loses else "yellow"), soft_wrap=True)
        console.print(Text(conclusion(found), style="bold"), soft_wrap=True)
        console.print(Text(f"History: {out / 'history.md'}"), soft_wrap=True)
        return GOT_SLOWER if any(map(_got_slower, found.series.values())) else database.exit_code


def _got_slower(points: Sequence[Point]) -> bool:
    """Whether the newest point is SLOWER than the last before it that ran, or does not run although one did."""
    newest, ran = points[-1], any(point.row["status"] == "ok" for point in points)
    return newest.step.verdict is Verdict.SLOWER if newest.step else ran and newest.row["status"] != "ok"


def conclusion(found: History) -> str:
    """The answer in a sentence: what the newest step of each configuration says."""
    last = {key: points[-1].step for key, points in found.series.items()}
    steps = {key: step for key, step in last.items() if step is not None}
    every = f"{len(last)} configuration{'' if len(last) == 1 else 's'}"
    gone = [_title(key) for key, points in found.series.items() if points[-1].step is None and _got_slower(points)]
    failing = f"; {len(gone)} whose newest point no longer runs, such as {gone[0]}" if gone else ""
    if not steps:
        return f"{every}, none with two points that ran: there is no step to judge{failing}."
    verdicts = [step.verdict for step in steps.values()]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict if verdict in verdicts]
    text = f"Newest step of {every}: {', '.join(counts)}"
    text += f", {len(last) - len(steps)} without one" if len(steps) < len(last) else ""
    slower = {key: step for key, step in steps.items() if step.verdict is Verdict.SLOWER and step.interval}
    if slower:
        key, step = max(slower.items(), key=lambda item: item[1].interval.estimate if item[1].interval else 0.0)
        text += f"; slowest against before: {_title(key)}, {step.ratio_text} times the duration"
    return f"{text}{failing}."


def _title(key: Sequence[Any]) -> str:
    facts = dict(zip(SERIES, key, strict=True))
    kind = style.kind({**facts, "version": ""})  # versions are the points
    words = [f"{style.look(facts['variant']).title} {kind} batch {facts['batch_size']}"]
    words += [str(facts["model"]), str(facts["device_name"] or facts["device"])]
    words += [describe("input", facts["input"])] if facts["input"] != "float32" else []
    words += [describe(name, facts[name]) for name in ("io", "scenario")]
    words += [describe("streams", facts["streams"])] if facts["scenario"] == "multi-stream" else []
    words += [describe("target_rate_per_s", facts["target_rate_per_s"])] if facts["target_rate_per_s"] else []
    words += [facts["frontend"]] if facts["frontend"] != "script" else []
    return ", ".join(words)


def _texts(point: Point, one: Metric, intervals: Intervals) -> tuple[str, ...]:
    value = point.row[one.column] if point.row["status"] == "ok" else None
    if value is None:
        figure = point.row["status"] if point.row["status"] != "ok" else "unknown"
    else:
        interval = intervals.get((tuple(point.row["cell_keys"]), point.row["run"], one.name))
        ends = f" [{shown(interval.low * one.scale)}, {shown(interval.high * one.scale)}]" if interval else ""
        figure = f"{shown(value * one.scale)}{ends}"
    sign = " †" if point.other_card else ""
    step = (point.step.ratio_text, f"{point.step.verdict.value}{sign}") if point.step else ("", _why_none(point))
    return (point.date, point.version, str(point.row["run"]), figure, *step)


def _why_none(point: Point) -> str:
    """The reason of a cell that failed; in full it stands in its run's tables."""
    return "" if point.row["status"] == "ok" else shortened(str(point.row["message"] or ""), 80)


def _headings(one: Metric) -> tuple[str, ...]:
    return (*HEADINGS[:3], one.label, *HEADINGS[3:])


def _show(key: Sequence[Any], points: Sequence[Point], one: Metric, intervals: Intervals, console: Console) -> None:
    console.print()
    console.print(Text(_title(key), style="bold"), soft_wrap=True)
    grid = Table(box=None, show_edge=False, pad_edge=False, header_style="bold")
    for heading in _headings(one):
        grid.add_column(heading, justify="right" if heading in (one.label, HEADINGS[3]) else "left", overflow="fold")
    for point in points:
        *words, verdict = _texts(point, one, intervals)
        grid.add_row(*map(Text, words), Text(verdict, style=style.VERDICTS[point.step.verdict] if point.step else ""))
    console.print(grid)


def _write(found: History, one: Metric, intervals: Intervals, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "history.md", "\n".join(_markdown(found, one, intervals)))
    with whole(out / "history.csv") as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for points in found.series.values():
            for point in points:
                writer.writerow({name: spreadsheet(value) for name, value in _values(point, one, intervals).items()})
    heading = f"{one.title} by version and date"
    with mpl.rc_context(style.RC):
        for group, part in _groups(found):
            figure = over_time.draw(part, one, f"{heading}: {group}", intervals)
            if figure is not None:
                files.save(figure, out / "plots", files.file_name(one.name, group))


def _groups(found: History) -> Iterator[tuple[str, History]]:
    """The series of each model, device, framework, io, scenario and input: they share a picture."""
    apart = ("model", "device_name", "variant", "io", "scenario", "input")
    groups: dict[str, dict[tuple[Any, ...], tuple[Point, ...]]] = {}
    for key, points in found.series.items():
        facts = dict(zip(SERIES, key, strict=True))
        facts["variant"] = style.look(facts["variant"]).title
        shown = [part for part in apart if facts[part] is not None and (part, facts[part]) != ("input", "float32")]
        name = ", ".join(describe(part, facts[part]) for part in shown)
        groups.setdefault(name, {})[key] = points
    yield from ((name, History(series, found.correction)) for name, series in groups.items())


def _markdown(found: History, one: Metric, intervals: Intervals) -> Iterator[str]:
    yield f"# {markdown(one.title)} by version and date"
    for key, points in found.series.items():
        yield from ("", f"## {markdown(_title(key))}", "", "| " + " | ".join(_headings(one)) + " |")
        yield "|---|---|---|---:|---:|---|"
        yield from ("| " + " | ".join(map(markdown, _texts(point, one, intervals))) + " |" for point in points)
    yield from ("", f"{EACH} {found.correction}", "")


def _values(point: Point, one: Metric, intervals: Intervals) -> dict[str, Any]:
    row, step = point.row, point.step
    interval = intervals.get((tuple(row["cell_keys"]), row["run"], one.name))
    ratio = step.interval if step else None
    value = row[one.column] if row["status"] == "ok" else None
    return {
        **{name: row[name] for name in SERIES},
        "date": row["created_utc"], "version": point.version, "run": row["run"], "status": row["status"], "metric": one.label,
        "value": None if value is None else value * one.scale,
        "low": interval.low * one.scale if interval else None, "high": interval.high * one.scale if interval else None,
        "ratio": ratio.estimate if ratio else None, "ratio_low": ratio.low if ratio else None,
        "ratio_high": ratio.high if ratio else None, "verdict": step.verdict.value if step else None,
    }  # fmt: skip
