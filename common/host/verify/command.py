"""`invoke verify`: is what the harness measures what a plain loop measures?

For each variant, level, precision and batch size two processes are started: the harness's side
(common/harness/interleaved_side.py) and the cell's recipe (common/recipe_side.py), written for the settings that the adapter
chose, as a user would take it home. Both compile and warm up, then they take turns in blocks of about a second, in the order
AB BA AB ..., so that a drift of the machine meets both alike.
Two processes, because one would share TF32 switches, allocators and caches; both alive all the time, because starting
them anew for each pair would add what differs from process to process, and minutes of compilation.

Each pair of blocks gives one ratio of medians, harness over recipe. The result is the median of these ratios with its
95 % interval (common/stats/intervals.py): a pair that a neighbour disturbed is one of many. Target: 0.98 to 1.02.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
from rich.console import Console

from common.cell import Cell
from common.cpu_limits import default_threads
from common.errors import UserError
from common.harness import other_load, parity
from common.harness.environment import worker_environment
from common.harness.job_end import ended_by
from common.host import models
from common.host.children import dying_with_parent
from common.host.cli import parsing as opt
from common.host.cli.progress import Steps
from common.host.devices import Device, choose_devices
from common.host.frameworks.registry import Image, Variant, forms_of, load_images
from common.host.models import OnStep
from common.host.paths import IMAGES, ROOT, DataFolder
from common.host.plan.model_terms import batch_sizes_of, inputs_of
from common.host.plan.options import Options
from common.host.plan.refusals import refusal
from common.host.plan.request import precisions_for, tunings_for, variants_for
from common.host.recipes.program import TEMPLATE, RecipeRequest, has_recipe, write
from common.host.runners.jobs import Places, job_of
from common.host.runners.local import LocalRunner
from common.host.runs.run import locked
from common.host.temporary import temporary_folder
from common.job import Job, Settings
from common.model_files import ModelFiles, Tensor
from common.schema import INPUTS, IO_MODES
from common.stats.intervals import Interval
from common.stats.pairs import alternate, interval_of, latency_ratios
from common.stats.percentiles import samples_needed
from common.typed_json import parse_object

TARGET = (0.98, 1.02)
#: other work on the CPUs is no excuse for an interval that lies wholly outside this, since the blocks of both sides alternate
LOAD_MAY_EXPLAIN = (0.9, 1.1)
#: kind of device -> batch sizes: 512 images take a CPU minutes for a block
BATCH_SIZES = {"cpu": "1,32", "gpu": "1,32,512"}
#: a side must have compiled and warmed up within this; an engine for 512 images takes minutes
READY_SECONDS = 1800.0
#: beyond its length a block may take so long, in s, before its process counts as hung
BLOCK_GRACE_SECONDS = 120.0
#: that a side has to end by itself when nothing is asked of it any more
CLOSE_SECONDS = 20.0
WARM_UP_SECONDS = 2.0
RECIPE = "recipe.py"


@dataclass(frozen=True)
class LoopComparison:
    """One row of the result. Medians in ns over all blocks; ratio harness/recipe; None where `reason` says why."""

    variant: str
    tuning: str
    precision: str
    batch_size: int
    io: str
    harness_ns: float | None = None
    recipe_ns: float | None = None
    ratio: Interval | None = None
    #: relative L2 distance of the outputs for the same batch, of the output that is farthest apart; None where it is no number
    difference: float | None = None
    reason: str = ""
    #: type that is fed
    input: str = "float32"
    #: what else the CPUs did during the pairs, "" where that took nothing from either side: as mark l of a cell
    load: str = ""

    @property
    def word(self) -> str:
        """OK: the whole interval is within the target. OFF: none of it is. UNCLEAR: it reaches over an end, or none of it is within
        the target, but some of it within LOAD_MAY_EXPLAIN, and other work wanted the CPUs, which need not meet both sides alike."""
        if self.ratio is None:
            return "-"
        if self.reason:
            return "OFF"
        if TARGET[0] <= self.ratio.low and self.ratio.high <= TARGET[1]:
            return "OK"
        least, most = LOAD_MAY_EXPLAIN if self.load else TARGET
        return "OFF" if self.ratio.high < least or self.ratio.low > most else "UNCLEAR"


@dataclass(frozen=True)
class Result:
    """All rows, and under what they were measured: `facts` are lines for people."""

    verdicts: list[LoopComparison]
    device: Device
    facts: list[str]


class SideEnded(Exception):
    """A side refused, or its process ended or hung; the text says which and why."""


class SideProcess:
    """One of the two programs, as the host holds it. log: where its standard error goes."""

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self._name = name
        self._log = log
        #: CPU time of all its threads in the last block, where it tells
        self.cpu_ns: int | None = None
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                dying_with_parent(command), cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                text=True, start_new_session=True,
            )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Waits until it is compiled and warm."""
        found: dict[str, Any] = self._answer("facts", READY_SECONDS)["facts"]
        return found

    def block(self, seconds: float) -> list[int]:
        """Durations in ns of one block."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"seconds": seconds}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it said before it ended is read below
        answer = self._answer("durations_ns", seconds + BLOCK_GRACE_SECONDS)
        self.cpu_ns = answer["cpu_ns"]
        durations: list[int] = answer["durations_ns"]
        return durations

    def _answer(self, field: str, patience: float) -> dict[str, Any]:
        """The next answer that has the field."""
        assert self._process.stdout is not None
        hung = False

        def end() -> None:
            nonlocal hung
            hung = True
            self._end()

        watchdog = Timer(patience, end)
        watchdog.start()
        try:
            for line in self._process.stdout:
                answer = parse_object(line)
                if "refusal" in answer:
                    raise SideEnded(f"{self._name}: {answer['refusal']}")
                if field in answer:
                    return answer
        finally:
            watchdog.cancel()
        code = self._process.wait()
        words = self._log.read_text(errors="replace").strip().splitlines()
        end_of_it = f"gave no answer within {patience:g} s and was ended" if hung else ended_by(code)
        raise SideEnded(f"{self._name} {end_of_it}: {words[-1] if words else 'it said nothing'}")

    def cpu_s(self) -> float | None:
        """CPU time of the process so far, all its threads; None where the kernel does not tell."""
        try:
            # the name, in brackets, may hold blanks; after it utime and stime are the 12th and 13th (proc(5))
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return None

    def close(self) -> None:
        """Lets it end by itself; after Ctrl-C it is ended, for one that compiles or builds an engine hears nothing for minutes."""
        assert self._process.stdin is not None and self._process.stdout is not None
        interrupted = isinstance(sys.exc_info()[1], KeyboardInterrupt)
        try:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait(timeout=0 if interrupted else CLOSE_SECONDS)
        except BaseException as error:  # Ctrl-C may come while it is waited for
            self._end()
            self._process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
        finally:
            self._process.stdout.close()

    def _end(self) -> None:
        """With what it started itself, such as inductor's compilers."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def side_environment(job: Job) -> dict[str, str]:
    """A worker's variables; what frameworks drop in $TMPDIR goes with the job's folder, as in a run with the supervisor's."""
    temporary = Path(job.run_dir).resolve() / "tmp"
    temporary.mkdir(exist_ok=True)
    return {**worker_environment(job), "TMPDIR": str(temporary)}


@dataclass(frozen=True)
class Case:
    """What one row is about, and all that its two processes need."""

    variant: Variant
    image: Image
    tuning: str
    precision: str
    batch_size: int
    io: str
    interpreter: Path
    model: ModelFiles
    device: Device
    cache: Path
    threads: int | None
    #: all batch sizes that are verified, or those of the run whose engine is to be used: comma list
    batch_sizes: str
    #: type that is fed
    input: str = "float32"

    @property
    def cell(self) -> Cell:
        return Cell(
            model=self.model.name, variant=self.variant.name, precision=self.precision, batch_size=self.batch_size,
            io=self.io, device=self.device.name, tuning=self.tuning, input=self.input,
        )  # fmt: skip

    def job(self, folder: Path) -> Job:
        places = Places(str(folder), str(self.model.root), str(self.image.adapter), str(self.cache))
        settings = Settings(warmup_max_seconds=WARM_UP_SECONDS)
        return job_of([self.cell], self.image.name, self.device, places, "local", settings, self.threads)

    def environment(self, job: Job) -> dict[str, str]:
        """What a process of either side is given: a worker's variables, and the case's device as the only one in sight."""
        return {
            **side_environment(job),
            "CUDA_VISIBLE_DEVICES": self.device.uuid if self.device.kind == "gpu" else "",
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            # TensorRT builds one engine for all of these, in minutes
            "FRAMEWATT_BATCH_SIZES": self.batch_sizes,
        }

    def recipe(self, settings: Mapping[str, str]) -> str:
        """The program. settings: those that the adapter chose for this shape. Raises UserError where there is none."""
        request = RecipeRequest(
            key=self.cell.key, variant=self.variant.name, tuning=self.tuning, precision=self.precision,
            batch_size=self.batch_size, io=self.io, gpu=self.device.kind == "gpu", settings=settings, model=self.model,
            threads=self.threads, input=self.input,
        )  # fmt: skip
        return write(request, self.image)

    def request(self, folder: Path, settings: Mapping[str, str]) -> dict[str, Any]:
        """What the recipe's side is told. An engine that takes minutes to build is the adapter's."""
        engine = self.cache / "tensorrt" / settings["engine_file"] if "engine_file" in settings else None
        return {
            "recipe": str(folder / RECIPE),
            "model": str(engine) if engine is not None and engine.is_file() else None,
            "inputs": str(folder / "batch.npz"),
            "outputs": str(folder / "recipe.npz"),
        }


@contextmanager
def both_sides(case: Case, folder: Path) -> Iterator[tuple[SideProcess, SideProcess]]:
    """(harness, recipe), compiled and warm."""
    job = case.job(folder)
    job.write(folder / "job.json")
    environment = case.environment(job)
    python = str(case.interpreter)
    command = [python, "-m", "common.harness.interleaved_side", str(folder / "job.json")]
    harness = SideProcess("the harness", command, environment, folder / "harness.log")
    try:
        chosen = harness.facts()["settings"]
        try:
            (folder / RECIPE).write_text(case.recipe(chosen))
        except (UserError, FileNotFoundError) as error:
            raise SideEnded(str(error)) from error
        (folder / "request.json").write_text(json.dumps(case.request(folder, chosen)))
        command = [python, "-m", "common.recipe_side", str(folder / "request.json")]
        recipe = SideProcess("the recipe", command, environment, folder / "recipe.log")
        try:
            recipe.facts()
            yield harness, recipe
        finally:
            recipe.close()
    finally:
        harness.close()


def compare(case: Case, pairs: int, block_seconds: float, folder: Path) -> LoopComparison:
    """Measures one row; a side that cannot is its reason."""
    row = {
        "variant": case.variant.name, "tuning": case.tuning, "precision": case.precision, "batch_size": case.batch_size,
        "io": case.io, "input": case.input,
    }  # fmt: skip
    try:
        with both_sides(case, folder) as (harness, recipe):
            for side in (harness, recipe):  # both warm on the machine as it is with both of them
                side.block(block_seconds)
            begin = load_of(harness, recipe)
            blocks = alternate(partial(harness.block, block_seconds), partial(recipe.block, block_seconds), pairs)
            load = other_work(begin, load_of(harness, recipe), os.cpu_count() or 1)
    except SideEnded as ended:
        return LoopComparison(**row, reason=str(ended))  # type: ignore[arg-type]
    # Both ran the same network, so their distance has nothing of the precision's own error but rounding.
    difference, why = held_against(folder, case.model.outputs, parity.TOLERANCES[case.precision][1])
    return LoopComparison(
        **row,  # type: ignore[arg-type]
        harness_ns=float(np.median(np.concatenate([one for one, _ in blocks]))),
        recipe_ns=float(np.median(np.concatenate([other for _, other in blocks]))),
        ratio=interval_of([latency_ratios(blocks)]),
        difference=difference,
        reason=why,
        load=load,
    )


def load_of(*sides: SideProcess) -> other_load.Reading | None:
    """How much the CPUs have worked so far, for the sides and in all; None where the kernel does not tell."""
    times = [side.cpu_s() for side in sides]
    own = [one for one in times if one is not None]
    return other_load.read(own_s=sum(own)) if len(own) == len(times) else None


def other_work(begin: other_load.Reading | None, end: other_load.Reading | None, cpus: int) -> str:
    """What else the CPUs did between two readings, in words, where it took something from the sides; "" else."""
    found = other_load.between(begin, end)
    if not found or not other_load.disturbed(found["cpus_own"], found["cpus_other"], cpus):
        return ""
    return f"others kept {found['cpus_other']:.1f} and the two sides {found['cpus_own']:.1f} of {cpus} CPUs busy"


def held_against(folder: Path, outputs: Sequence[Tensor], tolerance: float) -> tuple[float | None, str]:
    """How far apart the two sides' outputs are, of several those that are farthest, None where that is no number; and why that
    is too far, "" where it is not.

    outputs: of the model. Those that hold random numbers are there, but nothing can be held against them.
    """
    sides = {side: arrays_of(folder, side) for side in ("harness", "recipe")}
    names = {f"array_{number}": tensor.name for number, tensor in enumerate(outputs)}
    lacks = [
        f"the {side} lacks the output{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}"
        for side, arrays in sides.items()
        if (lacking := [name for key, name in names.items() if key not in arrays])
    ]
    if lacks:
        return None, "; ".join(lacks)
    far = 0.0
    for key, tensor in zip(names, outputs, strict=True):
        ours, theirs = sides["harness"][key], sides["recipe"][key]
        if tensor.kind == "random":
            continue
        if ours.size != theirs.size:
            return (
                None,
                f"the output {tensor.name} has the shape {ours.shape} in the harness, {theirs.shape} in the recipe",
            )
        apart = parity.differing(ours, theirs)
        if not math.isfinite(apart):
            return None, f"the output {tensor.name} holds NaN or infinity where the other side has another value"
        far = max(far, apart)
    return far, "" if far <= tolerance else f"the outputs differ by {far:.2g}, more than {tolerance:g}"


def arrays_of(folder: Path, stem: str) -> dict[str, np.ndarray]:
    """What a side wrote: array_0, array_1, ... in the order of the model's outputs."""
    with np.load(folder / f"{stem}.npz") as arrays:
        return {name: arrays[name] for name in arrays}


def thread_count(options: Options, device: Device) -> int | None:
    """The same for both sides, also where it is by default."""
    if options.threads:
        return opt.whole("--threads", options.threads)
    return default_threads() if device.kind == "cpu" else None


def verify(
    options: Options,
    pairs: int,
    block_seconds: float,
    console: Console,
    data: DataFolder,
    images_folder: Path = IMAGES,
    on_row: Callable[[LoopComparison], None] = lambda row: None,
) -> Result:
    """Measures all rows that the options ask for. Raises UserError before anything is started.

    on_row: called with each as it is there, since a row takes a minute and a call of many may be cut short.
    """
    _check_blocks(pairs, block_seconds)
    images = load_images(images_folder)
    device = _one_device(options)
    variants = variants_for(options, images, [device], console)
    precisions = precisions_for(options, variants, device.kind)
    batch_sizes = opt.batch_sizes(options.batch_sizes or BATCH_SIZES[device.kind])
    tunings = tunings_for(options, variants, console)
    # on a CPU the device is the host: both ways are one, but for a copy in memory
    io_modes = opt.choose("io", options.io or ("host" if device.kind == "cpu" else "host,device"), IO_MODES)
    asked = tuple(opt.choose("input", options.input, INPUTS))
    export_options = models.export_options_of(options)
    models.check(models.source(options.model), export_options)
    by_name = {image.name: image for image in images}
    runner = LocalRunner(by_name, options.python or None)
    threads = thread_count(options, device)
    with locked(data.locks / f"{device.uuid or device.name}.lock", f"{device.name} ({device.product})"):
        steps = Steps(console)
        with steps.show("Setting up") as on_step:
            runner.prepare(variants, "gpu" if device.kind == "gpu" else "cpu", on_step)
        with steps.show("Exporting the model") as on_step:
            model = runner.ensure_model(options.model, data, export_options, on_step, forms_of(variants, precisions))
        inputs = inputs_of(asked, model, console)
        batch_sizes = list(batch_sizes_of(batch_sizes, options, model, console))
        engine_for = os.environ.get("FRAMEWATT_BATCH_SIZES") or ",".join(map(str, batch_sizes))
        cases = [
            Case(
                variant, by_name[variant.image], tuning, precision, batch_size, io, runner.interpreter(variant.image), model, device,
                data.framework_cache(variant.image), threads, engine_for, fed,
            )
            for variant in variants
            for precision in precisions
            if precision in variant.precisions(device.kind)
            for tuning in tunings
            if tuning in variant.tunings
            for batch_size in batch_sizes
            for io in io_modes
            for fed in inputs
        ]  # fmt: skip
        began, load = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), os.getloadavg()[0]
        with steps.show("Verifying") as on_step:
            verdicts = _compare_all(cases, pairs, block_seconds, on_step, on_row)
    how = f"{pairs} pairs of blocks of {block_seconds:g} s"
    return Result(verdicts, device, [*_conditions(device, began, load), f"{how}; {_about(model)}"])


def _conditions(device: Device, began: str, load: float) -> list[str]:
    """load: average before."""
    return [
        f"{device.product} ({device.name}), {os.cpu_count()} CPUs seen; begun {began}",
        f"load average {load:.1f} before, {os.getloadavg()[0]:.1f} after; both sides of a pair are counted in the latter",
    ]


def _about(model: ModelFiles) -> str:
    return f"model {model.name} ({model.hash}); {model.weights_note}"


def _one_device(options: Options) -> Device:
    devices = choose_devices(options.device or None, options.gpu or None)
    if len(devices) != 1:
        raise UserError(f"verify measures on one device at a time, not on {len(devices)}")
    return devices[0]


def _check_blocks(pairs: int, block_seconds: float) -> None:
    if pairs < samples_needed(50):
        raise UserError(f"--pairs {pairs} is too few for an interval of the median; at least {samples_needed(50)}")
    if not 0 < block_seconds < math.inf:
        raise UserError(f"--block-seconds must be more than zero, not {block_seconds:g}")


def _compare_all(
    cases: Sequence[Case], pairs: int, block_seconds: float, on_step: OnStep, on_row: Callable[[LoopComparison], None]
) -> list[LoopComparison]:
    found = []
    for done, case in enumerate(cases):
        row = (case.variant.name, case.tuning, case.precision, case.batch_size, case.io)
        on_step(done, len(cases), f"{row[0]} {row[1]} {row[2]} batch {row[3]} {row[4]} {case.input}")
        reason = refusal(case.cell, case.variant, case.model)
        if reason is not None:
            found.append(LoopComparison(*row, reason=reason, input=case.input))
        elif not has_recipe(case.image):  # before minutes are spent on an engine
            found.append(LoopComparison(*row, reason=f"images/{case.image.name} has no {TEMPLATE}", input=case.input))
        else:
            with temporary_folder("verify") as folder:
                found.append(compare(case, pairs, block_seconds, folder))
        on_row(found[-1])
    return found
