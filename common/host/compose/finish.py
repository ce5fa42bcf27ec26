"""End of a sweep under compose: waits for the frameworks, ends the sidecar, writes the rows of cells that were lost.

analysis/compose_report.py, the last service, calls it and then analyzes.
"""

from __future__ import annotations

import json
import os
import time

from common.errors import UserError
from common.harness import journal
from common.harness.rows import begin_row
from common.harness.writer import write_cell
from common.host.compose.prepare import give
from common.host.compose.rendezvous import Meeting
from common.host.paths import ROOT, DataFolder
from common.host.runners.lost_cells import started_cells
from common.host.runs.run import Run, read_run
from common.job import Job
from common.locks import APPEARS_WITHIN_SECONDS, wait_for_end
from common.model_files import ModelFiles

SIDECAR_ENDS_WITHIN_SECONDS = 10.0


def wait_for_all(meeting: Meeting, last: str) -> list[str]:
    """Returns when every service that came has gone; their names."""
    if last:
        wait_for_end(meeting.turns / last, APPEARS_WITHIN_SECONDS)
    came: list[str] = []
    while True:
        more = sorted(path.name for path in meeting.turns.iterdir() if path.name not in came)
        if not more:
            return came
        for name in more:
            wait_for_end(meeting.turns / name, 0)
        came += more


def end_sidecar(meeting: Meeting) -> None:
    """Tells it to end, and waits until its file has stopped growing."""
    meeting.end.touch()
    power = meeting.run / "power.csv"
    deadline, size = time.monotonic() + SIDECAR_ENDS_WITHIN_SECONDS, -1
    while power.exists() and power.stat().st_size != size and time.monotonic() < deadline:
        size = power.stat().st_size
        time.sleep(0.7)


def write_lost(run: Run, job: Job, model: ModelFiles, reason: str) -> int:
    """A row for each cell of the job that has none: its container ended before. Returns how many.

    reason: what the supervisor said when it gave up, "" where it came to say nothing (killed).
    """
    started = dict(started_cells(run.folder))
    lost = [cell for cell in job.cells if not (run.folder / "cells" / cell.key).is_dir()]
    for cell in lost:
        worker = started.get(cell.key, "")
        message = reason or ("its container ended while it ran" if worker else "its container ended before its turn")
        write_cell(run.folder, begin_row(job, cell, model, worker) | {"status": "crashed", "message": message}, [])
        if worker:
            journal.append(run.folder, "finish", cell.key, worker, "crashed", message)
    return len(lost)


def add_idle_spell(run: Run, meeting: Meeting) -> None:
    """The spell without a worker, where the first framework's service came to measure one."""
    try:
        spell = json.loads(meeting.idle.read_text())
    except (OSError, ValueError):
        return
    for device in run.description.get("devices") or []:
        run.description.setdefault("idle_without_context", {}).setdefault(device["device"], []).append(spell)


def finish(meeting: Meeting, data: DataFolder) -> Run:
    """The run, complete: every planned cell has a row. Raises UserError where the plan made none."""
    came = wait_for_all(meeting, os.environ.get("FRAMEWATT_LAST", ""))
    end_sidecar(meeting)
    if not meeting.run.exists():
        raise UserError("the plan made no run; its log says why")
    run = read_run(meeting.run.resolve())
    model = ModelFiles.read(data.models / str(run.description["model"]["folder"]))
    planned: list[str] = []
    for path in sorted((run.folder / "jobs").glob("*.json")):
        job = Job.read(path)
        if job.cells[0].variant in came:
            planned += [cell.key for cell in job.cells]
            lost = write_lost(run, job, model, (meeting.turns / job.cells[0].variant).read_text().strip())
            if lost:
                print(f"{path.stem}: {lost} cells lost with their container", flush=True)
    # Services of a profile that was not switched on did not come: what they would have run was not asked for.
    wanted = set(planned)
    run.description["plan"] = [key for key in run.description["plan"] if key in wanted]
    add_idle_spell(run, meeting)
    run.finish()
    return run


def give_back(data: DataFolder) -> None:
    """What a container made belongs to whom the checkout belongs to."""
    owner = (ROOT / "compose.yaml").stat()
    give(data.root, owner.st_uid, owner.st_gid)
