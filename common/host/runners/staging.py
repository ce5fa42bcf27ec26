"""The one folder of a job that its container can write, and how what is in it becomes part of the run.

`<run>/staging/<job>.<start>/` is what a supervisor knows as its run folder: it stages cells, journals attempts and keeps
logs there, and sees nothing else of the run. Trust runs one way. The host looks into it with `untrusted`, copies what the
job asked for and what passes `cell_check`, and writes cells, journal and logs of the run itself; what is changed in the
staging folder afterwards changes nothing that was taken. Of whatever else lies there the host says one line and drops it.

    take()       while the job runs: new lines of the journal, and each cell that they call finished
    take_rest()  when it has ended: cells that it did not come to journal, and logs
    recover()    the same for the folders of an earlier start of the run that was killed
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from common import schema
from common.cell import Cell
from common.harness import cell_folder, journal
from common.harness.cell_folder import staged
from common.harness.rows import begin_row, one_line
from common.harness.writer import write_cell
from common.host.runners import cell_check
from common.host.runs.untrusted import (
    Refused,
    copy_file,
    names_in,
    opened_file,
    opened_folder,
    read_part,
    remove_folder,
    shown,
)
from common.job import Job
from common.model_files import ModelFiles

FOLDER = "staging"
#: lines of the journal that one cell may need, with room for workers that died before it
_LINES_A_CELL = 8
_MOST_LINE_BYTES = 4096
_MOST_LOG_BYTES = 16 * 2**20
_MOST_LOGS = 1000


@dataclass(frozen=True)
class Settled:
    """A cell that has a row in the run now. status and message: of that row."""

    key: str
    status: str
    message: str


class JobStaging:
    """The staging folder of one start of a job. name: of the job. job: as the host wrote it."""

    def __init__(self, run: Path, name: str, job: Job, model: ModelFiles, folder: Path) -> None:
        self.folder = folder
        self._run = run
        self._name = name
        self._job = job
        self._model = model
        self._cells = {cell.key: cell for cell in job.cells}
        self._settled = {key for key in self._cells if cell_folder.exists(run, key)}
        self._offset = 0
        self._lines_left = _LINES_A_CELL * len(self._cells) + 1
        self._known_lines: set[tuple[str, ...]] = set()
        #: what was refused and belongs to no cell, each in one line
        self.problems: list[str] = []

    @classmethod
    def make(cls, run: Path, name: str, job: Job, model: ModelFiles) -> JobStaging:
        """In a new folder, which nobody has seen before. Raises CannotWrite."""
        with cell_folder.writing(f"{FOLDER} of {name}"):
            top = run / FOLDER
            top.mkdir(exist_ok=True)
            for number in range(10**6):
                folder = top / f"{name}.{os.getpid()}-{number}"
                try:
                    folder.mkdir(mode=0o755)
                except FileExistsError:
                    continue
                return cls(run, name, job, model, folder)
        raise AssertionError("a million starts of one job")

    # -- what the container may have written ------------------------------------------------------------------------

    def take(self) -> list[Settled]:
        """Takes over what has been journaled since the last call, and the cells that it says are finished.

        Raises CannotWrite when the run's folder takes no more.
        """
        settled: list[Settled] = []
        for row in self._new_rows():
            key = row["cell_key"]
            if key in self._settled:
                continue
            if row["event"] == "finish" and row["status"] != "interrupted":
                done = self._settle(self._cells[key], row["worker"])
                row |= {"status": done.status, "message": done.message}
                settled.append(done)
            journal.append_row(self._run, row)
        return settled

    def take_rest(self) -> list[Settled]:
        """Takes over all that is left when nothing writes any more: whole cells that were not journaled, and logs."""
        settled = self.take()
        for key in self._whole_cells():
            done = self._settle(self._cells[key], "")
            journal.append(self._run, "finish", key, "", done.status, done.message)
            settled.append(done)
        self._take_logs()
        return settled

    def remove(self) -> None:
        """Takes the folder away. Only when no container has it any more."""
        remove_folder(self.folder)

    def _refuse(self, why: str) -> None:
        line = one_line(f"{self._name}: not taken from its container: {why}")
        if line not in self.problems and len(self.problems) < 10:
            self.problems.append(line)

    # -- journal ----------------------------------------------------------------------------------------------------

    def _new_rows(self) -> Iterator[dict[str, str]]:
        """Lines since the last call that say something of this job's cells; a line that holds not ends it for good."""
        try:
            yield from self._read_rows()
        except Refused as why:
            self._lines_left = 0
            self._refuse(str(why))

    def _read_rows(self) -> Iterator[dict[str, str]]:
        while self._lines_left > 0:
            try:
                with opened_folder(self.folder) as folder, opened_file(journal.FILE, folder) as file:
                    data = read_part(file, self._offset, 16 * _MOST_LINE_BYTES)
            except FileNotFoundError:
                return
            whole, newline, rest = data.rpartition(b"\n")
            if not newline:
                if len(rest) > _MOST_LINE_BYTES:
                    raise Refused(f"{journal.FILE} has a line of more than {_MOST_LINE_BYTES} bytes")
                return
            for line in whole.split(b"\n"):
                self._offset += len(line) + 1
                if line:
                    row = self._parsed(line)
                    if row is not None:
                        yield row

    def _parsed(self, line: bytes) -> dict[str, str] | None:
        """The row; None for the header and for one that was taken by an earlier start of the host. Raises Refused."""
        text = line.decode(errors="replace")
        if text == ",".join(schema.header(journal.FILE)):
            return None
        if self._lines_left == 1:
            self._lines_left = 0
            raise Refused(f"{journal.FILE} has more lines than its cells need")
        self._lines_left -= 1
        header = ",".join(schema.header(journal.FILE))
        (row,) = list(cell_check.rows_of(journal.FILE, f"{header}\n{text}\n", 1)) or [{}]
        statuses = ("",) if row.get("event") == "start" else (*schema.STATUSES, "interrupted")
        if row.get("event") not in ("start", "finish") or row["status"] not in statuses:
            raise Refused(f"{journal.FILE} has a line that is neither start nor finish")
        if row["cell_key"] not in self._cells:
            raise Refused(f"{journal.FILE} names {shown(row['cell_key'])}, which is none of its cells")
        if not row["t_ns"]:
            raise Refused(f"{journal.FILE} has a line without a time")
        row["message"] = one_line(row["message"])
        return None if _identity(row) in self._known_lines else row

    def know(self, lines: Collection[dict[str, str]]) -> None:
        """Lines that the run's journal has already."""
        self._known_lines |= {_identity(line) for line in lines}

    # -- cells ------------------------------------------------------------------------------------------------------

    def _settle(self, cell: Cell, worker: str) -> Settled:
        """The cell's files are copied, checked and become the run's; or the cell becomes a row that says why not."""
        self._settled.add(cell.key)
        try:
            with staged(self._run, cell.key) as target:
                self._copy_cell(cell.key, target)
                row = cell_check.checked_row(target, cell, self._job, self._model)
        except Refused as why:
            message = one_line(f"what its container left is refused: {why}")
            row = begin_row(self._job, cell, self._model, worker) | {"status": "crashed", "message": message}
            write_cell(self._run, row, [])
        return Settled(cell.key, row["status"], one_line(row["message"]))

    def _copy_cell(self, key: str, target: Path) -> None:
        try:
            with (
                opened_folder(self.folder) as top,
                opened_folder("cells", top) as cells,
                opened_folder(key, cells) as cell,
            ):
                names = names_in(cell, len(cell_check.MOST_BYTES) + 1)
                for name in names:
                    if name not in cell_check.MOST_BYTES:
                        raise Refused(f"{shown(name)} is no file of a cell")
                for name in cell_check.REQUIRED:
                    if name not in names:
                        raise Refused(f"{name} is missing")
                for name in names:
                    copy_file(name, cell, target / name, cell_check.MOST_BYTES[name])
        except FileNotFoundError as error:
            raise Refused("its files are missing") from error

    def _whole_cells(self) -> list[str]:
        """Keys of the job's cells that lie there and are not taken; whatever else does is said."""
        found: list[str] = []
        try:
            with opened_folder(self.folder) as top, opened_folder("cells", top) as cells:
                for name in names_in(cells, 10 * len(self._cells) + 100):
                    if name not in self._cells:
                        self._refuse(f"cells/{shown(name)} is none of its cells")
                    elif name not in self._settled:
                        found.append(name)
        except FileNotFoundError:
            pass  # it ended before its first cell
        except Refused as why:
            self._refuse(str(why))
        return found

    # -- logs -------------------------------------------------------------------------------------------------------

    def _take_logs(self) -> None:
        """Copies the workers' logs: names that a supervisor of this job gives them, none that the run has already."""
        wanted = re.compile(re.escape(self._name) + r"_[0-9]{8}T[0-9]{6}_[0-9]{1,10}-[0-9]{1,10}\.log")
        try:
            with opened_folder(self.folder) as top, opened_folder("logs", top) as logs:
                (self._run / "logs").mkdir(exist_ok=True)
                for name in names_in(logs, _MOST_LOGS):
                    if wanted.fullmatch(name) is None:
                        self._refuse(f"logs/{shown(name)} is no log of a worker")
                    else:
                        self._take_log(name, logs)
        except FileNotFoundError:
            pass
        except Refused as why:
            self._refuse(f"logs: {why}")

    def _take_log(self, name: str, logs: int) -> None:
        target = self._run / "logs" / name
        if target.exists():
            return
        try:
            copy_file(name, logs, target, _MOST_LOG_BYTES)
        except Refused as why:
            target.unlink(missing_ok=True)
            self._refuse(f"logs/{why}")
        except FileNotFoundError:
            pass


def _identity(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("t_ns", "event", "cell_key", "worker"))


def recover(run: Path, model: ModelFiles) -> list[str]:
    """Takes what an earlier start of the run left in its staging folders, and removes them; returns what was refused.

    Only when none of their containers lives. Raises CannotWrite.
    """
    problems: list[str] = []
    for folder in sorted((run / FOLDER).glob("*")):
        name = folder.name.rpartition(".")[0]
        try:
            job = Job.read(run / "jobs" / f"{name}.json")
        except (OSError, ValueError, KeyError, TypeError):
            remove_folder(folder)  # nobody knows what was asked for: its cells are measured again
            continue
        problems += take_over(run, name, job, model, folder)
        remove_folder(folder)
    remove_folder(run / FOLDER)
    return problems


def take_over(run: Path, name: str, job: Job, model: ModelFiles, folder: Path) -> list[str]:
    """Takes what lies in a staging folder that nothing writes any more; returns what was refused. Raises CannotWrite."""
    staging = JobStaging(run, name, job, model, folder)
    staging.know(journal_rows(run))
    staging.take_rest()
    return staging.problems


def journal_rows(run: Path) -> list[dict[str, str]]:
    """The lines of the run's own journal; those that a full disk tore are left out."""
    try:
        with (run / journal.FILE).open(newline="") as file:
            return [row for row in csv.DictReader(file) if all(isinstance(value, str) for value in row.values())]
    except OSError:
        return []
