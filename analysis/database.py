"""Run folders as an in-memory DuckDB: the one way from CSV files to numbers.

`open_runs` reads the small files of each cell line by line (`analysis.reading`), lets DuckDB read samples and power
readings with the schema's declared types, and creates the views of `analysis/sql/*.sql`. A file that DuckDB refuses, or
whose head or tail is not as the schema says, costs its own faulty lines only; each is in `Database.problems`.

Paths and names reach DuckDB as parameters and variables; none is ever pasted into SQL.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from analysis import reading, run_facts
from analysis.cache import Cache, paths_under
from analysis.reading import Problem
from common import schema
from common.errors import UserError

Times = npt.NDArray[np.int64]

SQL = Path(__file__).parent / "sql"

#: Tables that hold rows of the small CSV files: table -> file name. Columns: run, cell_key (but for cell.csv), the file's.
ROW_TABLES = {
    "cell_row": "cell.csv",
    "phase_row": "phases.csv",
    "pass_row": "passes.csv",
    "quantile_row": "quantiles.csv",
    "energy_row": "energy.csv",
}
#: Samples are aggregated for about this many bytes of CSV at a time, so that memory does not grow with their number.
BATCH_BYTES = 128 * 2**20


@dataclass
class _Cell:
    """One cell folder of a run and which of its big files hold rows."""

    key: str
    folder: str
    samples: str | None = None
    sample_bytes: int = 0
    server: bool = False


@dataclass
class _Run:
    name: str
    folder: Path
    document: dict[str, Any] = field(default_factory=dict)
    cells: list[_Cell] = field(default_factory=list)
    power: list[str] = field(default_factory=list)
    rows: dict[str, list[list[str]]] = field(default_factory=lambda: {table: [] for table in ROW_TABLES})


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
    """An open connection with all views, and what was wrong with the input. Use as a context manager."""

    def __init__(self, scratch: tempfile.TemporaryDirectory[str]) -> None:
        self._scratch = scratch
        self._scratch_files = 0
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

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows as dictionaries."""
        cursor = self.connection.execute(sql, list(parameters))
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def samples(self, run: str, cell_key: str) -> tuple[Times, Times, Times]:
        """(start, end, due) in ns of the cell's inferences in the order of time; empty for a cell without samples."""
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
        self._scratch_files += 1
        return Path(self._scratch.name) / f"{self._scratch_files}.csv"


def run_folders(data: Path) -> list[Path]:
    """The run folders in a results folder, oldest name first."""
    return sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))


def open_runs(runs: Sequence[Path], cache: Path | None = None) -> Database:
    """Reads the runs and returns the database with every view ready.

    runs: folders as in `data/results/<run>`. cache: folder that keeps the aggregates of runs that do not change
    (analysis.cache); without it everything is read each time. Raises UserError when one does not exist or none is given.
    Whatever the files hold never raises: see `Database.problems` and `Database.exit_code`.
    """
    if not runs:
        raise UserError("no run to analyze; `invoke bench` makes one under data/results")
    for path in runs:
        if not path.is_dir():
            raise UserError(f"there is no run folder {path}")
    database = Database(tempfile.TemporaryDirectory(prefix="framewatt-"))
    try:
        _create_tables(database)
        names = _unique_names(runs)
        database.runs.update(names)
        kept = Cache(cache) if cache is not None else None
        cached = set(kept.fresh(names)) if kept is not None else set()
        if kept is not None and cached:
            try:
                kept.prepare(database.connection, {name: names[name] for name in names if name in cached})
            except (OSError, duckdb.Error):
                cached = set()
        _read_runs(database, {name: folder for name, folder in names.items() if name not in cached})
        if kept is not None:
            doubtful = paths_under(map(str, names.values()), (str(problem.path) for problem in database.problems))
            sound = {name: path for name, path in names.items() if name not in cached and str(path) not in doubtful}
            kept.keep(database.connection, sound)
            if cached:
                kept.join(database.connection)
        for kind in ("sample", "power"):
            found = database.connection.execute(f"SELECT list(path) FROM {kind}_source").fetchone()
            _set_paths(database, kind, (found and found[0]) or [])
    except BaseException:
        database.close()
        raise
    return database


def _read_runs(database: Database, runs: Mapping[str, Path]) -> None:
    for batch in _batches(_scan(database, name, folder) for name, folder in runs.items()):
        _load_small_files(database, batch)
        _measure(database, batch)
        _meter(database, batch)


def _unique_names(runs: Sequence[Path]) -> dict[str, Path]:
    """Folder name -> folder; the parent's name in front where two runs have the same; the same folder counts once."""
    folders = list(dict.fromkeys(path.resolve() for path in runs))
    count: dict[str, int] = {}
    for folder in folders:
        count[folder.name] = count.get(folder.name, 0) + 1
    names: dict[str, Path] = {}
    for folder in folders:
        name = folder.name if count[folder.name] == 1 else f"{folder.parent.name}/{folder.name}"
        names[name if name not in names else str(folder)] = folder
    return names


# --- tables and views -------------------------------------------------------------------------------------------


def _declare(columns: dict[str, str]) -> str:
    """Column list of a CREATE TABLE; the names are this project's own."""
    return ", ".join(f'"{name}" {kind}' for name, kind in columns.items())


def row_table_columns(table: str) -> dict[str, str]:
    columns = schema.duckdb_columns(ROW_TABLES[table])
    first = {"run": "VARCHAR"} if table == "cell_row" else {"run": "VARCHAR", "cell_key": "VARCHAR"}
    return {**first, **columns}


def _create_tables(database: Database) -> None:
    connection = database.connection
    for table in ROW_TABLES:
        connection.execute(f"CREATE TABLE {table} ({_declare(row_table_columns(table))})")
    connection.execute(
        f"CREATE TABLE run (run VARCHAR, path VARCHAR, {_declare({name: kind for name, (kind, _) in run_facts.RUN.items()})})"
    )
    connection.execute(f"CREATE TABLE run_device (run VARCHAR, {_declare(dict(run_facts.DEVICE))})")
    connection.execute(f"CREATE TABLE cooling (run VARCHAR, cell_key VARCHAR, {_declare(dict(run_facts.COOLING))})")
    connection.execute(
        f"CREATE TABLE idle_spell (run VARCHAR, device VARCHAR, boot BIGINT, {_declare(dict(run_facts.IDLE_SPELL))})"
    )
    connection.execute("CREATE TABLE sample_source (path VARCHAR, run VARCHAR, cell_key VARCHAR)")
    connection.execute("CREATE TABLE cell_boot (run VARCHAR, cell_key VARCHAR, boot BIGINT)")
    connection.execute("CREATE TABLE power_source (path VARCHAR, run VARCHAR, boot BIGINT)")
    for kind, file_name in (("sample", "samples.csv"), ("server", "samples.csv"), ("power", "power.csv")):
        # a file with a header alone: DuckDB wants at least one file, and a set of runs may have none
        path = database.scratch_file()
        reading.write_rows(path, schema.header(file_name), [])
        connection.execute(f"SET VARIABLE {kind}_columns = $1", [schema.duckdb_columns(file_name)])
        connection.execute(f"SET VARIABLE {kind}_none = $1", [str(path)])
        _set_paths(database, kind, [])
    for path in sorted(SQL.glob("*.sql")):
        connection.execute(path.read_text())


def _set_paths(database: Database, kind: str, paths: list[str]) -> None:
    none = database.connection.execute(f"SELECT getvariable('{kind}_none')").fetchone()
    assert none is not None
    database.connection.execute(f"SET VARIABLE {kind}_paths = $1", [paths or [none[0]]])


# --- small files --------------------------------------------------------------------------------------------------

_HEADERS = {name: reading.header_line(name) for name in schema.FILES}


def _rows(database: Database, path: str, file_name: str, required: bool) -> list[list[str]]:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - four times as fast as Path.open over 100,000 files
            raw = file.read()
    except FileNotFoundError:
        if required:
            database.problems.append(Problem(Path(path), "is missing"))
        return []
    except OSError as error:
        database.problems.append(Problem(Path(path), f"cannot be read: {error.strerror}"))
        return []
    content = reading.read(Path(path), file_name, raw)
    database.problems.extend(content.problems)
    return content.rows


_KEY = schema.header("cell.csv").index("cell_key")
_SCENARIO = schema.header("cell.csv").index("scenario")
_STATUS = schema.header("cell.csv").index("status")


def _scan(database: Database, name: str, folder: Path) -> _Run:
    """Reads run.json and the small files of a run; finds its big ones."""
    run = _Run(name, folder)
    run.document, problem = run_facts.read(folder)
    if problem:
        database.problems.append(problem)
    run.power = sorted(str(path) for path in folder.glob("power*.csv"))
    try:
        with os.scandir(folder / "cells") as entries:
            folders = sorted(entry.path for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError:
        folders = []
    for path in folders:
        _scan_cell(database, run, path)
    if not run.cells:
        database.problems.append(Problem(folder, "holds no cell: nothing was measured in this run", loses=False))
    return run


def _scan_cell(database: Database, run: _Run, folder: str) -> None:
    key = os.path.basename(folder)  # noqa: PTH119 - as above
    cell_path = f"{folder}/cell.csv"
    rows = _rows(database, cell_path, "cell.csv", required=True)
    if not rows:
        return
    if len(rows) > 1:
        problem = Problem(Path(cell_path), "has more than one row: the first counts", rows=len(rows) - 1)
        database.problems.append(problem)
    row = rows[0]
    if row[_KEY] != key:
        message = f"is the cell '{row[_KEY]}' in a folder of another name: a second cell of that key is left out"
        database.problems.append(Problem(Path(cell_path), message, rows=1))
        return
    run.rows["cell_row"].append([run.name, *row])
    ran = row[_STATUS] in ("ok", "parity_failed")
    for table, file_name in ROW_TABLES.items():
        if table != "cell_row":
            found = _rows(database, f"{folder}/{file_name}", file_name, required=ran and file_name == "phases.csv")
            run.rows[table].extend([run.name, key, *values] for values in found)
    cell = _Cell(key, folder, server=row[_SCENARIO] == "server")
    try:
        cell.sample_bytes = os.stat(f"{folder}/samples.csv").st_size  # noqa: PTH116 - as above
        cell.samples = f"{folder}/samples.csv"
    except OSError:
        if row[_STATUS] == "ok" and not os.path.exists(f"{folder}/passes.csv"):  # noqa: PTH110 - as above
            database.problems.append(Problem(Path(folder) / "samples.csv", "is missing"))
    run.cells.append(cell)


def _insert_rows(database: Database, table: str, columns: dict[str, str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows into a table through a scratch CSV: DuckDB takes 100,000 rows this way in the time of 100 INSERTs.

    None becomes the empty field; so does the empty string, which is what the schema says of empty fields.
    """
    path = database.scratch_file()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    database.connection.execute(
        f"INSERT INTO {table} FROM read_csv($1, columns = $2, header = true, auto_detect = false, delim = ',', "
        "quote = '\"', escape = '\"', new_line = '\\n', parallel = false)",
        [str(path), columns],
    )
    path.unlink()


# --- big files ------------------------------------------------------------------------------------------------------


def _batches(runs: Iterable[_Run]) -> Iterator[list[_Run]]:
    """Runs in groups of about BATCH_BYTES of samples; the next group is only looked at when the last one is done."""
    batch: list[_Run] = []
    size = 0
    for run in runs:
        batch.append(run)
        size += sum(cell.sample_bytes for cell in run.cells)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _load_small_files(database: Database, batch: list[_Run]) -> None:
    for table in ROW_TABLES:
        rows = [row for run in batch for row in run.rows[table]]
        if rows:
            _insert_rows(database, table, row_table_columns(table), rows)
    for run in batch:
        run_values = [run.name, str(run.folder), *run_facts.run_row(run.document)]
        database.connection.execute(f"INSERT INTO run VALUES ({_marks(run_values)})", run_values)
        for row in run_facts.device_rows(run.document):
            device_values = [run.name, *row]
            database.connection.execute(f"INSERT INTO run_device VALUES ({_marks(device_values)})", device_values)
        for row in run_facts.cooling_rows(run.document):
            cooling_values = [run.name, *row]
            database.connection.execute(f"INSERT INTO cooling VALUES ({_marks(cooling_values)})", cooling_values)
        boots = run_facts.boots_of(run.document, "cells")
        if boots:
            _insert_rows(
                database,
                "cell_boot",
                {"run": "VARCHAR", "cell_key": "VARCHAR", "boot": "BIGINT"},
                [[run.name, key, boot] for key, boot in boots.items()],
            )
        for row in run_facts.idle_spell_rows(run.document):
            spell_values = [run.name, *row]
            database.connection.execute(f"INSERT INTO idle_spell VALUES ({_marks(spell_values)})", spell_values)
        run.rows.clear()


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _repaired(database: Database, path: str, file_name: str) -> str:
    """The path of a scratch file with the good lines of a doubtful one, whose other lines become problems."""
    content = reading.read(Path(path), file_name)
    database.problems.extend(content.problems)
    scratch = database.scratch_file()
    reading.write_rows(scratch, schema.header(file_name), content.rows)
    return str(scratch)


def _is_sound(path: str, file_name: str) -> bool:
    try:
        sound = reading.head_and_tail_are_sound(path, _HEADERS[file_name])
        if sound and file_name == "samples.csv":
            return reading.holds_whole_numbers(path, _HEADERS[file_name])
        if sound and file_name == "power.csv":
            return reading.has_typed_rows(path, file_name)
        return sound
    except OSError:
        return False


def _measure(database: Database, batch: list[_Run]) -> None:
    """Aggregates the samples of some runs into `measured`; `sample_source` then names the files with their good rows."""
    source: dict[str, tuple[str, ...]] = {}
    untouched: list[str] = []
    server = {(run.name, cell.key) for run in batch for cell in run.cells if cell.server}
    for run in batch:
        for cell in run.cells:
            if cell.samples is None:
                continue
            path = cell.samples
            if _is_sound(path, "samples.csv"):
                untouched.append(path)
            else:
                path = _repaired(database, path, "samples.csv")
            source[path] = (run.name, cell.key)
    faulty = _read_sources(database, "sample", source, untouched, server)
    if faulty:
        _read_sources(database, "sample", _with_repairs(database, "samples.csv", source, faulty), [], server)
    database.connection.execute("INSERT INTO measured FROM batch.measured")


def _meter(database: Database, batch: list[_Run]) -> None:
    """Energy and conditions of the cells of some runs, from their power readings; `power_source` as `sample_source`."""
    source: dict[str, tuple[str, ...]] = {}
    untouched: list[str] = []
    for run in batch:
        boots = run_facts.boots_of(run.document, "power")
        for path in run.power:
            boot = str(boots.get(os.path.basename(path), ""))  # noqa: PTH119 - as above
            if _is_sound(path, "power.csv"):
                untouched.append(path)
            else:
                path = _repaired(database, path, "power.csv")
            source[path] = (run.name, boot)
    faulty = _read_sources(database, "power", source, untouched)
    if faulty:
        _read_sources(database, "power", _with_repairs(database, "power.csv", source, faulty), [])
    connection = database.connection
    connection.execute("CREATE OR REPLACE TABLE batch.run AS SELECT unnest($1) AS run", [[run.name for run in batch]])
    for table in ("meter", "energy_window", "power_cumulated", "counter_step", "meter_energy"):
        connection.execute(f"CREATE OR REPLACE TABLE batch.{table} AS FROM live.{table}")
    for table in ("energy", "unmetered", "conditions"):
        connection.execute(f"INSERT INTO {table} FROM live.{table}")


#: kind of big file -> (table that says whose each file is, view that reads the files, what a faulty row looks like)
_BIG_FILES = {
    "sample": ("sample_source", "measured", "SELECT path FROM batch.measured WHERE faulty > 0"),
    "power": ("power_source", "reading", "SELECT DISTINCT path FROM batch.reading WHERE faulty"),
}


def _read_sources(
    database: Database,
    kind: str,
    source: dict[str, tuple[str, ...]],
    untouched: Sequence[str],
    server: Collection[tuple[str, ...]] = (),
) -> list[str]:
    """Lets DuckDB read these files into `batch.<view>`; returns those of `untouched` that need reading line by line.

    Which file it was that DuckDB refused is not asked of its message: every untouched one is then read line by line.
    """
    table, view, faulty = _BIG_FILES[kind]
    connection = database.connection
    _set_paths(database, kind, list(source))
    if kind == "sample":
        _set_paths(database, "server", [path for path, names in source.items() if names in server])
    columns = {"path": "VARCHAR", "run": "VARCHAR"}
    columns |= {"cell_key": "VARCHAR"} if kind == "sample" else {"boot": "BIGINT"}
    connection.execute(
        f"DELETE FROM {table} WHERE run IN (SELECT unnest($1))", [[names[0] for names in source.values()]]
    )
    _insert_rows(database, table, columns, [[path, *names] for path, names in source.items()])
    try:
        connection.execute(f"CREATE OR REPLACE TABLE batch.{view} AS FROM live.{view}")
    except duckdb.Error:
        if not untouched:
            raise
        return list(untouched)
    return [row[0] for row in connection.execute(faulty).fetchall()]


def _with_repairs(
    database: Database, file_name: str, source: dict[str, tuple[str, ...]], paths: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """`source` with every faulty one of `paths` replaced by a scratch file of its good lines."""
    for path in paths:
        content = reading.read(Path(path), file_name)
        if content.problems:
            database.problems.extend(content.problems)
            scratch = database.scratch_file()
            reading.write_rows(scratch, schema.header(file_name), content.rows)
            source[str(scratch)] = source.pop(path)
    return source
