"""What containers and the sidecar cost: the same cells with and without, alternating, and the ratio's interval.

`invoke selfbench --docker`: needs an engine, the onnxrt and sidecar images of the CPU flavour, and the environment of
onnxrt for local runs. Each pair is two runs right after one another in random order, so that the machine's drift falls
on both; the interval is of the median ratio over pairs (bootstrap over pairs, 95 %).
"""

from __future__ import annotations

import csv
import io
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.errors import UserError
from common.host.bench import bench
from common.host.bench_options import Options
from common.host.containers import engine
from common.host.devices import cpu_model
from common.host.paths import ROOT, DataFolder

PAIRS = 10
BATCH_SIZE = 1
RESAMPLES = 10_000


def median_latency_ns(run: Path) -> float:
    """Median time of one inference of the run's only cell. Raises UserError where it is not ok."""
    (path,) = run.glob("cells/*/samples.csv")
    with path.open(newline="") as file:
        durations = [int(row["end_ns"]) - int(row["start_ns"]) for row in csv.DictReader(file)]
    if not durations:
        raise UserError(f"{path.parent.name} has no samples: its cell.csv says why")
    return median(durations)


def ratio_interval(ratios: list[float], seed: int = 0) -> tuple[float, float, float]:
    """Median of the pairs' ratios and its 95 % bootstrap interval over pairs."""
    generator = np.random.default_rng(seed)
    values = np.asarray(ratios)
    medians = np.median(generator.choice(values, (RESAMPLES, len(values))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(np.median(values)), float(low), float(high)


def pairs(
    first: Callable[[], float], second: Callable[[], float], count: int, on_pair: Callable[[int], None]
) -> list[float]:
    """first() / second() of each pair, in random order within the pair."""
    order = random.Random(0)
    ratios = []
    for number in range(count):
        both = [first, second]
        swapped = order.random() < 0.5
        values = [function() for function in (reversed(both) if swapped else both)]
        if swapped:
            values.reverse()
        ratios.append(values[0] / values[1])
        on_pair(number + 1)
    return ratios


def _latency(runner: str, data: DataFolder) -> float:
    # 3 s windows, fixed: an early stop would give the two sides windows of different length. One thread: what else runs
    # on the machine then disturbs it less than an inference that needs all cores.
    options = Options(
        framework="onnxrt", device="cpu", runner=runner, batch_sizes=str(BATCH_SIZE), quick=True, min_seconds=3.0,
        max_seconds=3.0, idle_seconds=0.0, threads=1,
    )  # fmt: skip
    outcome = bench(options, Console(file=io.StringIO()), data)
    return median_latency_ns(outcome.run.folder)


def _powercap(folder: Path) -> Path:
    """Counters as the kernel shows RAPL's, so that the sidecar has something to read on any machine."""
    for place, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "dram")):
        domain = folder / place
        domain.mkdir(parents=True)
        for file, text in (("name", name), ("energy_uj", "1000000"), ("max_energy_range_uj", "262143328850")):
            (domain / file).write_text(f"{text}\n")
    return folder


def _with_sidecar(data: DataFolder, powercap: Path) -> float:
    out = data.root / f"power-{len(list(data.root.glob('power-*')))}.csv"
    command = [sys.executable, "-m", "common.sidecar", "--out", str(out), "--gpus", "none", "--powercap", str(powercap)]
    with subprocess.Popen(
        [*command, "--until-stdin-closes"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as sidecar:
        assert sidecar.stdout is not None and sidecar.stdin is not None
        first = sidecar.stdout.readline()
        if b"ready" not in first:
            raise UserError(f"the sidecar does not start: {first.decode().strip()}")
        try:
            return _latency("local", data)
        finally:
            sidecar.stdin.close()


def measure(console: Console, count: int = PAIRS) -> None:
    """Prints the ratios with their intervals, and the sizes of the images that are there."""
    client = engine.connect()
    console.print(escape(f"{cpu_model()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}"), highlight=False)
    with tempfile.TemporaryDirectory(prefix="framewatt-") as folder:
        data = DataFolder(Path(folder))
        source = DataFolder.default()
        if source.models.is_dir():
            data.models.symlink_to(source.models)
        powercap = _powercap(data.root / "powercap")
        table = Table(box=None, header_style="bold", pad_edge=False)
        for title in ("ratio of median latencies", "median", "95 % interval", "pairs", "target"):
            table.add_column(title)

        def on_pair(number: int) -> None:
            console.print(f"pair {number} of {count}", highlight=False)

        container = pairs(lambda: _latency("docker", data), lambda: _latency("local", data), count, on_pair)
        sidecar = pairs(lambda: _with_sidecar(data, powercap), lambda: _latency("local", data), count, on_pair)
        for title, ratios, target in (
            ("container / local process", container, "1.00 +- 0.02"),
            ("sidecar on / off", sidecar, "1.000 +- 0.005"),
        ):
            middle, low, high = ratio_interval(ratios)
            table.add_row(title, f"{middle:.4f}", f"{low:.4f} to {high:.4f}", str(len(ratios)), target)
    console.print(table)
    for image in sorted(client.images.list(filters={"label": engine.LABEL}), key=lambda image: str(image.tags)):
        for tag in image.tags:
            console.print(escape(f"{tag}: {image.attrs['Size'] / 1e6:,.0f} MB"), highlight=False)
