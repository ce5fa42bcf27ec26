"""From the files of runs to DuckDB's tables, some runs at a time.

While DuckDB works on the rows of some runs, threads read the files of the next: reading and numpy let go of the
interpreter's lock, and so does DuckDB.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from analysis.database.cache import ReadRun
from analysis.database.connection import SQL, Database
from analysis.readers import csv_by_line, run_json
from analysis.readers import samples as sample_times
from analysis.readers.csv_by_line import Problem
from analysis.readers.run_folder import ROW_TABLES, BigFile, RunFiles, scan
from analysis.readers.samples import SampleTimes
from common import schema
from common.host import regular_files

#: Runs are taken together until their samples come to about this many bytes, so that memory does not grow with the number
#: of runs.
BATCH_BYTES = 64 * 2**20
#: Runs whose samples and power readings come to more than this are worth several threads of DuckDB.
MUCH_BYTES = 8 * 2**20

#: Tables that say where the rows of a view of analysis/sql/00_files.sql are: table -> what a file of it belongs to.
SOURCES = {
    "sample_source": ("run", "cell_key"),
    "device_time_source": ("run", "cell_key"),
    "kernel_source": ("run", "cell_key"),
    "power_source": ("run", "boot"),
    "attempt_source": ("run",),
}

#: what is run on the rows of some runs at a time: on their samples, on their power files, and on the readings in these
SAMPLES, READINGS = SQL / "10_samples.sql", SQL / "15_readings.sql"
INPUT_COPY = SQL / "35_input_copy.sql"
METERED = (SQL / "20_energy.sql", SQL / "25_energy_choice.sql", SQL / "30_conditions.sql")


@dataclass
class Batch:
    """Some runs: their small files' rows, their samples, and what was wrong with them.

    owners: (run, cell key, whether of the server scenario) of each file of samples, by its number. paths: where its valid
    rows are, which for a repaired one is a copy. power: path -> (run, boot) likewise; untouched_power: those that DuckDB may
    yet refuse. energies: whether an imported source measured energy. repaired: names of runs with files that were.
    """

    runs: list[RunFiles]
    samples: SampleTimes
    owners: list[tuple[str, str, bool]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    power: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    untouched_power: list[str] = field(default_factory=list)
    energies: bool = False
    repaired: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def load(database: Database, runs: Mapping[str, Path]) -> list[ReadRun]:
    """Reads these runs (name -> folder) into the tables; returns those that nothing was wrong with."""
    sample_times.keep_freed_memory()
    database.connection.execute("CREATE SCHEMA batch")
    done: list[ReadRun] = []
    idle = [SampleTimes(), SampleTimes()]  # one that DuckDB reads and one that is being filled
    with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as readers:
        batches = _batches(database, runs, readers, idle)
        coming = ahead.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = ahead.submit(next, batches, None)
            database.problems.extend(batch.problems)
            if sum(file.size for run in batch.runs for file in (*run.samples, *run.power)) > MUCH_BYTES:
                database.use_all_threads()
            _insert(database, batch)
            _measure(database, batch)
            idle.append(batch.samples)
            _meter(database, batch)
            _find_copies(database, batch)
            done += [
                ReadRun(run.name, str(run.folder), run.fingerprint, run.names, run.files)
                for run in batch.runs
                if not run.problems and run.name not in batch.repaired
            ]
    return done


def _batches(
    database: Database, runs: Mapping[str, Path], readers: Executor, idle: list[SampleTimes]
) -> Iterator[Batch]:
    """The next runs are looked at only when the ones before are asked for."""
    some: list[RunFiles] = []
    size = 0
    for name, folder in runs.items():
        run = scan(name, folder)
        some.append(run)
        size += sum(file.size for file in run.samples)
        if size >= BATCH_BYTES:
            yield _read(database, some, readers, idle.pop())
            some, size = [], 0
    if some:
        yield _read(database, some, readers, idle.pop())


def _read(database: Database, runs: list[RunFiles], readers: Executor, times: SampleTimes) -> Batch:
    """Reads the samples of these runs and looks at their power files."""
    files = [file for run in runs for file in run.samples]
    owners = [(run.name, file.cell_key, file.cell_key in run.server) for run in runs for file in run.samples]
    doubtful = sample_times.read(files, times, readers)
    batch = Batch(runs, times, owners, [file.path for file in files])
    for run in runs:
        batch.problems.extend(run.problems)
        batch.energies |= bool(run.rows["energy_row"])
    for number in doubtful:
        content = csv_by_line.read(Path(files[number].path), "samples.csv")
        batch.problems.extend(content.problems)
        sample_times.add_rows(times, number, content.rows)
        name, key, _ = owners[number]
        batch.paths[number] = database.repaired(name, "samples.csv", content.rows, key)
        batch.repaired.add(name)
    for run in runs:
        boots = run_json.boots_of(run.document, "power")
        for file in run.power:
            owner = (run.name, boots.get(os.path.basename(file.path)))  # noqa: PTH119 - a name as run_facts has it
            if _power_is_valid(file):
                batch.untouched_power.append(file.path)
                batch.power[file.path] = owner
            else:
                _repair_power(database, batch, file.path, owner)
    return batch


def _power_is_valid(file: BigFile) -> bool:
    try:
        return csv_by_line.head_and_tail_are_valid(file.path, _POWER_HEADER) and csv_by_line.has_typed_rows(
            file.path, "power.csv"
        )
    except OSError:
        return False


_POWER_HEADER = csv_by_line.header_line("power.csv")


def _repair_power(database: Database, batch: Batch, path: str, owner: tuple[str, int | None]) -> None:
    content = csv_by_line.read(Path(path), "power.csv")
    batch.problems.extend(content.problems)
    batch.power[database.repaired(owner[0], "power.csv", content.rows)] = owner
    batch.repaired.add(owner[0])


# --- into the tables ----------------------------------------------------------------------------------------------


def insert_values(database: Database, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> None:
    """Rows of values into a table; columns: name -> DuckDB type, in the table's order."""
    if rows:
        values = ", ".join(f"unnest(${number}::{kind}[])" for number, kind in enumerate(columns.values(), 1))
        lists = [list(column) for column in zip(*rows, strict=True)]
        database.connection.execute(f"INSERT INTO {table} SELECT {values}", lists)


def insert_lines(database: Database, table: str, columns: Mapping[str, str], lines: Iterable[bytes]) -> None:
    """Lines of CSV into a table, through a file: DuckDB takes 100,000 rows this way in the time of 100 INSERTs.

    An empty field is NULL, which is what the schema says of empty fields.
    """
    path = database.scratch_file()
    path.write_bytes(b"".join(lines))
    database.connection.execute(
        f"INSERT INTO {table} FROM read_csv($1, columns = $2, header = false, auto_detect = false, "
        "hive_partitioning = false, delim = ',', quote = '\"', escape = '\"', new_line = '\\n', parallel = false)",
        [str(path), dict(columns)],
    )
    path.unlink()


def _insert(database: Database, batch: Batch) -> None:
    for table in ROW_TABLES:
        lines = [line for run in batch.runs for line in run.rows[table]]
        if lines:
            insert_lines(database, table, row_table_columns(table), lines)
    runs = batch.runs
    insert_values(
        database, "run", RUN_COLUMNS, [[run.name, str(run.folder), *run_json.run_row(run.document)] for run in runs]
    )
    for table, columns, rows_of in (
        ("run_device", DEVICE_COLUMNS, run_json.device_rows),
        ("cooling", COOLING_COLUMNS, run_json.cooling_rows),
        ("idle_spell", IDLE_SPELL_COLUMNS, run_json.idle_spell_rows),
        ("cell_boot", CELL_BOOT_COLUMNS, lambda document: run_json.boots_of(document, "cells").items()),
    ):
        insert_values(database, table, columns, [[run.name, *row] for run in runs for row in rows_of(run.document)])
    sources: dict[str, Sequence[Sequence[str]]] = {
        "sample_source": [(path, run, key) for path, (run, key, _) in zip(batch.paths, batch.owners, strict=True)],
        "device_time_source": [(file.path, run.name, file.cell_key) for run in runs for file in run.device_times],
        "kernel_source": [(file.path, run.name, file.cell_key) for run in runs for file in run.kernels],
        "attempt_source": [(file.path, run.name) for run in runs for file in run.attempts],
    }
    for table, rows in sources.items():
        insert_values(database, table, source_columns(table), rows)
    for run in runs:
        run.rows.clear()


RUN_COLUMNS = {"run": "VARCHAR", "path": "VARCHAR", **{name: kind for name, (kind, _) in run_json.RUN.items()}}
DEVICE_COLUMNS = {"run": "VARCHAR", **run_json.DEVICE}
IDLE_SPELL_COLUMNS = {"run": "VARCHAR", "device": "VARCHAR", "boot": "BIGINT", **run_json.IDLE_SPELL}
CELL_BOOT_COLUMNS = {"run": "VARCHAR", "cell_key": "VARCHAR", "boot": "BIGINT"}
SAMPLE_FILE_COLUMNS = {"file": "INTEGER", "run": "VARCHAR", "cell_key": "VARCHAR", "server": "BOOLEAN"}
COOLING_COLUMNS = {"run": "VARCHAR", "cell_key": "VARCHAR", **run_json.COOLING}


def tables() -> dict[str, dict[str, str]]:
    """Table that the files' rows go to -> its columns and their DuckDB types."""
    return {
        **{table: row_table_columns(table) for table in ROW_TABLES},
        "run": RUN_COLUMNS,
        "run_device": DEVICE_COLUMNS,
        "cooling": COOLING_COLUMNS,
        "idle_spell": IDLE_SPELL_COLUMNS,
        "cell_boot": CELL_BOOT_COLUMNS,
        **{table: source_columns(table) for table in SOURCES},
    }


def row_table_columns(table: str) -> dict[str, str]:
    columns = schema.duckdb_columns(ROW_TABLES[table])
    first = {"run": "VARCHAR"} if table == "cell_row" else {"run": "VARCHAR", "cell_key": "VARCHAR"}
    return {**first, **columns}


def source_columns(table: str) -> dict[str, str]:
    return {name: "BIGINT" if name == "boot" else "VARCHAR" for name in ("path", *SOURCES[table])}


def _measure(database: Database, batch: Batch) -> None:
    """Aggregates the samples of some runs into `measured`."""
    connection = database.connection
    connection.register("sample_times", batch.samples.columns())
    owners = [(number, *owner) for number, owner in enumerate(batch.owners)]
    _of_batch(database, "sample_file", SAMPLE_FILE_COLUMNS, owners)
    connection.execute(SAMPLES.read_text())
    connection.unregister("sample_times")


def _of_batch(database: Database, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> None:
    """A table of the schema `batch` with these rows and no others."""
    database.connection.execute(f"CREATE OR REPLACE TABLE batch.{table} ({declare(columns)})")
    insert_values(database, f"batch.{table}", columns, rows)


def declare(columns: Mapping[str, str]) -> str:
    """Column list of a CREATE TABLE; the names are this project's own."""
    return ", ".join(f'"{name}" {kind}' for name, kind in columns.items())


def _meter(database: Database, batch: Batch) -> None:
    """Energy and conditions of the cells of some runs, from their power readings or what an imported source measured."""
    connection = database.connection
    if not batch.power and not batch.energies:
        return
    refused = _read_power(database, batch)
    if refused:
        for path in refused:
            # which file it was that DuckDB refused is not asked of its message: each one is then read line by line
            owner = batch.power.pop(path)
            problems = len(batch.problems)
            _repair_power(database, batch, path, owner)
            database.problems.extend(batch.problems[problems:])
        batch.untouched_power = []
        _read_power(database, batch)
    insert_values(database, "power_source", source_columns("power_source"), _owned(batch))
    _of_batch(database, "run", {"run": "VARCHAR"}, [[run.name] for run in batch.runs])
    for script in METERED:
        connection.execute(script.read_text())


def _owned(batch: Batch) -> list[tuple[str, str, int | None]]:
    return [(path, *owner) for path, owner in batch.power.items()]


def _read_power(database: Database, batch: Batch) -> list[str]:
    """Lets DuckDB read the power files into `batch.reading`; returns those that need reading line by line."""
    connection = database.connection
    _of_batch(database, "power_file", source_columns("power_source"), _owned(batch))
    database.set_paths("batch_power", list(batch.power))
    try:
        connection.execute(READINGS.read_text())
    except duckdb.Error:
        if not batch.untouched_power:
            raise
        return batch.untouched_power
    return [row[0] for row in connection.execute("SELECT DISTINCT path FROM batch.reading WHERE faulty").fetchall()]


def _find_copies(database: Database, batch: Batch) -> None:
    """Looks into the traced windows of cells that are wrong unless these show copies of the input.

    A file that DuckDB cannot read proves nothing; its faults are reported by those who ask for the view `kernels`.
    """
    explained = {run.name for run in batch.runs if run.kernels}
    if not explained:
        return
    files = database.connection.execute(
        "SELECT path, run, cell_key FROM kernel_source JOIN cells USING (run, cell_key) "
        "WHERE known_wrong IS NOT NULL AND list_contains($1, run)",
        [sorted(explained)],
    ).fetchall()
    for file in files:
        if regular_files.kind_of(file[0]) is not None:  # a link that has come since would be followed
            continue
        _of_batch(database, "kernel_file", source_columns("kernel_source"), [file])
        database.set_paths("input_copy", [file[0]])
        with suppress(duckdb.Error):
            database.connection.execute(INPUT_COPY.read_text())
