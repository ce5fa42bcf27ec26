"""How fast run folders become the comparison table, and in how much memory: `python -m analysis.selfbench.reading`.

Makes run folders of the given size in a temporary folder, as the harness would write them, and reads them in a fresh
process: without a cache, filling it, from it, and for a question to `invoke sql`. Prints seconds and peak resident memory;
asserts nothing. Times include the start of Python and its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import schema
from common.cell import Cell
from common.errors import UserError
from common.host.paths import ROOT
from common.typed_json import last_object

SECOND = 10**9
VARIANTS = ("onnxrt", "torch", "tf", "tfxla", "keras", "kerasxla", "tensorrt")
BATCH_SIZES = (8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Reading:
    """seconds: from the start of the process to the table. cpu_seconds: of all its threads. peak_mib: largest resident set."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    rows: int


def _cells(count: int) -> Iterator[Cell]:
    for number in range(count):
        size = BATCH_SIZES[number % len(BATCH_SIZES)]
        variant = VARIANTS[number // len(BATCH_SIZES) % len(VARIANTS)]
        yield Cell("ResNet50", variant, "fp32", size, replicate=number // (len(BATCH_SIZES) * len(VARIANTS)))


def make(folder: Path, runs: int, cells: int, samples: int, power_rows: int = 0) -> None:
    """`runs` run folders of `cells` cells of `samples` inferences each, and a GPU's power readings where asked for."""
    rng = np.random.default_rng(0)
    written = []
    for number, cell in enumerate(_cells(cells)):
        durations = np.maximum(1, rng.gamma(400.0, 5e6 / 400, samples)).astype(np.int64)
        start = (1000 + 40 * number) * SECOND
        ends = start + np.cumsum(durations)
        begins = ends - durations
        lines = "".join(f"{i},{b},{e},\n" for i, (b, e) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)))
        idle = int(ends[-1]) + 2 * SECOND
        phases = [
            {"phase": name, "start_ns": start - (4 - at) * SECOND, "end_ns": start - (3 - at) * SECOND}
            for at, name in enumerate(("import", "load", "compile", "first"))
        ]
        phases += [
            {"phase": "measure", "start_ns": start, "end_ns": int(ends[-1])},
            {"phase": "idle", "start_ns": int(ends[-1]), "end_ns": idle},
        ]
        row = {key: value for key, value in cell.to_dict().items() if value is not None}
        row |= {
            "cell_key": cell.key, "status": "ok", "device_name": "a CPU", "samples": samples, "stop_reason": "converged",
            "origin": "framewatt", "weights": "seeded", "worker": f"w{number}",
        }  # fmt: skip
        written.append((
            cell.key, schema.to_csv("cell.csv", [row]), schema.to_csv("phases.csv", phases),
            ",".join(schema.header("samples.csv")) + "\n" + lines,
        ))  # fmt: skip
    power = schema.to_csv(
        "power.csv",
        (
            {"t_ns": 995 * SECOND + i * SECOND // 10, "domain": "package-0", "energy_mj": 9000 * i}
            for i in range(power_rows)
        ),
    )
    for run in range(runs):
        run_folder = folder / f"run{run:05d}"
        for key, cell_text, phases_text, samples_text in written:
            cell_folder = run_folder / "cells" / key
            cell_folder.mkdir(parents=True)
            (cell_folder / "cell.csv").write_text(cell_text)
            (cell_folder / "phases.csv").write_text(phases_text)
            (cell_folder / "samples.csv").write_text(samples_text)
        if power_rows:
            (run_folder / "power.csv").write_text(power)
        document = {"schema_version": 1, "run": run_folder.name, "host": {"logical_cores": 2}, "command": "selfbench"}
        (run_folder / "run.json").write_text(json.dumps(document))


#: A question of a user's own, as the README shows them.
QUESTION = "SELECT variant, batch_size, median(images_per_s) AS images_per_s FROM comparison GROUP BY ALL ORDER BY ALL"


def measure(folder: Path, cache: Path | None = None) -> Reading:
    """Reads the folder in a fresh process; with a cache folder, as `invoke analyze` does."""
    command = [sys.executable, "-m", "analysis.selfbench.reading", "--read", str(folder)]
    command += ["--cache", str(cache)] if cache is not None else []
    begin = time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    seconds = time.monotonic() - begin
    found = last_object(done.stdout)
    if not found:
        raise UserError(f"the process that reads {folder} printed no figures but '{done.stdout.strip()[-200:]}'")
    return Reading(seconds, found["cpu_seconds"], found["peak_mib"], found["rows"])


def ask(data: Path) -> float:
    """Seconds that `invoke sql` takes to answer QUESTION over all runs of a data folder, all of it."""
    begin = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "common.host.cli.program", "sql", QUESTION],
        check=True, capture_output=True, cwd=ROOT, env={**os.environ, "FRAMEWATT_DATA": str(data)},
    )  # fmt: skip
    return time.monotonic() - begin


def _read(folder: Path, cache: Path | None) -> None:
    from analysis.database.cache import Cache
    from analysis.readers.run_folder import named, run_folders

    folders = run_folders(folder)
    kept = None
    if cache is not None:
        kept = Cache(cache)
        kept.look_at(named(folders))
    from analysis.database.open_runs import open_runs

    with open_runs(folders, kept) as database:
        rows = database.query("SELECT count(images_per_s) AS n FROM comparison")[0]["n"]
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_seconds = sum(one.ru_utime + one.ru_stime for one in used)
    print(json.dumps({"rows": rows, "peak_mib": used[0].ru_maxrss / 1024, "cpu_seconds": cpu_seconds}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="run folders (default 200)")
    parser.add_argument("--cells", type=int, default=20, help="cells in each run (default 20)")
    parser.add_argument("--samples", type=int, default=2500, help="inferences in each cell (default 2500)")
    parser.add_argument("--power-rows", type=int, default=0, help="power readings in each run (default none)")
    parser.add_argument("--large", action="store_true", help="250, 500 and 1,000 runs of 100 cells of 1,000 inferences")
    parser.add_argument("--times", type=int, default=1, help="read each set so often (default 1)")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        _read(given.read, given.cache)
        return
    sizes = [(250, 100, 1000), (500, 100, 1000), (1000, 100, 1000)] if given.large else []
    for runs, cells, samples in sizes or [(given.runs, given.cells, given.samples)]:
        with tempfile.TemporaryDirectory(prefix="framewatt-selfbench-") as scratch:
            data = Path(scratch)
            make(data / "results", runs, cells, samples, given.power_rows)
            time.sleep(3)  # files younger than two seconds are never kept
            for _ in range(given.times):
                report(data, f"{runs:,} runs, {runs * cells:,} cells, {runs * cells * samples:,} samples, "
                       f"{runs * given.power_rows:,} power readings")  # fmt: skip


def report(data: Path, what: str) -> None:
    """Prints four readings of a data folder: without a cache, filling it, from it, and a question to `invoke sql`."""
    results, cache = data / "results", data / "cache" / "analysis"
    shutil.rmtree(cache, ignore_errors=True)
    print(f"{what}; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for how, folder in (("without a cache", None), ("filling the cache", cache), ("from the cache", cache)):
        found = measure(results, folder)
        print(
            f"  {how}: comparison table of {found.rows:,} rows in {found.seconds:.2f} s "
            f"({found.cpu_seconds:.2f} s of CPU time), peak memory {found.peak_mib:,.0f} MiB"
        )
    print(f"  a question to invoke sql: answered in {ask(data):.2f} s", flush=True)


if __name__ == "__main__":
    main()
