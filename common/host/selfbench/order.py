"""Whether the order of cells in a worker matters: `invoke selfbench --order`.

A cell after one of another batch size in the same worker is held against the same cell alone in a fresh worker: two
processes, both alive all the time, that take turns in short blocks in the order AB BA AB ... (common/interleaving.py), so
that both meet the same machine. Each pair of blocks gives one ratio of median latencies. Rounds are fresh processes: the
interval over rounds holds what differs from one process to the next, such as the choice of an algorithm.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.host import models
from common.host.cli import parsing as opt
from common.host.cli.progress import Steps
from common.host.devices import Device, choose_devices
from common.host.frameworks.registry import Image, Variant, load_images
from common.host.paths import IMAGES, DataFolder
from common.host.plan.model_terms import inputs_of
from common.host.plan.options import Options
from common.host.plan.request import precisions_for, variants_for
from common.host.runners.local import LocalRunner
from common.host.runs.run import locked
from common.host.temporary import temporary_folder
from common.host.verify.command import Case, SideEnded, SideProcess, thread_count
from common.stats.intervals import Interval
from common.stats.pairs import alternate, interval_of, latency_ratios

VARIANTS = "onnxrt,torch"
#: kind of device -> (batch size, that of the cell before it)
ORDERS = {"cpu": ((1, 8), (8, 1)), "gpu": ((32, 512), (512, 32), (1, 32))}
ROUNDS = 4
PAIRS_OF_A_ROUND = 16
BLOCK_S = 0.25
TARGET = (0.99, 1.01)


@contextmanager
def both_orders(
    case: Case, before: int, folder: Path, at_once: bool = False
) -> Iterator[tuple[SideProcess, SideProcess]]:
    """(after a cell of batch size `before`, alone), compiled and warm. Raises SideEnded.

    at_once: both start side by side, which is for rounds whose choices an earlier one has made and kept: a trial that meets the
    other side's compilation would choose wrongly.
    """
    sides: list[SideProcess] = []
    try:
        for name, sizes in (("after", (before, case.batch_size)), ("alone", (case.batch_size,))):
            place = folder / name
            place.mkdir()
            job = case.job(place)
            job = dataclasses.replace(job, cells=[dataclasses.replace(case.cell, batch_size=size) for size in sizes])
            job.write(place / "job.json")
            command = [str(case.interpreter), "-m", "common.harness.interleaved_side", str(place / "job.json")]
            sides.append(SideProcess(f"the worker {name}", command, case.environment(job), place / "worker.log"))
            if not at_once:
                sides[-1].facts()
        if at_once:
            for side in sides:
                side.facts()
        yield sides[0], sides[1]
    finally:
        for side in sides:
            side.close()


def compare(
    case: Case, before: int, folder: Path, rounds: int = ROUNDS, pairs: int = PAIRS_OF_A_ROUND, block_s: float = BLOCK_S
) -> Interval:
    """Latency after a cell of batch size `before` over latency alone. Raises SideEnded."""
    ratios: list[Sequence[float]] = []
    for number in range(rounds):
        place = folder / str(number)
        place.mkdir()
        with both_orders(case, before, place, at_once=number > 0) as (after, alone):
            for side in (after, alone):
                side.block(block_s)
            ratios.append(
                latency_ratios(alternate(partial(after.block, block_s), partial(alone.block, block_s), pairs))
            )
    return interval_of(ratios)


def orders_of(kind: str, batch_sizes: str) -> list[tuple[int, int]]:
    """Those of ORDERS of this kind of device between the batch sizes given, a comma list; "": all. Raises UserError for none."""
    if not batch_sizes:
        return list(ORDERS[kind])
    wanted = opt.batch_sizes(batch_sizes)
    orders = [order for order in ORDERS[kind] if set(order) <= set(wanted)]
    if not orders:
        known = "; ".join(f"{batch_size} after {before}" for batch_size, before in ORDERS[kind])
        raise UserError(
            f"no order is between the batch sizes {','.join(map(str, wanted))}; on a {kind.upper()} there are {known}: give "
            "--batch-sizes two of one order, or leave it out"
        )
    return orders


@dataclass(frozen=True)
class _Asked:
    """What the options ask for on a device."""

    orders: Sequence[tuple[int, int]]
    images: Mapping[str, Image]
    variants: list[Variant]
    precisions: Sequence[str]
    threads: int | None
    runner: LocalRunner


def _asked(options: Options, device: Device, console: Console) -> _Asked:
    """Makes nothing. Raises UserError."""
    images = load_images(IMAGES)
    by_name = {image.name: image for image in images}
    variants = variants_for(options, images, [device], console)
    return _Asked(
        orders_of(device.kind, options.batch_sizes),
        by_name,
        variants,
        precisions_for(options, variants, device.kind),
        thread_count(options, device),
        LocalRunner(by_name, options.python or None),
    )


def _cases(
    asked: _Asked, options: Options, device: Device, data: DataFolder, console: Console
) -> list[tuple[Case, int]]:
    """With all that they need: environments, the model."""
    runner = asked.runner
    steps = Steps(console)
    with steps.show("Setting up") as on_step:
        runner.prepare(asked.variants, device.kind, on_step)
    with steps.show("Exporting the model") as on_step:
        model = runner.ensure_model(options.model, data, models.export_options_of(options), on_step)
    (fed,) = inputs_of(("float32",), model, console)
    io = "host" if device.kind == "cpu" else "device"
    sizes = ",".join(str(size) for size in sorted({size for pair in asked.orders for size in pair}))
    return [
        (
            Case(
                variant, asked.images[variant.image], "tuned", precision, batch_size, io, runner.interpreter(variant.image), model,
                device, data.framework_cache(variant.image), asked.threads, sizes, fed,
            ),
            before,
        )
        for variant in asked.variants
        for precision in asked.precisions
        if precision in variant.precisions(device.kind)
        for batch_size, before in asked.orders
    ]  # fmt: skip


def measure(options: Options, console: Console, data: DataFolder, rounds: int = ROUNDS) -> int:
    """Prints one ratio with its interval for each cell; 1 where one of them could not be measured, which a line says, else 0.

    Raises UserError.
    """
    if rounds < 1:
        raise UserError(f"--rounds is the number of fresh processes of each order, at least 1, not {rounds}")
    devices = choose_devices(options.device or None, options.gpu or None)
    if len(devices) != 1:
        raise UserError(f"selfbench measures on one device at a time, not on {len(devices)}")
    device = devices[0]
    asked = _asked(options, device, console)
    with locked(data.locks / f"{device.uuid or device.name}.lock", f"{device.name} ({device.product})"):
        cases = _cases(asked, options, device, data, console)
        when, load = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), os.getloadavg()[0]
        console.print(
            escape(f"{device.product}, {os.cpu_count()} CPUs, load {load:.2f} before, {when}"), highlight=False
        )
        failed = False
        for case, before in cases:
            what = f"{case.variant.name} {case.precision} batch {case.batch_size}, after batch {before} / alone"
            with temporary_folder("order") as folder:
                try:
                    ratio = compare(case, before, folder, rounds)
                except SideEnded as error:  # the other frameworks are measured all the same
                    failed = True
                    console.print(
                        escape(f"{what}: not measured: {error}"), style="red", highlight=False, soft_wrap=True
                    )
                    continue
            counted = f"{rounds} round{'' if rounds == 1 else 's'} of {PAIRS_OF_A_ROUND} pairs"
            console.print(
                f"{what}: {ratio.estimate:.4f} ({ratio.low:.4f} to {ratio.high:.4f}), {counted} "
                f"(target {TARGET[0]:g} to {TARGET[1]:g})",
                highlight=False,
            )
    console.print(f"load {os.getloadavg()[0]:.2f} after", highlight=False)
    return int(failed)
