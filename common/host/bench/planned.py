"""`invoke bench --plan FILE`: the runs of a plan one after another; repeated, the command goes on until all are done.

A *round* is each run of the plan once. A repeated command continues the newest round of a plan that asks for the same, and
begins another when that one is whole; so a plan outlasts reservations of a machine, and "repeat this" is one command.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.host.bench.again import Again, NothingMarked
from common.host.bench.choose_runner import make_runner
from common.host.bench.command import bench
from common.host.bench.execution import Outcome
from common.host.devices import choose_devices
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES, DataFolder
from common.host.plan import plan_file
from common.host.plan.options import Options
from common.host.plan.plan_file import PlanFile, Sweep, title_of
from common.host.plan.request import request_of
from common.host.runs.run import DESCRIPTION, Run, read_run, typed_words
from common.text import shell_line
from common.typed_json import check as check_types

_USE = "invoke bench --plan THIS_FILE measures it"
#: what run.json says of the plan
FACTS = "plan_file"


@dataclass
class PlanOutcome:
    """What became of a plan. runs: of its round, those that were there before too. missing: sweep -> why it has no whole run."""

    runs: list[Run] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


def run_plan(
    plan: PlanFile, console: Console, data: DataFolder, images_folder: Path = IMAGES, again: Again | None = None
) -> PlanOutcome:
    """Measures what the newest round of the plan lacks. Raises UserError before anything is made for what no run can take.

    again: measures marked cells of the newest run of each sweep again instead.
    """
    check(plan, images_folder)
    whole, number = newest_round(plan, data) if again is None else ({}, 0)
    outcome = PlanOutcome([run for _, run in sorted(whole.items())])
    several = len(plan.sweeps) > 1
    if several:
        words = f", {len(whole)} of them done before" if whole else ""
        console.print(escape(f"Plan {plan.name}: {len(plan.sweeps)} runs{words}"), highlight=False)
    for index, sweep in enumerate(plan.sweeps, 1):
        if index in whole:
            continue
        if several:
            console.print(
                escape(f"Run {index} of {len(plan.sweeps)}: {title_of(sweep.options)}"), highlight=False, soft_wrap=True
            )
        facts = {
            "name": plan.name, "hash": plan.hash, "digest": plan.digest, "round": number,
            "sweep": index, "of": len(plan.sweeps),
        }  # fmt: skip
        try:
            run_facts = {FACTS: facts} if again is None else {}
            one = bench(sweep.options, console, data, images_folder, run_facts=run_facts, again=again)
        except NothingMarked as nothing:
            if not several:
                raise
            outcome.runs.append(nothing.run)
            console.print(escape(str(nothing)), highlight=False, soft_wrap=True)
            continue
        except UserError as error:
            if not several:
                raise
            outcome.missing[title_of(sweep.options)] = str(error)
            console.print(escape(f"error: {error}"), style="red", highlight=False, soft_wrap=True)
            continue
        _take(outcome, one, sweep)
        if outcome.interrupted:
            break
    return outcome


def _take(outcome: PlanOutcome, one: Outcome, sweep: Sweep) -> None:
    outcome.runs.append(one.run)
    outcome.errors += one.errors
    outcome.interrupted = one.interrupted
    if not one.run.finished:
        outcome.missing[title_of(sweep.options)] = f"run {one.run.name} has not come to its end"


def newest_round(plan: PlanFile, data: DataFolder) -> tuple[dict[int, Run], int]:
    """(number of the sweep -> its whole run in the round to go on with, number of that round)."""
    rounds: dict[int, dict[int, Run]] = {}
    for run, facts in _runs_of(plan, data):
        done = rounds.setdefault(facts["round"], {})
        if run.finished:
            done[facts["sweep"]] = run
    newest = max(rounds, default=1)
    done = rounds.get(newest, {})
    return ({}, newest + 1) if len(done) == len(plan.sweeps) else (done, newest)


def _runs_of(plan: PlanFile, data: DataFolder) -> Iterator[tuple[Run, Mapping[str, Any]]]:
    digest = plan.digest
    for path in sorted(data.results.glob(f"*/{DESCRIPTION}")):
        try:
            run = read_run(path.parent)
        except UserError:
            continue
        facts = run.description.get(FACTS)
        if isinstance(facts, dict) and facts.get("digest") == digest:
            number, sweep = facts.get("round"), facts.get("sweep")
            if isinstance(number, int) and isinstance(sweep, int) and 1 <= sweep <= len(plan.sweeps):
                yield run, facts


def check(plan: PlanFile, images_folder: Path = IMAGES) -> None:
    """Raises UserError with line and key for the first sweep that no run can take on this machine."""
    for sweep in plan.sweeps:
        error = fault_of(sweep.options, images_folder)
        if error:
            key = _to_blame(sweep, error, images_folder)
            raise plan.complaint(sweep.lines.get(key, sweep.line), key, error)


def fault_of(options: Options, images_folder: Path = IMAGES) -> str:
    """Why no run can take these options here, "" when one can. Makes nothing."""
    images = load_images(images_folder)
    try:
        devices = choose_devices(options.device or None, options.gpu or None)
        request_of(options, images, devices, Console(file=io.StringIO()))
        if options.runner != "docker" and (options.runner or options.python):
            make_runner(options, {image.name: image for image in images})
    except UserError as error:
        return str(error)
    return ""


def _to_blame(sweep: Sweep, error: str, images_folder: Path) -> str:
    """The key without which the complaint is another or none: of several, the one that the complaint names; "" without one."""
    defaults = Options()
    cures = [
        key
        for key in sweep.lines
        if fault_of(replace(sweep.options, **{key: getattr(defaults, key)}), images_folder) != error
    ]
    places = {
        key: min((place for word in _spellings(key) if (place := error.find(word)) >= 0), default=-1) for key in cures
    }
    named = sorted((key for key in cures if places[key] >= 0), key=places.__getitem__)
    return (named or cures or [""])[0]


def _spellings(key: str) -> tuple[str, ...]:
    """An option as complaints name it: --batch-sizes, batch_sizes, batch size."""
    return key, key.replace("_", "-"), key.replace("_", " ").removesuffix("s")


def plan_of_options(options: Options) -> str:
    """TOML that asks for the same. Raises UserError for what no run can take on this machine.

    What depends on the device is checked only where the device is here: a plan may be written elsewhere than it runs.
    """
    try:
        choose_devices(options.device or None, options.gpu or None)
    except UserError:
        pass
    else:
        if error := fault_of(options):
            raise UserError(error)
    return plan_file.render(options, [f"written by {shell_line(typed_words())}", _USE])


def plan_of_run(folder: Path, typed: Mapping[str, Any]) -> str:
    """The plan that asks for what a run was asked for; typed: options that win. Raises UserError for a run that does not say it."""
    run = read_run(folder)
    given = run.description.get("options")
    known = {one.name: one for one in fields(Options)}
    if not isinstance(given, dict):
        raise UserError(
            f"run {run.name} does not say its options; its command was: {run.description.get('command', 'unknown')}"
        )
    wrong = [name for name in given if name not in known]
    if wrong:
        raise UserError(f"run {run.name} was asked for {', '.join(map(str, wrong))}, which is no option here")
    try:
        options = Options(**check_types(Options, given))
    except TypeError as error:
        raise UserError(f"run {run.name}: {error}") from error
    return plan_file.render(replace(options, **typed), [f"what run {run.name} was asked for", _USE])
