"""Rows that the host writes: of cells that a killed supervisor left without one, and of those that need no worker to be refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from common.cell import Cell
from common.errors import UserError
from common.harness.cell_folder import CannotWrite
from common.harness.job_end import JobEnd, Lost, write_all_left, write_lost, write_refused
from common.host.plan.jobs import PlannedJob
from common.host.plan.refusals import refusal
from common.host.runners.events import OnEvent
from common.job import Job
from common.model_files import ModelFiles


def write_lost_cells(run_dir: Path, job: Job, model: ModelFiles, end: JobEnd, on_event: OnEvent) -> list[Cell]:
    """Writes the row of each cell of this job that was started and neither finished nor stored; returns those cells.

    Raises UserError when the disk takes no row.
    """
    try:
        return _report(write_lost(run_dir, job, model, end), on_event)
    except CannotWrite as error:
        raise UserError(str(error)) from error


def write_cells_that_cannot_run(
    run_dir: Path, job: Job, model: ModelFiles, message: str, on_event: OnEvent, status: str = "crashed"
) -> list[Cell]:
    """Writes a row for each cell of the job that has none. message: why its supervisor cannot go on. Raises UserError."""
    try:
        return _report(write_all_left(run_dir, job, model, message, status=status), on_event)
    except CannotWrite as error:
        raise UserError(str(error)) from error


def write_refused_cells(
    run_dir: Path, job: Job, planned: PlannedJob, model: ModelFiles, on_event: OnEvent
) -> list[Cell]:
    """Writes the row of each cell of the job that cannot run whatever the machine; returns those. Raises UserError."""
    reasons = {cell.key: refusal(cell, planned.variant, model) for cell in planned.cells}
    try:
        refused = {key: reason for key, reason in reasons.items() if reason is not None}
        return _report(write_refused(run_dir, job, model, refused), on_event)
    except CannotWrite as error:
        raise UserError(str(error)) from error


def _report(lost: Iterable[Lost], on_event: OnEvent) -> list[Cell]:
    cells = []
    for cell, status, message in lost:
        on_event({"event": "cell_finish", "cell_key": cell.key, "status": status, "message": message})
        cells.append(cell)
    return cells
