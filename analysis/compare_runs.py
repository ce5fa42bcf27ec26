"""`invoke compare`: two runs, cell by cell, with verdicts that hold for the table as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis import compare, durations, style
from analysis.compare import Measured, RunComparison, Verdict
from analysis.database import Database, open_runs
from analysis.metrics import shown
from common.errors import UserError

#: Exit code where a cell got slower or no longer runs.
GOT_SLOWER = 3

#: What makes a cell of one run the same as one of the other.
IDENTITY = (
    "model", "variant", "precision", "batch_size", "io", "scenario", "streams", "target_rate_per_s", "frontend",
)  # fmt: skip


def compare_folders(run_a: Path, run_b: Path, console: Console) -> int:
    """Prints the comparison of B with A; 3 where a cell got slower or runs no more, 1 where input was lost, else 0.

    Durations are those of single inferences, or of passes where a source published nothing finer. Raises UserError where
    a folder does not exist, both are the same, or the runs share no cell.
    """
    if run_a.resolve() == run_b.resolve():
        raise UserError("a run cannot be compared with itself; name two runs")
    with open_runs([run_a, run_b]) as database:
        names = list(database.runs)
        rows = [database.query("SELECT * FROM comparison WHERE run = $1 ORDER BY ALL", [name]) for name in names]
        parts = (*IDENTITY, "device") if any(len({row["device"] for row in one}) > 1 for one in rows) else IDENTITY
        a, b = ({tuple(row[name] for name in parts): row for row in one} for one in rows)
        if not a.keys() & b.keys():
            raise UserError(f"{names[0]} and {names[1]} have no cell in common")
        ran_a, ran_b = ({key: row for key, row in one.items() if row["status"] == "ok"} for one in (a, b))
        found = compare.compare_runs(_measured(database, ran_a), _measured(database, ran_b))
        _show(found, ran_a, ran_b, names, console)
        broken = [key for key in ran_a if key in b and key not in ran_b]
        for key in broken:
            console.print(
                Text(
                    f"{_name(key, parts)}: ok in A, {b[key]['status']} in B: {b[key]['message'] or 'no reason given'}",
                    "red",
                )
            )
        for problem in database.problems:
            if problem.loses:
                console.print(Text(str(problem), style="red"), soft_wrap=True)
        return GOT_SLOWER if found.slower or broken else database.exit_code


def _name(key: Sequence[Any], parts: Sequence[str]) -> str:
    return " ".join(
        str(value) for name, value in zip(parts, key, strict=True) if value is not None and name != "streams"
    )


def _measured(database: Database, rows: Mapping[tuple[Any, ...], Mapping[str, Any]]) -> list[Measured]:
    return [Measured(key, durations.of_row(database, row), not row["samples"]) for key, row in rows.items()]


def _show(
    found: RunComparison,
    a: Mapping[Any, Mapping[str, Any]],
    b: Mapping[Any, Mapping[str, Any]],
    names: Sequence[str],
    console: Console,
) -> None:
    console.print(Text(f"A: {names[0]}\nB: {names[1]}"), highlight=False)
    devices = [sorted({str(row["device_name"]) for row in one.values()}) for one in (a, b)]
    if devices[0] != devices[1]:
        console.print(Text(f"The devices differ: {', '.join(devices[0])} and {', '.join(devices[1])}.", style="yellow"))
    grid = Table(box=None, show_edge=False, pad_edge=False, header_style="bold")
    for heading in ("framework", "precision", "batch", "io"):
        grid.add_column(heading)
    for heading in ("A, ms", "B, ms", "B / A of durations"):
        grid.add_column(heading, justify="right")
    grid.add_column("verdict on B")
    for key, one in found.cells.items():
        row = a[key]
        grid.add_row(
            style.look(row["variant"]).title, row["precision"], str(row["batch_size"]), row["io"],
            _median(a[key]), _median(b[key]), one.ratio_text, Text(one.verdict.value, style=compare.STYLES[one.verdict]),
        )  # fmt: skip
    console.print(grid)
    counts = {verdict: sum(one.verdict is verdict for one in found.cells.values()) for verdict in Verdict}
    console.print(Text(", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)))
    for note in dict.fromkeys(note for one in found.cells.values() for note in one.notes):
        console.print(Text(note, style="dim"), soft_wrap=True)
    console.print(Text(found.correction, style="dim"), soft_wrap=True)
    for text, keys in (("only in A", found.only_a), ("only in B", found.only_b)):
        if keys:
            console.print(Text(f"{len(keys)} {'cell is' if len(keys) == 1 else 'cells are'} {text}", style="dim"))


def _median(row: Mapping[str, Any]) -> str:
    return "–" if row["median_ms"] is None else shown(row["median_ms"])
