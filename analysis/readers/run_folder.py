"""The files of a run folder: what its small ones say, as CSV for DuckDB, and where its big ones are.

A small file that `analysis.readers.csv_by_pattern` recognises passes its bytes on; any other is read line by line.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.readers import csv_by_line, csv_by_pattern, fingerprints, run_json
from analysis.readers.csv_by_line import Fields, Problem
from analysis.readers.fingerprints import ABSENT, Fingerprint, Stat
from common import schema
from common.host import regular_files
from common.text import shortened, storable

#: Tables that hold rows of the small CSV files: table -> file name. Columns: run, cell_key (but for cell.csv), the file's.
ROW_TABLES = {
    "cell_row": "cell.csv",
    "phase_row": "phases.csv",
    "pass_row": "passes.csv",
    "quantile_row": "quantiles.csv",
    "energy_row": "energy.csv",
    "trace_row": "trace.csv",
    "traced_row": "traced.csv",
}

#: What is looked at in one run; more is no measurement.
MOST_CELLS = 200_000
MOST_POWER_FILES = 1000
MOST_ENTRIES = 1000

_SPECIAL = re.compile(r'[",\r\n]')
_HEADERS = {name: csv_by_line.header_line(name) for name in schema.FILES}
_PLACE = {name: schema.header("cell.csv").index(name) for name in ("cell_key", "scenario", "status")}


@dataclass(frozen=True)
class BigFile:
    """A CSV of many rows: path, its bytes, and the cell that it belongs to ("" for one of the run itself)."""

    path: str
    size: int
    cell_key: str = ""


@dataclass
class RunFiles:
    """rows: table -> CSV lines. server: keys of cells of the server scenario. names: of the files in the cells; files: how
    many there are."""

    name: str
    folder: Path
    document: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    rows: dict[str, list[bytes]] = field(default_factory=lambda: {table: [] for table in ROW_TABLES})
    samples: list[BigFile] = field(default_factory=list)
    device_times: list[BigFile] = field(default_factory=list)
    kernels: list[BigFile] = field(default_factory=list)
    power: list[BigFile] = field(default_factory=list)
    attempts: list[BigFile] = field(default_factory=list)
    server: set[str] = field(default_factory=set)
    names: tuple[str, ...] = ()
    files: int = 0
    fingerprint: Fingerprint = ("", 0)


def run_folders(data: Path) -> list[Path]:
    """The run folders in a results folder, oldest name first."""
    return sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))


def named(runs: Sequence[Path]) -> dict[str, Path]:
    """Folder name -> folder; the parent's name in front where two runs have the same; the same folder counts once."""
    folders = list(dict.fromkeys(path.resolve() for path in runs))
    count: dict[str, int] = {}
    for folder in folders:
        count[folder.name] = count.get(folder.name, 0) + 1
    names: dict[str, Path] = {}
    for folder in folders:
        name = folder.name if count[folder.name] == 1 else f"{folder.parent.name}/{folder.name}"
        names[storable(name if name not in names else str(folder))] = folder
    return names


def scan(name: str, folder: Path) -> RunFiles:
    """Reads the small files of a run and finds its big ones. Never raises for what the folder holds.

    The fingerprint is of the files as they were before they were read.
    """
    run = RunFiles(name, folder)
    try:
        files = fingerprints.run_files(str(folder))
    except OSError:
        files = {}
    run.document, problem = run_json.read(folder)
    if problem:
        run.problems.append(problem)
    _run_own_files(run, files)
    cells: dict[str, tuple[Stat, dict[str, Stat]]] = {}
    known = 0
    keys = fingerprints.cell_names(str(folder))
    if regular_files.kind_of(folder / "cells") == "a link":
        run.problems.append(Problem(folder / "cells", "is a link, not a folder: no cell of it is read"))
    if len(keys) > MOST_CELLS:
        message = f"holds {len(keys)} entries: the first {MOST_CELLS:,} are read"
        run.problems.append(Problem(folder / "cells", message, rows=len(keys) - MOST_CELLS))
    for key in keys[:MOST_CELLS]:
        path = f"{folder}/cells/{key}"
        looked = _look(path)
        cells[key] = (looked.stat, looked.files)
        if looked.is_folder:
            run.problems += [Problem(Path(path) / name, message) for name, message in looked.odd.items()]
            known += _read_cell(run, key, path, looked)
        elif looked.odd:
            run.problems += [Problem(Path(path), message) for message in looked.odd.values()]
    run.names = tuple(sorted({file_name for _, inside in cells.values() for file_name in inside}))
    run.files = len(cells) * (1 + len(run.names))
    run.fingerprint = fingerprints.of_stats(files, cells, run.names)
    if not known:
        run.problems.append(Problem(folder, "holds no cell: nothing was measured in this run", loses=False))
    return run


def _run_own_files(run: RunFiles, files: Mapping[str, Stat]) -> None:
    """Power readings and the journal, where they are files and not too large."""
    power = [name for name in sorted(files) if name.startswith("power")]
    if len(power) > MOST_POWER_FILES:
        message = f"holds {len(power)} files of power readings: the first {MOST_POWER_FILES:,} are read"
        run.problems.append(Problem(run.folder, message, rows=len(power) - MOST_POWER_FILES))
    for name in (*power[:MOST_POWER_FILES], *(name for name in files if name == "attempts.csv")):
        path, size = f"{run.folder}/{name}", files[name][0]
        wrong = _unfit("power.csv" if name.startswith("power") else name, regular_files.kind_of(path), size)
        if wrong:
            run.problems.append(Problem(Path(path), wrong))
        else:
            (run.power if name.startswith("power") else run.attempts).append(BigFile(path, size))


def _unfit(file_name: str, kind: str | None, size: int) -> str | None:
    """Why a file is not opened at all, or None."""
    if kind:
        return f"is {kind}, not a file: it is not read"
    most = csv_by_line.MOST_BYTES[file_name]
    return f"is larger than {regular_files.size_in_words(most)}: it is not read" if size > most else None


@dataclass
class _Looked:
    """A cell folder, or what is in its place. files: those that are read; odd: name -> why one of them is not."""

    stat: Stat = ABSENT
    is_folder: bool = False
    files: dict[str, Stat] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)


def _look(path: str) -> _Looked:
    found = _Looked()
    try:
        # plain strings and os: Path costs three times as much over 300,000 files
        status = os.lstat(path)
        found.stat = fingerprints.stat_of(status)
        if not stat.S_ISDIR(status.st_mode):
            kind = regular_files.kind(status.st_mode)
            if kind:
                found.odd[""] = f"is {kind}, not a folder: it is not read"
            return found
        found.is_folder = True
        with os.scandir(path) as entries:
            for number, entry in enumerate(entries):
                if number == MOST_ENTRIES:
                    found.odd[""] = f"holds more than {MOST_ENTRIES} files: not all are looked at"
                    break
                if entry.name in schema.FILES:
                    _look_at_file(found, entry)
    except OSError:
        return _Looked()
    return found


def _look_at_file(found: _Looked, entry: os.DirEntry[str]) -> None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        found.files[entry.name] = ABSENT
        return
    wrong = _unfit(entry.name, regular_files.kind(status.st_mode), status.st_size)
    if wrong:
        found.odd[entry.name] = wrong
    else:
        found.files[entry.name] = fingerprints.stat_of(status)


def _bytes(run: RunFiles, path: str, size: int) -> bytes | None:
    """The whole file; size: what it held when it was looked at."""
    try:
        file = os.open(path, regular_files.OPEN)
        try:
            raw = os.read(file, size + 1)
        finally:
            os.close(file)
        return raw if len(raw) == size else regular_files.read(path, csv_by_line.MOST_BYTES[Path(path).name])
    except OSError as error:
        run.problems.append(Problem(Path(path), f"cannot be read: {error.strerror}"))
        return None


def _read_cell(run: RunFiles, key: str, path: str, looked: _Looked) -> bool:
    """Whether the folder holds a cell of its name."""
    if "cell.csv" in looked.odd:
        return False
    inside = looked.files
    found = _cell_row(run, key, path, inside)
    if found is None:
        return False
    status, scenario = found
    ran = status in ("ok", "parity_failed") and "phases.csv" not in looked.odd
    prefix = _line([run.name, key])[:-1] + b","
    _phase_rows(run, path, inside, prefix, required=ran)
    for table, file_name in ROW_TABLES.items():
        if table not in ("cell_row", "phase_row") and file_name in inside:
            raw = _bytes(run, f"{path}/{file_name}", inside[file_name][0])
            if raw is not None:
                run.rows[table] += [prefix + _line(row) for row in _careful(run, f"{path}/{file_name}", raw)]
    if "samples.csv" in inside:
        run.samples.append(BigFile(f"{path}/samples.csv", inside["samples.csv"][0], key))
    elif status == "ok" and "passes.csv" not in inside and "samples.csv" not in looked.odd:
        run.problems.append(Problem(Path(path) / "samples.csv", "is missing"))
    if "device_times.csv" in inside:
        run.device_times.append(BigFile(f"{path}/device_times.csv", inside["device_times.csv"][0], key))
    if "kernels.csv" in inside:
        run.kernels.append(BigFile(f"{path}/kernels.csv", inside["kernels.csv"][0], key))
    if scenario == "server":
        run.server.add(key)
    return True


def _cell_row(run: RunFiles, key: str, path: str, inside: dict[str, Stat]) -> tuple[str, str] | None:
    """Adds the row of cell.csv; (status, scenario), or None where the folder holds no cell of its name."""
    file_path = f"{path}/cell.csv"
    if "cell.csv" not in inside:
        run.problems.append(Problem(Path(file_path), "is missing"))
        return None
    raw = _bytes(run, file_path, inside["cell.csv"][0])
    if raw is None:
        return None
    prefix = _line([run.name])[:-1] + b","
    match = csv_by_pattern.match("cell.csv", raw)
    if match is not None and match["key"] == key.encode("utf-8", "surrogateescape"):
        run.rows["cell_row"].append(prefix + raw[len(_HEADERS["cell.csv"]) :])
        return match["status"].decode(), match["scenario"].decode()
    rows = _careful(run, file_path, raw)
    if not rows:
        return None
    if len(rows) > 1:
        message = "has more than one row: the first counts"
        run.problems.append(Problem(Path(file_path), message, rows=len(rows) - 1))
    row = rows[0]
    if row[_PLACE["cell_key"]] != key:
        named = shortened(row[_PLACE["cell_key"]], 80)
        message = f"is the cell '{named}' in a folder of another name: a second cell of that key is left out"
        run.problems.append(Problem(Path(file_path), message, rows=1))
        return None
    run.rows["cell_row"].append(prefix + _line(row))
    return row[_PLACE["status"]], row[_PLACE["scenario"]]


def _phase_rows(run: RunFiles, path: str, inside: dict[str, Stat], prefix: bytes, required: bool) -> None:
    file_path = f"{path}/phases.csv"
    if "phases.csv" not in inside:
        if required:
            run.problems.append(Problem(Path(file_path), "is missing"))
        return
    raw = _bytes(run, file_path, inside["phases.csv"][0])
    if raw is None:
        return
    if csv_by_pattern.match("phases.csv", raw) and csv_by_pattern.intervals_rise(raw):
        lines = raw[len(_HEADERS["phases.csv"]) : -1]
        if lines:
            run.rows["phase_row"].append(prefix + lines.replace(b"\n", b"\n" + prefix) + b"\n")
    else:
        run.rows["phase_row"] += [prefix + _line(row) for row in _careful(run, file_path, raw)]


def _careful(run: RunFiles, path: str, raw: bytes) -> list[Fields]:
    content = csv_by_line.read(Path(path), os.path.basename(path), raw)  # noqa: PTH119 - as above
    run.problems.extend(content.problems)
    return content.rows


def _line(row: Sequence[str]) -> bytes:
    """One line of CSV."""
    fields = (f'"{text.replace(chr(34), chr(34) * 2)}"' if _SPECIAL.search(text) else text for text in row)
    return (",".join(fields) + "\n").encode("utf-8", "surrogateescape")
