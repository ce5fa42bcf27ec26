"""What a supervisor is handed: the one place that makes a `Job`, for processes, containers, compose and `invoke verify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.cell import Cell
from common.host.devices import Device
from common.host.frameworks.registry import variables_set
from common.host.plan.jobs import PlannedJob
from common.host.plan.request import Request
from common.job import Job, Settings

#: where things lie inside every container
INSIDE = "/opt/framewatt"
INSIDE_RUN, INSIDE_MODELS, INSIDE_CACHE = "/data/run", "/data/models", "/data/cache"
INSIDE_POWER, INSIDE_PICTURE = "/data/power", "/data/picture.npy"


@dataclass(frozen=True)
class Places:
    """Where a job's files are, as its supervisor sees them; None: it has none. The fields are those of `Job`."""

    run_dir: str
    model_dir: str
    adapter: str
    cache_dir: str
    power_dir: str | None = None
    picture: str | None = None


def inside_container(image: str, model: str, run_dir: str = INSIDE_RUN, picture: bool = False) -> Places:
    """As a framework's container has them mounted. model: name of its folder."""
    return Places(
        run_dir,
        f"{INSIDE_MODELS}/{model}",
        f"{INSIDE}/images/{image}/adapter.py",
        INSIDE_CACHE,
        INSIDE_POWER,
        INSIDE_PICTURE if picture else None,
    )


def job_of(
    cells: Sequence[Cell],
    image: str,
    device: Device,
    places: Places,
    runner: str,
    settings: Settings,
    threads: int | None = None,
) -> Job:
    """The job of these cells on a device, which is the only GPU that its supervisor sees."""
    return Job(
        **vars(places),
        image=image,
        device="cpu" if device.kind == "cpu" else "cuda:0",
        device_name=device.product,
        device_uuid=device.uuid,
        runner=runner,
        cells=list(cells),
        settings=settings,
        threads=threads,
    )


def planned_job(planned: PlannedJob, request: Request, device: Device, places: Places, runner: str) -> Job:
    """The job that a run's plan asks for; what differs from start to start (seed, digest, cells done) is yet to be filled in."""
    job = job_of(planned.cells, planned.variant.image, device, places, runner, request.settings, request.threads)
    return replace(
        job,
        model_file=request.model_file,
        item=request.item,
        items_per_sample=request.items_per_sample,
        environment=variables_set([planned.variant], request.environment),
    )
