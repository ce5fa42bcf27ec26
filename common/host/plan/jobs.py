"""The plan: which cells, in which order, in which workers.

Cells run in a random order that is stored (`seed` and `plan` in run.json), so that drift of the machine does not
favour whoever comes first. One job holds the cells of one (variant, precision, front end, replicate) on one device: a job
is one fresh worker, so replicates are independent processes.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from common.cell import Cell
from common.host.frameworks.registry import Variant
from common.host.plan.loads import Load
from common.job import Settings


@dataclass(frozen=True)
class PlannedJob:
    """Cells for one worker stream, in the order in which they run."""

    variant: Variant
    precision: str
    replicate: int
    device: str
    cells: tuple[Cell, ...]
    frontend: str = "script"

    @property
    def name(self) -> str:
        """Unique within a run; names the job's file and log."""
        return f"{self.variant.name}_{self.precision}_{self.frontend}_{self.device}_r{self.replicate}"


@dataclass(frozen=True)
class Request:
    """What is asked for, resolved from the options. Equal requests make equal plans but for the seed."""

    variants: tuple[Variant, ...]
    precisions: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    io_modes: tuple[str, ...]
    model: str
    model_hash: str
    devices: tuple[str, ...]
    device_uuids: tuple[str, ...]
    replicates: int
    runner: str
    settings: Settings
    threads: int | None = None
    #: path or URL of the user's picture, as given
    picture: str | None = None
    python: str | None = None
    loads: tuple[Load, ...] = (Load(),)
    frontends: tuple[str, ...] = ("script",)
    #: what else the cells are chosen by (`invoke peak`), in words
    search: str = ""

    def fingerprint(self) -> str:
        """Identifies the same request in a later call, so that an unfinished run of it is continued."""
        values = asdict(self)
        values["variants"] = [variant.name for variant in self.variants]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def make_plan(request: Request, seed: int) -> list[PlannedJob]:
    """All jobs in random order, each with its cells in random order.

    A precision that a variant does not have at all is still planned when it was asked for: its rows say `unsupported`.
    """
    order = random.Random(seed)
    jobs = []
    for replicate in range(request.replicates):
        # Shuffled replicate by replicate: a sweep that is cut short still has whole replicates.
        round_ = [
            _job(request, variant, precision, frontend, replicate, device, order)
            for device in request.devices
            for variant in request.variants
            for precision in request.precisions
            for frontend in request.frontends
        ]
        order.shuffle(round_)
        jobs.extend(round_)
    return jobs


def _job(
    request: Request,
    variant: Variant,
    precision: str,
    frontend: str,
    replicate: int,
    device: str,
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
        )
        for batch_size in request.batch_sizes
        for io in request.io_modes
        for load in request.loads
    ]
    order.shuffle(cells)
    return PlannedJob(variant, precision, replicate, device, tuple(cells), frontend)


def planned_keys(jobs: Sequence[PlannedJob]) -> list[str]:
    return [cell.key for job in jobs for cell in job.cells]
