"""`invoke fleet sweep`: from the options to what became of every cell. The loop itself is in loop.py."""

from __future__ import annotations

import os
import random
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.host import signals
from common.host.devices import Device, the_cpu
from common.host.fleet.head.loop import Loop, Order, Transport
from common.host.fleet.head.progress import FleetProgress
from common.host.fleet.head.resume import Earlier, find_earlier, request_digest
from common.host.fleet.head.schedule import Schedule
from common.host.fleet.head.targets import Target, Wanted, Work, make_targets, plan_work
from common.host.fleet.head.up_check import Hosts, check_options, connected, look_at, read_inputs
from common.host.fleet.transport.cluster import Node
from common.host.fleet.transport.connection import TransportLost
from common.host.fleet.worker.code_digest import code_digest
from common.host.fleet.worker.variables import declared_of
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES, DataFolder
from common.host.plan.model_terms import ModelTerms
from common.host.plan.options import Options
from common.host.runs.run import check_writable, locked


@dataclass
class Result:
    """What became of a sweep. runs: folders, with those of earlier calls; missing: target -> (cells that are not measured, why)."""

    runs: list[Path]
    statuses: dict[str, int]
    missing: dict[Target, tuple[tuple[str, ...], tuple[str, ...]]]
    interrupted: bool = False
    errors: list[str] = field(default_factory=list)
    moved: int = 0

    @property
    def measured(self) -> list[Path]:
        """Folders that hold a cell."""
        return [folder for folder in self.runs if any(folder.glob("cells/*/cell.csv"))]


def sweep(address: str, options: Options, wanted: Wanted, console: Console, data: DataFolder) -> Result:
    """Everything, from the options to run folders under data/results. Raises UserError before anything is made."""
    check_options(options)
    check_writable(data.results)
    with connected(address, data) as (transport, nodes):
        hosts = look_at(transport, nodes, options, wanted, console)
        refuse(hosts)
        options = replace(options, runner=hosts.runner)
        left_out = hosts.unfit()
        for node in hosts.nodes:
            if node.id in left_out:
                console.print(
                    escape(f"{node.name} takes no cells: {left_out[node.id]}"),
                    style="yellow",
                    highlight=False,
                    soft_wrap=True,
                )
        fit = [node for node in hosts.nodes if node.id not in left_out]
        accelerators = sorted({node.accelerator for node in hosts.nodes})
        targets = make_targets(wanted, accelerators, fit)
        environment = declared_of(os.environ)
        request = request_digest(options, code_digest(), targets, read_inputs(options), environment)
        with locked(data.locks / f"fleet-{request}.lock", "this sweep"):
            earlier = find_earlier(data.results, request)
            seed, work, earlier = _plan(options, targets, hosts, earlier, console)
            order = Order(
                sweep=earlier.sweep if earlier else f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
                request=request, seed=seed, options=replace(options, seed=-1), device="cpu" if options.device == "cpu" else "gpu",
                code=code_digest(), model_hash=_model_hash(hosts, earlier), checkout=wanted.checkout,
                command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]), environment=environment,
            )  # fmt: skip
            return run_sweep(order, work, earlier, transport, hosts.nodes, left_out, console, data.results)


def refuse(hosts: Hosts) -> None:
    """Raises UserError when hosts are not alike, or none is fit."""
    odd = hosts.refusals
    if odd:
        more = f" (and {len(odd) - 1} more: invoke fleet up-check shows them)" if len(odd) > 1 else ""
        raise UserError(f"{odd[0]}{more}")
    unfit = hosts.unfit()
    if len(unfit) == len(hosts.nodes):
        first = hosts.nodes[0]
        raise UserError(f"no host is fit: {first.name}: {unfit[first.id]}")


def _model_hash(hosts: Hosts, earlier: Earlier | None) -> str:
    """The model that all must have, "" where none has it yet. Raises UserError when an earlier call measured another."""
    there = next((facts.model_hash for facts in hosts.facts.values() if facts.model_hash), "")
    if earlier and earlier.model_hash and there and earlier.model_hash != there:
        raise UserError(
            f"this sweep was begun with model {earlier.model_hash}, hosts now have {there}; "
            "give --weights, or another --seed for a new sweep"
        )
    return there or (earlier.model_hash if earlier else "")


def _plan(
    options: Options, targets: list[Target], hosts: Hosts, earlier: Earlier | None, console: Console
) -> tuple[int, Work, Earlier | None]:
    """Seed, work, and the earlier call if there is something left of it."""
    images = load_images(IMAGES)
    devices = {target.accelerator: _device_of(target.accelerator, hosts, options) for target in targets}
    told = next((ModelTerms(**facts.model_terms) for facts in hosts.facts.values() if facts.model_terms), None)
    if earlier is not None and options.seed in (-1, earlier.seed):
        work = plan_work(options, images, targets, devices, earlier.seed, console, told or earlier.terms)
        if any(set(keys) - earlier.done.get(target.name, frozenset()) for target, keys in work.cells.items()):
            return earlier.seed, work, earlier
    seed = options.seed if options.seed >= 0 else random.SystemRandom().randrange(2**31)
    return seed, plan_work(options, images, targets, devices, seed, Console(quiet=earlier is not None), told), None


def _device_of(accelerator: str, hosts: Hosts, options: Options) -> Device:
    """A device of that kind, as a host described it: what is planned depends on its compute capability."""
    if options.device == "cpu":
        return the_cpu()
    for node in hosts.nodes:
        if node.accelerator == accelerator and hosts.facts[node.name].gpus:
            facts = hosts.facts[node.name].gpus[0]
            return Device("gpu0", "gpu", str(facts["name"]), str(facts["uuid"]), dict(facts))
    raise UserError(f"no host tells what its {accelerator} is")


def run_sweep(
    order: Order,
    work: Work,
    earlier: Earlier | None,
    transport: Transport,
    nodes: tuple[Node, ...],
    left_out: Mapping[str, str],
    console: Console,
    results: Path,
) -> Result:
    """Measures what is left of the work."""
    done = earlier.done if earlier else {}
    left = {
        target: [key for key in keys if key not in done.get(target.name, ())] for target, keys in work.cells.items()
    }
    already = work.total - sum(map(len, left.values()))
    if earlier:
        console.print(f"Continuing sweep {order.sweep}: {already} of {work.total} cells are there", highlight=False)
    schedule = Schedule(left, left_out)
    errors: list[str] = []
    interrupted = False
    with FleetProgress(console, work.total, already) as progress, signals.as_interrupts():
        loop = Loop(order, schedule, transport, results, progress)
        try:
            interrupted = loop.run(nodes)
        except TransportLost as error:
            errors.append(str(error))
    runs = [*(earlier.runs if earlier else ()), *loop.runs]
    return Result(
        runs, progress.statuses, schedule.unfinished(), interrupted, [*loop.errors, *errors], schedule.moved
    )  # fmt: skip
