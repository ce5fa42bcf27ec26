"""The main job: options -> request -> run folder -> jobs on one or more devices -> finished cells."""

from __future__ import annotations

import math
import random
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from common.errors import UserError, unknown
from common.harness.cell_folder import CannotWrite
from common.harness.idle import spell_without_context
from common.host import models
from common.host.cli import parsing as opt
from common.host.cli.progress import CellProgress, Steps
from common.host.devices import Device, choose_devices, taken
from common.host.doctor.checks import describe
from common.host.doctor.command import cheap_findings
from common.host.frameworks.registry import Image, Variant, all_variants, choose_variants, forms_of, load_images
from common.host.host_info import boot_id, describe_host, source_revision
from common.host.paths import IMAGES, DataFolder
from common.host.plan.jobs import PlannedJob, Request, cost, make_plan, planned_keys
from common.host.plan.loads import Load, parse_loads
from common.host.plan.options import Options
from common.host.plan.subset import Part
from common.host.runners.base import Context, Runner, RunnerFacts
from common.host.runners.events import OnEvent
from common.host.runners.power_intake import recover_power
from common.host.runners.sidecar import looked_after
from common.host.runners.staging import recover
from common.host.runs.run import (
    Run,
    check_writable,
    find_unfinished,
    locked,
    make_folder,
    set_boots_apart,
    typed_command,
    utc_now,
)
from common.job import WORKERS, Settings
from common.model_files import ModelFiles
from common.schema import FRONTENDS, INPUTS, IO_MODES, PRECISIONS, SCHEMA_VERSION, TUNINGS

STUDY_BATCH_SIZES = "8,16,32,64,128,256,512"
QUICK_BATCH_SIZES = "1,8,32"
#: queries of the server scenario are single images; more than one at a time is for those who ask for it
SERVER_BATCH_SIZES = "1"


@dataclass
class Outcome:
    """What became of a run."""

    run: Run
    statuses: dict[str, int]
    errors: list[str]
    interrupted: bool


#: a cell's window, and the images that it holds at least, where a single worker measures it
MIN_SECONDS, MAX_SECONDS, MIN_IMAGES = 5.0, 30.0, 512
#: and of each of several, where sharing it out would leave less: on a GPU thirty steps of NVML's energy counter and the six
#: stretches of half a second that its spread takes, on the CPU enough for its clocks to be seen
LEAST_SECONDS = {"gpu": 3.0, "cpu": 2.0}


def workers_of(options: Options, name: str = "--replicates") -> int:
    """Fresh workers of a cell: a verdict takes several, a first look (`--quick`) one. name: of what the user gave."""
    return opt.whole(name, options.replicates or (1 if options.quick else WORKERS))


def settings_of(options: Options, kind: str = "gpu") -> Settings:
    """How long each worker measures a cell; what the user does not give is shared out among the cell's workers.

    kind: of device, cpu or gpu. `--quick` is for a first look: intervals are wide and energy is not to be trusted.
    """
    workers = workers_of(options)
    quick = {
        "min_seconds": 1.0,
        "max_seconds": 4.0,
        "warmup_max_seconds": 2.0,
        "idle_seconds": 0.3,
        "cell_timeout_s": 120.0,
        "min_images": 1,
    }
    shared = {
        "min_seconds": MIN_SECONDS if workers == 1 else max(MIN_SECONDS / workers, LEAST_SECONDS[kind]),
        "max_seconds": MAX_SECONDS / min(workers, 3),
        "min_images": opt.whole("--images", options.images or math.ceil(MIN_IMAGES / workers)),
    }
    values: dict[str, Any] = dict(quick if options.quick else shared)
    given = {
        "min_seconds": options.min_seconds,
        "max_seconds": options.max_seconds,
        "warmup_max_seconds": options.warmup_seconds,
        "cell_timeout_s": options.cell_timeout,
        "cool_to_c": options.cool_to,
        "cool_max_seconds": options.cool_max_seconds,
    }
    for name, value in given.items():
        if value:
            values[name] = opt.positive(
                "--" + name.replace("warmup_max", "warmup").removesuffix("_s").removesuffix("_c").replace("_", "-"),
                value,
            )
    if options.idle_seconds >= 0:
        values["idle_seconds"] = options.idle_seconds
    if options.batch_window_ms >= 0:
        values["batch_window_ms"] = options.batch_window_ms
    values.update(options.settings)
    settings = Settings(**values)
    if settings.max_seconds < settings.min_seconds:
        if options.max_seconds:
            raise UserError(
                f"--max-seconds {settings.max_seconds:g} is less than --min-seconds {settings.min_seconds:g}"
            )
        settings = Settings(**{**values, "max_seconds": settings.min_seconds * 3})
    return settings


def default_batch_sizes(quick: bool, loads: Sequence[Load]) -> str:
    if all(load.scenario == "server" for load in loads):
        return SERVER_BATCH_SIZES
    return QUICK_BATCH_SIZES if quick else STUDY_BATCH_SIZES


def variants_for(
    options: Options, images: Sequence[Image], devices: Sequence[Device], console: Console
) -> list[Variant]:
    """Named variants must all be able to run; without names it is every variant that can, and the others are said."""
    kind = devices[0].kind
    capability = devices[0].compute_capability
    if options.framework:
        chosen = choose_variants(list(images), opt.choose("framework", options.framework, all_variants(images)))
        for variant in chosen:
            if not variant.precisions(kind):
                able = [v.name for v in all_variants(images).values() if v.precisions(kind)]
                raise UserError(f"{variant.name} does not run on a {kind.upper()}; there is {', '.join(able)}")
        return chosen
    chosen = []
    for variant in all_variants(images).values():
        reason = variant.refusal(kind, capability)
        if reason is None:
            chosen.append(variant)
        else:
            console.print(escape(f"{variant.name} is left out: {reason}"), style="yellow", highlight=False)
    return chosen


def precisions_for(options: Options, variants: Sequence[Variant], kind: str) -> tuple[str, ...]:
    """The named precisions; "all" is every one that a chosen variant has on this kind of device."""
    if options.precision == "all":
        return tuple(p for p in PRECISIONS if any(p in v.precisions(kind) for v in variants))
    chosen = opt.choose("precision", options.precision, PRECISIONS)
    able = {p for v in variants for p in v.precisions(kind)}
    for precision in chosen:
        if precision not in able:
            names = ", ".join(v.name for v in variants)
            raise UserError(
                f"precision {precision} is not offered on a {kind.upper()} by {names}; there is {', '.join(sorted(able)) or 'none'}"
            )
    return tuple(chosen)


def tunings_for(options: Options, variants: Sequence[Variant], console: Console) -> tuple[str, ...]:
    """The named levels of tuning; "all" is every one that a chosen variant has. A variant without one of them is said."""
    able = [level for level in TUNINGS if any(level in variant.tunings for variant in variants)]
    if options.tuning == "all":
        return tuple(able)
    chosen = opt.choose("tuning", options.tuning, TUNINGS)
    for level in chosen:
        if level not in able:
            names = ", ".join(variant.name for variant in variants)
            raise UserError(f"{names} cannot be measured {level}; there is {', '.join(able)}")
        without = [variant.name for variant in variants if level not in variant.tunings]
        if without:
            console.print(escape(f"not measured {level}: {', '.join(without)}"), style="yellow", highlight=False)
    return tuple(chosen)


def make_runner(options: Options, images: Mapping[str, Image]) -> Runner:
    """The runner that `--runner` names; without it containers where an engine answers and no interpreter is given."""
    # Imported where they are needed: a GPU host with little installed can still make local runs.
    name = options.runner or ("local" if options.python or not _engine_answers() else "docker")
    if name == "local":
        from common.host.runners.local import LocalRunner

        return LocalRunner(images, options.python or None)
    if name == "docker":
        from common.host.runners.containers.limits import Limits
        from common.host.runners.containers.runner import DockerRunner

        if options.python:
            raise UserError(
                "--python is for the local runner: a container brings its own interpreter; leave one of them out"
            )
        limits = Limits(options.cpus, options.memory, opt.whole("--pids", options.pids), options.shm, options.tmp)
        return DockerRunner(images, limits, options.gpu_driver)
    raise unknown("runner", name, ["local", "docker"])


def _refuse_to_change_runner(data: DataFolder) -> None:
    """The same command continues a run; without an engine it would silently begin another one, of processes."""
    begun = find_unfinished(data.results, command=typed_command(), runner="docker")
    if begun is not None:
        raise UserError(
            f"run {begun.name} of this command was begun in containers, and no Docker engine answers now: start it (sudo "
            "systemctl start docker), or add --runner local for a run of its own"
        )


def _engine_answers() -> bool:
    from common.host.runners.containers import engine

    return engine.answers()


def bench(options: Options, console: Console, data: DataFolder | None = None, images_folder: Path = IMAGES) -> Outcome:
    """Runs everything that the options ask for; returns when the cells are on disk. Raises UserError before anything is made."""
    with opened(options, console, data or DataFolder.default(), images_folder) as (context, runner, plan):
        return run_all(context, runner, plan, console)


def request_of(
    options: Options, images: Sequence[Image], devices: Sequence[Device], console: Console, search: str = ""
) -> Request:
    """What the options ask for on these devices; hash of the model and runner are still empty. Raises UserError.

    Makes nothing, looks at nothing but the options, images/ and the devices as described.
    """
    settings = settings_of(options, devices[0].kind)
    loads = parse_loads(options.scenario, options.streams, options.rate)
    if options.batch_window_ms >= 0 and all(load.scenario != "server" for load in loads):
        raise UserError("--batch-window-ms is for --scenario server, which is not asked for; leave one of them out")
    batch_sizes = opt.batch_sizes(options.batch_sizes or default_batch_sizes(options.quick, loads))
    io_modes = opt.choose("io", options.io, IO_MODES)
    frontends = opt.choose("frontend", options.frontend, FRONTENDS)
    inputs = opt.choose("input", options.input, INPUTS)
    replicates = workers_of(options)
    wanted = models.source(options.model)  # a name that does not exist is said before anything is made
    models.check(wanted, models.asked_of(options))
    model = wanted.name
    if settings.cool_to_c is not None and devices[0].kind == "cpu":
        raise UserError("--cool-to is for a GPU, whose temperature the sidecar reads; leave it out for the CPU")
    variants = variants_for(options, images, devices, console)
    if not variants:
        raise UserError(f"no framework under images/ runs on {devices[0].product}")
    return Request(
        variants=tuple(variants),
        precisions=precisions_for(options, variants, devices[0].kind),
        batch_sizes=tuple(batch_sizes),
        io_modes=tuple(io_modes),
        model=model,
        model_hash="",
        devices=tuple(device.name for device in devices),
        device_uuids=tuple(device.uuid for device in devices),
        replicates=replicates,
        runner="",
        settings=settings,
        threads=opt.whole("--threads", options.threads) if options.threads else None,
        picture=options.image or None,
        python=options.python or None,
        loads=loads,
        frontends=tuple(frontends),
        tunings=tunings_for(options, variants, console),
        inputs=tuple(inputs),
        search=search,
        model_file=options.model,
        item=options.item,
        items_per_sample=opt.whole("--items-per-sample", options.items_per_sample),
    )


@contextmanager
def opened(
    options: Options,
    console: Console,
    data: DataFolder,
    images_folder: Path = IMAGES,
    search: str = "",
    part: Part | None = None,
) -> Iterator[tuple[Context, Runner, list[PlannedJob]]]:
    """All that a run needs, ready: its folder, model, runner and plan, with its devices locked for the block.

    search: see plan.Request. part: only these cells, in a run folder of their own that continues no other.
    Raises UserError before anything is made.
    """
    images = load_images(images_folder)
    devices = choose_devices(options.device or None, options.gpu or None)
    if options.device != "cpu" and taken(devices):
        console.print(escape(taken(devices)), highlight=False, soft_wrap=True)
    draft = request_of(options, images, devices, console, search)
    by_name = {image.name: image for image in images}
    runner = make_runner(options, by_name)
    if part is None and not options.runner and not options.python and runner.name == "local":
        _refuse_to_change_runner(data)
    check_writable(data.results)

    steps = Steps(console)
    flavour = "gpu" if devices[0].kind == "gpu" else "cpu"
    with steps.show("Setting up") as on_step:
        runner.prepare(list(draft.variants), flavour, on_step, notebook="notebook" in draft.frontends)
    with steps.show("Exporting the model") as on_step:
        wanted_forms = forms_of(draft.variants, draft.precisions)
        model = runner.ensure_model(options.model, data, models.asked_of(options), on_step, wanted_forms)
    for note in model.notes:
        console.print(escape(f"{model.name}: {note}"), highlight=False)

    if part is not None and part.model_hash not in ("", model.hash):
        raise UserError(f"model {model.name} is {model.hash} on this host, the sweep measures {part.model_hash}")
    request = replace(draft, model=model.name, model_hash=model.hash, runner=runner.name)
    if model.fixed_batch is not None and not options.batch_sizes:
        console.print(f"{model.name} takes batches of {model.fixed_batch} alone", highlight=False)
        request = replace(request, batch_sizes=(model.fixed_batch,))
    with ExitStack() as held:
        picture = held.enter_context(_prepared_picture(options.image, model))
        for device in devices:
            # A device measured by two runs at once would make both wrong.
            held.enter_context(
                locked(data.locks / f"{device.uuid or device.name}.lock", f"{device.name} ({device.product})")
            )
        run, seed = open_run(data, request, options, devices, runner, model, console, part)
        held.enter_context(locked(run.folder / ".lock", f"run {run.name}"))
        if picture is not None:
            shutil.copyfile(picture, run.folder / "picture.npy")
            picture = run.folder / "picture.npy"
        context = Context(
            run=run, request=request, model=model, data=data, images=by_name,
            devices={device.name: device for device in devices}, picture=picture, seed=seed,
        )  # fmt: skip
        plan = make_plan(request, seed)
        if part is None and not search:
            console.print(escape(cost(request)), highlight=False)
        yield context, runner, plan if part is None else part.of(plan)


@contextmanager
def _prepared_picture(source: str, model: ModelFiles) -> Iterator[Path | None]:
    """The user's picture as the model's input, in a temporary file until the run has a folder; None without a picture."""
    if not source:
        yield None
        return
    from common.host import picture

    with tempfile.TemporaryDirectory(prefix="framewatt-") as folder:
        path = Path(folder) / "picture.npy"
        picture.prepare(source, model, path)
        yield path


def open_run(
    data: DataFolder,
    request: Request,
    options: Options,
    devices: Sequence[Device],
    runner: RunnerFacts,
    model: ModelFiles,
    console: Console,
    part: Part | None = None,
) -> tuple[Run, int]:
    """Continues the unfinished run of the same request, or begins a new one. A part of a sweep is always a new one."""
    unfinished = find_unfinished(data.results, request=request.fingerprint()) if part is None else None
    if unfinished is not None and options.seed in (-1, unfinished.description.get("seed")):
        console.print(escape(f"Continuing the unfinished run {unfinished.name}"), highlight=False)
        recover_run(unfinished, model, console)
        unfinished.description.setdefault("continued_utc", []).append(utc_now())
        set_boots_apart(unfinished, boot_id())
        unfinished.save()
        return unfinished, int(unfinished.description["seed"])
    seed = options.seed if options.seed >= 0 else random.SystemRandom().randrange(2**31)
    plan = make_plan(request, seed)
    if part is None:
        folder = make_folder(data.results, "-".join(device.name for device in devices))
    else:
        plan = part.of(plan)
        folder = data.results / part.run
        folder.mkdir(parents=True)
    run = Run(
        folder,
        {
            "schema_version": SCHEMA_VERSION,
            "run": folder.name,
            "request": request.fingerprint(),
            "command": part.command if part else typed_command(),
            "created_utc": utc_now(),
            "finished_utc": None,
            "origin": "framewatt",
            "source_revision": source_revision(),
            "boot_id": boot_id(),
            "seed": seed,
            "plan": planned_keys(plan),
            "settings": vars(request.settings),
            "threads": request.threads,
            "runner": runner.name,
            "frontends": list(request.frontends),
            "tunings": list(request.tunings),
            "inputs": list(request.inputs),
            "host": _host_of(runner),
            "devices": [device.describe() for device in devices],
            "model": {**model.describe(), "folder": model.root.name},
            "images": runner.describe_images(),
            "doctor": _examine(devices, data, console),
            **({"fleet": dict(part.facts)} if part else {}),
        },
    )
    try:
        run.save()
    except UserError:
        folder.rmdir()
        raise
    return run, seed


def recover_run(run: Run, model: ModelFiles, console: Console) -> None:
    """Takes what a start of the run that was killed left with its containers or processes. Raises UserError."""
    try:
        problems = [*recover(run.folder, model), *recover_power(run.folder)]
    except CannotWrite as error:
        raise UserError(str(error)) from error
    for problem in problems:
        console.print(escape(problem), style="yellow", highlight=False, soft_wrap=True)


def _host_of(runner: RunnerFacts) -> dict[str, Any]:
    """Facts of the host. This process's CPU quota holds for processes that it starts, not for an engine's containers."""
    facts = describe_host()
    return facts if runner.name == "local" else {**facts, "cpu_quota": None}


def _examine(devices: Sequence[Device], data: DataFolder, console: Console) -> dict[str, Any]:
    """What the doctor's cheap checks find, by device, for run.json; those that fail are said at once."""
    found = {device.name: cheap_findings(device, data) for device in devices}
    failed = {
        f"{finding.shown}: {finding.advice}"
        for findings in found.values()
        for finding in findings
        if finding.state == "fail"
    }
    for line in sorted(failed):
        console.print(escape(line), style="yellow", highlight=False)
    return {name: describe(findings) for name, findings in found.items()}


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
    run = context.run
    existing = run.existing_cells()
    total = sum(len(job.cells) for job in plan)
    done = sum(cell.key in existing for job in plan for cell in job.cells)
    stop = threading.Event()
    failures: list[BaseException] = []

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "cooling" and event["done"]:
            told = {name: event[name] for name in ("seconds", "temperature_c", "target_c")}
            run.description.setdefault("cooling", {})[event["cell_key"]] = told
        progress.on_event(event)
        observer(event)

    def stream(device: Device) -> None:
        try:
            with runner.sidecar(context, device) as sidecar:
                state = sidecar.state
                run.description.setdefault("power", {})[device.name] = asdict(state)
                if not state.recording:
                    progress.warn(f"no power readings for {device.name}: {state.reason}")
                left = [
                    job
                    for job in plan
                    if job.device == device.name and any(cell.key not in existing for cell in job.cells)
                ]
                if left and state.recording:
                    measure_idle_without_context(context, device, stop)
                for job in left:
                    if stop.is_set():
                        break
                    runner.run_job(context, job, looked_after(sidecar, on_event, progress.warn))
                    if progress.errors:
                        break
        except BaseException as error:  # handed to the main thread
            failures.append(error)
        finally:
            ended[device.name].set()

    # Not Thread.join(): in CPython 3.11 a join that Ctrl-C interrupts takes the thread for ended, and this process would
    # leave before its containers are removed.
    ended = {name: threading.Event() for name in context.devices}
    with CellProgress(console, total, done) as progress, sigterm_as_interrupt():
        threads = [threading.Thread(target=stream, args=(device,)) for device in context.devices.values()]
        interrupted = False
        try:
            for thread in threads:
                thread.start()
            for event in ended.values():
                event.wait()
        except KeyboardInterrupt:
            interrupted = True
            stop.set()
            runner.interrupt()
            for thread, event in zip(threads, ended.values(), strict=True):
                if thread.ident is not None:  # it was started
                    event.wait()
    complete = set(run.description["plan"]) <= run.existing_cells()
    try:
        if complete and not failures:
            run.finish()
        else:
            run.save()
    except UserError as error:  # a full disk, say: the cells that are on it stay, and are shown
        progress.errors.append(str(error))
    if failures and not interrupted:
        raise failures[0]
    return Outcome(run, progress.statuses, progress.errors, interrupted)


def measure_idle_without_context(context: Context, device: Device, stop: threading.Event) -> None:
    """Lets the sidecar read what the device draws before the first worker opens a context on it, once each time a run is begun."""
    seconds = context.request.settings.idle_seconds
    if seconds > 0:
        spells = context.run.description.setdefault("idle_without_context", {}).setdefault(device.name, [])
        spells.append(spell_without_context(seconds, stop.wait))


class sigterm_as_interrupt:
    """SIGTERM ends a run as tidily as Ctrl-C does."""

    def __enter__(self) -> None:
        def handler(signum: int, frame: object) -> None:
            raise KeyboardInterrupt

        self._previous = (
            signal.signal(signal.SIGTERM, handler) if threading.current_thread() is threading.main_thread() else None
        )

    def __exit__(self, *exception: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
