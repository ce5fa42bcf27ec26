"""How a supervisor ended, and the rows of the cells that it lost: the same judgement for all who start one.

The host judges a supervisor or a container that it started; within a container that compose started it is the service.
Standard library alone.
"""

from __future__ import annotations

import csv
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import List, Mapping, NamedTuple, Optional

from common.cell import Cell
from common.harness import cell_folder, journal
from common.harness.rows import begin_row, one_line
from common.harness.writer import write_cell
from common.job import Job
from common.model_files import ModelFiles

#: exit codes of a supervisor that lost nothing: all cells are on disk, or it was told to stop
LOST_NOTHING = (0, 130, 143)


@dataclass(frozen=True)
class JobEnd:
    """How the supervisor of a job ended, or the container that it was in."""

    #: minus the number of the signal for a process that one ended; None where nobody could see it
    exit_code: Optional[int]
    #: the engine (or the kernel, within a container) says that something in the container ran out of the memory limit
    oom_killed: bool = False
    #: it was stopped because all its cells together took longer than their deadlines allow
    over_budget: bool = False
    #: what ended, for the message
    what: str = "container"

    def reason(self) -> tuple[str, str]:
        """Status and message of the cell that was running."""
        if self.over_budget:
            return "timeout", f"the {self.what} hung and was stopped"
        # Docker, and the kernel's count, tell also of a child that died; this one died of it when it got SIGKILL.
        if self.oom_killed and self.exit_code in (137, -signal.SIGKILL, None):
            code = "" if self.exit_code is None else " (exit code 137)"
            return "oom", f"the {self.what} ran out of its memory limit{code}"
        return "crashed", f"the {self.what} {ended_by(self.exit_code)}"


def ended_by(exit_code: Optional[int]) -> str:
    """exit_code: minus the number of the signal for a process that one ended; None: unknown."""
    if exit_code is None:
        return "ended while it ran"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"


class Started(NamedTuple):
    """A start without a finish. t_ns: of this machine's monotonic clock; 0 where the line does not tell."""

    cell_key: str
    worker: str
    t_ns: int


def started_cells(run_dir: Path) -> List[Started]:
    """Every start without a finish in attempts.csv, oldest first."""
    path = run_dir / journal.FILE
    if not path.is_file():
        return []
    started: dict[str, Started] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row.get("event") == "start":
                key, t_ns = str(row["cell_key"]), row.get("t_ns") or ""
                started[key] = Started(key, str(row["worker"]), int(t_ns) if t_ns.isdigit() else 0)
            elif row.get("event") == "finish":
                started.pop(str(row["cell_key"]), None)
    return list(started.values())


class Lost(NamedTuple):
    """A cell that got its row from here."""

    cell: Cell
    status: str
    message: str


def write_lost(run_dir: Path, job: Job, model: ModelFiles, end: JobEnd) -> List[Lost]:
    """Writes the row of each cell of this job that was started and neither finished nor stored. Raises CannotWrite."""
    if end.exit_code in LOST_NOTHING:
        return []
    started = {one.cell_key: one.worker for one in started_cells(run_dir)}
    left = [cell for cell in job.cells if cell.key not in job.done and not cell_folder.exists(run_dir, cell.key)]
    # Died before any cell began (a broken image, say): the first cell that is left carries the reason, so that the sweep
    # goes on instead of starting the same job for ever.
    lost = [cell for cell in left if cell.key in started] or left[:1]
    return [_write(run_dir, job, cell, model, started.get(cell.key, ""), *end.reason()) for cell in lost]


def write_all_left(
    run_dir: Path, job: Job, model: ModelFiles, message: str, status: str = "crashed", end: Optional[JobEnd] = None
) -> List[Lost]:
    """A row for each cell that has none: whatever ran the job will not go on. Raises CannotWrite.

    message, status: of the rows. end: where the cell that had begun was lost with whatever ran it, how that ended.
    """
    started = {one.cell_key: one.worker for one in started_cells(run_dir)}
    lost = []
    for cell in job.cells:
        if not cell_folder.exists(run_dir, cell.key):
            reason = end.reason() if end and cell.key in started else (status, message)
            lost.append(_write(run_dir, job, cell, model, started.get(cell.key, ""), *reason))
    return lost


def write_refused(run_dir: Path, job: Job, model: ModelFiles, reasons: Mapping[str, str]) -> List[Lost]:
    """An `unsupported` row for each of these cells that has none; reasons: by key. Raises CannotWrite."""
    return [
        _write(run_dir, job, cell, model, "", "unsupported", one_line(reasons[cell.key]))
        for cell in job.cells
        if cell.key in reasons and not cell_folder.exists(run_dir, cell.key)
    ]


def _write(run_dir: Path, job: Job, cell: Cell, model: ModelFiles, worker: str, status: str, message: str) -> Lost:
    write_cell(run_dir, {**begin_row(job, cell, model, worker), "status": status, "message": message}, [])
    journal.append(run_dir, "finish", cell.key, worker, status, message)
    return Lost(cell, status, message)
