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
from collections.abc import Iterable
from pathlib import Path

from common import names
from common.errors import UserError
from common.host import regular_files
from common.host.runs.archive import SUFFIX, seal
from common.host.runs.run import Run, read_run

#: readings this long before and after a window are kept, so that its edges can be interpolated and held, in ns
MARGIN_NS = 1_500_000_000
#: options of a command line whose value is a place on this machine where it begins like one; a name or an address stays
_PLACES = ("--python", "--packages", "--model", "--image", "--inputs", "--plan")
CELL_FILES = (
    "cell.csv", "phases.csv", "samples.csv", "device_times.csv", "passes.csv", "energy.csv", "trace.csv", "traced.csv",
    "kernels.csv",
)  # fmt: skip


def keep(runs: Iterable[Path], out: Path, command: str = "", sealed: bool = False) -> list[Path]:
    """Copies each run to `out/<run>/`; returns the folders made. Raises UserError when one exists already or is no run.

    command: the command line that repeats the runs, stored in place of the one that was typed; "" keeps the typed one.
    sealed: one compressed file for each run in place of the folder (common/host/runs/archive.py).
    """
    made = []
    for folder in runs:
        run = read_run(folder)
        target = out / run.name
        for existing in (target, target.with_name(target.name + SUFFIX)):
            if existing.exists():
                raise UserError(f"{existing} exists already; remove it to keep {run.name} anew")
        for key in sorted(run.existing_cells()):
            wrong = names.key_fault(key)
            if wrong:
                raise UserError(f"{run.folder / 'cells' / key} is not a cell's folder: its name is {wrong}")
            (target / "cells" / key).mkdir(parents=True)
            for name in CELL_FILES:
                _copy(run.folder / "cells" / key / name, target / "cells" / key / name)
        windows = sorted([*_windows(target), *_spells(run)])
        for power in sorted(run.folder.glob("power*.csv")):
            _copy_readings(power, target / power.name, windows)
        _write_description(run, target, command)
        made.append(seal(target) if sealed else target)
    return made


def _copy(source: Path, target: Path) -> None:
    """Nothing where there is no such file. Raises UserError for what is no file: a link would bring in what it leads to."""
    kind = regular_files.kind_of(source)
    if kind:
        raise UserError(f"{source} is {kind}, not a file: the run cannot be kept")
    try:
        with os.fdopen(os.open(source, regular_files.OPEN), "rb") as file, target.open("wb") as copy:
            shutil.copyfileobj(file, copy)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{source} cannot be copied: {error.strerror}") from error


def without_places(command: str) -> str:
    """A command line with PYTHON, MODEL, ... in place of paths of this machine."""
    try:
        words = shlex.split(command)
    except ValueError:  # of a run from before words were quoted
        words = command.split()
    kept: list[str] = []
    for word in words:
        option, equals, value = word.partition("=")
        if equals and option in _PLACES and value.startswith(("/", "~", ".")):
            kept.append(f"{option}={option[2:].upper()}")
        elif kept and kept[-1] in _PLACES and word.startswith(("/", "~", ".")):
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
            name: name.upper() if f"--{name}" in _PLACES and str(value).startswith(("/", "~", ".")) else value
            for name, value in description["options"].items()
        }
    images = run.description.get("images")
    for image, facts in images.items() if isinstance(images, dict) else ():
        if isinstance(facts, dict):
            description["images"][image] = {name: value for name, value in facts.items() if name != "python"}
    (target / "run.json").write_text(json.dumps(description, indent=1) + "\n")


def _windows(run: Path) -> list[tuple[int, int]]:
    """(begin, end) of every measured window and idle phase, widened by the margin."""
    windows = []
    for path in run.glob("cells/*/phases.csv"):
        with path.open(newline="") as file:
            windows += [
                (int(row["start_ns"]) - MARGIN_NS, int(row["end_ns"]) + MARGIN_NS)
                for row in csv.DictReader(file)
                if row.get("phase") in ("measure", "idle_before", "idle")
                and all((row.get(edge) or "").isdecimal() for edge in ("start_ns", "end_ns"))
            ]
    return windows


def _spells(run: Run) -> list[tuple[int, int]]:
    """(begin, end) of the spells without a worker, widened likewise."""
    return [(start - MARGIN_NS, end + MARGIN_NS) for start, end in run.idle_spells()]


def _copy_readings(source: Path, target: Path, windows: list[tuple[int, int]]) -> None:
    """Copies the header and the readings within the windows. Readings come in order of time, and so do the windows."""
    target.parent.mkdir(parents=True, exist_ok=True)
    kind = regular_files.kind_of(source)
    if kind:
        raise UserError(f"{source} is {kind}, not a file: the run cannot be kept")
    with os.fdopen(os.open(source, regular_files.OPEN)) as lines, target.open("w") as kept:
        kept.write(next(lines, ""))
        for line in lines:
            t_ns, _, _ = line.partition(",")
            if t_ns.isdigit() and any(begin <= int(t_ns) <= end for begin, end in windows):
                kept.write(line)
