"""`invoke compare`: two runs cell by cell, or any two cells, with verdicts that hold for the table as a whole."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from analysis.comparisons import run_tables
from analysis.comparisons.run_tables import Compared, full_name, images
from analysis.database.connection import Database
from analysis.database.open_runs import open_runs
from analysis.results import durations
from analysis.results.sample_intervals import group_of
from analysis.results.selection import named_columns, parse_where
from common.errors import UserError
from common.host.whole_files import check_targets
from common.stats import comparison
from common.stats.comparison import Measured, RunComparison
from common.stats.workers import SMALLEST, Pool, Spread, pool

#: Exit code where a cell got slower beyond doubt, or no longer runs.
GOT_SLOWER = 3

#: what to do where two runs share no cell
NO_PAIRS = ": they measured different frameworks, precisions or batch sizes; --cell-a and --cell-b pair any two cells"

#: cells of a side that are held against those of the other where none pair
MOST_TRIED = 300

Writer = Callable[[Compared, Sequence[str]], None]

#: What makes a cell of one run the same as one of the other.
IDENTITY = (
    "model", "variant", "precision", "batch_size", "io", "scenario", "streams", "target_rate_per_s", "frontend",
    "tuning", "version", "input",
)  # fmt: skip


def compare_folders(
    run_a: Path,
    run_b: Path,
    console: Console,
    *,
    out: Path | None = None,
    earlier: Sequence[Path] = (),
    write: Writer | None = None,
) -> int:
    """Prints the comparison of B with A; 3 where a cell got slower or runs no more, 1 where input was lost, else 0.

    Durations are those of single inferences, or of passes where a source published nothing finer. out: folder for compare.md
    and compare.csv; None for neither. earlier: runs that may tell the spread between workers where a side has one alone.
    write: takes what was found, and sentences on cells that no longer run, in place of the table. Raises UserError where a
    folder does not exist or cannot be written, both are the same, or the runs share no cell.
    """
    if run_a.resolve() == run_b.resolve():
        raise UserError("a run cannot be compared with itself; name two runs")
    if out is not None:
        check_targets(out, run_tables.FILES)
    with open_runs([run_a, run_b]) as database:
        names = list(database.runs)
        rows = [database.query("SELECT * FROM comparison WHERE run = $1 ORDER BY ALL", [name]) for name in names]
        parts = (*IDENTITY, "device") if any(len({row["device"] for row in one}) > 1 for one in rows) else IDENTITY
        a, b = ({tuple(row[name] for name in parts): row for row in one} for one in rows)
        if not a.keys() & b.keys():
            raise UserError(f"{names[0]} and {names[1]} have no cell in common{_namesakes(database) or NO_PAIRS}")
        ran_a, ran_b = ({key: row for key, row in one.items() if row["status"] == "ok"} for one in (a, b))
        floors = floors_for((*ran_a.values(), *ran_b.values()), earlier)
        found = comparison.compare_runs(_measured(database, ran_a), _measured(database, ran_b), floors=floors)
        broken = [_broken(_name(key, parts), b[key]) for key in ran_a if key in b and key not in ran_b]
        compared = Compared(found, ran_a, ran_b, names, _meanings(database))
        _print_comparison(compared, console, broken, write)
        _print_only_in_one(found, console)
        if found.only_a and found.only_b and (namesakes := _namesakes(database)):
            console.print(Text(f"The runs differ in models{namesakes}", style="yellow"), soft_wrap=True)
        for line in broken:
            console.print(Text(line, "red"), soft_wrap=True)
        _print_problems(database, console)
        _conclude(compared, console, out, len(broken))
        return GOT_SLOWER if found.slower or broken else database.exit_code


def compare_cells(
    runs: Sequence[Path],
    where_a: str,
    where_b: str,
    console: Console,
    *,
    out: Path | None = None,
    earlier: Sequence[Path] = (),
    write: Writer | None = None,
) -> int:
    """Compares the cells of the first run that satisfy `where_a` with those of the last that satisfy `where_b`.

    They are paired by everything that neither condition is about: two cells where both say enough, a column of a table
    against another where they say `framework=torch` and `framework=onnxrt`. The number of a GPU tells cells apart only where a side
    has several GPUs. Cells of different batch sizes are compared by
    their time per image. Options and exit codes as of `compare_folders`; a cell that runs no more is a reason for 3 between
    versions of one framework alone. Raises UserError where nothing pairs, or a pair is ambiguous.
    """
    if out is not None:
        check_targets(out, run_tables.FILES)
    with open_runs(runs) as database:
        runs_named = list(database.runs)
        names = [runs_named[0], runs_named[-1]]
        about = named_columns(where_a) | named_columns(where_b)
        sides = ((names[0], where_a, "--cell-a"), (names[1], where_b, "--cell-b"))
        identity = IDENTITY if _one_kind(database, sides) else (*IDENTITY, "device")
        parts = tuple(part for part in identity if part not in about)
        (a, failed_a), (b, failed) = (_side(database, *side, parts) for side in sides)
        _check_ran(*sides[0], a, failed_a)
        lost = [key for key in a if key in failed and key not in b]
        broken = [
            _broken(" ".join([full_name(a[key]), *([a[key]["device"]] if "device" in parts else [])]), failed[key])
            for key in lost
        ]
        # of two frameworks one may well not run what the other does
        versions = "version" in about and any(a[key]["variant"] == failed[key]["variant"] for key in lost)
        if not versions:
            _check_ran(*sides[1], b, failed)
        shared = [key for key in a if key in b]
        if not shared and not broken:
            raise UserError(
                f"no cell of --cell-a has one of --cell-b beside it: they differ in more than {', '.join(sorted(about))}, "
                f"the nearest two in {_nearest(a, b, parts)}{_namesakes(database)}"
            )
        alone = len(a) + len(b) - 2 * len(shared) - len(broken)
        a, b = ({key: side[key] for key in shared} for side in (a, b))
        _check_two(a, b)
        per_image = any(a[key]["batch_size"] != b[key]["batch_size"] for key in shared)
        floors = floors_for((*a.values(), *b.values()), earlier)
        found = comparison.compare_runs(
            _measured(database, a, per_image), _measured(database, b, per_image), floors=floors
        )
        compared = Compared(
            found, a, b, names, _meanings(database), pairs=True, per_image=per_image, conditions=(where_a, where_b)
        )
        _print_comparison(compared, console, broken, write)
        _print_unpaired(alone, broken, console)
        _print_problems(database, console)
        _conclude(compared, console, out, len(broken))
        return GOT_SLOWER if found.slower or versions else database.exit_code


def _check_two(a: Side, b: Side) -> None:
    """Raises UserError where both sides are the same cells. a, b: with the same keys."""
    if a and all(a[key]["cell_keys"] == b[key]["cell_keys"] and a[key]["run"] == b[key]["run"] for key in a):
        raise UserError("--cell-a and --cell-b are the same cells; name two")


def _print_unpaired(alone: int, broken: Sequence[str], console: Console) -> None:
    """How many cells have no counterpart, and which ones no longer run."""
    if alone:
        console.print(Text(f"{alone} more {'cell has' if alone == 1 else 'cells have'} no counterpart", style="dim"))
    for line in broken:
        console.print(Text(line, "red"), soft_wrap=True)


def _namesakes(database: Database) -> str:
    """What to say, after a reason why cells do not pair, of models that are two and have one name; else ""."""
    rows = database.query(
        "SELECT DISTINCT cell.model AS name, shown.model AS shown, model_hash FROM cell_row AS cell "
        "JOIN results AS shown USING (run, cell_key, model_hash) WHERE cell.model <> shown.model ORDER BY ALL"
    )
    if not rows:
        return ""
    hashes = ", ".join(f"{row['shown']} [{row['model_hash']}]" for row in rows)
    return (
        f": they measured different models of one name: {hashes}; to compare two models all the same, give "
        "--cell-a 'model=...' and --cell-b 'model=...'"
    )


def floors_for(rows: Sequence[Mapping[str, Any]], earlier: Sequence[Path]) -> dict[Hashable, Pool]:
    """Framework and device -> spread between workers in earlier runs, for those that have a single worker here; else empty.

    rows: of `comparison`. Earlier runs are read only where a row needs them; what is wrong with their files is theirs.
    """
    wanted = {group_of(row) for row in rows if row["replicates"] < 2}
    if not wanted or not earlier:
        return {}
    with open_runs(earlier) as database:
        known = database.query(
            "SELECT variant, device, device_name, median_ms_spread, workers FROM worker_spread WHERE known_wrong IS NULL"
        )
    spreads: dict[Hashable, list[Spread]] = {}
    for row in known:
        if group_of(row) in wanted and row["median_ms_spread"] is not None:
            variance = max(row["median_ms_spread"] ** 2, SMALLEST)
            spreads.setdefault(group_of(row), []).append(Spread(variance, row["workers"] - 1))
    return {group: found for group, members in spreads.items() if (found := pool(members)) is not None}


def _meanings(database: Database) -> dict[str, tuple[str, str]]:
    return {row["mark"]: (row["sign"], row["meaning"]) for row in database.query("FROM mark_meaning")}


def _print_comparison(compared: Compared, console: Console, broken: Sequence[str], write: Writer | None) -> None:
    if write is not None:
        write(compared, broken)
    else:
        run_tables.show(compared, console)


def _conclude(compared: Compared, console: Console, out: Path | None, broken: int = 0) -> None:
    """Last lines of a comparison: the answer in a sentence, and where the table is."""
    if out is not None:
        try:
            table, _ = run_tables.write(compared, out)
        except OSError as error:
            raise UserError(f"cannot write to {out}: {error.strerror or error}") from error
    console.print(Text(compared.sentence(broken), style="bold"), soft_wrap=True)
    if out is not None:
        console.print(Text(f"Table: {table}"), soft_wrap=True)


def _broken(name: str, row: Mapping[str, Any]) -> str:
    """A cell that ran in A and does not in B, in a sentence. row: of B."""
    return f"{name}: ok in A, {row['status']} in B: {row['message'] or 'no reason given'}"


Side = dict[tuple[Any, ...], Mapping[str, Any]]


def _side(database: Database, run: str, where: str, option: str, parts: Sequence[str]) -> tuple[Side, Side]:
    """The cells of one side that ran and those that did not, by the columns that tell its pairs apart."""
    chosen = parse_where(where, database)
    rows = database.query(
        f"SELECT * FROM comparison WHERE ({chosen.condition}) AND run = ${len(chosen.parameters) + 1} ORDER BY ALL",
        [*chosen.parameters, run],
    )
    if "version" in named_columns(where):  # the condition may mean a version that was not asked for by name
        for row in rows:
            row["version"] = row["version"] or row["framework_version"]
    ran: Side = {}
    failed: Side = {}
    for row in rows:
        key = tuple(row[name] for name in parts)
        if row["status"] != "ok":
            failed[key] = row
            continue
        if key in ran:
            both = " and ".join(full_name(one) for one in (ran[key], row))
            raise UserError(f"{option} '{where}' means several cells ({both}); say more")
        ran[key] = row
    return ran, failed


def _one_kind(database: Database, sides: Sequence[tuple[str, str, str]]) -> bool:
    """Whether the cells of each side (run, condition, option) are of one GPU, or all of a CPU: a number is then no difference."""
    devices: list[set[str]] = []
    for run, where, _ in sides:
        chosen = parse_where(where, database)
        rows = database.query(
            f"SELECT DISTINCT device FROM comparison WHERE ({chosen.condition}) AND run = ${len(chosen.parameters) + 1}",
            [*chosen.parameters, run],
        )
        devices.append({str(row["device"]) for row in rows})
    return all(len(one) == 1 for one in devices) and len({"cpu" in one for one in devices}) == 1


def _nearest(a: Side, b: Side, parts: Sequence[str]) -> str:
    """What the two cells, one of each side, differ in that differ in the fewest columns: `io (host against device)`."""
    found = min(
        (
            [(name, one, other) for name, one, other in zip(parts, key, beside, strict=True) if one != other]
            for key in list(a)[:MOST_TRIED]
            for beside in list(b)[:MOST_TRIED]
        ),
        key=len,
    )
    return ", ".join(f"{name} ({_value(one)} against {_value(other)})" for name, one, other in found)


def _value(value: Any) -> str:
    return "none" if value is None or value == "" else f"{value:g}" if isinstance(value, float) else str(value)


def _check_ran(run: str, where: str, option: str, ran: Side, failed: Side) -> None:
    if not ran:
        row = next(iter(failed.values()), None)
        state = f"{row['status']}: {row['message'] or 'no reason given'}" if row else "there is none"
        raise UserError(f"{option} '{where}' names no cell of {run} that ran ({state})")


def _print_only_in_one(found: RunComparison, console: Console) -> None:
    for text, keys in (("only in A", found.only_a), ("only in B", found.only_b)):
        if keys:
            console.print(Text(f"{len(keys)} {'cell is' if len(keys) == 1 else 'cells are'} {text}", style="dim"))


def _print_problems(database: Database, console: Console) -> None:
    for problem in database.problems:
        if problem.loses:
            console.print(Text(str(problem), style="red"), soft_wrap=True)


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
            [series / (images(row) if per_image else 1) for series in durations.of_row(database, row)],
            not row["samples"],
            group_of(row),
            row["known_wrong"],
        )
        for key, row in rows.items()
    ]
