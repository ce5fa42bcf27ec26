"""Files of many rows behind views of their own (analysis/sql/00_files.sql): read when a question names the view.

The aggregates do not need them again, so they cost nothing before. Samples and power readings have been checked when the
run was read; times by the device's clock and the journal of attempts are checked here: lines that do not hold are left
out and named, as everywhere.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from analysis.database.connection import SQL, Database, MakeReady, Named
from analysis.readers import csv_by_line, csv_by_pattern
from analysis.readers.run_folder import BigFile
from common import schema
from common.host import regular_files

#: view -> (what its variables begin with, file, table that says where its rows are)
VIEWS = {
    "samples": ("sample", "samples.csv", "sample_source"),
    "device_times": ("device_time", "device_times.csv", "device_time_source"),
    "kernels": ("kernel", "kernels.csv", "kernel_source"),
    "power": ("power", "power.csv", "power_source"),
    "attempts": ("attempt", "attempts.csv", "attempt_source"),
}


#: What kernels and operators are called, and the class that the name tells: the first pattern that matches.
KERNEL_CLASSES = Path(__file__).parents[1] / "kernel_classes.csv"


#: Views that are made of one of these.
_ALSO = {
    "power": ("power_by_meter", "meter_joules"),
    "kernels": (
        "device_records", "record_shares", "idle_shares", "time_by_class", "time_by_kernel", "host_calls", "explained",
        "kernel_names",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class _Created:
    """A file of analysis/sql that is run when a statement names something that it creates, or asks which views there are.

    kinds: prefixes of the variables that name the files which its views read, as in VIEWS.
    """

    file: str
    kinds: tuple[str, ...] = ()

    def is_named(self, sql: str) -> bool:
        return _makes(self.file).search(sql) is not None

    def run(self, database: Database) -> None:
        """A view is created on files that are there, those with a header alone. From then on it is an error until it is
        refreshed: no rows would be a lie. Where this was interrupted, it can be run again."""
        for kind in self.kinds:
            database.set_paths(kind, [])
        database.connection.execute((SQL / self.file).read_text())
        for kind in self.kinds:
            database.connection.execute(f"SET VARIABLE {kind}_paths = NULL")


#: Views that nothing else is made of, and that few questions are about: DuckDB binds a view as it is created, down to the tables.
EXPLAIN = _Created("70_explain.sql", ("kernel",))
_CREATED = (
    EXPLAIN,
    _Created("70_workers.sql"),
    _Created("00_files.sql", ("sample", "device_time", "power", "attempt")),
)
#: What lists views or macros, as patterns.
_LISTS = (
    r"show(?:_tables\w*)?", "describe", "duckdb_(?:views|tables|columns|functions)", "information_schema", r"sqlite_\w+", r"pg_\w+",
)  # fmt: skip


@functools.cache
def _makes(file: str) -> re.Pattern[str]:
    made = re.findall(r"^CREATE OR REPLACE (?:VIEW|MACRO) (\w+)", (SQL / file).read_text(), re.MULTILINE)
    return re.compile(rf"\b({'|'.join((*made, *_LISTS))})\b", re.IGNORECASE)


def names(view: str, sql: str) -> bool:
    """Whether a statement has the view's name in it, or that of one that needs it."""
    return re.search(rf"\b({'|'.join((view, *_ALSO.get(view, ())))})\b", sql, re.IGNORECASE) is not None


def as_needed() -> dict[str, tuple[Named, MakeReady]]:
    """View -> (whether a statement names it, what makes it ready), for a Database."""
    views: dict[str, tuple[Named, MakeReady]] = {
        view: (partial(names, view), partial(refresh, view=view)) for view in VIEWS
    }
    return {made.file: (made.is_named, made.run) for made in _CREATED} | views


def declare(database: Database) -> None:
    """Variables that views of files are bound with: the schema's columns, and a file without rows."""
    connection = database.connection
    for kind, file_name, _ in (*VIEWS.values(), ("batch_power", "power.csv", "")):
        path = database.scratch_file()
        csv_by_line.write_rows(path, schema.header(file_name), [])
        connection.execute(f"SET VARIABLE {kind}_columns = $1", [schema.duckdb_columns(file_name)])
        connection.execute(f"SET VARIABLE {kind}_none = $1", [str(path)])
    connection.execute("SET VARIABLE kernel_class_path = $1", [str(KERNEL_CLASSES)])
    connection.execute("SET VARIABLE renamed = NULL::MAP(VARCHAR, VARCHAR)")


def refresh(database: Database, view: str) -> None:
    """Lets the view find its files. What is wrong with them goes to `database.problems`."""
    kind, _, source = VIEWS[view]
    columns = "path, run, cell_key" if view in ("samples", "device_times", "kernels") else "path, run, ''"
    rows = database.connection.execute(f"SELECT {columns} FROM {source}").fetchall()
    # they were files when the run was read; a link that has come since would be followed
    rows = [row for row in rows if regular_files.kind_of(row[0]) is None]
    checks: dict[str, Callable[[Database, Sequence[_Row]], list[str]]] = {
        "device_times": _check_device_times,
        "attempts": partial(_check_by_pattern, "attempts.csv"),
        "kernels": partial(_check_by_pattern, "kernels.csv"),
    }
    check = checks.get(view)
    paths = check(database, rows) if check else [path for path, _, _ in rows]
    database.set_paths(kind, paths)
    if database.renamed:
        folders, names = list(database.renamed), list(database.renamed.values())
        database.connection.execute("SET VARIABLE renamed = map($1::VARCHAR[], $2::VARCHAR[])", [folders, names])
        database.connection.execute("CREATE OR REPLACE MACRO run_in(path, up) AS renamed_run_in(path, up)")


_Row = tuple[str, str, str]


def _check_device_times(database: Database, rows: Sequence[_Row]) -> list[str]:
    import numpy as np

    from analysis.readers import (
        csv_of_integers,  # see analysis.database
        samples,  # see analysis.database
    )

    header = csv_by_line.header_line("device_times.csv")
    required = [schema.header("device_times.csv").index("device_ns")]
    files = [BigFile(path, _size(path), key) for path, _, key in rows]

    def doubtful(span: range) -> list[int]:
        some = [files[number] for number in span]
        lines = csv_of_integers.read([file.path for file in some], [file.size for file in some], header, required)
        place = np.repeat(np.arange(len(some)), lines.counts)
        valid = lines.valid
        valid[place[1:][samples.unordered(place, lines.number(0), lines.known(0))]] = False
        return [number for number, good in zip(span, valid, strict=True) if not good]

    paths = [path for path, _, _ in rows]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as readers:
        for numbers in readers.map(doubtful, samples.spans(files)):
            for number in numbers:
                paths[number] = _repaired(database, "device_times.csv", *rows[number])
    return paths


def _check_by_pattern(file_name: str, database: Database, rows: Sequence[_Row]) -> list[str]:
    paths = []
    for path, run, cell_key in rows:
        try:
            valid = csv_by_pattern.match(file_name, regular_files.read(path, csv_by_line.MOST_BYTES[file_name]))
        except OSError:
            valid = None
        paths.append(path if valid else _repaired(database, file_name, path, run, cell_key))
    return paths


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _repaired(database: Database, file_name: str, path: str, run: str, cell_key: str) -> str:
    content = csv_by_line.read(Path(path), file_name)
    database.problems.extend(content.problems)
    return database.repaired(run, file_name, content.rows, cell_key)
