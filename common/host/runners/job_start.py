"""One start of a job's supervisor as the host sees it: lines become events, staged cells become the run's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from common.errors import UserError
from common.harness import cell_folder
from common.harness.cell_folder import CannotWrite
from common.host.runners.events import OnEvent, job_event
from common.host.runners.staging import JobStaging, Settled
from common.job import Job
from common.model_files import ModelFiles


class JobStart:
    """Makes the staging folder and writes the job; run_dir is where the supervisor sees that folder, "" where it is.

    Raises UserError when the run's folder takes nothing, now and later.
    """

    def __init__(
        self, run: Path, name: str, job: Job, model: ModelFiles, on_event: OnEvent, inside: str | None = None
    ) -> None:
        self._keys = frozenset(cell.key for cell in job.cells)
        self._on_event = on_event
        #: what the supervisor said when it gave up, "" while it has not
        self.error = ""
        try:
            self.staging = JobStaging.make(run, name, job, model)
            done = [cell.key for cell in job.cells if cell_folder.exists(run, cell.key)]
            self.job = replace(job, run_dir=inside or str(self.staging.folder), done=done)
            self.path = run / "jobs" / f"{name}.json"
            with cell_folder.writing(self.path.name):
                self.path.parent.mkdir(exist_ok=True)
                self.job.write(self.path)
                self.path.chmod(0o644)  # whatever the umask: the user of a container reads it
        except CannotWrite as error:
            raise UserError(str(error)) from error

    def handle(self, line: str) -> bool:
        """Whether the line is an event. What it says of a finished cell is what the cell's files say."""
        event = job_event(line, self._keys)
        if event is None:
            return False
        if event["event"] == "error":
            self.error = event["message"] or "its supervisor gave up without a word"
            return True
        if event["event"] in ("cell_start", "cell_finish"):
            self._take(end=False)
        if event["event"] != "cell_finish":
            self._on_event(event)
        return True

    def end(self) -> None:
        """Takes what is left, and removes the staging folder. Only when nothing runs any more that could write there."""
        self._take(end=True)
        for problem in self.staging.problems:
            self._on_event({"event": "refused", "message": problem})
        self.staging.remove()

    def _take(self, end: bool) -> None:
        try:
            self._report(self.staging.take_rest() if end else self.staging.take())
        except CannotWrite as error:
            raise UserError(str(error)) from error

    def _report(self, settled: Iterable[Settled]) -> None:
        for cell in settled:
            self._on_event(
                {"event": "cell_finish", "cell_key": cell.key, "status": cell.status, "message": cell.message}
            )
