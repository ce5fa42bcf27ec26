"""Which share of a bench's wall time was measurement: what is printed at its end."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path


def windows_s(cells: Path, keys: Iterable[str]) -> float:
    """Seconds of the measured windows of these cells together. A cell without one, or a file that is none, adds nothing."""
    total = 0.0
    for key in keys:
        try:
            with (cells / key / "phases.csv").open(newline="") as file:
                total += sum(
                    (int(row["end_ns"]) - int(row["start_ns"])) / 1e9
                    for row in csv.DictReader(file)
                    if row["phase"] == "measure" and row["end_ns"]
                )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return total


def sentence(window_s: float, wall_s: float, devices: int) -> str:
    """wall_s: of the whole bench; several devices work side by side, so that each has as much of it."""
    whole = wall_s * devices
    share = f" ({100 * window_s / whole:.0f} %)" if whole > 0 else ""
    return f"Measured windows: {window_s:.0f} s of {whole:.0f} s{share}; the rest is start, compilation, warm-up, idle phases"
