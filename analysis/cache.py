"""Aggregates of runs kept as Parquet, so that a run that has not changed is never read again.

    data/cache/analysis/index.json     run folder -> fingerprint and segment
    data/cache/analysis/<segment>/     one Parquet file per table, with rows of the runs that were read together

A run's fingerprint covers names, sizes and times of modification of run.json, its power files and every file of every
cell: whatever is added, removed or written changes it, so a run in progress is read anew each time. What was written
within the last two seconds is not kept at all, since a file may change twice within one tick of the clock. Neither is a
run with something wrong in its files: what is wrong has to be told each time.

The cache may be deleted at any time. One that cannot be read or written costs time, never an answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb

HERE = Path(__file__).parent
#: What the kept rows depend on beside the runs' files: when one of these changes, all is read anew.
_SOURCES = (
    *sorted((HERE / "sql").glob("*.sql")), HERE / "database.py", HERE / "reading.py", HERE / "run_facts.py", HERE / "cache.py",
    HERE.parent / "common" / "schema.py",
)  # fmt: skip
#: Views whose rows are kept too: computing them for 100,000 cells takes seconds.
DERIVED = ("marks", "results", "comparison")
#: A change within this time of reading may be one that a fingerprint cannot see.
SETTLED_NS = 2 * 10**9
#: More segments than this are merged into one; those that nothing refers to are removed after an hour, when no other
#: process can still be reading them.
MOST_SEGMENTS = 8
UNUSED_S = 3600

Connection = duckdb.DuckDBPyConnection


def fingerprint(folder: str) -> tuple[str, int]:
    """(what changes when any file of the run does, newest time of modification in ns)."""
    seen: list[object] = []
    newest = 0
    # plain strings and os.stat: Path costs three times as much over 300,000 files
    with os.scandir(folder) as entries:
        for name in sorted(entry.name for entry in entries if entry.name.endswith((".json", ".csv"))):
            status = os.stat(f"{folder}/{name}")  # noqa: PTH116
            seen += (name, status.st_size, status.st_mtime_ns)
            newest = max(newest, status.st_mtime_ns)
    try:
        with os.scandir(f"{folder}/cells") as entries:
            cells = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError:
        cells = []
    for cell in cells:
        try:
            with os.scandir(f"{folder}/cells/{cell}") as entries:
                files = [(entry.name, entry.stat()) for entry in entries]
        except OSError:
            continue
        seen.append(cell)
        for name, status in sorted(files):
            seen += (name, status.st_size, status.st_mtime_ns)
            if status.st_mtime_ns > newest:
                newest = status.st_mtime_ns
    return hashlib.blake2b(repr(seen).encode(), digest_size=16).hexdigest(), newest


@lru_cache(maxsize=1)
def version() -> str:
    """Changes with everything that the kept rows depend on beside the runs, DuckDB's own version included."""
    digest = hashlib.blake2b(duckdb.__version__.encode(), digest_size=16)
    for path in _SOURCES:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass
class Cache:
    """One use of a cache folder: `fresh`, `prepare`, then `keep` what had to be read and `join` what did not."""

    folder: Path
    _entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    _fingerprints: dict[str, tuple[str, int]] = field(default_factory=dict)
    _joins: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            document = json.loads((self.folder / "index.json").read_bytes())
            if document["version"] == version() and all(map(self._is_whole, document["segments"].items())):
                self._entries = dict(document["runs"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._entries = {}

    def _is_whole(self, segment: tuple[str, Mapping[str, int]]) -> bool:
        name, sizes = segment
        return all((self.folder / name / file).stat().st_size == size for file, size in sizes.items())

    def fresh(self, runs: Mapping[str, Path]) -> list[str]:
        """Names of the runs that need not be read."""
        found = []
        for name, folder in runs.items():
            path = str(folder)
            try:
                self._fingerprints[path] = fingerprint(path)
            except OSError:
                continue
            if self._entries.get(path, {}).get("fingerprint") == self._fingerprints[path][0]:
                found.append(name)
        return found

    def keep(self, connection: Connection, runs: Mapping[str, Path]) -> None:
        """Stores the rows of runs that have just been read into tables and have nothing wrong, but for unsettled ones."""
        now = time.time_ns()
        kept = {}
        for name, folder in runs.items():
            path = str(folder)
            known = self._fingerprints.get(path)
            if known is not None and known[1] < now - SETTLED_NS and fingerprint(path) == known:
                kept[name] = path
        if not kept:
            return
        try:
            segment = self._write(connection, kept)
            self._entries |= {
                path: {"fingerprint": self._fingerprints[path][0], "segment": segment} for path in kept.values()
            }
            self._entries = {path: entry for path, entry in self._entries.items() if Path(path).is_dir()}
            if len(self._segments()) > MOST_SEGMENTS:
                self._merge(connection)
            self._write_index()
            self._remove_unused()
        except (OSError, duckdb.Error):
            # no room, no right to write, or segments that another process has merged: the next analysis reads again
            return

    def prepare(self, connection: Connection, runs: Mapping[str, Path]) -> None:
        """Makes ready to `join` the rows of these cached runs.

        Raises duckdb.Error or OSError where a segment is not what it was; then nothing has been changed.
        """
        rows = [(name, str(folder), self._entries[str(folder)]["segment"]) for name, folder in runs.items()]
        connection.execute("CREATE OR REPLACE TABLE cached_run (name VARCHAR, path VARCHAR, segment VARCHAR)")
        columns = [list(part) for part in zip(*rows, strict=True)]
        connection.execute("INSERT INTO cached_run SELECT unnest($1), unnest($2), unnest($3)", columns)
        segments = sorted({row[2] for row in rows})
        self._joins = {}
        for table in (*_tables(connection), *DERIVED):
            files = [str(self.folder / segment / f"{table}.parquet") for segment in segments]
            connection.execute(f"SET VARIABLE cached_{table} = $1", [files])
            read = connection.execute(f"SELECT count(*) FROM read_parquet(getvariable('cached_{table}'))").fetchone()
            if read and read[0]:
                chosen = ", ".join(
                    "cached_run.name AS run" if name == "run" else f"kept.{_quoted(name)}::{kind} AS {_quoted(name)}"
                    for name, kind in _types(connection, table).items()
                )
                self._joins[table] = (
                    f"SELECT {chosen} FROM read_parquet(getvariable('cached_{table}')) AS kept "
                    "JOIN cached_run ON cached_run.path = kept.run AND cached_run.segment = kept.segment"
                )

    def join(self, connection: Connection) -> None:
        """Makes every table and kept view hold the prepared rows beside those that were read."""
        derived = [table for table in DERIVED if table in self._joins]
        for table in derived:  # from the tables as they still are
            connection.execute(f"CREATE TABLE {table}_read AS FROM {table}")
        for table in derived:
            connection.execute(f"DROP VIEW {table}")
        for table in self._joins:
            if table not in derived:
                connection.execute(f"ALTER TABLE {table} RENAME TO {table}_read")
            connection.execute(f"CREATE VIEW {table} AS FROM {table}_read UNION ALL {self._joins[table]}")

    def _segments(self) -> set[str]:
        return {entry["segment"] for entry in self._entries.values()}

    def _write(self, connection: Connection, kept: Mapping[str, str]) -> str:
        """A segment with the rows of these runs (name -> path) from the tables; returns its name."""
        segment = f"{time.time_ns():x}-{uuid.uuid4().hex[:8]}"
        unfinished = self.folder / f".{segment}"
        unfinished.mkdir(parents=True)
        try:
            connection.execute(
                "CREATE OR REPLACE TEMP TABLE keeping AS SELECT unnest($1) AS name, unnest($2) AS path",
                [list(kept), list(kept.values())],
            )
            for table in (*_tables(connection), *DERIVED):
                rows = (
                    f"SELECT t.* REPLACE (keeping.path AS run), '{segment}' AS segment "
                    f"FROM {table} AS t JOIN keeping ON keeping.name = t.run"
                )
                _copy(connection, rows, unfinished / f"{table}.parquet")
            unfinished.rename(self.folder / segment)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        return segment

    def _merge(self, connection: Connection) -> None:
        """All segments into one. The old ones stay until nobody can be reading them."""
        segment = f"{time.time_ns():x}-{uuid.uuid4().hex[:8]}"
        unfinished = self.folder / f".{segment}"
        unfinished.mkdir()
        old = sorted(self._segments())
        entries = [(path, entry["segment"]) for path, entry in self._entries.items()]
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE keeping AS SELECT unnest($1) AS path, unnest($2) AS segment",
            [list(part) for part in zip(*entries, strict=True)],
        )
        try:
            for table in (*_tables(connection), *DERIVED):
                files = [str(self.folder / name / f"{table}.parquet") for name in old]
                connection.execute("SET VARIABLE cached_merging = $1", [files])
                rows = (
                    f"SELECT kept.* REPLACE ('{segment}' AS segment) FROM read_parquet(getvariable('cached_merging')) AS kept "
                    "JOIN keeping ON keeping.path = kept.run AND keeping.segment = kept.segment"
                )
                _copy(connection, rows, unfinished / f"{table}.parquet")
            unfinished.rename(self.folder / segment)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        self._entries = {path: {**entry, "segment": segment} for path, entry in self._entries.items()}

    def _write_index(self) -> None:
        segments = {
            name: {file.name: file.stat().st_size for file in (self.folder / name).iterdir()}
            for name in sorted(self._segments())
        }
        text = json.dumps({"version": version(), "segments": segments, "runs": self._entries})
        unfinished = self.folder / f".index-{uuid.uuid4().hex[:8]}"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(self.folder / "index.json")

    def _remove_unused(self) -> None:
        used = self._segments()
        for path in self.folder.iterdir():
            if path.is_dir() and path.name not in used and path.stat().st_mtime < time.time() - UNUSED_S:
                shutil.rmtree(path, ignore_errors=True)


def _copy(connection: Connection, rows: str, path: Path) -> None:
    escaped = str(path).replace("'", "''")
    connection.execute(f"COPY ({rows}) TO '{escaped}' (FORMAT parquet, COMPRESSION zstd)")


def _tables(connection: Connection) -> list[str]:
    """Base tables that hold rows of runs."""
    found = connection.execute(
        "SELECT table_name FROM duckdb_columns() WHERE schema_name = 'main' AND column_name = 'run' AND NOT internal "
        "AND table_name IN (SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' AND NOT temporary) ORDER BY 1"
    ).fetchall()
    return [row[0] for row in found]


def _types(connection: Connection, table: str) -> dict[str, str]:
    """Column -> type; Parquet knows no HUGEINT, so what it gives back is cast."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {table}").fetchall()}


def paths_under(folders: Iterable[str], paths: Iterable[str]) -> set[str]:
    """Those of `folders` below which one of `paths` lies."""
    known = tuple(folders)
    return {folder for path in paths for folder in known if path == folder or path.startswith(folder + os.sep)}
