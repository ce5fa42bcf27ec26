"""What a notebook costs: `invoke selfbench --notebook`, on the CPU.

A round starts the same prepared cell twice, as a script and in a cell of a Jupyter kernel, both alive all the time; they
take turns in short blocks, in the order AB BA AB ... (common/interleaving.py), so that both meet the same machine in the
same seconds, which a run of `invoke bench --frontend script,notebook` cannot promise. Each pair of blocks gives one ratio of
medians, and one of the CPU time of an inference, all threads of the process together: what a kernel does beside the cell is
in it, and the time slices of other programs are not. Rounds are fresh processes and kernels: the intervals over rounds hold
what differs from one process to the next. One thread computes: several that wait for each other make a loaded machine's
noise many times as large.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.errors import UserError
from common.harness import interleaved_side, parity
from common.host import models
from common.host.cli import parsing as opt
from common.host.cli.progress import Steps
from common.host.devices import the_cpu
from common.host.frameworks.registry import all_variants, load_images
from common.host.paths import IMAGES, DataFolder
from common.host.runners.local import LocalRunner
from common.host.temporary import temporary_folder
from common.host.verify.command import Case, SideEnded, SideProcess, arrays_of, side_environment
from common.stats import comparison
from common.stats.intervals import Interval, percentile_draws
from common.stats.pairs import alternate, latency_ratios

VARIANTS = "onnxrt,torch,keras"
BATCH_SIZES = (1, 8, 32)
ROUNDS = 6
PAIRS_OF_A_ROUND = 16
BLOCK_S = 0.25
SIDES = {"script": "common.harness.interleaved_side", "notebook": "common.harness.frontends.interleaved_side"}


@dataclass(frozen=True)
class Cost:
    """One row. Medians over all blocks in ns; ratios: notebook over script, their intervals over rounds.

    ratio: of the duration of an inference; cpu_ratio: of its CPU time. p_value: of "the durations are equal".
    """

    variant: str
    batch_size: int
    script_ns: float
    notebook_ns: float
    ratio: Interval
    cpu_ratio: Interval
    p_value: float

    def verdict(self, compared: int) -> comparison.Verdict:
        """On the notebook, at the error rate of one among so many comparisons."""
        return comparison.verdict(self.ratio, self.p_value, comparison.MARGIN, comparison.ERROR_RATE / compared)


@contextmanager
def both_front_ends(case: Case, folder: Path) -> Iterator[tuple[SideProcess, SideProcess]]:
    """(script, notebook) of a case, compiled and warm. Raises SideEnded, and UserError where their outputs differ."""
    sides: list[SideProcess] = []
    try:
        for name, module in SIDES.items():
            place = folder / name
            place.mkdir()
            job = case.job(place)
            job.write(place / "job.json")
            command = [str(case.interpreter), "-m", module, str(place / "job.json")]
            sides.append(SideProcess(f"the {name}", command, side_environment(job), folder / f"{name}.log"))
        for side in sides:
            side.facts()
        difference = max(
            parity.differing(*outputs)
            for outputs in zip(
                *(arrays_of(folder / name, interleaved_side.OUTPUT).values() for name in reversed(tuple(SIDES))),
                strict=True,
            )
        )
        if difference > parity.TOLERANCES[case.precision][1]:
            raise UserError(f"{case.variant.name}: the outputs of script and notebook differ by {difference:.2g}")
        yield sides[0], sides[1]
    finally:
        for side in sides:
            side.close()


def cost_of(case: Case, rounds: int, pairs: int, block_s: float) -> Cost:
    """Measures one row. Raises SideEnded, and UserError for too few rounds or pairs."""
    ratios: list[list[float]] = []
    cpu_ratios: list[list[float]] = []
    durations: dict[str, list[int]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        with temporary_folder("notebook") as folder, both_front_ends(case, folder) as sides:
            for side in sides:  # both warm on the machine as it is with both of them
                side.block(block_s)
            found, cpu = _alternating_pairs(*sides, pairs, block_s)
        ratios.append(latency_ratios(found))
        cpu_ratios.append(cpu)
        for one, other in found:
            durations["notebook"] += one
            durations["script"] += other
    draws, cpu_draws = percentile_draws(ratios, 50), percentile_draws(cpu_ratios, 50)
    if draws is None or cpu_draws is None:
        raise UserError("too few pairs for an interval")
    script_ns, notebook_ns = (float(np.median(durations[name])) for name in SIDES)
    return Cost(
        case.variant.name, case.batch_size, script_ns, notebook_ns, draws.interval(), cpu_draws.interval(), draws.p_value(1.0)
    )  # fmt: skip


def _alternating_pairs(
    script: SideProcess, notebook: SideProcess, pairs: int, block_s: float
) -> tuple[list[tuple[list[int], list[int]]], list[float]]:
    """(durations of notebook and script, ratio of their CPU times of an inference) of each pair of blocks."""
    cpu_ns: dict[SideProcess, list[float]] = {script: [], notebook: []}

    def block(side: SideProcess) -> list[int]:
        durations = side.block(block_s)
        assert side.cpu_ns is not None
        cpu_ns[side].append(side.cpu_ns / len(durations))
        return durations

    found = alternate(partial(block, notebook), partial(block, script), pairs)
    return found, [one / other for one, other in zip(cpu_ns[notebook], cpu_ns[script], strict=True)]


def measure(
    console: Console,
    names: str = "",
    data: DataFolder | None = None,
    *,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    rounds: int = ROUNDS,
    pairs: int = PAIRS_OF_A_ROUND,
    block_s: float = BLOCK_S,
    threads: int = 1,
    images_folder: Path = IMAGES,
    python: str | None = None,
) -> list[Cost]:
    """Prints the ratios with their intervals. names: variants, comma list. Raises UserError."""
    images = load_images(images_folder)
    by_name = {image.name: image for image in images}
    variants = all_variants(images)
    chosen = [variants[name] for name in opt.choose("framework", names or VARIANTS, variants)]
    data = data or DataFolder.default()
    runner = LocalRunner(by_name, python)
    steps = Steps(console)
    with steps.show("Setting up") as on_step:
        runner.prepare(chosen, "cpu", on_step, notebook=True)
    with steps.show("Exporting the model") as on_step:
        model = runner.ensure_model("MobileNetV3L", data, models.ExportOptions(), on_step)
    cpu = the_cpu()
    cases = [
        Case(
            variant, by_name[variant.image], "tuned", "fp32", size, "host", runner.interpreter(variant.image), model, cpu,
            data.framework_cache(variant.image), threads, str(size),
        )
        for variant in chosen
        for size in batch_sizes
    ]  # fmt: skip
    before = os.getloadavg()[0]
    found: list[Cost] = []
    with steps.show("Taking turns") as on_step:
        for done, case in enumerate(cases):
            on_step(done, len(cases), f"{case.variant.name} batch {case.batch_size}")
            try:
                found.append(cost_of(case, rounds, pairs, block_s))
            except SideEnded as error:
                raise UserError(str(error)) from error
    titles = {name: variant.title for name, variant in variants.items()}
    _print(console, found, titles)
    facts = (
        f"{cpu.product}, {os.cpu_count()} CPUs seen; load average {before:.2f} before, {os.getloadavg()[0]:.2f} after, "
        f"this benchmark included; {threads} intra-op thread{'' if threads == 1 else 's'}; {rounds} rounds of {pairs} pairs "
        f"of blocks of {block_s:g} s; intervals are 95 % over rounds"
    )
    console.print(escape(facts), highlight=False, soft_wrap=True)
    return found


def _print(console: Console, found: Sequence[Cost], titles: Mapping[str, str]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("framework", "batch", "script, ms", "notebook, ms", "notebook / script", "verdict", "of CPU time"):
        table.add_column(title, justify="left" if title in ("framework", "verdict") else "right")
    for one in found:
        ratio, cpu_ratio = (f"{r.estimate:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in (one.ratio, one.cpu_ratio))
        times = [f"{ns / 1e6:.3f}" for ns in (one.script_ns, one.notebook_ns)]
        verdict = one.verdict(len(found)).value
        table.add_row(titles.get(one.variant, one.variant), str(one.batch_size), *times, ratio, verdict, cpu_ratio)
    console.print(table)
