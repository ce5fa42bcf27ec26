"""`invoke keep`: a run as a small reference that can be committed: every fact that the analysis reads, nothing of this machine.

Left out: jobs, logs, unfinished cells, power readings outside the measured windows and idle spells, paths of
interpreters, and names of hosts. Nothing is averaged or rounded.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from common import names
from common.errors import UserError
from common.host import regular_files
from common.host.runs.archive import SUFFIX, seal
from common.host.runs.run import Run, read_run

#: readings this long before and after a window are kept, so that its edges can be interpolated and held, in ns
MARGIN_NS = 1_500_000_000
#: options of a command line whose value is a place on this machine where it begins like one; a name or an address stays
_PLACES = ("--python", "--packages", "--model", "--image", "--inputs", "--plan")
_PLACE_BEGINS = ("/", "~", ".")
CELL_FILES = (
    "cell.csv", "phases.csv", "samples.csv", "device_times.csv", "passes.csv", "quantiles.csv", "energy.csv", "trace.csv",
    "traced.csv", "kernels.csv",
)  # fmt: skip
#: of one file; more is no measurement, nor would it be read
MOST_BYTES = 2**30
#: of an instant in ns
_MOST_DIGITS = 18


def keep(runs: Iterable[Path], out: Path, command: str = "", sealed: bool = False) -> list[Path]:
    """Copies each run to `out/<run>/`, whole or not at all; returns the folders made.

    command: the command line that repeats the runs, stored in place of the one that was typed; "" keeps the typed one.
    sealed: one compressed file for each run in place of the folder (common/host/runs/archive.py).
    Raises UserError when one exists already, is no run, or holds what no run does.
    """
    made: list[Path] = []
    with _folder_unless_empty(out):
        _keep_each(runs, out, command, sealed, made)
    return made


@contextmanager
def _folder_unless_empty(out: Path) -> Iterator[None]:
    """Takes the folder away again that nothing came to lie in, where it was not there before."""
    there = out.exists()
    try:
        yield
    finally:
        if not there:
            with suppress(OSError):
                out.rmdir()


def _keep_each(runs: Iterable[Path], out: Path, command: str, sealed: bool, made: list[Path]) -> None:
    for folder in runs:
        run = read_run(folder)
        target = out / run.name
        for existing in (target, target.with_name(target.name + SUFFIX)):
            if os.path.lexists(existing):
                raise UserError(f"{existing} exists already; remove it to keep {run.name} anew")
        try:
            out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=out, prefix=".keeping-") as staging:
                part = Path(staging) / run.name
                part.mkdir()
                _copy_run(run, part, command)
                done = seal(part) if sealed else part
                made.append(done.rename(out / done.name))
        except OSError as error:
            raise UserError(f"{target} cannot be written: {error.strerror or error}") from error


def _copy_run(run: Run, target: Path, command: str) -> None:
    _check_folder(run.folder / "cells")
    for key in sorted(run.existing_cells()):
        wrong = names.key_fault(key)
        if wrong:
            raise UserError(f"{run.folder / 'cells' / key} is not a cell's folder: its name is {wrong}")
        _check_folder(run.folder / "cells" / key)
        (target / "cells" / key).mkdir(parents=True)
        for name in CELL_FILES:
            _copy(run.folder / "cells" / key / name, target / "cells" / key / name)
        _shorten_place(target / "cells" / key / "cell.csv")
    windows = _joined([*_windows(target), *_spells(run)])
    for power in sorted(run.folder.glob("power*.csv")):
        _copy_readings(power, target / power.name, windows)
    _write_description(run, target, command)


def _check_folder(path: Path) -> None:
    """Raises UserError for what is there and no folder: a link would bring in what it leads to."""
    kind = regular_files.kind_of(path) if os.path.lexists(path) else "a folder"
    if kind != "a folder":
        raise UserError(f"{path} is {kind or 'a file'}, not a folder: the run cannot be kept")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file of the run. Raises UserError for what is none or too large, and when it cannot be read; FileNotFoundError."""
    kind = regular_files.kind_of(path)
    if kind:
        raise UserError(f"{path} is {kind}, not a file: the run cannot be kept")
    try:
        with os.fdopen(os.open(path, regular_files.OPEN), "rb") as file:
            if os.fstat(file.fileno()).st_size > MOST_BYTES:
                raise UserError(
                    f"{path} is larger than {regular_files.size_in_words(MOST_BYTES)}: the run cannot be kept"
                )
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be copied: {error.strerror}") from error


def _copy(source: Path, target: Path) -> None:
    """Nothing where there is no such file."""
    with suppress(FileNotFoundError), _opened(source) as file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy)


def _shorten_place(cell: Path) -> None:
    """Of the path of the user's model the last folder and the name stay: they tell models of one name apart."""
    try:
        with cell.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error):  # no cell, as the analysis will say
        return
    place = header.index("model_file") if "model_file" in header else len(header)
    if not any(row[place].startswith(_PLACE_BEGINS) for row in rows if len(row) > place):
        return
    for row in rows:
        if len(row) > place and row[place].startswith(_PLACE_BEGINS):
            row[place] = "/".join(Path(row[place]).parts[-2:]).lstrip("/")
    with cell.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def without_places(command: str) -> str:
    """A command line with PYTHON, MODEL, ... in place of paths of this machine."""
    try:
        words = shlex.split(command)
    except ValueError:  # of a run from before words were quoted
        words = command.split()
    kept: list[str] = []
    for word in words:
        option, equals, value = word.partition("=")
        if equals and option in _PLACES and value.startswith(_PLACE_BEGINS):
            kept.append(f"{option}={option[2:].upper()}")
        elif kept and kept[-1] in _PLACES and word.startswith(_PLACE_BEGINS):
            kept.append(kept[-1][2:].upper())
        else:
            kept.append(word)
    return shlex.join(kept)


def _write_description(run: Run, target: Path, command: str) -> None:
    description = {**run.description, "images": {}}
    typed = str(description.get("command", ""))
    description["command"] = command or without_places(typed)
    if isinstance(description.get("fleet"), dict):
        description["fleet"] = {name: value for name, value in description["fleet"].items() if name != "host"}
    if isinstance(description.get("options"), dict):
        description["options"] = {
            name: name.upper() if f"--{name}" in _PLACES and str(value).startswith(_PLACE_BEGINS) else value
            for name, value in description["options"].items()
        }
    images = run.description.get("images")
    for image, facts in images.items() if isinstance(images, dict) else ():
        if isinstance(facts, dict):
            description["images"][image] = {name: value for name, value in facts.items() if name != "python"}
    try:
        text = json.dumps(description, indent=1)
    except RecursionError:
        raise UserError(f"{run.folder / 'run.json'} is nested too deeply: the run cannot be kept") from None
    (target / "run.json").write_text(text + "\n")


def _windows(run: Path) -> list[tuple[int, int]]:
    """(begin, end) of every measured window and idle phase, widened by the margin."""
    windows = []
    for path in run.glob("cells/*/phases.csv"):
        lines = path.read_bytes().decode(errors="replace").splitlines()
        with suppress(csv.Error):  # what stands behind a field without end is no phase
            for row in csv.DictReader(lines):
                edges = [row.get(name) or "" for name in ("start_ns", "end_ns")]
                if row.get("phase") in ("measure", "idle_before", "idle") and all(map(_is_instant, edges)):
                    windows.append((int(edges[0]) - MARGIN_NS, int(edges[1]) + MARGIN_NS))
    return windows


def _is_instant(text: str | bytes) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def _spells(run: Run) -> list[tuple[int, int]]:
    """(begin, end) of the spells without a worker, widened likewise."""
    return [(start - MARGIN_NS, end + MARGIN_NS) for start, end in run.idle_spells()]


def _joined(windows: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same instants in windows that neither touch nor overlap, in order."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(windows):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _copy_readings(source: Path, target: Path, windows: list[tuple[int, int]]) -> None:
    """Copies the header and the readings within the windows, which do not overlap and are in order."""
    begins = [begin for begin, _ in windows]
    with suppress(FileNotFoundError), _opened(source) as lines, target.open("wb") as kept:
        kept.write(next(lines, b""))
        for line in lines:
            t_ns, _, _ = line.partition(b",")
            if _is_instant(t_ns):
                place = bisect_right(begins, int(t_ns)) - 1
                if place >= 0 and int(t_ns) <= windows[place][1]:
                    kept.write(line)
