"""What framewatt costs on a GPU host: `invoke selfbench --gpu N`.

*Loop.* What the timing loop adds to an inference, with an adapter that does nothing (common/harness/overhead.py).

*Sidecar on against off.* One process runs short blocks of a real cell while one sidecar, reading that GPU at its default
rates, is switched by SIGSTOP and SIGCONT, on off, off on ...; each pair gives one ratio of throughputs. Batch 1, because
launches and waits of the host are there the largest share of an inference.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.host import models
from common.host.devices import Device, choose_devices
from common.host.doctor.harness_overhead import harness_overhead
from common.host.frameworks.registry import Image, Variant, load_images
from common.host.paths import IMAGES, DataFolder
from common.host.plan.model_terms import inputs_of
from common.host.plan.options import Options
from common.host.plan.request import precisions_for, variants_for
from common.host.runners.local import LocalRunner
from common.host.runs.run import locked
from common.host.selfbench import containers
from common.host.temporary import temporary_folder
from common.host.verify.command import Case, SideEnded, SideProcess
from common.stats.pairs import alternate, interval_of, throughput_ratios

BATCH_SIZE = 1
PAIRS = 80


def side_of(case: Case, folder: Path) -> SideProcess:
    """The cell in a process that waits for the word to run a block."""
    job = case.job(folder)
    job.write(folder / "job.json")
    command = [str(case.interpreter), "-m", "common.harness.interleaved_side", str(folder / "job.json")]
    return SideProcess("the worker", command, case.environment(job), folder / "worker.log")


def sidecar_ratios(case: Case, folder: Path, pairs: int) -> list[float]:
    """Throughput with the sidecar on over that with it off, of each pair of blocks."""
    side = side_of(case, folder)
    try:
        side.facts()
        gpu = case.device.uuid if case.device.kind == "gpu" else "none"
        with containers.switched_sidecar(folder, gpu) as switch:

            def block(on: bool) -> list[int]:
                switch(on)
                return side.block(containers.BLOCK_S)

            block(True)
            return throughput_ratios(alternate(lambda: block(True), lambda: block(False), pairs))
    finally:
        side.close()


def _cases(
    options: Options, variants: list[Variant], precisions: Sequence[str], runner: LocalRunner, images: Mapping[str, Image],
    device: Device, data: DataFolder, console: Console,
) -> list[Case]:  # fmt: skip
    """With all that they need: environments, the model."""
    runner.prepare(variants, device.kind, lambda *step: None)
    model = runner.ensure_model(options.model, data, models.export_options_of(options), lambda *step: None)
    (fed,) = inputs_of(("float32",), model, console)
    return [
        Case(
            variant, images[variant.image], "tuned", precision, BATCH_SIZE, "device", runner.interpreter(variant.image), model,
            device, data.framework_cache(variant.image), None, str(BATCH_SIZE), fed,
        )
        for variant in variants
        for precision in precisions
        if precision in variant.precisions(device.kind)
    ]  # fmt: skip


def measure(options: Options, console: Console, data: DataFolder, pairs: int = PAIRS) -> None:
    """Prints the overhead of the loop and, for each framework, the ratio with its interval. Raises UserError."""
    devices = choose_devices(options.device or None, options.gpu or None)
    if len(devices) != 1:
        raise UserError(f"selfbench measures on one device at a time, not on {len(devices)}")
    device = devices[0]
    images = load_images(IMAGES)
    variants = variants_for(options, images, [device], console)
    precisions = precisions_for(options, variants, device.kind)
    by_name = {image.name: image for image in images}
    runner = LocalRunner(by_name, options.python or None)
    with locked(data.locks / f"{device.uuid or device.name}.lock", f"{device.name} ({device.product})"):
        cases = _cases(options, variants, precisions, runner, by_name, device, data, console)
        console.print(
            escape(f"{device.product}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f} before"), highlight=False
        )
        overhead = harness_overhead()
        console.print(
            f"timing loop, no-op adapter: {overhead['added_ns'] / 1000:.3f} us added to an inference (target at most 0.3)",
            highlight=False,
        )
        for case in cases:
            with temporary_folder("overhead") as folder:
                try:
                    ratio = interval_of([sidecar_ratios(case, folder, pairs)])
                except SideEnded as error:
                    raise UserError(str(error)) from error
            console.print(
                f"throughput, sidecar on / off, {case.variant.name} {case.precision} batch {BATCH_SIZE}: {ratio.estimate:.4f} "
                f"({ratio.low:.4f} to {ratio.high:.4f}), {pairs} pairs (target 1.000 +- 0.005)",
                highlight=False,
            )
