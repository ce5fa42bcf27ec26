"""Run folders: made, found again, locked.

A run that was cut short - by Ctrl-C, a crash, a power failure - is continued by the same command: the folder whose
`request` is equal and whose `finished_utc` is still null is taken again, and cells that exist are not run again.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shlex
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.harness.cell_folder import remove_stale
from common.host import regular_files
from common.host.runs.untrusted import remove_folder
from common.text import storable

DESCRIPTION = "run.json"
#: cells that were measured again, as they were before: `earlier/<number>/<key>`; nothing reads them
EARLIER = "earlier"
#: folders of a run that jobs and sidecars write (runners/staging.py, runners/power_intake.py); no part of what was measured
WRITTEN_BY_OTHERS = ("staging", "metering")

#: Of run.json; no run's is larger than some hundred kB.
MOST_BYTES = 16 * 2**20


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Run:
    """One folder `data/results/<run>/` and its run.json."""

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        self.folder = folder
        self.description = description

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def finished(self) -> bool:
        return bool(self.description.get("finished_utc"))

    def save(self) -> None:
        """Writes run.json so that it is whole at any moment. Raises UserError when the disk does not take it."""
        # One name for all, so that what a kill leaves is overwritten: only the holder of the run saves it.
        temporary = self.folder / f".{DESCRIPTION}.new"
        try:
            with temporary.open("w") as file:
                json.dump(self.description, file, indent=1)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / DESCRIPTION)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise UserError(
                f"{self.folder / DESCRIPTION} cannot be written: {(error.strerror or str(error)).lower()}"
            ) from error

    def finish(self) -> None:
        """Says in run.json that all is there. Raises UserError as save() does."""
        # A supervisor that was killed in the last cell had none after it that would take its folders away.
        remove_stale(self.folder)
        for name in WRITTEN_BY_OTHERS:  # all of it has been looked at
            remove_folder(self.folder / name)
        self.description["finished_utc"] = utc_now()
        self.save()

    def existing_cells(self) -> set[str]:
        """Keys of the cells that exist whole."""
        return {path.parent.name for path in (self.folder / "cells").glob("[!.]*/cell.csv")}

    def set_aside(self, marks: Mapping[str, Sequence[str]]) -> None:
        """Moves cells to `earlier/<number>/`, so that the run lacks them until they are measured again.

        marks: key -> why. run.json is saved first: killed at any moment, the run is one that goes on, and no cell is lost.
        """
        notes = self.description.setdefault("again", [])
        folder = f"{EARLIER}/{len(notes) + 1}"
        boots = dict.fromkeys(marks, self.description.get("boot_id"))
        for boot in self.description.get("earlier_boots") or []:  # the new measurement is of this boot
            boots.update((key, boot.get("boot_id")) for key in boot["cells"] if key in marks)
            boot["cells"] = [key for key in boot["cells"] if key not in marks]
        why = {key: list(found) for key, found in marks.items()}
        notes.append({"utc": utc_now(), "folder": folder, "marks": why, "boots": boots})
        self.description["finished_utc"] = None
        self.save()
        (self.folder / folder).mkdir(parents=True, exist_ok=True)
        for key in marks:
            (self.folder / "cells" / key).rename(self.folder / folder / key)

    def put_back(self) -> None:
        """Brings back the newest measurement of cells that were set aside and not measured again, each to its boot's cells."""
        for note in reversed(self.description.get("again") or []):
            for key in set(note["marks"]) - self.existing_cells():
                place = self.folder / note["folder"] / key
                if place.is_dir():
                    place.rename(self.folder / "cells" / key)
                    for boot in self.description.get("earlier_boots") or []:
                        if boot.get("boot_id") == note.get("boots", {}).get(key):
                            boot["cells"] = sorted({*boot["cells"], key})

    def idle_spells(self) -> list[tuple[int, int]]:
        """(start_ns, end_ns) of the spells in which no worker was on a device, those before a reboot included."""
        earlier = self.description.get("earlier_boots")
        parts = [self.description, *(earlier if isinstance(earlier, list) else [])]
        by_device = [part.get("idle_without_context") for part in parts if isinstance(part, dict)]
        spells = [spell for found in by_device if isinstance(found, dict) for many in found.values() for spell in many]
        times = [(spell.get("start_ns"), spell.get("end_ns")) for spell in spells if isinstance(spell, dict)]
        return [(start, end) for start, end in times if isinstance(start, int) and isinstance(end, int)]


def has_ok_cell(run: Run) -> bool:
    """Whether any cell of the run was measured; files that cannot be read tell of none."""
    for path in (run.folder / "cells").glob("[!.]*/cell.csv"):
        with suppress(OSError, ValueError, csv.Error), path.open(newline="", encoding="utf-8") as file:
            if any(row.get("status") == "ok" for row in islice(csv.DictReader(file), 1)):
                return True
    return False


def read_run(folder: Path) -> Run:
    """Raises UserError when the folder is no run or its run.json cannot be read."""
    try:
        description = json.loads(regular_files.read(folder / DESCRIPTION, MOST_BYTES))
    except FileNotFoundError:
        raise UserError(f"{folder} is not a run: it has no {DESCRIPTION}") from None
    except OSError as error:
        raise UserError(f"{folder / DESCRIPTION} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{folder / DESCRIPTION} cannot be read: it is not JSON ({error})") from error
    if not isinstance(description, dict):
        raise UserError(f"{folder / DESCRIPTION} is not a run's description")
    return Run(folder, description)


def set_boots_apart(run: Run, boot_id: str | None) -> None:
    """Notes in which boot of the machine the run goes on; what an earlier one measured is set apart.

    CLOCK_MONOTONIC begins again with each boot: readings of two boots in one file would belong to each other's windows.
    So the power files are renamed, and `earlier_boots` of run.json says which files and cells belong together.
    """
    known = run.description.get("boot_id")
    if known and boot_id and known != boot_id:
        earlier = run.description.setdefault("earlier_boots", [])
        earlier_names = {name for boot in earlier for name in (*boot["cells"], *boot["power"])}
        power = [path for path in sorted(run.folder.glob("power*.csv")) if path.name not in earlier_names]
        renamed = [path.with_name(f"{path.stem}-boot{len(earlier) + 1}.csv") for path in power]
        for path, target in zip(power, renamed, strict=True):
            path.rename(target)
        earlier.append(
            {
                "boot_id": known,
                "cells": sorted(run.existing_cells() - earlier_names),
                "power": [path.name for path in renamed],
                "idle_without_context": run.description.pop("idle_without_context", {}),
            }
        )
    run.description["boot_id"] = boot_id


def find_unfinished(results: Path, on_odd: Callable[[str], None] = lambda words: None, **facts: str) -> Run | None:
    """The newest run that did not come to its end and whose run.json says these facts, such as request="...".

    on_odd: told of one that would do, but cannot be gone on with: somebody else may have put it there.
    """
    for path in sorted(results.glob(f"*/{DESCRIPTION}"), reverse=True):
        try:
            run = read_run(path.parent)
        except UserError:
            continue
        if not run.finished and all(run.description.get(name) == value for name, value in facts.items()):
            odd = not_ours(run)
            if odd is None:
                return run
            on_odd(f"{run.name} is not finished and is not continued: {odd}")
    return None


#: of run.json, what a run that goes on adds to or reads: name -> its type
_ADDED_TO: Mapping[str, type] = {
    "seed": int, "plan": list, "continued_utc": list, "earlier_boots": list, "power": dict, "sidecar": dict, "cooling": dict,
    "idle_without_context": dict, "again": list,
}  # fmt: skip
#: folders of a run in which the host makes or appends to files
_WRITTEN = ("", "cells", "jobs", "logs", "unfinished", *WRITTEN_BY_OTHERS)


def not_ours(run: Run) -> str | None:
    """Why nothing can be added to a run as this program leaves it, in one clause; None where it can.

    A link in it would lead what is written to another place.
    """
    for name, kind in _ADDED_TO.items():
        value = run.description.get(name)
        if (value is None and name in ("seed", "plan")) or (value is not None and not isinstance(value, kind)):
            return f"{DESCRIPTION} has no {name} that can be used"
    if not all(isinstance(key, str) for key in run.description["plan"]):
        return f"{DESCRIPTION} has no plan that can be used"
    if not all(_is_boot(boot) for boot in run.description.get("earlier_boots", [])):
        return f"{DESCRIPTION} has no earlier_boots that can be used"
    if not all(isinstance(spells, list) for spells in run.description.get("idle_without_context", {}).values()):
        return f"{DESCRIPTION} has no idle_without_context that can be used"
    for folder in _WRITTEN:
        place = run.folder / folder
        if not os.path.lexists(place):
            continue
        kind_of_place = regular_files.kind_of(place)
        if kind_of_place != "a folder":
            return f"{folder or 'it'} is {kind_of_place or 'a file'}"
        try:
            for path in sorted(place.iterdir()):
                found = regular_files.kind_of(path)
                if found not in (None, "a folder"):
                    return f"{path.relative_to(run.folder)} is {found}"
        except OSError as error:
            return f"{folder or 'it'} cannot be read: {error.strerror}"
    return None


def _is_boot(boot: object) -> bool:
    return isinstance(boot, dict) and all(
        isinstance(boot.get(what), list) and all(isinstance(name, str) for name in boot[what])
        for what in ("cells", "power")
    )


def find_newest(results: Path, **facts: str) -> Run | None:
    """The newest run whose run.json says these facts, at its end or not."""
    for path in sorted(results.glob(f"*/{DESCRIPTION}"), reverse=True):
        with suppress(UserError):
            run = read_run(path.parent)
            if all(run.description.get(name) == value for name, value in facts.items()):
                return run
    return None


def typed_words() -> list[str]:
    """The command line of this process, its program by name alone."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def typed_command() -> str:
    """The command line of this process, as run.json keeps it: quoted so that a shell takes it back."""
    return storable(shlex.join(typed_words()))


def make_folder(results: Path, label: str) -> Path:
    """A new folder `<date>-<time>_<label>`, sorted by time. Raises UserError when it cannot be written."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for attempt in range(100):
        folder = results / (f"{stamp}_{label}" + (f"-{attempt}" if attempt else ""))
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(
                f"{results} cannot be written: {error.strerror}; FRAMEWATT_DATA names another data folder"
            ) from error
        return folder
    raise UserError(f"no free name for a new run in {results}")


def check_writable(folder: Path, needed_bytes: int = 50 * 2**20) -> None:
    """Raises UserError when results could not be stored there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{uuid.uuid4().hex[:8]}"
        try:
            probe.write_bytes(b"x")
        finally:  # a full disk takes the name, not the byte
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written: {error.strerror}; FRAMEWATT_DATA names another data folder"
        ) from error
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise UserError(
            f"{folder} has {free / 2**20:.0f} MiB left, a run needs {needed_bytes / 2**20:.0f}; free some, or set FRAMEWATT_DATA"
        )


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Holds an exclusive lock for the block. Raises UserError naming the holder when somebody else has it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise UserError(
            f"{path.parent} cannot be written: {error.strerror}; FRAMEWATT_DATA names another data folder"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(f"{what} is in use by {holder}; wait for it to end, or end it") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} since {utc_now()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
