"""All that a run needs, made ready before its first job: devices, runner, model, run folder and plan."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.harness.cell_folder import CannotWrite
from common.host import models
from common.host.bench.again import Again, run_to_repeat, set_marked_aside
from common.host.bench.choose_runner import instead_of_containers, make_runner, refuse_to_change_runner
from common.host.cli.progress import Steps
from common.host.devices import Device, choose_devices, taken
from common.host.doctor.checks import describe
from common.host.doctor.command import cheap_findings
from common.host.frameworks.registry import Image, forms_of, load_images
from common.host.frameworks.versions import pins_of
from common.host.host_info import boot_id, describe_host, source_revision
from common.host.paths import IMAGES, DataFolder
from common.host.placement import Placement, placement_of
from common.host.plan.jobs import PlannedJob, cost, make_plan, planned_keys
from common.host.plan.model_terms import ModelTerms, fitted
from common.host.plan.options import Options
from common.host.plan.plan_file import options_given
from common.host.plan.request import Request, request_of
from common.host.plan.subset import Subset
from common.host.runners.base import Context, Runner, RunnerFacts
from common.host.runners.power_intake import recover_power
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
from common.model_files import ModelFiles
from common.schema import SCHEMA_VERSION


@contextmanager
def opened(
    options: Options,
    console: Console,
    data: DataFolder,
    images_folder: Path = IMAGES,
    search: str = "",
    subset: Subset | None = None,
    run_facts: Mapping[str, Any] = MappingProxyType({}),
    again: Again | None = None,
) -> Iterator[tuple[Context, Runner, list[PlannedJob]]]:
    """All that a run needs, ready: its folder, model, runner and plan, with its devices locked for the block.

    search: see common.host.plan.request.Request. subset: only these cells, in a run folder of their own that continues no other.
    run_facts: what run.json says beside. again: the cells of the newest run of this to measure again.
    Raises UserError before anything is made.
    """
    images = load_images(images_folder)
    devices = choose_devices(options.device or None, options.gpu or None)
    if options.device != "cpu" and taken(devices):
        console.print(escape(taken(devices)), highlight=False, soft_wrap=True)
    draft = request_of(options, images, devices, console, search)
    placement = placement_of(devices, options.cpus)
    by_name = {image.name: image for image in images}
    flavour = "gpu" if devices[0].kind == "gpu" else "cpu"
    runner = _chosen_runner(draft, options, by_name, flavour, data, console, whole=subset is None)
    with ExitStack() as held:
        for device in devices:
            # A device measured by two runs at once would make both wrong. An export, which may take minutes, comes after this.
            held.enter_context(
                locked(data.locks / f"{device.uuid or device.name}.lock", f"{device.name} ({device.product})")
            )
        model = _prepared(draft, options, runner, flavour, images_folder, data, console)
        if subset is not None and subset.model_hash not in ("", model.hash):
            raise UserError(f"model {model.name} is {model.hash} on this host, the sweep measures {subset.model_hash}")
        request = replace(draft, model=model.name, model_hash=model.hash, runner=runner.name)
        request = fitted(request, options, model, console)
        if subset is not None:  # who planned it may not have known the model
            terms = ModelTerms.of(model)
            subset = replace(subset, cells=frozenset(terms.fit_key(key, options) for key in subset.cells))
        picture = held.enter_context(_prepared_picture(options.image, model, console))
        run, seed = open_run(data, request, options, devices, runner, model, console, subset, run_facts, again)
        held.enter_context(locked(run.folder / ".lock", f"run {run.name}"))
        if picture is not None:
            shutil.copyfile(picture, run.folder / "picture.npy")
            picture = run.folder / "picture.npy"
        context = Context(
            run=run, request=request, model=model, data=data, images=by_name,
            devices={device.name: device for device in devices}, picture=picture, seed=seed,
            placement=_record_placement(run, devices, placement, console),
        )  # fmt: skip
        plan = make_plan(request, seed)
        if subset is None and not search:
            console.print(escape(cost(request)), highlight=False)
        yield context, runner, plan if subset is None else subset.of(plan)


def _chosen_runner(
    draft: Request,
    options: Options,
    images: Mapping[str, Image],
    flavour: str,
    data: DataFolder,
    console: Console,
    whole: bool,
) -> Runner:
    """The runner, once data can be written. whole: not a part of a fleet's sweep, which says itself what its runner is."""
    lacking = instead_of_containers(options, [variant.image for variant in draft.variants], flavour)
    runner = make_runner(replace(options, runner="local") if lacking else options, images)
    if whole and not options.runner and not options.python and runner.name == "local":
        refuse_to_change_runner(data, lacking)
    check_writable(data.results)
    if lacking:
        text = f"Measured by processes of this machine: {lacking}"
        console.print(escape(text), highlight=False, soft_wrap=True)
    return runner


def _prepared(
    draft: Request,
    options: Options,
    runner: Runner,
    flavour: str,
    images_folder: Path,
    data: DataFolder,
    console: Console,
) -> ModelFiles:
    """Makes environments or images ready, and the model, which is exported in one of them where it is missing."""
    steps = Steps(console)
    pins = pins_of(draft.variants, draft.versions, flavour, images_folder)
    if pins and (costs := runner.cost_of(pins, flavour)):
        console.print(escape(costs), highlight=False, soft_wrap=True)
    with steps.show("Setting up") as on_step:
        # The lock's environment too where other versions alone are asked for: the model is exported in it, and sizes known.
        runner.prepare(list(draft.variants), flavour, on_step, notebook="notebook" in draft.frontends, pins=pins)
    with steps.show("Exporting the model") as on_step:
        wanted_forms = forms_of(draft.variants, draft.precisions)
        model = runner.ensure_model(options.model, data, models.export_options_of(options), on_step, wanted_forms)
    for note in model.notes:
        console.print(escape(f"{model.name}: {note}"), highlight=False)
    return model


def _record_placement(run: Run, devices: Sequence[Device], placement: Placement, console: Console) -> Placement:
    """Where workers and sidecars of several GPUs run: run.json tells it, too, and people where cores are too few."""
    if len(devices) > 1 or placement.workers:
        run.description["placement"] = placement.describe()
        run.save()
    if placement.short:
        console.print(escape(f"{placement.short}; cells are marked"), style="yellow", highlight=False)
    return placement


@contextmanager
def _prepared_picture(source: str, model: ModelFiles, console: Console) -> Iterator[Path | None]:
    """The user's picture as the model's input, in a temporary file until the run has a folder.

    None without a picture, and where its classes would mean nothing, which is said.
    """
    if not source:
        yield None
        return
    from common.host import picture

    with tempfile.TemporaryDirectory(prefix="framewatt-") as folder:
        path = Path(folder) / "picture.npy"
        picture.prepare(source, model, path)
        reason = picture.why_no_classes(model)
        if reason is not None:
            console.print(escape(reason), style="yellow", highlight=False, soft_wrap=True)
        yield path if reason is None else None


def open_run(
    data: DataFolder,
    request: Request,
    options: Options,
    devices: Sequence[Device],
    runner: RunnerFacts,
    model: ModelFiles,
    console: Console,
    subset: Subset | None = None,
    run_facts: Mapping[str, Any] = MappingProxyType({}),
    again: Again | None = None,
) -> tuple[Run, int]:
    """Continues the unfinished run of the same request, or begins a new one. A part of a sweep is always a new one.

    again: goes on with the newest run of the request in any case, without the cells that are to be measured again.
    """

    def warn(words: str) -> None:
        console.print(escape(words), style="yellow", highlight=False, soft_wrap=True)

    unfinished = find_unfinished(data.results, warn, request=request.fingerprint()) if subset is None else None
    if again is not None:
        unfinished = run_to_repeat(data.results, request.fingerprint(), options.seed)
        set_marked_aside(unfinished, again, console)
    if unfinished is not None and options.seed in (-1, unfinished.description.get("seed")):
        return unfinished, _continue(unfinished, model, run_facts, console)
    seed = options.seed if options.seed >= 0 else random.SystemRandom().randrange(2**31)
    plan = make_plan(request, seed)
    if subset is None:
        folder = make_folder(data.results, "-".join(device.name for device in devices))
    else:
        plan = subset.of(plan)
        folder = data.results / subset.run
        folder.mkdir(parents=True)
    description = {
        "schema_version": SCHEMA_VERSION,
        "run": folder.name,
        "command": subset.command if subset else typed_command(),
        "created_utc": utc_now(),
        "finished_utc": None,
        "origin": "framewatt",
        "source_revision": source_revision(),
        "boot_id": boot_id(),
        "seed": seed,
        "options": options_given(options),
        "plan": planned_keys(plan),
        **_described(request),
        "runner": runner.name,
        "host": _host_of(runner),
        "devices": [device.describe() for device in devices],
        "model": {**model.describe(), "folder": model.root.name},
        "images": runner.describe_images(),
        "doctor": _examine(devices, data, console),
        **({"fleet": dict(subset.facts)} if subset else {}),
        **run_facts,
    }
    return _save_new(Run(folder, description)), seed


def _save_new(run: Run) -> Run:
    """Writes run.json; leaves no empty folder where that fails."""
    try:
        run.save()
    except UserError:
        run.folder.rmdir()
        raise
    return run


def _continue(run: Run, model: ModelFiles, run_facts: Mapping[str, Any], console: Console) -> int:
    """Readies an unfinished run for its remaining cells; returns its seed."""
    console.print(escape(f"Continuing the unfinished run {run.name}"), highlight=False)
    recover_run(run, model, console)
    run.description.setdefault("continued_utc", []).append(utc_now())
    run.description.update(run_facts)
    set_boots_apart(run, boot_id())
    run.save()
    return int(run.description["seed"])


def _described(request: Request) -> dict[str, Any]:
    """What run.json says of a request."""
    return {
        "request": request.fingerprint(),
        "settings": vars(request.settings),
        "threads": request.threads,
        "frontends": list(request.frontends),
        "tunings": list(request.tunings),
        "inputs": list(request.inputs),
        "environment": dict(request.environment),
        **({"versions": dict(request.versions)} if request.versions else {}),
    }


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
        console.print(escape(line), style="yellow", highlight=False, soft_wrap=True)
    return {name: describe(findings) for name, findings in found.items()}
