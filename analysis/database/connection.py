"""Run folders as an in-memory DuckDB: the one way from CSV files to numbers.

`open_runs` fills tables from the files of runs (analysis.database.loading) or from the cache (analysis.database.cache) and creates the views
of `analysis/sql/*.sql` over them. A file that is not as the schema says costs its own faulty lines only; each is in
`Database.problems`.

Paths and names reach DuckDB as parameters and variables; none is ever pasted into SQL.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import duckdb

from analysis.database import lazy_views as lazy_files
from analysis.database.cache import DERIVED, Cache
from analysis.readers import csv_by_line as reading
from analysis.readers import run_json as run_facts
from analysis.readers.csv_by_line import Problem, Row
from analysis.readers.run_folder import named
from common import schema
from common.errors import UserError

if TYPE_CHECKING:
    # numpy, and what only reading needs, costs a question to the cache a fifth of a second: imported where it is used
    import numpy as np
    import numpy.typing as npt

    Times = npt.NDArray[np.int64]

SQL = Path(__file__).parent / "sql"
#: Statements that only reading needs, of them those for power readings alone, and those for what the cache holds ready.
_READING = ("05_measured.sql", "10_samples.sql")
_METERED = ("20_energy.sql", "30_conditions.sql")
_DERIVED = ("50_marks.sql", "60_comparison.sql")


class _Documents(Mapping[str, dict[str, Any]]):
    """run.json of each run, read when it is asked for."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders

    def __getitem__(self, run: str) -> dict[str, Any]:
        return run_facts.read(self._folders[run])[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)


class Database:
    """An open connection with all views, and what was wrong with the input. Use as a context manager.

    Statements go through `execute` or `query`: they make the views that read files (`samples`, `power`, `device_times`,
    `attempts`) ready when a statement names one. On `connection` itself such a view is an error until then.
    """

    def __init__(self, scratch: tempfile.TemporaryDirectory[str]) -> None:
        self._scratch = scratch
        self._numbers = itertools.count()
        self._asleep = set(lazy_files.VIEWS)
        self._metered = False
        self.connection = duckdb.connect()
        self.connection.execute("SET preserve_insertion_order = false")
        # In a notebook without ipywidgets there is neither a bar nor a setting for it.
        with suppress(duckdb.InvalidInputException):
            self.connection.execute("SET enable_progress_bar = false")
        self.connection.execute("SET temp_directory = $1", [scratch.name])
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
        self._scratch.cleanup()

    @property
    def exit_code(self) -> int:
        """1 where rows were lost, else 0."""
        return int(any(problem.loses for problem in self.problems))

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> duckdb.DuckDBPyConnection:
        """Runs a statement and returns the connection with its result. Raises duckdb.Error."""
        for view in [view for view in self._asleep if lazy_files.names(view, sql)]:
            lazy_files.wake(self, view)
            self._asleep.discard(view)
        return self.connection.execute(sql, list(parameters))

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
            "columns = getvariable('sample_columns'), header = true, auto_detect = false, delim = ',', quote = '', "
            "escape = '', new_line = '\\n') ORDER BY start_ns",
            [found[0]],
        ).fetchnumpy()
        return tuple(np.asarray(columns[name], dtype=np.int64) for name in ("start_ns", "end_ns", "due_ns"))  # type: ignore[return-value]

    def scratch_file(self) -> Path:
        return Path(self._scratch.name) / f"{next(self._numbers)}.csv"

    def repaired(self, run: str, file_name: str, rows: Sequence[Row], cell_key: str = "") -> str:
        """The path of a file with these rows alone, which stands in for one of that run's (and cell's)."""
        folder = Path(self._scratch.name) / str(next(self._numbers))
        path = (folder / "cells" / cell_key if cell_key else folder) / file_name
        path.parent.mkdir(parents=True)
        reading.write_rows(path, schema.header(file_name), rows)
        self.renamed[str(folder)] = run
        return str(path)

    def make_ready_for_power(self) -> None:
        """Creates the views that find energy and conditions: few sets of runs have power readings, and they take time."""
        if not self._metered:
            for name in _METERED:
                self.connection.execute((SQL / name).read_text())
            self._metered = True

    def set_paths(self, kind: str, paths: Sequence[str]) -> None:
        """Names the files that a view reads. DuckDB wants at least one, so that none are a file with a header alone."""
        if paths:
            self.connection.execute(f"SET VARIABLE {kind}_paths = $1", [list(paths)])
        else:
            self.connection.execute(f"SET VARIABLE {kind}_paths = [getvariable('{kind}_none')]")


def open_runs(runs: Sequence[Path], cache: Path | Cache | None = None) -> Database:
    """Reads the runs and returns the database with every view ready.

    runs: folders as in `data/results/<run>`. cache: folder that keeps the aggregates of runs that do not change, or such a
    cache that is looking at these runs already; without it everything is read each time. Raises UserError when a run does
    not exist or none is given. Whatever the files hold never raises: see `Database.problems` and `Database.exit_code`.
    """
    if not runs:
        raise UserError("no run to analyze; `invoke bench` makes one under data/results")
    for path in runs:
        if not path.is_dir():
            raise UserError(f"there is no run folder {path}")
    names = named(runs)
    kept = Cache(cache) if isinstance(cache, Path) else cache
    fresh: list[str] = []
    if kept is not None:
        if kept is not cache:
            kept.look_at(names)
        if kept.knows(names):
            # most likely nothing has changed: all is made ready from the cache while the files are being looked at
            database = _from_cache_alone(kept, names)
            fresh = kept.fresh()
            if database is not None:
                if len(fresh) == len(names):
                    return database
                database.close()
        else:
            fresh = kept.fresh()
    return _from_files(kept, names, fresh)


def _new_database(names: Mapping[str, Path]) -> Database:
    database = Database(tempfile.TemporaryDirectory(prefix="framewatt-"))
    database.runs.update(names)
    database.renamed.update({str(folder): name for name, folder in names.items() if folder.name != name})
    return database


def _from_cache_alone(kept: Cache, names: Mapping[str, Path]) -> Database | None:
    """None where the cache cannot be used."""
    database = _new_database(names)
    try:
        kept.open(database.connection, names)
        _execute_files(database, without=(*_READING, *_METERED, *_DERIVED))
    except (OSError, duckdb.Error):
        database.close()
        return None
    except BaseException:
        database.close()
        raise
    return database


def _from_files(kept: Cache | None, names: Mapping[str, Path], fresh: Sequence[str]) -> Database:
    """Reads what is not fresh, and takes that from the cache."""
    from analysis.database import loading
    from analysis.readers.samples import SampleTimes

    database = _new_database(names)
    connection = database.connection
    try:
        for table, columns in loading.tables().items():
            connection.execute(f"CREATE TABLE {table} ({_declare(columns)})")
        connection.register("sample_times", SampleTimes().columns())
        _execute_files(database, without=_METERED)
        cached = {name: names[name] for name in fresh}
        if kept is not None and cached:
            try:
                kept.prepare(connection, cached)
            except (OSError, duckdb.Error):
                cached = {}
        sound = loading.load(database, {name: folder for name, folder in names.items() if name not in cached})
        if kept is not None:
            for view in DERIVED:  # computed once, however often they are asked for; each builds on the one before
                connection.execute(f"CREATE TABLE {view}_ready AS FROM {view}")
                connection.execute(f"DROP VIEW {view}")
                connection.execute(f"ALTER TABLE {view}_ready RENAME TO {view}")
            kept.keep(connection, sound)
            if cached:
                kept.join(connection)
    except BaseException:
        database.close()
        raise
    return database


# --- tables and views -------------------------------------------------------------------------------------------


def _declare(columns: Mapping[str, str]) -> str:
    """Column list of a CREATE TABLE; the names are this project's own."""
    return ", ".join(f'"{name}" {kind}' for name, kind in columns.items())


def _execute_files(database: Database, without: Sequence[str]) -> None:
    """Creates the views; those that read files are bound to no file and then put to sleep."""
    lazy_files.declare(database)
    for path in sorted(SQL.glob("*.sql")):
        if path.name not in without:
            database.connection.execute(path.read_text())
    lazy_files.put_to_sleep(database)
