"""Run folders as an in-memory DuckDB: the one way from CSV files to numbers.

`open_runs` fills tables from the files of runs (`loading`) or from the cache (`cache`) and creates the views of
`analysis/sql/*.sql` over them. A file that is not as the schema says costs its own faulty lines only; each is in
`Database.problems`.

Paths and names reach DuckDB as parameters and variables; none is ever pasted into SQL.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb

from analysis.readers import csv_by_line, run_json
from analysis.readers.csv_by_line import Fields, Problem
from common import schema
from common.harness.other_load import BUSY_SHARE, OTHER_CPUS
from common.stats.percentiles import sql_variables

if TYPE_CHECKING:
    # numpy, and what only reading needs, costs a question to the cache a fifth of a second: imported where it is used
    import numpy as np
    import numpy.typing as npt

    Times = npt.NDArray[np.int64]

SQL = Path(__file__).parents[1] / "sql"
#: a row of a view as `Database.query` returns it: column -> value
Row = Mapping[str, Any]
#: whether a statement names a view
Named = Callable[[str], bool]
#: lets a view find its files
MakeReady = Callable[["Database"], None]
#: a statement that asks which views there are, so that all are created
EVERY_VIEW = "FROM duckdb_views()"
Answer = TypeVar("Answer")


class _Documents(Mapping[str, dict[str, Any]]):
    """run.json of each run, read when it is asked for."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders

    def __getitem__(self, run: str) -> dict[str, Any]:
        return run_json.read(self._folders[run])[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)


class Database:
    """An open connection with all views, and what was wrong with the input. Use as a context manager.

    Statements go through `execute`, `query` or `sql`. They make ready what a statement names of the views and macros that cost
    time and that few questions are about (analysis.database.lazy_views): views that read files (`samples`, `power`, `kernels` ...)
    or are made of them (`explained` ...), views over workers (`worth`, `level_steps`, `worker_spread`) and macros beside
    these. On `connection` itself they do not exist, or are an error, until a statement has named them.
    """

    def __init__(
        self, scratch: tempfile.TemporaryDirectory[str], lazy_views: Mapping[str, tuple[Named, MakeReady]]
    ) -> None:
        """lazy_views: view -> (whether a statement names it, what makes it ready then)."""
        self._scratch = scratch
        self._removed_too: list[tempfile.TemporaryDirectory[str]] = []
        self._numbers = itertools.count()
        self._lazy = dict(lazy_views)
        self.connection = duckdb.connect()
        self.connection.execute("SET preserve_insertion_order = false")
        # Until there is much to read (use_all_threads): for a small run a second thread costs more than it gives, and the rows that
        # a sum adds come in another order from time to time, which changes its last digits.
        self.connection.execute("SET threads = 1")
        # In a notebook without ipywidgets there is neither a bar nor a setting for it.
        with suppress(duckdb.InvalidInputException):
            self.connection.execute("SET enable_progress_bar = false")
        self.connection.execute("SET temp_directory = $1", [scratch.name])
        for name, number in {**sql_variables(), "other_cpus": OTHER_CPUS, "busy_share": BUSY_SHARE}.items():
            self.connection.execute(f"SET VARIABLE {name} = $1", [number])
        self.problems: list[Problem] = []
        #: run name -> its folder
        self.runs: dict[str, Path] = {}
        #: run name -> its run.json, {} where it is unknown
        self.documents: Mapping[str, dict[str, Any]] = _Documents(self.runs)
        #: run folder -> name of the run, where that is another than the folder's own
        self.renamed: dict[str, str] = {}

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()
        for folder in (self._scratch, *self._removed_too):
            folder.cleanup()

    def remove_when_closed(self, folder: tempfile.TemporaryDirectory[str]) -> None:
        self._removed_too.append(folder)

    def use_all_threads(self) -> None:
        """As many as there are CPUs; from the start it is one."""
        self.connection.execute("RESET threads")

    @property
    def exit_code(self) -> int:
        """1 where rows were lost, else 0."""
        return int(any(problem.loses for problem in self.problems))

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> duckdb.DuckDBPyConnection:
        """Runs a statement and returns the connection with its result. Raises duckdb.Error."""
        return self._with_views(sql, lambda: self.connection.execute(sql, list(parameters)))

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """The query as DuckDB's relation, which a notebook shows as a table and which has `.df()`, `.fetchnumpy()`, `.write_csv()`
        and so on. A DataFrame of the caller's can be named in it. Raises duckdb.Error."""

        def relation() -> duckdb.DuckDBPyRelation:
            # DuckDB looks for a DataFrame where it is called, which is here and not the caller's cell
            self.connection.execute("SET python_scan_all_frames = true")
            try:
                return self.connection.sql(query)
            finally:
                self.connection.execute("SET python_scan_all_frames = false")

        return self._with_views(query, relation)

    def _with_views(self, sql: str, ask: Callable[[], Answer]) -> Answer:
        """Asks when every view that the text names is ready. When DuckDB does not know a name, all views are created, and it is
        asked again: it suggests the nearest of those that exist."""
        self._make_ready(sql)
        try:
            return ask()
        except duckdb.CatalogException:
            # of several statements some have been run
            if len(self.connection.extract_statements(sql)) != 1 or not self._make_ready(EVERY_VIEW):
                raise
        return ask()

    def _make_ready(self, sql: str) -> bool:
        """Whether there was something that a statement names and that was not ready."""
        views = [view for view, (named, _) in self._lazy.items() if named(sql)]
        for view in views:
            _, make_ready = self._lazy[view]
            make_ready(self)
            del self._lazy[view]  # not before: where it was interrupted, the next question makes it
        return bool(views)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows as dictionaries."""
        cursor = self.execute(sql, parameters)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def samples(self, run: str, cell_key: str) -> tuple[Times, Times, Times]:
        """(start, end, due) in ns of the cell's inferences in the order of time; empty for a cell without samples."""
        import numpy as np

        found = self.connection.execute(
            "SELECT path FROM sample_source WHERE run = $1 AND cell_key = $2", [run, cell_key]
        ).fetchone()
        if found is None:
            empty = np.empty(0, dtype=np.int64)
            return empty, empty, empty
        columns = self.connection.execute(
            "SELECT start_ns, end_ns, coalesce(scheduled_ns, start_ns) AS due_ns FROM read_csv($1, "
            "columns = getvariable('sample_columns'), header = true, auto_detect = false, hive_partitioning = false, "
            "delim = ',', quote = '', escape = '', new_line = '\\n') ORDER BY start_ns",
            [found[0]],
        ).fetchnumpy()
        return tuple(np.asarray(columns[name], dtype=np.int64) for name in ("start_ns", "end_ns", "due_ns"))  # type: ignore[return-value]

    def scratch_file(self) -> Path:
        return Path(self._scratch.name) / f"{next(self._numbers)}.csv"

    def repaired(self, run: str, file_name: str, rows: Sequence[Fields], cell_key: str = "") -> str:
        """The path of a file with these rows alone, which stands in for one of that run's (and cell's)."""
        folder = Path(self._scratch.name) / str(next(self._numbers))
        path = (folder / "cells" / cell_key if cell_key else folder) / file_name
        path.parent.mkdir(parents=True)
        csv_by_line.write_rows(path, schema.header(file_name), rows)
        self.renamed[str(folder)] = run
        return str(path)

    def set_paths(self, kind: str, paths: Sequence[str]) -> None:
        """Names the files that a view reads. DuckDB wants at least one, so that none are a file with a header alone."""
        if paths:
            self.connection.execute(f"SET VARIABLE {kind}_paths = $1", [list(paths)])
        else:
            self.connection.execute(f"SET VARIABLE {kind}_paths = [getvariable('{kind}_none')]")
