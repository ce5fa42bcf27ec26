"""`invoke compare`: two runs cell by cell, or any two cells, with verdicts that hold for the table as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis import style
from analysis.database.connection import Database
from analysis.database.open_runs import open_runs
from analysis.results import durations
from analysis.results.metrics import shown
from analysis.results.selection import named_columns, parse_where
from common.errors import UserError
from common.stats import comparison as compare
from common.stats.comparison import Measured, RunComparison, Verdict

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
        _tell_only(found, console)
        broken = [key for key in ran_a if key in b and key not in ran_b]
        for key in broken:
            console.print(
                Text(
                    f"{_name(key, parts)}: ok in A, {b[key]['status']} in B: {b[key]['message'] or 'no reason given'}",
                    "red",
                )
            )
        _tell_problems(database, console)
        return GOT_SLOWER if found.slower or broken else database.exit_code


def compare_cells(runs: Sequence[Path], where_a: str, where_b: str, console: Console) -> int:
    """Compares the cells of the first run that satisfy `where_a` with those of the last that satisfy `where_b`.

    They are paired by everything that neither condition is about: two cells where both say enough, a column of a table
    against another where they say `framework=torch` and `framework=onnxrt`. Cells of different batch sizes are compared by
    their time per image. Exit codes as of `compare_folders`. Raises UserError where nothing pairs, or a pair is ambiguous.
    """
    with open_runs(runs) as database:
        runs_named = list(database.runs)
        names = [runs_named[0], runs_named[-1]]
        about = named_columns(where_a) | named_columns(where_b)
        parts = tuple(part for part in (*IDENTITY, "device") if part not in about)
        a, b = (
            _side(database, run, where, parts, option)
            for run, where, option in ((names[0], where_a, "--cell-a"), (names[1], where_b, "--cell-b"))
        )
        shared = [key for key in a if key in b]
        if not shared:
            raise UserError(
                f"no cell of --cell-a has one of --cell-b beside it: they differ in more than {', '.join(sorted(about))}"
            )
        alone = len(a) + len(b) - 2 * len(shared)
        a, b = ({key: side[key] for key in shared} for side in (a, b))
        if all(a[key]["cell_keys"] == b[key]["cell_keys"] and a[key]["run"] == b[key]["run"] for key in shared):
            raise UserError("--cell-a and --cell-b are the same cells; name two")
        per_image = any(a[key]["batch_size"] != b[key]["batch_size"] for key in shared)
        found = compare.compare_runs(_measured(database, a, per_image), _measured(database, b, per_image))
        _show(found, a, b, names, console, pairs=True, per_image=per_image)
        if alone:
            console.print(
                Text(f"{alone} more {'cell has' if alone == 1 else 'cells have'} none to be held against", style="dim")
            )
        _tell_problems(database, console)
        return GOT_SLOWER if found.slower else database.exit_code


def _side(
    database: Database, run: str, where: str, parts: Sequence[str], option: str
) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    """The cells of one side that ran, by the columns that tell its pairs apart."""
    chosen = parse_where(where, database)
    rows = database.query(
        f"SELECT * FROM comparison WHERE ({chosen.condition}) AND run = ${len(chosen.parameters) + 1} ORDER BY ALL",
        [*chosen.parameters, run],
    )
    ran = [row for row in rows if row["status"] == "ok"]
    if not ran:
        state = f"{rows[0]['status']}: {rows[0]['message'] or 'no reason given'}" if rows else "there is none"
        raise UserError(f"{option} '{where}' names no cell of {run} that ran ({state})")
    found: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in ran:
        key = tuple(row[name] for name in parts)
        if key in found:
            both = " and ".join(_full_name(one) for one in (found[key], row))
            raise UserError(f"{option} '{where}' means several cells ({both}); say more")
        found[key] = row
    return found


def _tell_only(found: RunComparison, console: Console) -> None:
    for text, keys in (("only in A", found.only_a), ("only in B", found.only_b)):
        if keys:
            console.print(Text(f"{len(keys)} {'cell is' if len(keys) == 1 else 'cells are'} {text}", style="dim"))


def _tell_problems(database: Database, console: Console) -> None:
    for problem in database.problems:
        if problem.loses:
            console.print(Text(str(problem), style="red"), soft_wrap=True)


def _full_name(row: Mapping[str, Any]) -> str:
    words = [style.look(row["variant"]).title, row["precision"], f"batch {row['batch_size']}", row["io"]]
    words += [row["scenario"]] if row["scenario"] != "single-stream" else []
    words += [row["frontend"]] if row["frontend"] != "script" else []
    return " ".join(str(word) for word in words)


def _name(key: Sequence[Any], parts: Sequence[str]) -> str:
    return " ".join(
        str(value) for name, value in zip(parts, key, strict=True) if value is not None and name != "streams"
    )


def _measured(
    database: Database, rows: Mapping[tuple[Any, ...], Mapping[str, Any]], per_image: bool = False
) -> list[Measured]:
    return [
        Measured(
            key,
            [series / (_images(row) if per_image else 1) for series in durations.of_row(database, row)],
            not row["samples"],
        )
        for key, row in rows.items()
    ]


def _images(row: Mapping[str, Any]) -> int:
    """Images that a duration stands for: the server scenario's is of a query, a published one of an image."""
    return 1 if row["scenario"] == "server" or not row["samples"] else int(row["batch_size"])


def _show(
    found: RunComparison,
    a: Mapping[Any, Mapping[str, Any]],
    b: Mapping[Any, Mapping[str, Any]],
    names: Sequence[str],
    console: Console,
    pairs: bool = False,
    per_image: bool = False,
) -> None:
    """pairs: the two sides are different configurations, so that both are named."""
    console.print(Text(f"A: {names[0]}\nB: {names[1]}"), highlight=False)
    devices = [sorted({str(row["device_name"]) for row in one.values()}) for one in (a, b)]
    if devices[0] != devices[1]:
        console.print(Text(f"The devices differ: {', '.join(devices[0])} and {', '.join(devices[1])}.", style="yellow"))
    grid = Table(box=None, show_edge=False, pad_edge=False, header_style="bold")
    for heading in ("A", "B") if pairs else ("framework", "precision", "batch", "io"):
        grid.add_column(heading)
    unit = "ms an image" if per_image else "ms"
    for heading in (f"A, {unit}", f"B, {unit}", "B / A of durations"):
        grid.add_column(heading, justify="right")
    grid.add_column("verdict on B")
    for key, one in found.cells.items():
        row = a[key]
        what = (
            [_full_name(row), _full_name(b[key])]
            if pairs
            else [style.look(row["variant"]).title, row["precision"], str(row["batch_size"]), row["io"]]
        )
        medians = [_median(side[key], _images(side[key]) if per_image else 1) for side in (a, b)]
        grid.add_row(*what, *medians, one.ratio_text, Text(one.verdict.value, style=compare.STYLES[one.verdict]))
    console.print(grid)
    counts = {verdict: sum(one.verdict is verdict for one in found.cells.values()) for verdict in Verdict}
    console.print(Text(", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)))
    for note in dict.fromkeys(note for one in found.cells.values() for note in one.notes):
        console.print(Text(note, style="dim"), soft_wrap=True)
    console.print(Text(found.correction, style="dim"), soft_wrap=True)


def _median(row: Mapping[str, Any], images: int) -> str:
    return "–" if row["median_ms"] is None else shown(row["median_ms"] / images)
