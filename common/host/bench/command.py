"""The main job: options -> request -> run folder -> jobs on one or more devices -> finished cells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console

from common.host.bench.again import Again
from common.host.bench.execution import Outcome, run_all
from common.host.bench.opening import opened
from common.host.paths import IMAGES, DataFolder
from common.host.plan.options import Options


def bench(
    options: Options,
    console: Console,
    data: DataFolder | None = None,
    images_folder: Path = IMAGES,
    run_facts: Mapping[str, Any] = MappingProxyType({}),
    again: Again | None = None,
) -> Outcome:
    """Runs everything that the options ask for; returns when the cells are on disk. Raises UserError before anything is made.

    run_facts: what run.json says beside, such as the plan that this is a run of. again: measures cells of the newest such run again.
    """
    with opened(
        options, console, data or DataFolder.default(), images_folder, run_facts=run_facts, again=again
    ) as opening:
        context, runner, plan = opening
        return run_all(context, runner, plan, console)
