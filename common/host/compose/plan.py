"""Second service of a sweep: makes or continues the run, and writes the jobs that the frameworks' services take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.host import models
from common.host.bench.opening import open_run
from common.host.cli import parsing as opt
from common.host.cli.console import default_console
from common.host.compose.generator import always_measured
from common.host.compose.rendezvous import Rendezvous, gpu_name, lock_of, options_from, service
from common.host.devices import Device, list_gpus, the_cpu
from common.host.frameworks.registry import Image, load_images, variables_set
from common.host.paths import IMAGES, DataFolder
from common.host.plan.jobs import PlannedJob, make_plan
from common.host.plan.model_terms import fitted
from common.host.plan.options import Options
from common.host.plan.request import (
    QUICK_BATCH_SIZES,
    STUDY_BATCH_SIZES,
    Request,
    precisions_for,
    settings_of,
    tunings_for,
    variants_for,
    workers_of,
)
from common.host.runners.containers.images import tag_of
from common.host.runners.exported import take_model
from common.host.runners.jobs import INSIDE_RUN, inside_container, planned_job
from common.host.runners.lost_cells import write_refused_cells
from common.host.runners.sidecar import SidecarState
from common.host.runs.run import Run
from common.model_files import ModelFiles
from common.schema import FRONTENDS, INPUTS, IO_MODES
from common.sidecar.rapl import POWERCAP, Rapl
from common.text import counted


@dataclass(frozen=True)
class ComposeImages:
    """Stands for the runner in run.json: containers as with `invoke bench`, started by compose."""

    flavour: str
    images: tuple[Image, ...]
    #: whether they are those that can run a Jupyter kernel
    notebook: bool
    name: str = "docker"

    def describe_images(self) -> dict[str, Any]:
        return {
            image.name: {"tag": tag_of(image.name, self.flavour, self.notebook), "by": "docker compose"}
            for image in self.images
        }


def the_device(flavour: str, requested: str) -> Device:
    """The one device that this container sees, under its name on the host. Raises UserError when there is none."""
    if flavour == "cpu":
        return the_cpu()
    gpus = list_gpus()
    if len(gpus) > 1:  # CDI without a separate driver shows all of them to NVML
        wanted = gpu_name(requested, "")
        gpus = [gpu for gpu in gpus if wanted == gpu.name or gpu.uuid == requested]
        if not gpus:
            raise UserError(f"FRAMEWATT_GPU={requested} names no GPU of this machine")
        return gpus[0]
    name = gpu_name(requested, gpus[0].name)
    facts = gpus[0].facts | {"index": int(name.removeprefix("gpu"))}
    return replace(gpus[0], name=name, facts=facts)


def request_of(options: Options, images: list[Image], device: Device, model: ModelFiles) -> Request:
    """What is asked for. Raises UserError for a value that means nothing."""
    batch_sizes = options.batch_sizes or (QUICK_BATCH_SIZES if options.quick else STUDY_BATCH_SIZES)
    variants = variants_for(options, images, [device], default_console())
    if not variants:
        raise UserError(f"no framework under images/ runs on {device.product}")
    request = Request(
        variants=tuple(variants),
        precisions=precisions_for(options, variants, device.kind),
        batch_sizes=tuple(opt.batch_sizes(batch_sizes)),
        io_modes=tuple(opt.choose("io", options.io, IO_MODES)),
        model=model.name,
        model_hash=model.hash,
        devices=(device.name,),
        device_uuids=(device.uuid,),
        replicates=workers_of(options, "FRAMEWATT_REPLICATES"),
        runner="compose",  # its runs are continued by compose alone
        settings=settings_of(options, device.kind),
        threads=opt.whole("FRAMEWATT_THREADS", options.threads) if options.threads else None,
        frontends=tuple(opt.choose("frontend", options.frontend, FRONTENDS)),
        tunings=tunings_for(options, variants, default_console()),
        inputs=tuple(opt.choose("input", options.input, INPUTS)),
        environment=variables_set(variants, os.environ),
    )
    return fitted(request, options, model, default_console())


def write_refused_rows(run: Run, planned: PlannedJob, request: Request, device: Device, model: ModelFiles) -> None:
    """Of the cells that cannot run whatever the machine: no service starts a worker for them.

    These jobs tell no version of the framework: compose has built the images, and this service has no engine to ask about them.
    """
    job = planned_job(planned, request, device, inside_container(planned.variant.image, model.root.name), "docker")

    def tell(event: Mapping[str, Any]) -> None:
        print(f"{event['cell_key']}: {event['status']}: {event['message']}", flush=True)

    write_refused_cells(run.folder, job, planned, model, tell)


def write_job(
    run: Run, planned: PlannedJob, request: Request, device: Device, model: ModelFiles, seed: int, board: Path
) -> None:
    """The job of one (variant, precision, replicate) as its container sees it, on the board and, for good, in the run."""
    existing = run.existing_cells()
    places = inside_container(planned.variant.image, model.root.name, f"{INSIDE_RUN}/{planned.name}")
    job = replace(
        planned_job(planned, request, device, places, "docker"),
        seed=seed,
        done=[cell.key for cell in planned.cells if cell.key in existing],
    )
    for folder in (run.folder / "jobs", board):
        job.write(folder / f"{planned.name}.json")


def take_exported(rendezvous: Rendezvous, data: DataFolder, name: str, there: ModelFiles | None) -> None:
    """Takes over what the export, which has ended, made of the model of that name. there: the one of before.

    Raises UserError for what is no model.
    """
    if rendezvous.model_exists.exists():
        return
    for path in sorted(rendezvous.models.glob(f"{name}-*")):
        before = there if there is not None and there.root.name == path.name else None
        take_model(rendezvous.models, path.name, data.models, before)


def in_words(cells: int, done: int, product: str) -> str:
    """How many cells there are to measure, and how many of them were measured before, or were refused just now."""
    return f"{counted(cells, 'cell')} on {product}" + (f", {done:,} of them done already" if done else "")


def plan(flavour: str, rendezvous: Rendezvous) -> int:
    data = DataFolder.default()
    options = options_from(os.environ)
    images = load_images(IMAGES)
    device = the_device(flavour, os.environ.get("FRAMEWATT_GPU", "0"))
    wanted, export_options = models.source(options.model), models.export_options_of(options)
    take_exported(rendezvous, data, wanted.name, models.existing_model(wanted, data.models, export_options))
    model = models.existing_model(wanted, data.models, export_options)
    if model is None:
        raise UserError(f"the export left no model {options.model} in {data.models}")
    request = request_of(options, images, device, model)
    runner = ComposeImages(
        flavour,
        tuple(image for image in images if any(v in request.variants for v in image.variants)),
        # As compose.yaml chooses them: whenever the variable says anything.
        bool(os.environ.get("FRAMEWATT_FRONTEND")),
    )
    run, seed = open_run(data, request, options, [device], runner, model, default_console())
    (run.folder / "jobs").mkdir(exist_ok=True)
    jobs = make_plan(request, seed)
    # What a profile adds may not come: its cells were not asked for then. If it comes, its service refuses them itself.
    certain = always_measured(flavour, images)
    for planned in jobs:
        if planned.variant.name in certain:
            write_refused_rows(run, planned, request, device, model)
        write_job(run, planned, request, device, model, seed, rendezvous.jobs)
    rapl = Rapl(Path(POWERCAP), lambda sentence: None)
    expected = flavour == "gpu" or bool(rapl.domains)
    rapl.close()
    state = SidecarState(expected, "" if expected else "no GPU, and no RAPL", rapl.unavailable or "")
    run.description["power"] = {device.name: asdict(state)}
    run.save()
    lock_of(data, run).touch()  # before the last service, who is root, would make it
    rendezvous.run.unlink(missing_ok=True)
    rendezvous.run.symlink_to(os.path.relpath(run.folder, rendezvous.folder))
    cells = sum(len(job.cells) for job in jobs)
    print(f"{run.name}: {in_words(cells, len(run.existing_cells()), device.product)}", flush=True)
    return 0


if __name__ == "__main__":
    service(plan)
