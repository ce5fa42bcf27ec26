"""Opens runs: from the cache where nothing changed, else from their files (`loading`)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from analysis.database import lazy_views
from analysis.database.cache import DERIVED, Cache
from analysis.database.connection import METERED, SQL, Database
from analysis.readers.run_folder import named
from common.errors import UserError

#: Statements that only reading needs, and those for what the cache holds ready.
_READING = ("05_measured.sql", "10_samples.sql")
_DERIVED = ("50_marks.sql", "60_comparison.sql")


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
    database = Database(tempfile.TemporaryDirectory(prefix="framewatt-"), lazy_views.as_needed())
    database.runs.update(names)
    database.renamed.update({str(folder): name for name, folder in names.items() if folder.name != name})
    return database


def _from_cache_alone(kept: Cache, names: Mapping[str, Path]) -> Database | None:
    """None where the cache cannot be used."""
    database = _new_database(names)
    try:
        kept.open(database.connection, names)
        _execute_files(database, without=(*_READING, *METERED, *_DERIVED))
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
        _execute_files(database, without=METERED)
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
    lazy_views.declare(database)
    for path in sorted(SQL.glob("*.sql")):
        if path.name not in without:
            database.connection.execute(path.read_text())
    lazy_views.put_to_sleep(database)
