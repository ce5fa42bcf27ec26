"""Opens runs: from the cache where nothing changed, else from their files (`loading`)."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from analysis.database import lazy_views, model_names
from analysis.database.cache import Cache
from analysis.database.connection import SQL, Database
from analysis.readers.csv_by_line import Problem
from analysis.readers.run_folder import named
from common.errors import UserError
from common.text import storable

#: Tables that are filled as runs are read, and those that are then made of them; the cache holds all of these ready. Files
#: from 10 to 30 are run by `loading`, some views are created when somebody names one (`lazy_views`).
_TABLES = ("05_measured.sql",)
_VIEWS = ("01_macros.sql", "40_cells.sql", "45_mark_meaning.sql")
_DERIVED = ("47_results.sql", "50_marks.sql", "60_comparison.sql")


def open_runs(runs: Sequence[Path], cache: Path | Cache | None = None) -> Database:
    """Reads the runs and returns the database with every view ready.

    runs: folders as in `data/results/<run>`. cache: folder that keeps the aggregates of runs that do not change, or such a
    cache that is looking at these runs already; without it everything is read each time. Raises UserError when a run does
    not exist or none is given. Whatever the files hold never raises: see `Database.problems` and `Database.exit_code`.
    """
    database = _open(runs, cache)
    try:
        model_names.distinguish(database)
    except BaseException:
        database.close()
        raise
    return database


def _open(runs: Sequence[Path], cache: Path | Cache | None) -> Database:
    if not runs:
        raise UserError("no run to analyze; `invoke bench` makes one under data/results")
    for path in runs:
        if not path.is_dir():
            raise UserError(f"there is no run folder {path}")
    names = named(runs)
    if any(_is_no_path_for_duckdb(folder) for folder in names.values()):
        return _through_links(names)
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
    return _without_those_that_fail(kept, names, fresh)


def _is_no_path_for_duckdb(folder: Path) -> bool:
    """Whether it is not UTF-8, or would be taken for a pattern of paths."""
    return bool(set(str(folder)) & set("*?[")) or storable(str(folder)) != str(folder)


def _through_links(names: Mapping[str, Path]) -> Database:
    """Reads the runs, those that DuckDB cannot name through links of our own; without the cache, which knows paths."""
    scratch = tempfile.TemporaryDirectory(prefix="framewatt-")
    links = {}
    try:
        for name, folder in names.items():
            links[name] = folder
            if _is_no_path_for_duckdb(folder):
                links[name] = Path(scratch.name) / f"link{len(links)}"
                links[name].symlink_to(folder, target_is_directory=True)
        database = _without_those_that_fail(None, links, ())
    except BaseException:
        scratch.cleanup()
        raise
    database.remove_when_closed(scratch)
    database.runs.update(names)
    real = {link: names[name] for name, link in links.items()}
    for place, problem in enumerate(database.problems):
        for link, folder in real.items():
            if problem.path.is_relative_to(link):
                path = folder / problem.path.relative_to(link)
                database.problems[place] = dataclasses.replace(problem, path=path)
    return database


#: What a run may bring about that no check has foreseen: sums that do not fit, texts that no database takes.
_FAILS = (duckdb.Error, ArithmeticError, ValueError, MemoryError)


def _without_those_that_fail(kept: Cache | None, names: Mapping[str, Path], fresh: Sequence[str]) -> Database:
    """As `_from_files`. Where that fails, each run is read by itself, and those that fail alone are left out and named."""
    try:
        return _from_files(kept, names, fresh)
    except _FAILS:
        reasons = {name: reason for name, folder in names.items() if (reason := _why_it_fails(name, folder))}
        if not reasons:
            raise
    database = _from_files(None, {name: folder for name, folder in names.items() if name not in reasons}, ())
    for name, reason in reasons.items():
        database.problems.append(Problem(names[name], f"cannot be analyzed and is left out ({reason})"))
    return database


def _why_it_fails(name: str, folder: Path) -> str | None:
    try:
        _from_files(None, {name: folder}, ()).close()
    except _FAILS as error:
        return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return None


def _new_database(names: Mapping[str, Path]) -> Database:
    database = Database(tempfile.TemporaryDirectory(prefix="framewatt-"), lazy_views.as_needed())
    database.runs.update(names)
    database.renamed.update({str(folder): name for name, folder in names.items() if folder.name != name})
    return database


def _from_cache_alone(kept: Cache, names: Mapping[str, Path]) -> Database | None:
    """None where the cache cannot be used."""
    database = _new_database(names)
    try:
        database.use_all_threads()
        kept.open(database.connection, names)
        lazy_views.declare(database)
        _execute(database, _VIEWS)
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

    database = _new_database(names)
    connection = database.connection
    try:
        for table, columns in loading.tables().items():
            connection.execute(f"CREATE TABLE {table} ({loading.declare(columns)})")
        lazy_views.declare(database)
        _execute(database, (*_TABLES, *_VIEWS))
        cached = {name: names[name] for name in fresh}
        if kept is not None and cached:
            try:
                kept.prepare(connection, cached)
            except (OSError, duckdb.Error):
                cached = {}
        valid = loading.load(database, {name: folder for name, folder in names.items() if name not in cached})
        _execute(database, _DERIVED)
        if kept is not None:
            kept.keep(connection, valid)
            if kept.edited:
                message = "was changed since it was written: all that it held is read anew"
                database.problems.append(Problem(kept.folder, message, loses=False))
            if kept.unwritten:
                message = f"cannot be written ({kept.unwritten}): the next analysis reads all files again"
                database.problems.append(Problem(kept.folder, message, loses=False))
            if cached:
                kept.join(connection)
        database.use_all_threads()  # for the questions, of which nothing is known here
    except BaseException:
        database.close()
        raise
    return database


def _execute(database: Database, names: Sequence[str]) -> None:
    for name in names:
        database.connection.execute((SQL / name).read_text())
