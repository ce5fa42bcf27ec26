"""Readings come from the sidecar's own folder into the run's power file, line by line and only those that are readings.

A sidecar writes `<run>/metering/<name>/power.csv` and sees nothing else of the run. The host appends what it finds there to
`<run>/<name>.csv`, after each cell and at the end; jobs see the sidecar's folder, read-only, to know how hot a GPU is.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from common import schema
from common.host.runs.untrusted import Refused, opened_file, opened_folder, read_part, remove_folder
from common.sidecar.csv_file import NAME, PowerFile

FOLDER = "metering"
#: a sidecar with eight GPUs at default rates writes about 60 kB in a second
_BYTES_PER_SECOND = 2**20
_BYTES_AT_ONCE = 2**22
_MOST_LINE_BYTES = 4096

_FIELDS = {
    "BIGINT": rb"(?:-?[0-9]{1,18})?",
    "DOUBLE": rb"(?:-?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:e[-+]?[0-9]{1,3})?)?",
    "VARCHAR": rb"[ !#-+\--~]{0,200}",
}
_READING = re.compile(rb"(?=[0-9])" + rb",".join(_FIELDS[column.type] for column in schema.FILES[NAME]))


class PowerIntake:
    """Takes what a sidecar writes into its folder over into the run's power file, which is made with the first reading."""

    def __init__(self, folder: Path, target: Path) -> None:
        self._folder = folder
        self._target = target
        self._offset = 0
        self._file: PowerFile | None = None
        self._began = time.monotonic()
        self._allowed = _BYTES_AT_ONCE
        #: why no more is taken, "" while all is well
        self.refused = ""
        #: readings so far
        self.taken = 0

    @property
    def file(self) -> Path:
        """What the sidecar writes, as the host sees it."""
        return self._folder / NAME

    @property
    def folder(self) -> Path:
        return self._folder

    def take(self) -> None:
        """Takes the whole lines that are new. Never raises for what the sidecar did: `refused` says why there is no more.

        On a full disk nothing is lost: it is tried again with the next call.
        """
        if self.refused:
            return
        try:
            while self._take_some():
                pass
        except FileNotFoundError:
            pass  # it has not begun
        except Refused as why:
            self.refused = f"its readings are not taken any more: {why}"
        except ValueError as error:
            self.refused = str(error)
        except OSError:
            pass

    def _take_some(self) -> bool:
        """Whether there may be more."""
        with opened_folder(self._folder) as folder, opened_file(NAME, folder) as source:
            data = read_part(source, self._offset, _BYTES_AT_ONCE)
        lines, newline, rest = data.rpartition(b"\n")
        if not newline:
            if len(rest) > _MOST_LINE_BYTES:
                raise Refused(f"{NAME} has a line of more than {_MOST_LINE_BYTES} bytes")
            return False
        self._check_rate(self._offset + len(lines) + 1)
        readings = [line for line in lines.split(b"\n") if _READING.fullmatch(line)]
        if readings:
            if self._file is None:
                self._file = PowerFile(self._target, lambda sentence: None)
            self._file.append(b"\n".join(readings) + b"\n")
        self.taken += len(readings)
        self._offset += len(lines) + 1
        return len(data) == _BYTES_AT_ONCE

    def _check_rate(self, size: int) -> None:
        if size > self._allowed + _BYTES_PER_SECOND * (time.monotonic() - self._began):
            raise Refused(f"{NAME} grows faster than a sidecar's readings can")

    def skip_known(self, most: int = 2**32) -> None:
        """For what an earlier start of the host left: goes on behind the last line that the run's file has already."""
        self._allowed = most
        try:
            last = _last_line(self._target)
            if last:
                self._offset = self._behind(last + b"\n")
        except (OSError, Refused):
            self._offset = 0

    def _behind(self, line: bytes) -> int:
        with opened_folder(self._folder) as folder, opened_file(NAME, folder) as source:
            offset, rest = 0, b""
            while data := read_part(source, offset, _BYTES_AT_ONCE):
                found = (rest + data).find(line)
                if found >= 0:
                    return offset - len(rest) + found + len(line)
                offset += len(data)
                rest = data[-_MOST_LINE_BYTES:]
        return 0

    def close(self) -> None:
        """No more will come."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                self.refused = self.refused or "its last readings cannot be written"


def _last_line(path: Path) -> bytes:
    """The last whole line of the run's own file, b"" where it has no reading."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 4 * _MOST_LINE_BYTES))
        lines = file.read().split(b"\n")[:-1]
    return lines[-1] if lines and _READING.fullmatch(lines[-1]) else b""


def recover_power(run: Path) -> list[str]:
    """Takes the readings that an earlier start of the run left with its sidecars; returns what was refused."""
    problems = []
    for folder in sorted((run / FOLDER).glob("*")):
        intake = PowerIntake(folder, run / f"{folder.name}.csv")
        intake.skip_known()
        intake.take()
        intake.close()
        if intake.refused:
            problems.append(f"{folder.name}: {intake.refused}")
    remove_folder(run / FOLDER)
    return problems
