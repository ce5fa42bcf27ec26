"""`invoke bench --dry-run`: what a command or a plan would measure, and how long that takes at the least. Makes nothing."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.errors import UserError
from common.host import models
from common.host.devices import Device, choose_devices
from common.host.frameworks.registry import load_images
from common.host.frameworks.versions import pins_of
from common.host.paths import IMAGES, DataFolder
from common.host.plan.jobs import PlannedJob, Size, in_words, make_plan, size_of
from common.host.plan.missing import Missing, There, missing
from common.host.plan.model_terms import ModelTerms, fitted
from common.host.plan.options import Options
from common.host.plan.plan_file import PlanFile, Sweep, title_of
from common.host.plan.request import Request, request_of


def dry_run(options: Options, console: Console, images_folder: Path = IMAGES, data: DataFolder | None = None) -> Size:
    """Prints what one command would measure; returns it. Raises UserError for what no run can take."""
    return _print([title_of(options)], [size_of(_request(options, images_folder, console, data))], console)


def dry_run_of_plan(
    plan: PlanFile, console: Console, images_folder: Path = IMAGES, data: DataFolder | None = None
) -> Size:
    """The same for each run of a plan. Raises UserError with the sweep's line."""
    said = io.StringIO()
    heard = Console(file=said, width=10_000)
    sizes = [_size_in_plan(plan, sweep, images_folder, heard, data) for sweep in plan.sweeps]
    for line in dict.fromkeys(said.getvalue().splitlines()):
        console.print(escape(line), style="yellow", highlight=False, soft_wrap=True)
    return _print([title_of(sweep.options) for sweep in plan.sweeps], sizes, console)


def _size_in_plan(plan: PlanFile, sweep: Sweep, images_folder: Path, console: Console, data: DataFolder | None) -> Size:
    try:
        return size_of(_request(sweep.options, images_folder, console, data))
    except UserError as error:
        raise plan.complaint(sweep.line, "", str(error)) from error


def missing_of_plan(
    plan: PlanFile, there: There, images_folder: Path = IMAGES, data: DataFolder | None = None
) -> Missing:
    """What of a plan is not there, cells that failed counting as there. Raises UserError with the sweep's line."""
    unheard = Console(file=io.StringIO())
    jobs: list[PlannedJob] = []
    for sweep in plan.sweeps:
        try:
            request = _request(sweep.options, images_folder, unheard, data, there.terms)
            jobs += make_plan(request, seed=0)
        except UserError as error:
            raise plan.complaint(sweep.line, "", str(error)) from error
    return missing(jobs, there)


def print_missing(
    plan: PlanFile, there: There, console: Console, images_folder: Path = IMAGES, data: DataFolder | None = None
) -> Missing:
    """Prints what of a plan is not there, grouped; returns it."""
    found = missing_of_plan(plan, there, images_folder, data)
    for line in found.lines():
        console.print(escape(line), highlight=False, soft_wrap=True)
    console.print(escape(found.sentence()), style="bold", highlight=False, soft_wrap=True)
    return found


def _request(
    options: Options,
    images_folder: Path,
    console: Console,
    data: DataFolder | None,
    terms: Mapping[str, ModelTerms] = MappingProxyType({}),
) -> Request:
    """console: gets what the real run says of variants that are left out, and of what is fed.

    terms: of models by name, should this one not be in the data folder.
    """
    devices = _devices(options)
    request = request_of(options, load_images(images_folder), devices, console)
    pins_of(
        request.variants, request.versions, devices[0].kind, images_folder
    )  # whether there are versions to choose from
    found = models.known_model(
        models.source(options.model), (data or DataFolder.default()).models, models.export_options_of(options)
    )
    if found is not None:
        return fitted(request, options, found, console)
    known = terms.get(request.model)
    return request if known is None else known.fit(request, options)


def _devices(options: Options) -> list[Device]:
    """Those that the options name; where they ask for a GPU that is not here, one of no particular kind in its place."""
    try:
        return choose_devices(options.device or None, options.gpu or None)
    except UserError:
        if options.device not in ("", "gpu") or not (options.device or options.gpu):
            raise
        return [Device("gpu0", "gpu", "a GPU that is not here")]


def _print(titles: Sequence[str], sizes: Sequence[Size], console: Console) -> Size:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("run", "what", "cells", "at least"):
        table.add_column(heading, justify="left" if heading == "what" else "right", overflow="fold")
    for number, (title, size) in enumerate(zip(titles, sizes, strict=True), 1):
        table.add_row(str(number), escape(title), f"{size.cells:,}", in_words(size.seconds))
    whole = Size(*(sum(part) for part in zip(*sizes, strict=True)))
    if len(sizes) > 1:
        table.add_row("", f"{len(sizes)} runs", f"{whole.cells:,}", in_words(whole.seconds), style="bold")
    console.print(table)
    console.print(
        "Windows and idle spells of all workers on each device; start, compilation and warm-up come on top. Nothing was measured.",
        highlight=False,
    )
    return whole
