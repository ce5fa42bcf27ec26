"""What sidecars of several GPUs cost: one for each GPU, as runs have them, against one for all.

    python -m common.host.selfbench.sidecars [--gpus 8] [--seconds 20]

Both read the same GPUs at the same pace. CPU is that of the sidecars' own processes, start-up left out by the difference of two
lengths of run; gaps are between readings of one GPU, and between its reads of the energy counter.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.host.children import dying_with_parent
from common.host.devices import list_gpus
from common.host.paths import ROOT
from common.typed_json import last_object, parse_object

START_UP_S = 2.0


@dataclass(frozen=True)
class Cost:
    """cpu_percent: of one core, all sidecars together. late_ms: 99 % of the gaps between readings of a GPU are at most this long.
    counter_s: median gap between reads of a GPU's counter. read_us: median wall time of such a read. missed: rounds skipped."""

    sidecars: int
    cpu_percent: float
    gap_ms: float
    late_ms: float
    counter_s: float
    read_us: float
    missed: int


def measure(groups: Sequence[Sequence[str]], seconds: float) -> Cost:
    """A sidecar for each group of UUIDs, all at once. Raises UserError where one does not begin."""
    long, short = (_run(groups, length) for length in (seconds + START_UP_S, START_UP_S))
    cpu = sum(one["cpu_seconds"] for one in long.ends) - sum(one["cpu_seconds"] for one in short.ends)
    every, counter = _gaps(long.rows, lambda row: True), _gaps(long.rows, lambda row: bool(row["energy_mj"]))
    return Cost(
        len(groups), 100 * cpu / seconds, statistics.median(every) / 1e6, statistics.quantiles(every, n=100)[-1] / 1e6,
        statistics.median(counter) / 1e9 if counter else 0.0,
        statistics.median((one["energy_read"] or {"median_us": 0.0})["median_us"] for one in long.ends),
        sum(one["missed_rounds"] for one in long.ends),
    )  # fmt: skip


@dataclass(frozen=True)
class _Reported:
    ends: list[dict[str, Any]]
    rows: list[dict[str, str]]


def _run(groups: Sequence[Sequence[str]], seconds: float) -> _Reported:
    with tempfile.TemporaryDirectory(prefix="framewatt-sidecars-") as folder:
        files = [Path(folder) / f"power-{number}.csv" for number in range(len(groups))]
        processes = [
            subprocess.Popen(
                dying_with_parent([
                    sys.executable, "-m", "common.sidecar", "--out", str(file), "--gpus", ",".join(group), "--no-rapl",
                    "--until-stdin-closes",
                ]),
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )
            for group, file in zip(groups, files, strict=True)
        ]  # fmt: skip
        try:
            for process in processes:
                assert process.stdout is not None
                if parse_object(process.stdout.readline()).get("event") != "ready":
                    raise UserError("a sidecar did not begin; invoke doctor says what it can read")
            time.sleep(seconds)
            outputs = [process.communicate(timeout=30)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        ends = [last_object(words) for words in outputs]
        if not all(ends):
            raise UserError("a sidecar ended without saying what it cost")
        rows: list[dict[str, str]] = []
        for file in files:
            with file.open(newline="") as text:
                rows += csv.DictReader(text)
        return _Reported(ends, rows)


def _gaps(rows: Sequence[dict[str, str]], chosen: Any) -> list[int]:
    """ns between a GPU's readings, all GPUs together."""
    times: dict[str, list[int]] = {}
    for row in rows:
        if chosen(row):
            times.setdefault(row["uuid"], []).append(int(row["t_ns"]))
    return [later - before for each in times.values() for before, later in itertools.pairwise(each)]


def describe(cost: Cost) -> str:
    return (
        f"{cost.sidecars} {'sidecar' if cost.sidecars == 1 else 'sidecars'}: {cost.cpu_percent:.1f} % of a core; "
        f"a GPU is read every {cost.gap_ms:.1f} ms, 99 % within {cost.late_ms:.1f} ms, "
        f"its counter every {cost.counter_s:.2f} s ({cost.read_us:.0f} us a read); {cost.missed} rounds missed"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m common.host.selfbench.sidecars", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--gpus", type=int, default=8, help="how many GPUs, at most; default %(default)s")
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args(arguments)
    try:
        uuids = [gpu.uuid for gpu in list_gpus()[: given.gpus]]
        print(f"{len(uuids)} GPUs, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}", flush=True)
        for groups in ([[uuid] for uuid in uuids[:1]], [[uuid] for uuid in uuids], [uuids]):
            print(describe(measure(groups, given.seconds)), flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
