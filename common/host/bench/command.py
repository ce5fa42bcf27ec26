"""The main job: options -> request -> run folder -> jobs on one or more devices -> finished cells."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from common.host.bench.execution import Outcome, run_all
from common.host.bench.opening import opened
from common.host.paths import IMAGES, DataFolder
from common.host.plan.options import Options


def bench(options: Options, console: Console, data: DataFolder | None = None, images_folder: Path = IMAGES) -> Outcome:
    """Runs everything that the options ask for; returns when the cells are on disk. Raises UserError before anything is made."""
    with opened(options, console, data or DataFolder.default(), images_folder) as (context, runner, plan):
        return run_all(context, runner, plan, console)
