"""The jobs of a run, carried out: one stream of jobs for each device, side by side, with the device's sidecar beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from common.errors import UserError
from common.harness.idle import spell_without_context
from common.host import signals
from common.host.bench import time_share
from common.host.cli.progress import CellProgress
from common.host.devices import Device
from common.host.plan.jobs import PlannedJob
from common.host.runners.base import Context, Runner
from common.host.runners.events import OnEvent
from common.host.runners.sidecar import looked_after
from common.host.runs import early_marks
from common.host.runs.run import Run


@dataclass
class Outcome:
    """What became of a run."""

    run: Run
    statuses: dict[str, int]
    errors: list[str]
    interrupted: bool


def run_all(
    context: Context,
    runner: Runner,
    plan: Sequence[PlannedJob],
    console: Console,
    observer: OnEvent = lambda event: None,
) -> Outcome:
    """One thread for each device goes through that device's jobs in order.

    observer: gets every event of the supervisors too, in whichever thread it came.
    """
    existing, begin_ns = context.run.existing_cells(), time.monotonic_ns()
    total = sum(len(job.cells) for job in plan)
    done = sum(cell.key in existing for job in plan for cell in job.cells)
    item = context.request.item or context.model.item
    progress = CellProgress(console, total, done, item, context.request.items_per_sample or 1)
    streams = [
        DeviceStream(context, runner, device, jobs_left(plan, device, existing), progress, observer)
        for device in context.devices.values()
    ]
    try:
        with progress, signals.as_interrupts():
            interrupted = _run_side_by_side(streams, runner)
    finally:  # also where the bars cannot be drawn: standard output on a full disk, say
        failures = [stream.failure for stream in streams if stream.failure is not None]
        _close(context.run, progress, complete=not failures)
    made = [cell.key for job in plan for cell in job.cells if cell.key not in existing]
    phases = time_share.phases_s(context.run.folder / "cells", made)
    if phases.get(time_share.WINDOW, 0.0) > 0:
        spells = context.run.description.get("idle_without_context", {}).values()
        phases[time_share.WITHOUT_CONTEXT] = time_share.without_context_s(spells, begin_ns)
        text = time_share.sentence(phases, (time.monotonic_ns() - begin_ns) / 1e9, len(context.devices))
        console.print(text, style="dim", highlight=False, soft_wrap=True)
    if failures and not interrupted:
        raise failures[0]
    return Outcome(context.run, progress.statuses, progress.errors, interrupted)


def jobs_left(plan: Sequence[PlannedJob], device: Device, existing: AbstractSet[str]) -> list[PlannedJob]:
    """The device's jobs with a cell that the run does not have yet."""
    return [job for job in plan if job.device == device.name and any(cell.key not in existing for cell in job.cells)]


class DeviceStream:
    """The jobs of one device, one after another in a thread of its own."""

    def __init__(
        self,
        context: Context,
        runner: Runner,
        device: Device,
        jobs: Sequence[PlannedJob],
        progress: CellProgress,
        observer: OnEvent,
    ) -> None:
        self._context, self._runner, self._device, self._jobs = context, runner, device, jobs
        self._progress, self._observer = progress, observer
        self._stop, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)
        #: what ended the thread before its time
        self.failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def wait(self) -> None:
        """Until it has ended, where it was started.

        Not Thread.join(): in CPython 3.11 a join that Ctrl-C interrupts takes the thread for ended, and this process would
        leave before its containers are removed.
        """
        if self._thread.ident is not None:
            self._ended.wait()

    def stop(self) -> None:
        """No further job is begun."""
        self._stop.set()

    def _run(self) -> None:
        try:
            self._run_jobs()
        except BaseException as error:  # handed to the main thread
            self.failure = error
        finally:
            self._ended.set()

    def _run_jobs(self) -> None:
        with self._runner.sidecar(self._context, self._device) as sidecar:
            state = sidecar.state
            self._context.run.description.setdefault("power", {})[self._device.name] = asdict(state)
            if not state.recording:
                self._progress.warn(f"no power readings for {self._device.name}: {state.reason}")
            elif self._jobs:
                measure_idle_without_context(self._context, self._device, self._stop)
            for job in self._jobs:
                if self._stop.is_set() or self._progress.errors:
                    break
                self._runner.run_job(self._context, job, looked_after(sidecar, self._on_event, self._progress.warn))

    def _on_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "cooling" and event["done"]:
            waited = {name: event[name] for name in ("seconds", "temperature_c", "target_c")}
            self._context.run.description.setdefault("cooling", {})[event["cell_key"]] = waited
        shown = event
        if event["event"] == "cell_finish":
            run = self._context.run
            cores = (run.description.get("host") or {}).get("logical_cores")
            marks = early_marks.of_cell(run.folder / "cells" / str(event["cell_key"]), cores)
            shown = {**event, "marks": marks}
        self._progress.on_event(shown)
        self._observer(event)


def _run_side_by_side(streams: Sequence[DeviceStream], runner: Runner) -> bool:
    """Until all have ended; whether they were interrupted, by Ctrl-C or another signal."""
    try:
        for stream in streams:
            stream.start()
        for stream in streams:
            stream.wait()
    except KeyboardInterrupt:
        for stream in streams:
            stream.stop()
        runner.interrupt()
        for stream in streams:
            stream.wait()
        return True
    return False


def _close(run: Run, progress: CellProgress, complete: bool) -> None:
    """Marks the run finished when every cell of its plan is there, else keeps what was learned of it meanwhile.

    Cells that were to be measured again and were not come back as they were.
    """
    try:
        run.put_back()
        if complete and set(run.description["plan"]) <= run.existing_cells():
            run.finish()
        else:
            run.save()
    except UserError as error:  # a full disk, say: the cells that are on it stay, and are shown
        progress.errors.append(str(error))


def measure_idle_without_context(context: Context, device: Device, stop: threading.Event) -> None:
    """Lets the sidecar read what the device draws before the first worker opens a context on it, once each time a run is begun."""
    seconds = context.request.settings.idle_seconds
    if seconds > 0:
        spells = context.run.description.setdefault("idle_without_context", {}).setdefault(device.name, [])
        spells.append(spell_without_context(seconds, stop.wait))
