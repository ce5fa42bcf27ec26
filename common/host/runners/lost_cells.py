"""A supervisor that is killed, alone or with its container, leaves a cell without a row: the host writes it here."""

from __future__ import annotations

import csv
import signal
from dataclasses import dataclass
from pathlib import Path

from common.cell import Cell
from common.errors import UserError
from common.harness import journal
from common.harness.cell_folder import CannotWrite
from common.harness.rows import begin_row
from common.harness.writer import write_cell
from common.host.runners.events import OnEvent
from common.job import Job
from common.model_files import ModelFiles

#: exit codes of a supervisor that lost nothing: all cells are on disk, or it was told to stop
LOST_NOTHING = (0, 130, 143)


@dataclass(frozen=True)
class JobEnd:
    """How the supervisor of a job ended, or the container that it was in."""

    #: minus the number of the signal for a process that one ended
    exit_code: int
    #: the engine says that something in the container ran out of the memory limit
    oom_killed: bool = False
    #: it was stopped because all its cells together took longer than their deadlines allow
    over_budget: bool = False
    #: the supervisor could not go on at all, and said so in an `error` event
    fatal: bool = False
    #: what ended, for the message
    what: str = "container"

    def reason(self) -> tuple[str, str]:
        """Status and message of the cell that was running."""
        if self.over_budget:
            return "timeout", f"the {self.what} hung and was stopped"
        # Docker sets OOMKilled also when only a child died; the container itself died of it when it got SIGKILL.
        if self.oom_killed and self.exit_code == 137:
            return "oom", f"the {self.what} ran out of its memory limit (exit code 137)"
        return "crashed", f"the {self.what} {ended_by(self.exit_code)}"


def ended_by(exit_code: int) -> str:
    """exit_code: minus the number of the signal for a process that one ended."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"


def started_cells(run_dir: Path) -> list[tuple[str, str]]:
    """(cell key, worker) of every start without a finish in attempts.csv, oldest first."""
    path = run_dir / journal.FILE
    if not path.is_file():
        return []
    started: dict[str, str] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row.get("event") == "start":
                started[str(row["cell_key"])] = str(row["worker"])
            elif row.get("event") == "finish":
                started.pop(str(row["cell_key"]), None)
    return list(started.items())


def write_lost_cells(run_dir: Path, job: Job, model: ModelFiles, end: JobEnd, on_event: OnEvent) -> list[Cell]:
    """Writes the row of each cell of this job that was started and neither finished nor stored; returns those cells.

    Raises UserError when the disk takes no row.
    """
    if end.exit_code in LOST_NOTHING:
        return []
    status, message = end.reason()
    started = dict(started_cells(run_dir))
    lost = [cell for cell in job.cells if cell.key in started and not (run_dir / "cells" / cell.key).is_dir()]
    if not lost:
        # Died before any cell began (a broken image, say): the first cell that is left carries the reason, so that
        # the sweep goes on instead of starting the same job for ever.
        lost = [cell for cell in job.cells if not (run_dir / "cells" / cell.key).is_dir()][:1]
    for cell in lost:
        worker = started.get(cell.key, "")
        row = begin_row(job, cell, model, worker) | {"status": status, "message": message}
        try:
            write_cell(run_dir, row, [])
            journal.append(run_dir, "finish", cell.key, worker, status, message)
        except CannotWrite as error:
            raise UserError(str(error)) from error
        on_event({"event": "cell_finish", "cell_key": cell.key, "status": status, "message": message})
    return lost
