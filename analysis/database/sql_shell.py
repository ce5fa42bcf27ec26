"""`invoke sql`: a question of the user's own over the views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.database.cache import Cache
from analysis.readers.run_folder import named
from common.errors import UserError

#: Rows and problems printed.
MOST_ROWS = 10_000
MOST_PROBLEMS = 20


def sql_shell(runs: Sequence[Path], query: str, console: Console, cache: Path | None = None) -> int:
    """Runs one query of the user's over the views and prints what it returns; 1 where input was lost, else 0.

    Raises UserError for SQL that DuckDB refuses, with DuckDB's own words.
    """
    kept = None
    if cache is not None:
        kept = Cache(cache)
        kept.look_at(named(runs))  # goes on while DuckDB and numpy are imported

    import duckdb

    from analysis.database.open_runs import open_runs

    with open_runs(runs, kept) as database:
        try:
            cursor = database.execute(query)
            names = [column[0] for column in cursor.description or ()]
            rows = cursor.fetchmany(MOST_ROWS)
        except duckdb.Error as error:
            first = next((line for line in str(error).splitlines() if line.strip()), "refused")
            raise UserError(f"{first} (the views are described in analysis/sql/README.md)") from error
        grid = Table(show_edge=False, box=None, pad_edge=False)
        for name in names:
            grid.add_column(Text(name), overflow="fold")
        for row in rows:
            grid.add_row(*("" if value is None else Text(_shown(value)) for value in row))
        console.print(grid)
        if len(rows) == MOST_ROWS:
            console.print(f"only the first {MOST_ROWS:,} rows are shown")
        for problem in database.problems[:MOST_PROBLEMS]:
            console.print(Text(str(problem), style="red" if problem.loses else "yellow"), soft_wrap=True)
        return database.exit_code


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
