"""A container that is killed as a whole takes its supervisor along: the row of the cell that it cost is written here."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from common.cell import Cell
from common.harness import journal
from common.harness.rows import begin_row
from common.harness.writer import write_cell
from common.host.runner import OnEvent
from common.job import Job
from common.model_files import ModelFiles


@dataclass(frozen=True)
class ContainerEnd:
    """How a job's container ended."""

    exit_code: int
    oom_killed: bool
    #: it was stopped because all its cells together took longer than their deadlines allow
    over_budget: bool
    #: its supervisor could not go on at all, and said so in an `error` event
    fatal: bool

    def reason(self) -> tuple[str, str]:
        """Status and message of the cell that was running."""
        if self.over_budget:
            return "timeout", "the container hung and was stopped"
        # Docker sets OOMKilled also when only a child died; the container itself died of it when it got SIGKILL.
        if self.oom_killed and self.exit_code == 137:
            return "oom", "the container ran out of its memory limit (exit code 137)"
        return "crashed", f"the container ended with exit code {self.exit_code}"


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


def write_lost_cells(run_dir: Path, job: Job, model: ModelFiles, end: ContainerEnd, on_event: OnEvent) -> list[Cell]:
    """Writes the row of each cell of this job that was started and neither finished nor stored; returns those cells.

    A container that ended well, or that was told to stop (130, 143), has lost nothing.
    """
    if end.exit_code in (0, 130, 143):
        return []
    status, message = end.reason()
    started = dict(started_cells(run_dir))
    lost = [cell for cell in job.cells if cell.key in started and not (run_dir / "cells" / cell.key).is_dir()]
    if not lost:
        # Died before any cell began (a broken image, say): the first cell that is left carries the reason, so that
        # the sweep goes on instead of starting the same container for ever.
        lost = [cell for cell in job.cells if not (run_dir / "cells" / cell.key).is_dir()][:1]
    for cell in lost:
        worker = started.get(cell.key, "")
        row = begin_row(job, cell, model, worker) | {"status": status, "message": message}
        write_cell(run_dir, row, [])
        journal.append(run_dir, "finish", cell.key, worker, status, message)
        on_event({"event": "cell_finish", "cell_key": cell.key, "status": status, "message": message})
    return lost
