"""`invoke sql`: a question of the user's own over the views."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.database.cache import Cache
from analysis.readers.run_folder import named
from common.errors import UserError

if TYPE_CHECKING:
    from analysis.database.connection import Database

EXAMPLE = 'such as invoke sql "SELECT variant, batch_size, images_per_s FROM comparison"'
#: Rows and problems printed.
MOST_ROWS = 10_000
MOST_PROBLEMS = 20


def sql_shell(runs: Sequence[Path], query: str, console: Console, cache: Path | None = None) -> int:
    """Runs the user's statements over the views and prints what each returns; 1 where input was lost, else 0.

    Raises UserError for SQL that DuckDB refuses, with DuckDB's own words, and where there is none.
    """
    kept = None
    if cache is not None:
        kept = Cache(cache)
        kept.look_at(named(runs))  # goes on while DuckDB and numpy are imported

    import duckdb

    from analysis.database.open_runs import open_runs

    with open_runs(runs, kept) as database:
        try:
            statements = database.connection.extract_statements(query)
            if not statements:
                raise UserError(f"the query is empty; {EXAMPLE}")
            for number, statement in enumerate(statements):
                if number:
                    console.print()
                _answer(database, statement.query, console)
        except duckdb.Error as error:
            raise UserError(_refusal(database, str(error))) from error
        for problem in database.problems[:MOST_PROBLEMS]:
            console.print(Text(str(problem), style="red" if problem.loses else "yellow"), soft_wrap=True)
        return database.exit_code


def _answer(database: Database, query: str, console: Console) -> None:
    cursor = database.execute(query)
    names = [column[0] for column in cursor.description or ()]
    rows = cursor.fetchmany(MOST_ROWS) if names else []
    grid = Table(show_edge=False, box=None, pad_edge=False)
    for name in names:
        grid.add_column(Text(name), overflow="fold")
    for row in rows:
        grid.add_row(*("" if value is None else Text(_shown(value)) for value in row))
    console.print(grid)
    if len(rows) == MOST_ROWS:
        console.print(f"only the first {MOST_ROWS:,} rows are shown")


_UNKNOWN = re.compile(
    r'column(?: named)? "?(?P<column>[^"\s]+?)"?(?: not found|\s*$)|Table with name "?(?P<view>[^"\s]+?)"? does not exist',
    re.IGNORECASE,
)


def _refusal(database: Database, error: str) -> str:
    """DuckDB's own first line, and the column or view that was probably meant."""
    first = next((line for line in error.splitlines() if line.strip()), "refused").split(" LINE ")[0]
    match = _UNKNOWN.search(first)
    hint = ""
    if match and "Did you mean" not in first:
        wanted = match["column"] or match["view"]
        known = {
            name: f"{name} (in {', '.join(views[:3])})" if match["column"] else name
            for name, views in _names(database, columns=match["column"] is not None).items()
        }
        near = difflib.get_close_matches(wanted.rpartition(".")[2], known, n=2, cutoff=0.5)
        hint = f" Did you mean {' or '.join(known[name] for name in near)}?" if near else ""
    return f"{first}{hint} (the views are described in analysis/sql/README.md)"


def _names(database: Database, columns: bool) -> dict[str, list[str]]:
    """Column -> the views that have it, or the views themselves."""
    what = "column_name" if columns else "table_name"
    found = database.execute(
        f"SELECT {what}, list(DISTINCT table_name ORDER BY table_name) FROM duckdb_columns() "
        "WHERE schema_name = 'main' AND NOT internal GROUP BY ALL"
    ).fetchall()
    return dict(found)


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
