"""The worker: imports one framework and runs cells with it, one after the other, until told to stop.

Started by the supervisor (`process.py`). Phases of a cell, each timed on CLOCK_MONOTONIC:

    import   the adapter's file and create(), which imports the framework   once a worker, repeated in each cell's rows
    convert  adapter.convert(), where it has one: a form of the model into the framework's own       likewise
    load     adapter.load()                                                 likewise
    compile  adapter.prepare() of the cell's shape
    first    the first inference after it: frameworks that compile when they run do it here
    parity   8 reference images (and the user's picture) through the same shape, compared
    idle_before  nothing but sleep, with the framework's context open: what the device draws when it waits
    warmup   inferences until their duration is steady
    measure  the measured window: the only one whose inferences are in samples.csv
    device   a few inferences timed by the framework's own events; only where it can tell
    idle     sleep again, now with the device warm
    trace    a few inferences recorded kernel by kernel; only where the job asks for it (`invoke explain`)

The two idle phases are left out where no sidecar writes a power file: nobody would read it.

Messages to the supervisor, one JSON object a line:

    phase        name, start_ns                  when it begins
    phase_end    name, start_ns, end_ns
    facts        row: columns of cell.csv that are known by now
    progress     fraction, samples, images_per_s; the last one of a cell: of the whole window, as tables have it
    cell_finish  status, message, spent: whether this worker should be replaced by a fresh one
    write_error  message: the run's folder takes no more
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from common.cell import Cell
from common.harness import loop, memory, other_load, parity, scenarios
from common.harness.adapter import Adapter, Arrays, DeviceOutOfMemory, Unsupported
from common.harness.causes import OwnLog, in_words
from common.harness.cell_folder import CannotWrite
from common.harness.process import die_with
from common.harness.reference import NamedArrays, Reference, as_fed, picture_batch
from common.harness.rows import CELL_MARK, begin_row, load_average, one_line
from common.harness.tracing import CannotTrace, Trace, window
from common.harness.writer import PhaseRow, write_cell
from common.job import Job
from common.model_files import ModelFiles
from common.window_edges import EDGE_SECONDS, mark_edge

Send = Callable[..., None]

#: a progress message at the most this often
_PROGRESS_NS = 500_000_000


class Outcome(NamedTuple):
    """How a cell ended. spent: the worker is not to be trusted with another one."""

    status: str
    message: str = ""
    spent: bool = False


class Record:
    """What is known of the running cell, told to the supervisor as it becomes known: it may have to write the row."""

    def __init__(self, row: Dict[str, Any], shared: List[PhaseRow], send: Send) -> None:
        self.row = row
        self.phases: List[PhaseRow] = list(shared)
        self.measurement: Optional[scenarios.Measurement] = None
        self.device_times: Optional[List[Tuple[int, int, int]]] = None
        self.trace: Optional[Trace] = None
        self._send = send
        for name, start_ns, end_ns in shared:
            send("phase_end", name=name, start_ns=start_ns, end_ns=end_ns)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._send("phase", name=name, start_ns=time.monotonic_ns())
        start_ns = time.monotonic_ns()
        try:
            yield
        finally:
            self.end_phase(name, start_ns, time.monotonic_ns())

    def end_phase(self, name: str, start_ns: int, end_ns: int) -> None:
        self.phases.append((name, start_ns, end_ns))
        self._send("phase_end", name=name, start_ns=start_ns, end_ns=end_ns)

    def update(self, **facts: Any) -> None:
        self.row.update(facts)
        self._send("facts", row=facts)


class Worker:
    """Runs cells of one job.

    name: for the rows. send(event, **fields): sends a message to the supervisor. versions: of what it runs in, for the rows.
    """

    def __init__(self, job: Job, name: str, send: Send, versions: Mapping[str, str]) -> None:
        self._job = job
        self._name = name
        self._send = send
        self._model = ModelFiles.read(Path(job.model_dir))
        self._adapter: Optional[Adapter] = None
        self._create: Optional[Callable[[str], Adapter]] = None
        self._loaded = False
        self._shared: List[PhaseRow] = []
        self._versions = versions

    def run_cell(self, cell: Cell) -> Outcome:
        """Measures a cell and writes its files. Whatever the adapter does becomes a row; raises only CannotWrite."""
        print(f"{CELL_MARK}{cell.key}", file=sys.stderr, flush=True)
        own_log = OwnLog()
        memory.reset_peak()
        row = {**begin_row(self._job, cell, self._model, self._name), "python_version": platform.python_version()}
        record = Record(row, self._shared, self._send)
        try:
            outcome = self._measure(cell, record)
        except BaseException as error:
            lines = own_log.lines()
            try:
                traceback.print_exc()
                sys.stderr.flush()  # a kernel's standard error is not written at once, and this worker is ended soon
            except MemoryError:
                pass  # not even that fits; the row says what happened
            outcome = _failure(error)
            refused = outcome.status == "unsupported" and error.__cause__ is not None
            if (outcome.status == "crashed" or refused) and record.measurement is None:
                phase = record.phases[-1][0] if record.phases else "import"
                outcome = outcome._replace(message=in_words(outcome.message, error, lines, phase, cell.version))
        row.update(
            status=outcome.status,
            message=outcome.message or None,
            host_peak_bytes=memory.peak_bytes(),
            load_average_end=load_average(),
        )
        done = record.measurement
        write_cell(
            Path(self._job.run_dir),
            row,
            record.phases,
            [] if done is None else done.starts_ns.tolist(),
            [] if done is None else done.ends_ns.tolist(),
            None if done is None or done.scheduled_ns is None else done.scheduled_ns.tolist(),
            record.device_times,
            None if record.trace is None else window.rows(record.trace),
        )
        return outcome

    def close(self) -> None:
        if self._adapter is not None:
            self._adapter.close()

    def _measure(self, cell: Cell, record: Record) -> Outcome:
        scenario = scenarios.find(cell.scenario)
        if scenario is None:
            return Outcome("unsupported", f"this harness has no scenario {cell.scenario}")
        why_not = scenario.unsupported(cell)
        if why_not is None and self._model.unmeasurable:
            return self._unmeasurable(cell, record)
        if why_not is None:
            why_not = self._open(cell, record)
        if why_not is not None or self._adapter is None:
            return Outcome("unsupported", one_line(why_not or ""))
        adapter, settings = self._adapter, self._job.settings

        why_not = self._model.unfit(cell.batch_size)
        if why_not is not None:
            return Outcome("unsupported", why_not)
        reference = Reference.read(self._model)
        batches = [as_fed(batch, cell.input, self._model) for batch in reference.batches(cell.batch_size)]
        expect(adapter, cell)
        with record.phase("compile"):
            adapter.prepare(batches[0], cell.io)
        record.update(settings=self._settings(adapter, {}))
        with record.phase("first"):
            adapter.run()
        with record.phase("parity"):
            verdict = self._check(adapter, cell, reference, batches, record)
        outcome = Outcome("ok") if verdict.passed else Outcome("parity_failed", verdict.reason)

        stage = self._stage(adapter, cell, batches[0])
        self._idle(record, "idle_before")
        progress = _Progress(self._send, settings.warmup_max_seconds, settings.max_seconds)
        with loop.collector_held() as collector_off:
            with record.phase("warmup"):
                warmup = scenario.warm_up(stage, cell, settings, progress.warming)
                self._edge(adapter.run)
            record.update(warmup_runs=warmup.runs, warmup_stop=warmup.stop)
            collector_off()
            self._send("phase", name="measure", start_ns=time.monotonic_ns())
            before = other_load.read()
            done = scenario.measure(stage, cell, settings, warmup, progress.measuring)
            record.update(**other_load.between(before, other_load.read()))
        record.end_phase("measure", done.begin_ns, done.end_ns)
        self._edge()
        record.measurement = done
        progress.measured(cell, done)
        record.update(settings=self._settings(adapter, done.notes))
        if done.failure and outcome.status == "ok":
            outcome = Outcome("timeout", one_line(done.failure))
        record.update(stop_reason=done.stop_reason, device_peak_bytes=adapter.device_peak_bytes())
        record.row["samples"] = len(done.starts_ns)
        record.device_times = self._time_on_device(adapter, record)
        self._idle(record, "idle")
        if settings.trace_runs > 0:
            with record.phase("trace"):
                record.trace = self._trace(cell, batches[0])
            outcome = outcome._replace(spent=True)  # what a recorder leaves in a process cannot be known
        return outcome

    def _settings(self, adapter: Adapter, notes: Mapping[str, str]) -> str:
        """For the row: what the adapter chose, and by what variables the caller chose for it."""
        return json.dumps({**self._job.environment, **adapter.settings(), **notes}, sort_keys=True)

    def _edge(self, busy: Callable[[], None] = lambda: time.sleep(EDGE_SECONDS)) -> None:
        """Lets the sidecar read the energy counter here, outside of the window: before it under the load, after it at rest."""
        power = self._job.power_dir
        if power is not None and any(Path(power).glob("power*.csv")):
            mark_edge(Path(self._job.run_dir))
            end_ns = time.monotonic_ns() + int(EDGE_SECONDS * 1e9)
            while time.monotonic_ns() < end_ns:
                busy()

    def _unmeasurable(self, cell: Cell, record: Record) -> Outcome:
        """Why no framework is measured with this model, and what this one says of it, whatever it stumbles over."""
        failure = Outcome("unsupported")
        try:
            failure = failure._replace(message=self._open(cell, record) or "")
        except Exception as error:
            failure = _failure(error)
            if failure.spent:
                traceback.print_exc()
        own = f"; {cell.variant}: {failure.message}" if failure.message else ""
        return Outcome("unsupported", one_line(f"{self._model.unmeasurable}{own}"), failure.spent)

    def _trace(self, cell: Cell, inputs: Arrays) -> Trace:
        """The traced window, of an adapter made anew: a recorder must be there before graphs are captured or models loaded."""
        assert self._adapter is not None
        settings = self._job.settings
        try:
            if self._job.device == "cpu":
                fresh = self._fresh(cell)
                recorder = window.profiler_of(fresh)
                return window.record(self._adapter, self._ready(fresh, cell, inputs), recorder, settings)
            recorder = window.attach_to_gpu()
            self._adapter.close()
            self._adapter = self._ready(self._fresh(cell), cell, inputs)
            self._adapter.run()
            return window.record(self._adapter, self._adapter, recorder, settings)
        except CannotTrace as error:
            return window.failed(error)
        except Exception as error:  # the cell has been measured: it does not fall with its trace
            traceback.print_exc()
            return window.failed(error)

    def _idle(self, record: Record, name: str) -> None:
        """Sleeps with the framework's context open while the sidecar reads what the device draws.

        Before warm-up everything is compiled and allocated and nothing runs: but for the heat that the load will bring,
        the state is the one that the device falls back to after the window.
        """
        seconds, power = self._job.settings.idle_seconds, self._job.power_dir
        if seconds > 0 and power is not None and any(Path(power).glob("power*.csv")):
            with record.phase(name):
                time.sleep(seconds)

    def _open(self, cell: Cell, record: Record) -> Optional[str]:
        """Imports and loads, once a worker; None, or why the cell is not supported."""
        if self._adapter is None:
            with record.phase("import"):
                self._create = import_adapter(Path(self._job.adapter))
                self._adapter = self._create(cell.variant)
                tune(self._adapter, cell.tuning)
            self._shared.append(record.phases[-1])
        self._record_versions(self._adapter, record)
        why_not = self._adapter.supports(scenarios.for_one_adapter(cell))
        if why_not is None and not self._loaded:
            job = self._job
            convert = getattr(self._adapter, "convert", None)
            if convert is not None:
                with record.phase("convert"):
                    convert(self._model, cell.precision, job.device, job.cache_dir)
                self._shared.append(record.phases[-1])
            with record.phase("load"):
                self._adapter.load(self._model, cell.precision, job.device, job.cache_dir, job.threads)
            self._shared.append(record.phases[-1])
            self._loaded = True
            self._record_versions(self._adapter, record)
        return why_not

    def _record_versions(self, adapter: Adapter, record: Record) -> None:
        versions = adapter.versions()
        everything = json.dumps({**self._versions, **versions}, sort_keys=True)
        record.update(versions=everything)
        if versions.get("framework"):  # else as the host knows it
            record.update(framework_version=versions["framework"])

    def _stage(self, adapter: Adapter, cell: Cell, inputs: Arrays) -> scenarios.Stage:
        """What the scenario may use; `inputs` is in place."""
        adapter.run()
        drawn = {tensor.name for tensor in self._model.outputs if tensor.kind == "random"}
        expected = {name: one for name, one in scenarios.held(adapter.output()).items() if name not in drawn}
        return scenarios.Stage(adapter, expected, cell.precision, lambda: self._another(cell, inputs), self._job.seed)

    def _another(self, cell: Cell, inputs: Arrays) -> Adapter:
        """One more adapter for this cell, loaded and prepared, with `inputs` in place."""
        return self._ready(self._fresh(cell), cell, inputs)

    def _fresh(self, cell: Cell) -> Adapter:
        assert self._create is not None
        one = self._create(cell.variant)
        tune(one, cell.tuning)
        why_not = one.supports(scenarios.for_one_adapter(cell))
        if why_not is not None:
            raise Unsupported(why_not)
        return one

    def _ready(self, one: Adapter, cell: Cell, inputs: Arrays) -> Adapter:
        job = self._job
        convert = getattr(one, "convert", None)
        if convert is not None:
            convert(self._model, cell.precision, job.device, job.cache_dir)
        one.load(self._model, cell.precision, job.device, job.cache_dir, job.threads)
        expect(one, cell)
        one.prepare(inputs, cell.io)
        return one

    def _check(
        self, adapter: Adapter, cell: Cell, reference: Reference, batches: List[NamedArrays], record: Record
    ) -> parity.Parity:
        """Parity of this shape, and the classes of the user's picture. The first batch has run, and is in place again."""
        outputs: List[Arrays] = []
        for number, batch in enumerate(batches):
            if number > 0:
                adapter.prepare(batch, cell.io)
                adapter.run()
            outputs.append(scenarios.held(adapter.output()))
        verdict = parity.compare_all(outputs, reference, cell.batch_size, cell.precision)
        record.update(**verdict.columns)
        if self._job.picture is not None:
            picture = picture_batch(Path(self._job.picture), cell.batch_size, self._model)
            adapter.prepare(as_fed(picture, cell.input, self._model), cell.io)
            adapter.run()
            record.update(top3=_top3(adapter.output()[self._model.outputs[0].name][0]))
        if self._job.picture is not None or len(batches) > 1:
            adapter.prepare(batches[0], cell.io)
        return verdict

    def _time_on_device(self, adapter: Adapter, record: Record) -> Optional[List[Tuple[int, int, int]]]:
        """The `device` phase: (start_ns, end_ns, device_ns) of each inference, None where the framework cannot tell."""
        runs = self._job.settings.device_time_runs
        if runs <= 0 or adapter.run_timed() is None:
            return None
        times: List[Tuple[int, int, int]] = []
        with record.phase("device"):
            for _ in range(runs):
                start_ns = time.monotonic_ns()
                device_ns = adapter.run_timed()
                end_ns = time.monotonic_ns()
                if device_ns is not None:
                    times.append((start_ns, end_ns, device_ns))
        return times


class _Progress:
    """Tells the supervisor how far the cell is, as a share of the time that warm-up and window may take together."""

    def __init__(self, send: Send, warmup_seconds: float, window_seconds: float) -> None:
        self._send = send
        self._warmup_share = warmup_seconds / max(warmup_seconds + window_seconds, 1e-9)
        self._next_ns = 0

    def warming(self, images: int, runs: int, share: float, elapsed: float) -> None:
        self._report(images, 0, share * self._warmup_share, elapsed)

    def measuring(self, images: int, runs: int, share: float, elapsed: float) -> None:
        self._report(images, runs, self._warmup_share + share * (1 - self._warmup_share), elapsed)

    def measured(self, cell: Cell, done: scenarios.Measurement) -> None:
        """The whole window's throughput, as tables have it: from the begin of its first inference to the end of its last."""
        samples = len(done.starts_ns)
        if samples:
            images = samples * (1 if cell.scenario == "server" else cell.batch_size)
            seconds = (int(np.max(done.ends_ns)) - int(np.min(done.starts_ns))) / 1e9
            self._next_ns = 0
            self._report(images, samples, 1.0, seconds)

    def _report(self, images: int, samples: int, fraction: float, elapsed: float) -> None:
        now = time.monotonic_ns()
        if now >= self._next_ns:
            self._next_ns = now + _PROGRESS_NS
            rate = images / max(elapsed, 1e-9)
            self._send("progress", fraction=round(fraction, 4), samples=samples, images_per_s=round(rate, 2))


def _failure(error: BaseException) -> Outcome:
    name = type(error).__name__
    if isinstance(error, Unsupported):
        return Outcome("unsupported", one_line(str(error)) or name)
    if isinstance(error, scenarios.OutputDiffers):
        return Outcome("parity_failed", one_line(str(error)))
    message = one_line(f"{name}: {error}") if str(error) else name
    if isinstance(error, (MemoryError, DeviceOutOfMemory)) or memory.names_out_of_memory(message):
        return Outcome("oom", message, spent=True)
    return Outcome("crashed", message, spent=True)


def expect(adapter: Adapter, cell: Cell) -> None:
    """Tells an adapter that wants to know it how the cell will be run."""
    method = getattr(adapter, "expect", None)
    if method is not None:
        method(cell)


def tune(adapter: Adapter, level: str) -> None:
    """Tells a new adapter its level of tuning. Raises Unsupported where it has that level not."""
    method = getattr(adapter, "tune", None)
    if method is not None:
        method(level)
    elif level != "tuned":
        raise Unsupported(f"this adapter has no level of tuning but tuned, not {level}")


def import_adapter(path: Path) -> Callable[[str], Adapter]:
    """Imports `images/<image>/adapter.py` by its path; returns its create()."""
    spec = importlib.util.spec_from_file_location("framewatt_adapter", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    create: Callable[[str], Adapter] = module.create
    return create


def _top3(output: np.ndarray) -> str:
    """JSON list of [class, value], best first, of one row of output."""
    best = np.argsort(-output, kind="stable")[:3]
    return json.dumps([[int(c), round(float(output[c]), 6)] for c in best])


def main(arguments: List[str], versions: Mapping[str, str] = {}) -> int:
    """job.json, the worker's name, and the descriptors of commands, events and lifeline. versions: see Worker."""
    commands, events, lifeline = (int(number) for number in arguments[2:])
    die_with(lifeline)
    for descriptor in (commands, events, lifeline):
        os.set_inheritable(descriptor, False)
    job = Job.read_here(Path(arguments[0]))
    name = arguments[1]

    def send(event: str, **fields: Any) -> None:
        data = memoryview((json.dumps({"event": event, **fields}) + "\n").encode())
        while data:
            data = data[os.write(events, data) :]

    cells = {cell.key: cell for cell in job.cells}
    worker = Worker(job, name, send, versions)
    with os.fdopen(commands) as lines:
        for line in lines:
            try:
                outcome = worker.run_cell(cells[json.loads(line)["cell_key"]])
            except CannotWrite as error:
                send("write_error", message=str(error))
                return 1
            send("cell_finish", **outcome._asdict())
            if outcome.spent:
                return 1
    worker.close()
    return 0


if __name__ == "__main__":
    # Not sys.exit: the interpreter would wait for the threads that a failed framework left behind.
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
