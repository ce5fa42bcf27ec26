"""`invoke selfbench`: framewatt measures itself. Figures are printed with their target; nothing here is a timed test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import date
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from analysis.selfbench import operating_characteristics, reading
from common.host.devices import cpu_model
from common.host.doctor.harness_overhead import harness_overhead


def _reading_row() -> tuple[str, str, str]:
    """200 runs, 4,000 cells, 10 million samples into the comparison table, in a fresh process and without a cache."""
    with tempfile.TemporaryDirectory(prefix="framewatt-selfbench-") as folder:
        reading.make(Path(folder), runs=200, cells=20, samples=2500)
        found = reading.measure(Path(folder))
    return (
        "analysis: 200 runs, 4,000 cells, 10 M samples into the table",
        f"{found.seconds:.1f} s ({found.cpu_seconds:.1f} s of CPU time), {found.peak_mib:,.0f} MiB",
        "at most 3 s, 1,500 MiB",
    )


def _statistics_rows() -> Iterator[tuple[str, str, str]]:
    for figure in operating_characteristics.measure():
        measured = f"{figure.share:.1%} of {figure.runs:,} runs" + (f" ({figure.detail})" if figure.detail else "")
        target = "-" if (figure.low, figure.high) == (0, 1) else f"{figure.low:.0%} to {figure.high:.0%}"
        yield figure.name, measured, target


def selfbench(console: Console, *, statistics: bool) -> None:
    """Prints each figure with its target as soon as it is known. statistics: also the characteristics of the statistics."""
    load = os.getloadavg()[0]
    console.print(escape(f"{cpu_model()}, {os.cpu_count()} cores, load {load:.2f}, {date.today()}"), highlight=False)
    overhead = harness_overhead()
    loop = (
        "harness: added to an inference beyond two clock reads",
        f"{overhead['added_ns'] / 1000:.3f} us (two clock reads {overhead['clock_reads_ns'] / 1000:.3f} us)",
        "at most 0.3 us",
    )
    named = (
        "harness: arrays by name, of an adapter that copies them itself in every run",
        f"{overhead['named_ns'] / 1000:.3f} us of CPU time with one in and one out, {overhead['named_five_ns'] / 1000:.3f} us "
        "with three in and two out, more than without names",
        "at most 0.3 us",
    )
    for name, measured, target in chain(
        [loop, named], (row() for row in [_reading_row]), _statistics_rows() if statistics else ()
    ):
        console.print(escape(f"{name}: {measured}; target {target}"), highlight=False, soft_wrap=True)
