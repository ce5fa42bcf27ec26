"""The supervisor: hands the cells of a job to a worker, owns the deadline, and writes the row of a cell whose worker died.

It never imports a framework (or numpy), so nothing that a framework does can end it. While a worker measures, it sleeps
in poll(2): on the worker's messages, on signals (among them the death of the worker), on its own reader going away.

    for each cell that is not on disk yet
        attempts.csv: start -> worker: cell_key -> messages ... -> attempts.csv: finish

Exit codes: 0 every cell is on disk; 2 something only the user can mend (one `error` event says what); 130 and 143 after
SIGINT and SIGTERM; 141 when nobody reads the events any more. A failed cell is a row, not an exit code.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import select
import signal
import stat
import time
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from common.cell import Cell
from common.harness import cell_folder, cooling, frontends, journal, memory
from common.harness.cell_folder import CannotWrite, writing
from common.harness.environment import worker_environment
from common.harness.process import Message, WorkerProcess
from common.harness.rows import begin_row, last_telling_line, load_average, one_line
from common.harness.writer import PhaseRow, write_cell
from common.job import Job
from common.model_files import ModelFiles

#: how long a worker that has no more cells may take to free the device
_RETIRE_SECONDS = 15.0
#: the part of a log that is searched for a reason
_LOG_TAIL_BYTES = 65536


class BadJob(Exception):
    """The job cannot be carried out at all. One line for people."""


class Interrupted(Exception):
    """A signal came, or the reader of the events is gone."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Interrupts:
    """Everything but the worker that can end the wait: signals, and the death of whoever reads the events."""

    def __init__(self) -> None:
        self._received: Optional[int] = None
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        os.set_blocking(write_end, False)
        self._bell = read_end
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)
        # A handler, so that the death of a worker rings the bell even if a child of it keeps the pipes open.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        mode = os.fstat(1).st_mode
        self._watch_reader = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)

    def _note(self, number: int, frame: object) -> None:
        self._received = number

    def check(self) -> None:
        """Raises Interrupted if a signal has come."""
        if self._received is not None:
            raise Interrupted(f"stopped by {signal.Signals(self._received).name}", 128 + self._received)

    def wait(self, worker: WorkerProcess, seconds: float) -> None:
        """Returns when the worker has said something or died, or the time is up. Raises Interrupted."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        if not worker.silent:
            poll.register(worker.events, select.POLLIN)
        if self._watch_reader:
            poll.register(1, 0)  # errors only: the reading end is closed
        ready = poll.poll(max(0, int(seconds * 1000) + 1))
        for descriptor, event in ready:
            if descriptor == self._bell:
                try:
                    os.read(self._bell, 4096)
                except BlockingIOError:
                    pass
            elif descriptor == 1 and event & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                raise Interrupted("nobody reads the events any more", 128 + signal.SIGPIPE)
        self.check()


class Attempt:
    """What the supervisor has heard of the running cell."""

    def __init__(self, job: Job, cell: Cell, model: ModelFiles, worker: WorkerProcess) -> None:
        # a worker is started with this interpreter
        self.row = {**begin_row(job, cell, model, worker.name), "python_version": platform.python_version()}
        self.phases: Dict[str, Tuple[int, Optional[int]]] = {}
        self.phase = ""
        self.log_begin = worker.log.stat().st_size
        self.oom_kills = memory.OomKills()

    def handle(self, message: Message) -> None:
        event = message["event"]
        if event == "phase":
            self.phase = message["name"]
            self.phases[self.phase] = message["start_ns"], None
        elif event == "phase_end":
            self.phases[message["name"]] = message["start_ns"], message["end_ns"]
        elif event == "facts":
            self.row.update(message["row"])

    @property
    def where(self) -> str:
        """Where in its life the cell was."""
        if not self.phase:
            return "before its first phase"
        ended = self.phases[self.phase][1] is not None
        return f"after phase {self.phase}" if ended else f"in phase {self.phase}"

    def phase_rows(self) -> List[PhaseRow]:
        return [(name, start_ns, end_ns) for name, (start_ns, end_ns) in self.phases.items()]


class Supervisor:
    """Carries out one job. job_path is handed to the workers."""

    def __init__(self, job: Job, job_path: Path) -> None:
        self._job = job
        self._job_path = job_path
        self._run_dir = Path(job.run_dir)
        self._model = _read_model(job)
        self._worker: Optional[WorkerProcess] = None
        self._workers = 0
        self._interrupts = Interrupts()
        with writing(f"results in {self._run_dir}"):
            for folder in ("cells", "logs", cell_folder.UNFINISHED):
                (self._run_dir / folder).mkdir(parents=True, exist_ok=True)
        with writing(f"caches in {job.cache_dir}"):
            self._environment = worker_environment(job)
        cell_folder.remove_stale(self._run_dir)

    def run(self) -> None:
        """Runs every cell that is not on disk. Raises CannotWrite or Interrupted; no worker is left behind."""
        with self._own_temporary_folder():
            try:
                for cell in self._job.cells:
                    self._interrupts.check()
                    if cell.key not in self._job.done and not cell_folder.exists(self._run_dir, cell.key):
                        self._run_cell(cell)
                if self._worker is not None:
                    self._worker.retire(_RETIRE_SECONDS)
                    self._worker = None
            finally:
                self._drop_worker()

    @contextmanager
    def _own_temporary_folder(self) -> Iterator[None]:
        """What frameworks drop in $TMPDIR (AutoGraph's sources, inductor's headers) goes when the workers have gone.

        A container has a /tmp of its own, in memory, which ends with it.
        """
        if self._job.runner != "local":
            yield
            return
        with cell_folder.scratch(self._run_dir, "tmp") as folder:
            self._environment["TMPDIR"] = str(folder.resolve())
            yield

    def _run_cell(self, cell: Cell) -> None:
        worker = self._ready_worker(cell)
        self._cool_down(cell, worker)
        worker = self._ready_worker(cell)  # another one, should this one have died while it waited
        attempt = Attempt(self._job, cell, self._model, worker)
        journal.append(self._run_dir, "start", cell.key, worker.name)
        try:
            emit("cell_start", cell_key=cell.key, worker=worker.name)
            status, message = self._follow(cell, attempt, worker)
        except Interrupted as interruption:
            self._drop_worker()
            if not cell_folder.exists(self._run_dir, cell.key):
                journal.append(self._run_dir, "finish", cell.key, worker.name, "interrupted", str(interruption))
            else:
                self._finish(cell, worker, *self._on_disk(cell))
            raise
        except CannotWrite as error:
            self._drop_worker()
            try:
                journal.append(self._run_dir, "finish", cell.key, worker.name, "interrupted", str(error))
            except CannotWrite:
                pass  # the journal lies on the same full disk: the start without a finish stands for it
            raise
        self._finish(cell, worker, status, message)

    def _cool_down(self, cell: Cell, worker: WorkerProcess) -> None:
        """Waits until the GPU is as cool as the job asks, or the time for it is up, or nobody says how hot it is.

        The worker waits beside it with its context open, as it will when the cell begins. Raises Interrupted.
        """
        target, longest = self._job.settings.cool_to_c, self._job.settings.cool_max_seconds
        if target is None:
            return
        began = time.monotonic()
        thermometer = cooling.Thermometer(self._job.power_dir, self._job.device_uuid)
        while True:
            degrees = thermometer.degrees_c()
            waited = time.monotonic() - began
            gone = worker.exit_code() is not None
            done = degrees is None or degrees <= target or waited >= longest or gone
            emit(
                "cooling",
                cell_key=cell.key,
                seconds=round(waited, 1),
                temperature_c=degrees,
                target_c=target,
                done=done,
            )
            if done:
                return
            self._interrupts.wait(worker, min(1.0, longest - waited))

    def _finish(self, cell: Cell, worker: WorkerProcess, status: str, message: str) -> None:
        journal.append(self._run_dir, "finish", cell.key, worker.name, status, message)
        emit("cell_finish", cell_key=cell.key, status=status, message=message)

    def _follow(self, cell: Cell, attempt: Attempt, worker: WorkerProcess) -> Tuple[str, str]:
        """Waits for the end of the cell, whichever it is; returns status and message."""
        deadline = time.monotonic() + self._job.settings.cell_timeout_s
        worker.start_cell(cell.key)
        while True:
            self._interrupts.wait(worker, deadline - time.monotonic())
            exit_code = worker.exit_code()
            for message in worker.receive():
                attempt.handle(message)
                event = message["event"]
                if event == "phase":
                    emit("phase", cell_key=cell.key, name=message["name"])
                elif event == "progress":
                    emit(cell_key=cell.key, **message)
                elif event == "write_error":
                    raise CannotWrite(message["message"])
                elif event == "cell_finish":
                    if message["spent"]:
                        self._drop_worker()
                    return message["status"], message["message"]
            if exit_code is not None:
                return self._write_row(cell, attempt, *_judge_death(exit_code, attempt, worker.log))
            if time.monotonic() >= deadline:
                limit = self._job.settings.cell_timeout_s
                return self._write_row(cell, attempt, "timeout", f"not done after {limit:g} s, {attempt.where}")

    def _write_row(self, cell: Cell, attempt: Attempt, status: str, message: str) -> Tuple[str, str]:
        """The files of a cell whose worker cannot write them (and is ended now)."""
        self._drop_worker()
        if cell_folder.exists(self._run_dir, cell.key):
            return self._on_disk(cell)  # it died between the rename and its last message
        row = {**attempt.row, "status": status, "message": message, "load_average_end": load_average(), "samples": 0}
        write_cell(self._run_dir, row, attempt.phase_rows())
        return status, message

    def _on_disk(self, cell: Cell) -> Tuple[str, str]:
        path = cell_folder.cell_path(self._run_dir, cell.key) / "cell.csv"
        with path.open(newline="") as file:
            row = next(csv.DictReader(file))
        return row["status"], row["message"]

    def _ready_worker(self, cell: Cell) -> WorkerProcess:
        if self._worker is not None and self._worker.exit_code() is not None:
            self._drop_worker()
        if self._worker is None:
            self._workers += 1
            began = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
            name = f"{cell.worker}_{began}_{os.getpid()}-{self._workers}"
            log = self._run_dir / "logs" / f"{name}.log"
            with writing(log.name):
                module = frontends.MODULES[cell.frontend]
                self._worker = WorkerProcess(self._job_path, name, log, self._environment, module)
        return self._worker

    def _drop_worker(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker = None
            cell_folder.remove_stale(self._run_dir)


def _judge_death(exit_code: int, attempt: Attempt, log: Path) -> Tuple[str, str]:
    """Status and message for a worker that ended without a word."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(attempt.log_begin, size - _LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    if exit_code == -signal.SIGKILL and attempt.oom_kills.struck():
        return "oom", f"the kernel's out-of-memory killer ended the worker {attempt.where}"
    if exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        end = f"the worker was ended by {name} {attempt.where}"
    else:
        end = f"the worker exited with code {exit_code} {attempt.where}"
    starved = [line for line in lines if memory.names_out_of_memory(line)] if exit_code != 0 else []
    last_words = last_telling_line(starved or lines)
    message = one_line(f"{end}; its last words: {last_words}" if last_words else end)
    return ("oom" if starved else "crashed"), message


def emit(event: str, **fields: Any) -> None:
    """Prints one event; not through sys.stdout, whose buffer would raise a second time at exit."""
    data = memoryview((json.dumps({"event": event, **fields}) + "\n").encode())
    try:
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError:
        raise Interrupted("nobody reads the events any more", 128 + signal.SIGPIPE) from None


def _read_job(arguments: List[str]) -> Tuple[Job, Path]:
    if len(arguments) != 1:
        raise BadJob("usage: python -m common.harness JOB.json")
    path = Path(arguments[0]).resolve()
    try:
        job = Job.read_here(path)
    except OSError as error:
        raise BadJob(f"cannot read {path.name}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadJob(f"{path.name} is not a job: {one_line(repr(error))}") from error
    if not Path(job.adapter).is_file():
        raise BadJob(f"there is no adapter at {job.adapter}")
    of_worker = {(c.variant, c.version, c.precision, c.tuning, c.frontend, c.replicate, c.device) for c in job.cells}
    if len(of_worker) > 1:
        raise BadJob("all cells of a job have one variant, version, precision, tuning, front end, replicate and device")
    for frontend in {cell.frontend for cell in job.cells}:
        why_not = frontends.refusal(frontend)
        if why_not is not None:
            raise BadJob(why_not)
    return job, path


def _read_model(job: Job) -> ModelFiles:
    try:
        return ModelFiles.read(Path(job.model_dir))
    except OSError as error:
        raise BadJob(f"cannot read the model in {job.model_dir}: {error.strerror}") from error
    except ValueError as error:
        raise BadJob(one_line(str(error))) from error


def _give_up(message: str) -> int:
    try:
        emit("error", message=message)
    except Interrupted:
        pass
    return 2


def main(arguments: List[str]) -> int:
    """Carries out the job named on the command line; returns the exit code."""
    try:
        job, path = _read_job(arguments)
        Supervisor(job, path).run()
        emit("job_finish")
    except (BadJob, CannotWrite) as error:
        return _give_up(str(error))
    except Interrupted as interruption:
        return interruption.exit_code
    return 0
