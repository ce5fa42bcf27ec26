"""The plan: which cells, in which order, in which workers.

Cells run in a random order that is stored (`seed` and `plan` in run.json), so that drift of the machine does not
favour whoever comes first. One job holds the cells of one (variant, precision, tuning, front end, replicate) on one device: a
job is one fresh worker, so replicates are independent processes.
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
    tuning: str = "tuned"

    @property
    def name(self) -> str:
        """Unique within a run; names the job's file and log."""
        precision = self.precision if self.tuning == "tuned" else f"{self.precision}-{self.tuning}"
        return f"{self.variant.name}_{precision}_{self.frontend}_{self.device}_r{self.replicate}"


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
    #: levels of tuning that were asked for; a variant takes those that it has
    tunings: tuple[str, ...] = ("tuned",)
    #: types in which images are fed
    inputs: tuple[str, ...] = ("float32",)
    #: what else the cells are chosen by (`invoke peak`), in words
    search: str = ""
    #: the model as the user typed it, and what rates count; "" and 0: as the model says
    model_file: str = ""
    item: str = ""
    items_per_sample: int = 0

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
            _job(request, variant, precision, tuning, frontend, replicate, device, order)
            for device in request.devices
            for variant in request.variants
            for precision in request.precisions
            for tuning in levels_of(request, variant)
            for frontend in request.frontends
        ]
        order.shuffle(round_)
        jobs.extend(round_)
    return jobs


def levels_of(request: Request, variant: Variant) -> tuple[str, ...]:
    """The levels of tuning asked for that this variant has."""
    return tuple(level for level in request.tunings if level in variant.tunings)


def cost(request: Request) -> str:
    """What the plan takes at the least, in a sentence: windows and idle spells, without start, compilation and warm-up."""
    levels = sum(len(levels_of(request, variant)) for variant in request.variants)
    streams = levels * len(request.precisions) * len(request.frontends)
    cells = streams * len(request.batch_sizes) * len(request.io_modes) * len(request.loads) * len(request.inputs)
    each = request.settings.min_seconds + 2 * request.settings.idle_seconds
    workers = request.replicates
    what = (
        f"{cells} cells in {streams} workers"
        if workers == 1
        else f"{cells} cells in {streams} workers, {workers} times"
    )
    verdicts = "" if workers > 1 else "; one worker a cell gives no verdicts (--replicates 3 does)"
    return (
        f"{what}: windows of {request.settings.min_seconds:.3g} to {request.settings.max_seconds:.3g} s, at least "
        f"{_in_words(cells * workers * each)} on each device beside start, compilation and warm-up{verdicts}"
    )


def _in_words(seconds: float) -> str:
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
        )
        for batch_size in request.batch_sizes
        for io in request.io_modes
        for kind in request.inputs
        for load in request.loads
    ]
    order.shuffle(cells)
    return PlannedJob(variant, precision, replicate, device, tuple(cells), frontend, tuning)


def planned_keys(jobs: Sequence[PlannedJob]) -> list[str]:
    return [cell.key for job in jobs for cell in job.cells]
