"""`invoke selfbench`: framewatt measures itself. Figures are printed with their target; nothing here is a timed test."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.host.devices import cpu_model
from common.host.paths import ROOT


def harness_overhead() -> dict[str, float]:
    """Nanoseconds an iteration of the timing loop with a no-op adapter, in a fresh process (harness_overhead.py)."""
    done = subprocess.run(
        [sys.executable, "-m", "common.harness.overhead"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    values: dict[str, float] = json.loads(done.stdout)
    return values


def selfbench(console: Console) -> None:
    """Prints one table: what, measured, target."""
    from analysis.selfbench_reading import measure_reading
    from analysis import selfbench_statistics

    console.print(escape(f"{cpu_model()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}"), highlight=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("what", "measured", "target"):
        table.add_column(title, overflow="fold")
    overhead = harness_overhead()
    table.add_row(
        "harness: added to an inference beyond two clock reads",
        f"{overhead['added_ns'] / 1000:.3f} us (two clock reads {overhead['clock_reads_ns'] / 1000:.3f} us)",
        "at most 0.3 us",
    )
    for row in measure_reading():
        table.add_row(*row)
    for figure in selfbench_statistics.measure():
        measured = f"{figure.share:.1%} of {figure.runs:,} runs" + (f" ({figure.detail})" if figure.detail else "")
        target = "-" if (figure.low, figure.high) == (0, 1) else f"{figure.low:.0%} to {figure.high:.0%}"
        table.add_row(figure.name, measured, target)
    console.print(table)
