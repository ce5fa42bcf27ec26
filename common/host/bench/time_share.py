"""Which share of a bench's wall time was measurement, and what took the rest: what is printed at its end."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

#: what people read -> phases of cells (common/harness/worker.py); what is in none of them stands under "other"
KINDS = {
    "imports": ("import",),
    "loading": ("convert", "load"),
    "compilation and trials": ("compile", "first"),
    "checks of outputs": ("parity",),
    "warm-up": ("warmup",),
    "idle phases": ("idle_before", "idle"),
    "the device's own times": ("device",),
    "traces": ("trace",),
}
WINDOW = "measure"
#: smaller shares of the wall time are not told apart
LEAST = 0.03


def phases_s(cells: Path, keys: Iterable[str]) -> dict[str, float]:
    """Seconds of each phase of these cells together. A phase that did not end, or a file that is none, adds nothing.

    What a worker did once (its import, say) stands in each of its cells, and counts once.
    """
    spans = set()
    for key in keys:
        try:
            with (cells / key / "phases.csv").open(newline="") as file:
                spans |= {
                    (row["phase"], int(row["start_ns"]), int(row["end_ns"]))
                    for row in csv.DictReader(file)
                    if row["end_ns"]
                }
        except (OSError, ValueError, KeyError, TypeError):
            continue
    total: dict[str, float] = {}
    for name, start_ns, end_ns in spans:
        total[name] = total.get(name, 0.0) + (end_ns - start_ns) / 1e9
    return total


def sentence(phases: Mapping[str, float], wall_s: float, devices: int) -> str:
    """phases: seconds by name. wall_s: of the whole bench; several devices work side by side, so that each has as much of it."""
    whole, window_s = wall_s * devices, phases.get(WINDOW, 0.0)
    text = f"Measured windows: {window_s:.0f} s of {whole:.0f} s"
    if whole <= 0:
        return text
    kinds = {kind: sum(phases.get(name, 0.0) for name in names) for kind, names in KINDS.items()}
    told = {kind: seconds for kind, seconds in kinds.items() if seconds >= LEAST * whole}
    left = whole - window_s - sum(told.values())
    largest_first = sorted(told.items(), key=lambda one: -one[1])
    parts = [f"{kind} {100 * seconds / whole:.0f} %" for kind, seconds in [*largest_first, ("other", left)]]
    return f"{text} ({100 * window_s / whole:.0f} %); {', '.join(parts)}"
