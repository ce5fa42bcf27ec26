"""What became of a sweep, in words: which cells are missing and why, what to do next, and the exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from common.host import signals
from common.host.bench.top_classes import print_top_classes
from common.host.fleet.head.sweep import Result
from common.host.runs.run import read_run
from common.text import visible


def finish(result: Result, console: Console) -> int:
    """Prints it; returns the exit code, a signal's, 2 when something kept the sweep from its end, 1 when cells are missing, else 0."""
    missing = sum(len(cells) for cells, _ in result.missing.values())
    if result.interrupted:
        console.print(f"Interrupted, {missing} cells are left; the same command continues.", highlight=False)
        return signals.exit_code()
    for error in result.errors:
        print(f"error: {visible(str(error))}", file=sys.stderr)
    if result.errors:
        console.print(f"{missing} cells are left; the same command goes on with them.", highlight=False)
        return 2
    for target, (cells, reasons) in sorted(result.missing.items()):
        why = "; ".join(reasons) or "no host of this type is left"
        console.print(
            escape(f"{target.name}: {len(cells)} cells are missing: {why}"),
            style="red",
            highlight=False,
            soft_wrap=True,
        )
    if result.moved and not missing:
        console.print(f"{result.moved} cells were measured on another host than they began on", highlight=False)
    if missing:
        console.print(f"{missing} cells are missing; the same command tries them again.", highlight=False)
        return 1
    return 0


def print_pictures(runs: Sequence[Path], console: Console) -> None:
    """The top 3 classes of the user's picture, where there was one."""
    for folder in runs:
        print_top_classes(read_run(folder), console)
