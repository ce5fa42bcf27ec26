"""Aggregates of runs kept as Parquet, so that a run that has not changed is never read again.

    data/host-cache/analysis/index.json     run folder -> fingerprint and segment; digests of the segments' files
    data/host-cache/analysis/<segment>/     one Parquet file per table, with rows of the runs that were read together

A run is taken from here while its fingerprint (analysis.readers.fingerprints) is that of the files that were read: whatever is
added, removed or written changes it, so a run in progress is read anew each time. What was written within the last two
seconds is not kept at all, since a file may change twice within one tick of the clock. Neither is a run with something
wrong in its files: what is wrong has to be reported each time.

The cache may be deleted at any time. One that cannot be read or written costs time, never an answer. So does one that
somebody has edited: the index holds a digest of itself and of every file, which are compared before a row is taken. That
guards against accidents and against what another program writes there; whoever can write the folder on purpose, digests
included, is the user: no container mounts it. Nothing that stands in a file of the cache becomes part of a statement: tables
are named here, and their columns and types are those of the Parquet files, which hold what this code made.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.readers import fingerprints
from analysis.readers.fingerprints import Fingerprint
from common.host import regular_files

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

ANALYSIS = Path(__file__).parents[1]
#: What the kept rows depend on beside the runs' files: when one of these changes, all is read anew. Whole rooms, so that
#: no module of theirs can be forgotten.
SOURCES = (
    *sorted((ANALYSIS / "sql").glob("*.sql")),
    *sorted((ANALYSIS / "database").glob("*.py")),
    *sorted((ANALYSIS / "readers").glob("*.py")),
    *(
        ANALYSIS.parent / "common" / f"{name}.py"
        for name in ("schema", "cell", "names", "text", "host/regular_files", "stats/percentiles")
    ),
)
#: Tables made of the others (open_runs), kept too: computing them for 100,000 cells takes seconds. Each builds on those before it.
DERIVED = ("results", "marks", "comparison")
#: Every table with rows of runs (a test holds this against the database).
TABLES = (
    "attempt_source", "cell_boot", "cell_row", "conditions", "cooling", "device_time_source", "energy", "energy_row",
    "idle_spell", "input_copied", "kernel_source", "measured", "pass_row", "phase_row", "power_source", "quantile_row", "run",
    "run_device", "sample_source", "trace_row", "traced_row", "unmetered", *DERIVED,
)  # fmt: skip
_SEGMENT = re.compile(r"[0-9a-f]{8,20}-[0-9a-f]{8}")
#: A change within this time of reading may be one that a fingerprint cannot see.
SETTLED_NS = 2 * 10**9
#: More segments than this are merged into one; those that nothing refers to are removed after an hour, when no other
#: process can still be reading them.
MOST_SEGMENTS = 8
UNUSED_S = 3600


@dataclass(frozen=True)
class ReadRun:
    """A run that has been read whole. fingerprint: of its files before they were read. names: of the files in its cells.

    files: how many there are.
    """

    name: str
    folder: str
    fingerprint: Fingerprint
    names: tuple[str, ...]
    files: int


@lru_cache(maxsize=1)
def version() -> str:
    """Changes with everything that the kept rows depend on beside the runs, DuckDB's own version included."""
    import duckdb

    digest = hashlib.blake2b(duckdb.__version__.encode(), digest_size=16)
    for path in SOURCES:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=20).hexdigest()


def _content(path: Path) -> bytes:
    """Raises OSError for what is no file: a FIFO would be waited for, a device read for ever."""
    kind = regular_files.kind_of(path)
    if kind:
        raise OSError(errno.EINVAL, f"it is {kind}", str(path))
    return path.read_bytes()


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


class Cache:
    """One use of a cache folder: `look_at` the runs; `open` all of them, or `prepare` those that are `fresh`, read the
    others, `keep` them and `join` both.

    DuckDB is imported when it is needed: until then the looking has long begun.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[str, dict[str, Any]] = {}
        self._prepared = False
        #: segment -> file of it -> digest
        self._sums: dict[str, dict[str, str]] = {}
        #: whether something was edited since it was written: for people
        self.edited = False
        #: why the rows of this analysis could not be kept, "" where they were: for people
        self.unwritten = ""
        self._checking: threading.Thread | None = None
        self._broken: set[str] = set()
        self._runs: Mapping[str, Path] = {}
        self._looking: Callable[[], dict[str, Fingerprint]] = dict
        self._document: dict[str, Any] = {}
        try:
            document = json.loads(_content(folder / "index.json"))
            digest = document.pop("digest")
            if digest == _digest(_canonical(document)):
                self._document = document
            else:
                self.edited = True
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            self.edited = True

    def look_at(self, runs: Mapping[str, Path]) -> None:
        """Starts to compare the files of these runs (name -> folder) with what was kept."""
        self._runs = runs
        try:
            entries = self._document["runs"]
            known = {str(folder): entries[str(folder)] for folder in runs.values() if str(folder) in entries}
            names = {folder: entry["names"] for folder, entry in known.items()}
            self._looking = fingerprints.begin(names, sum(entry["files"] for entry in known.values()))
            if self._document["version"] == version():
                self._sums, self._entries = dict(self._document["segments"]), dict(entries)
        except (OSError, KeyError, TypeError, AttributeError):
            self._sums, self._entries = {}, {}
        used = {self._entries[str(folder)]["segment"] for folder in runs.values() if str(folder) in self._entries}
        # beside the looking, and beside the import of DuckDB: hashing lets go of the interpreter's lock
        self._checking = threading.Thread(target=lambda: self._broken.update(self._not_as_written(used)), daemon=True)
        self._checking.start()

    def _not_as_written(self, segments: Iterable[str]) -> set[str]:
        """Those whose files are others than were written, or no longer there."""
        return {name for name in segments if not self._is_as_written(name)}

    def _is_as_written(self, segment: str) -> bool:
        sums = self._sums.get(segment, {})
        if not _SEGMENT.fullmatch(segment) or set(sums) != {f"{table}.parquet" for table in TABLES}:
            return False
        try:
            return all(_digest(_content(self.folder / segment / file)) == digest for file, digest in sums.items())
        except OSError:
            return False

    def _forget(self, segments: Iterable[str]) -> None:
        """Their rows are never taken again."""
        broken = set(segments)
        if broken:
            self.edited = True
        self._entries = {path: entry for path, entry in self._entries.items() if entry["segment"] not in broken}
        self._sums = {name: sums for name, sums in self._sums.items() if name not in broken}

    def _check(self) -> None:
        """Waits for the digests; runs whose rows are not as written are from then on unknown."""
        if self._checking is not None:
            self._checking.join()
            self._checking = None
            self._forget(self._broken)

    def knows(self, runs: Mapping[str, Path]) -> bool:
        """Whether something is kept of each of these runs, fresh or not."""
        self._check()
        return all(str(folder) in self._entries for folder in runs.values())

    def fresh(self) -> list[str]:
        """Names of the runs that need not be read, once all files have been looked at."""
        self._check()
        found = self._looking()
        return [
            name
            for name, folder in self._runs.items()
            if str(folder) in found
            and str(folder) in self._entries
            and self._entries[str(folder)]["fingerprint"] == found[str(folder)][0]
        ]

    def open(self, connection: Connection, runs: Mapping[str, Path]) -> None:
        """Makes a view over the kept rows of these runs for every table, in an empty database.

        Raises duckdb.Error or OSError where a segment is not what it was.
        """
        self._name_runs(connection, runs)
        for table in TABLES:
            connection.execute(f"CREATE VIEW {table} AS {_kept_rows(table)}")

    def prepare(self, connection: Connection, runs: Mapping[str, Path]) -> None:
        """Makes ready to `join` the rows of these cached runs to tables that are there.

        Raises duckdb.Error or OSError where a segment is not what it was; then nothing has been changed.
        """
        self._name_runs(connection, runs)
        for table in TABLES:
            connection.execute(f"SELECT * FROM ({_kept_rows(table)}) LIMIT 0")
        self._prepared = True

    def _name_runs(self, connection: Connection, runs: Mapping[str, Path]) -> None:
        rows = [(name, str(folder), self._entries[str(folder)]["segment"]) for name, folder in runs.items()]
        connection.execute("CREATE OR REPLACE TABLE cached_run (name VARCHAR, path VARCHAR, segment VARCHAR)")
        columns = [list(part) for part in zip(*rows, strict=True)]
        connection.execute("INSERT INTO cached_run SELECT unnest($1), unnest($2), unnest($3)", columns)
        segments = sorted({row[2] for row in rows})
        for table in TABLES:
            files = [str(self.folder / segment / f"{table}.parquet") for segment in segments]
            connection.execute(f"SET VARIABLE cached_{table} = $1", [files])

    def join(self, connection: Connection) -> None:
        """Makes every table hold the prepared rows beside those that were read."""
        for table in TABLES if self._prepared else ():
            connection.execute(f"ALTER TABLE {table} RENAME TO {table}_read")
            connection.execute(f"CREATE VIEW {table} AS FROM {table}_read UNION ALL {_kept_rows(table)}")

    def keep(self, connection: Connection, runs: Sequence[ReadRun]) -> None:
        """Stores the rows of runs that have been read into the tables, but for those that may have changed meanwhile."""
        import duckdb

        now = time.time_ns()
        settled = [run for run in runs if run.fingerprint[1] < now - SETTLED_NS]
        looking = fingerprints.begin({run.folder: run.names for run in settled}, sum(run.files for run in settled))
        if not settled:
            return
        try:
            segment = self._write(connection, {run.name: run.folder for run in settled})
            found = looking()
            same = [run for run in settled if found.get(run.folder) == run.fingerprint]
            self._entries |= {
                run.folder: {
                    "fingerprint": run.fingerprint[0], "segment": segment, "names": run.names, "files": run.files
                }
                for run in same
            }  # fmt: skip
            self._entries = {path: entry for path, entry in self._entries.items() if Path(path).is_dir()}
            if len(self._segments()) > MOST_SEGMENTS:
                self._merge(connection)
            if same:
                self._write_index()
            self._remove_unused()
        except OSError as error:  # no room, no right to write, a link that leads nowhere: the next analysis reads again
            self.unwritten = self._why(error)
        except duckdb.Error:  # segments that another process has merged
            return

    def _why(self, error: OSError) -> str:
        for place in (self.folder, *self.folder.parents):
            if place.is_symlink() and not place.exists():
                return f"{place} is a link to {place.readlink()}, which does not exist"
        return error.strerror or str(error)

    def _segments(self) -> set[str]:
        return {entry["segment"] for entry in self._entries.values()}

    def _write(self, connection: Connection, kept: Mapping[str, str]) -> str:
        """A segment with the rows of these runs (name -> path) from the tables; returns its name."""
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE keeping AS SELECT unnest($1) AS name, unnest($2) AS path",
            [list(kept), list(kept.values())],
        )
        return self._segment(
            connection,
            lambda table, segment: (
                f"SELECT t.* REPLACE (keeping.path AS run), '{segment}' AS segment "
                f"FROM {table} AS t JOIN keeping ON keeping.name = t.run"
            ),
        )

    def _merge(self, connection: Connection) -> None:
        """All segments into one. The old ones stay until nobody can be reading them."""
        self._forget(self._not_as_written(self._segments()))
        old = sorted(self._segments())
        entries = [(path, entry["segment"]) for path, entry in self._entries.items()]
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE keeping AS SELECT unnest($1) AS path, unnest($2) AS segment",
            [list(part) for part in zip(*entries, strict=True)],
        )

        def rows(table: str, segment: str) -> str:
            files = [str(self.folder / name / f"{table}.parquet") for name in old]
            connection.execute("SET VARIABLE cached_merging = $1", [files])
            return (
                f"SELECT kept.* REPLACE ('{segment}' AS segment) FROM {_parquet('cached_merging')} AS kept "
                "JOIN keeping ON keeping.path = kept.run AND keeping.segment = kept.segment"
            )

        segment = self._segment(connection, rows)
        self._entries = {path: {**entry, "segment": segment} for path, entry in self._entries.items()}

    def _segment(self, connection: Connection, rows: Callable[[str, str], str]) -> str:
        """Writes a segment, whole or not at all. rows: (table, segment) -> the statement that gives its rows."""
        segment = f"{time.time_ns():x}-{uuid.uuid4().hex[:8]}"
        unfinished = self.folder / f".{segment}"
        unfinished.mkdir(parents=True)
        try:
            for table in TABLES:
                escaped = str(unfinished / f"{table}.parquet").replace("'", "''")
                connection.execute(f"COPY ({rows(table, segment)}) TO '{escaped}' (FORMAT parquet, COMPRESSION zstd)")
            self._sums[segment] = {path.name: _digest(path.read_bytes()) for path in unfinished.iterdir()}
            unfinished.rename(self.folder / segment)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        return segment

    def _write_index(self) -> None:
        segments = {name: self._sums[name] for name in sorted(self._segments())}
        document: dict[str, Any] = {"version": version(), "segments": segments, "runs": self._entries}
        document = {"digest": _digest(_canonical(document)), **document}
        unfinished = self.folder / f".index-{uuid.uuid4().hex[:8]}"
        unfinished.write_text(json.dumps(document), encoding="utf-8")
        unfinished.replace(self.folder / "index.json")

    def _remove_unused(self) -> None:
        used = self._segments()
        for path in self.folder.iterdir():
            if path.is_dir() and path.name not in used and path.stat().st_mtime < time.time() - UNUSED_S:
                shutil.rmtree(path, ignore_errors=True)


def _parquet(variable: str) -> str:
    """The files that a variable names; what stands in their paths (`run=x/`) is no column."""
    return f"read_parquet(getvariable('{variable}'), hive_partitioning = false)"


def _kept_rows(table: str) -> str:
    """The statement that gives the kept rows of the runs in `cached_run`."""
    return (
        f"SELECT kept.* EXCLUDE (segment) REPLACE (cached_run.name AS run) "
        f"FROM {_parquet(f'cached_{table}')} AS kept "
        "JOIN cached_run ON cached_run.path = kept.run AND cached_run.segment = kept.segment"
    )
