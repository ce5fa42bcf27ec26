"""The plan: which cells, in which order, in which workers.

Cells run in a random order that is stored (`seed` and `plan` in run.json), so that drift of the machine does not
favour whoever comes first. One job holds the cells of one (variant, precision, tuning, front end, replicate) on one device: a
job is one fresh worker, so replicates are independent processes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from common.cell import Cell
from common.errors import UserError
from common.host.frameworks.registry import Variant
from common.host.plan.request import Request


@dataclass(frozen=True)
class PlannedJob:
    """Cells for one worker stream, in the order in which they run."""

    variant: Variant
    precision: str
    replicate: int
    device: str
    cells: tuple[Cell, ...]
    frontend: str = "script"
    #: of the framework; "": the lock's
    version: str = ""
    tuning: str = "tuned"

    @property
    def name(self) -> str:
        """Unique within a run; names the job's file, log and container."""
        return self.cells[0].worker


def make_plan(request: Request, seed: int) -> list[PlannedJob]:
    """All jobs in random order, each with its cells in random order.

    A precision that a variant does not have at all is still planned when it was asked for: its rows say `unsupported`.
    """
    order = random.Random(seed)
    jobs = []
    for replicate in range(request.replicates):
        # Shuffled replicate by replicate: a sweep that is cut short still has whole replicates.
        round_ = [
            _job(request, variant, precision, tuning, frontend, replicate, device, version, order)
            for device in request.devices
            for variant in request.variants
            for version in request.versions_of(variant)
            for precision in request.precisions
            for tuning in levels_of(request, variant)
            for frontend in request.frontends
        ]
        order.shuffle(round_)
        jobs.extend(round_)
    meant = [job for one in jobs if (job := _those_of(request, one)).cells]
    if request.only and jobs and not meant:
        raise UserError(
            f"none of the cells that are meant ({request.only[0]}, ...) is among those that the options give now "
            f"({jobs[0].cells[0].key}, ...): a name may have changed since; --model or --framework, typed beside the run, measures "
            "what the options give"
        )
    return meant


def _those_of(request: Request, job: PlannedJob) -> PlannedJob:
    """The job with the cells that are meant alone."""
    if not request.only:
        return job
    return replace(job, cells=tuple(cell for cell in job.cells if cell.key in request.only))


def levels_of(request: Request, variant: Variant) -> tuple[str, ...]:
    """The levels of tuning asked for that this variant has."""
    return tuple(level for level in request.tunings if level in variant.tunings)


class Size(NamedTuple):
    """How much a request is on each device. workers: fresh ones of one replicate. seconds: of windows and idle spells of all
    replicates, at the least; start, compilation and warm-up come on top."""

    cells: int
    workers: int
    seconds: float


def size_of(request: Request) -> Size:
    each = request.settings.min_seconds + 2 * request.settings.idle_seconds
    if request.only:
        first = [job for job in make_plan(request, seed=0) if job.replicate == 0]
        jobs = max(([job for job in first if job.device == device] for device in request.devices), key=len)
        cells = sum(len(job.cells) for job in jobs)
        return Size(cells, len(jobs), cells * request.replicates * each)
    workers_of_each = sum(len(request.versions_of(v)) * len(levels_of(request, v)) for v in request.variants)
    workers = workers_of_each * len(request.precisions) * len(request.frontends)
    cells = workers * len(request.batch_sizes) * len(request.io_modes) * len(request.loads) * len(request.inputs)
    return Size(cells, workers, cells * request.replicates * each)


def cost(request: Request) -> str:
    """What the plan takes at the least, in a sentence."""
    cells, streams, seconds = size_of(request)
    workers = request.replicates
    what = f"{cells} cell{'' if cells == 1 else 's'} in {streams} worker{'' if streams == 1 else 's'}"
    what += "" if workers == 1 else f", {workers} times"
    verdicts = "" if workers > 1 else "; one worker a cell gives no verdicts (--replicates 3 does)"
    return (
        f"{what}: windows of {request.settings.min_seconds:.3g} to {request.settings.max_seconds:.3g} s, at least "
        f"{in_words(seconds)} on each device beside start, compilation and warm-up{verdicts}"
    )


def in_words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _job(
    request: Request,
    variant: Variant,
    precision: str,
    tuning: str,
    frontend: str,
    replicate: int,
    device: str,
    version: str,
    order: random.Random,
) -> PlannedJob:
    cells = [
        Cell(
            model=request.model,
            variant=variant.name,
            precision=precision,
            batch_size=batch_size,
            io=io,
            scenario=load.scenario,
            frontend=frontend,
            streams=load.streams,
            target_rate_per_s=load.rate,
            replicate=replicate,
            device=device,
            tuning=tuning,
            input=kind,
            version=version or None,
        )
        for batch_size in request.batch_sizes
        for io in request.io_modes
        for kind in request.inputs
        for load in request.loads
    ]
    order.shuffle(cells)
    # shapes in random order, and what is measured of one together: what was compiled for it serves copies and none
    first: dict[tuple[int, str], int] = {}
    for place, cell in enumerate(cells):
        first.setdefault((cell.batch_size, cell.input), place)
    cells.sort(key=lambda cell: first[cell.batch_size, cell.input])
    return PlannedJob(variant, precision, replicate, device, tuple(cells), frontend, version, tuning)


def planned_keys(jobs: Sequence[PlannedJob]) -> list[str]:
    return [cell.key for job in jobs for cell in job.cells]
