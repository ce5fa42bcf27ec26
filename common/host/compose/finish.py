"""End of a sweep under compose: gives the frameworks' services their turns, and takes what they measured.

analysis/compose_report.py, the last service, calls it and then analyzes.

It alone of those that run meanwhile writes the run. A service shows itself by a lock (common/locks.py); while it runs, and
when it has gone, its staging folders are looked at as under `invoke bench`. It has no say over containers: a service that
never ends holds the sweep up until somebody ends it (docker compose kill SERVICE).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.harness import kill_watch
from common.harness.cell_folder import CannotWrite
from common.harness.compose_step import ERRORS, KILLS
from common.harness.idle import spell_without_context
from common.harness.job_end import JobEnd, started_cells, write_all_left
from common.harness.rows import one_line
from common.host.compose.prepare import give_all
from common.host.compose.rendezvous import Rendezvous, lock_of
from common.host.paths import ROOT, DataFolder
from common.host.runners.power_intake import PowerIntake
from common.host.runners.staging import JobStaging
from common.host.runs.run import Run, read_run
from common.host.runs.untrusted import Refused, opened_file, opened_folder, read_part
from common.job import Job
from common.locks import ALIVE, APPEARS_WITHIN_SECONDS, TurnLock, device_lock
from common.model_files import ModelFiles
from common.text import counted
from common.typed_json import parse_object

#: the sidecar shall have its first reading on disk before anything is measured
POWER_WITHIN_SECONDS = 20.0
SIDECAR_ENDS_WITHIN_SECONDS = 10.0
#: between two looks at a service that measures
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class ServiceReports:
    """What a service says of itself, in a folder that it writes as it likes."""

    folder: Path

    def came(self) -> bool:
        return self._lock() is not None

    def gone(self) -> bool:
        return self._lock() is not False

    def _lock(self) -> bool | None:
        """Whether the lock of its life is free; None where there is no such file."""
        try:
            with opened_folder(self.folder) as folder, opened_file(ALIVE, folder) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return True
        except BlockingIOError:
            return False
        except (OSError, Refused):
            return None

    def errors(self) -> Mapping[str, str]:
        """Job -> why it could not go on."""
        try:
            with opened_folder(self.folder) as folder, opened_file(ERRORS, folder) as file:
                contents = parse_object(read_part(file, 0, 2**16))
        except (OSError, Refused):
            return {}
        return {name: one_line(words) for name, words in contents.items() if isinstance(words, str)}

    def oom_killed_ns(self) -> int:
        """When the kernel's out-of-memory killer last struck in its container, by the monotonic clock; 0 for never."""
        try:
            with opened_folder(self.folder) as folder, opened_file(KILLS, folder) as file:
                return kill_watch.struck_ns(read_part(file, 0, 8))
        except (OSError, Refused):
            return 0


class Service:
    """A variant's service, and what of its jobs the host has taken."""

    def __init__(self, variant: str, run: Run, rendezvous: Rendezvous, model: ModelFiles) -> None:
        self.variant = variant
        self._run = run.folder
        self._model = model
        self.reports = ServiceReports(rendezvous.services / variant)
        self._jobs = {path.stem: Job.read(path) for path in sorted((self._run / "jobs").glob(f"{variant}_*.json"))}
        self._stagings = {
            name: JobStaging(self._run, name, job, model, self.reports.folder / name)
            for name, job in self._jobs.items()
        }

    @property
    def keys(self) -> list[str]:
        return [cell.key for job in self._jobs.values() for cell in job.cells]

    def take(self) -> int:
        """Takes what is new; returns the number of cells."""
        return sum(len(staging.take()) for staging in self._stagings.values())

    def settle(self) -> None:
        """When it has gone: takes the rest, and writes a row for each cell that has none."""
        errors = self.reports.errors()
        for name, job in self._jobs.items():
            staging = self._stagings[name]
            if staging.folder.is_dir():
                staging.take_rest()
            for line in staging.problems:
                print(line, flush=True)
            if name in errors:
                lost = write_all_left(self._run, job, self._model, errors[name])
            else:
                words = "its container ended before its turn"
                lost = write_all_left(self._run, job, self._model, words, end=self._end_of(job))
            if lost:
                print(f"{name}: {counted(len(lost), 'cell')} lost with their container", flush=True)

    def _end_of(self, job: Job) -> JobEnd:
        """How the container ended: nobody here can ask the engine, but the kernel's kills were told while it lived."""
        keys = {cell.key for cell in job.cells}
        begun = [one.t_ns for one in started_cells(self._run) if one.cell_key in keys]
        return JobEnd(None, oom_killed=bool(begun) and 0 < begun[-1] <= self.reports.oom_killed_ns())


def services_in_order(services: list[Service], locks: Mapping[str, TurnLock], optional: set[str]) -> Iterator[Service]:
    """Each service that has come, in order; its turn begins when it is taken and has ended when the next one is.

    optional: those of a profile that may not be switched on; they count if they have come by then.
    """
    deadline = time.monotonic() + APPEARS_WITHIN_SECONDS
    for one in services:
        while not one.reports.came() and one.variant not in optional and time.monotonic() < deadline:
            time.sleep(0.2)
        if one.reports.came():
            locks[one.variant].give()
            yield one


def measure(services: list[Service], rendezvous: Rendezvous, intake: PowerIntake, optional: set[str]) -> list[str]:
    """Lets all services measure, one after another; returns the keys of the cells that were asked for."""
    locks = {one.variant: TurnLock(rendezvous.turn_locks / one.variant) for one in services}
    planned: list[str] = []
    for one in services_in_order(services, locks, optional):
        while not one.reports.gone():
            time.sleep(_LOOK_SECONDS)
            if one.take():
                intake.take()
        one.settle()
        planned += one.keys
    return planned


def wait_for_power(intake: PowerIntake) -> bool:
    """Whether there are readings."""
    deadline = time.monotonic() + POWER_WITHIN_SECONDS
    while time.monotonic() < deadline and not intake.refused:
        intake.take()
        if intake.taken:
            return True
        time.sleep(0.2)
    print("no power readings: they stay empty", flush=True)
    return False


def measure_idle(run: Run) -> None:
    """The spell without a worker, before the first one's turn."""
    seconds = float(run.description["settings"]["idle_seconds"])
    for device in (run.description.get("devices") or []) if seconds > 0 else []:
        spells = run.description.setdefault("idle_without_context", {}).setdefault(device["device"], [])
        spells.append(spell_without_context(seconds))


def end_sidecar(rendezvous: Rendezvous, intake: PowerIntake) -> None:
    """Tells it to end, and takes its readings until no more come."""
    rendezvous.end.touch()
    deadline, taken = time.monotonic() + SIDECAR_ENDS_WITHIN_SECONDS, -1
    while intake.taken != taken and time.monotonic() < deadline:
        taken = intake.taken
        time.sleep(0.7)
        intake.take()
    intake.close()
    if intake.refused:
        print(f"sidecar: {intake.refused}", flush=True)


def finish(rendezvous: Rendezvous, data: DataFolder) -> Run:
    """The run, complete: every planned cell has a row. Raises UserError where the plan made none."""
    try:
        return _finish(rendezvous, data)
    except CannotWrite as error:
        raise UserError(str(error)) from error
    finally:
        rendezvous.end.touch()


def _finish(rendezvous: Rendezvous, data: DataFolder) -> Run:
    if not rendezvous.run.exists():
        raise UserError("the plan made no run; its log says why")
    run = read_run(rendezvous.run.resolve())
    model = ModelFiles.read(data.models / str(run.description["model"]["folder"]))
    names, optional = (os.environ.get(name, "").split() for name in ("FRAMEWATT_SERVICES", "FRAMEWATT_OPTIONAL"))
    services = [Service(variant, run, rendezvous, model) for variant in (*names, *optional)]
    intake = PowerIntake(rendezvous.sidecar, run.folder / "power.csv")
    with device_lock(lock_of(data, run), "docker compose"):
        states = run.description.get("power", {}).values()
        if any(state["recording"] for state in states) and wait_for_power(intake):
            measure_idle(run)
        planned = set(measure(services, rendezvous, intake, set(optional)))
    end_sidecar(rendezvous, intake)
    # Services of a profile that was not switched on did not come: what they would have run was not asked for.
    run.description["plan"] = [key for key in run.description["plan"] if key in planned]
    run.finish()
    return run


def give_back(data: DataFolder) -> None:
    """What a container made belongs to whom the checkout belongs to."""
    owner = (ROOT / "compose.yaml").stat()
    give_all(data.root, owner.st_uid, owner.st_gid)
