"""Which share of a bench's wall time was measurement, and what took the rest: what is printed at its end."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

#: not of a cell: what the device draws before the first worker, and what a worker does between a cell's phases (versions are asked,
#: inputs made ready, garbage collected, the energy counter waited for)
WITHOUT_CONTEXT, BETWEEN = "idle without context", "between"
#: what people read -> phases of cells (common/harness/worker.py). What is in none of them are starts and ends of processes: job,
#: worker and sidecar, their imports but for the framework's, and files that are written.
KINDS = {
    "imports": ("import",),
    "loading": ("convert", "load"),
    "compilation and trials": ("compile", "first"),
    "checks of outputs": ("parity",),
    "warm-up": ("warmup",),
    "idle phases": ("idle_before", "idle", WITHOUT_CONTEXT),
    "the device's own times": ("device",),
    "traces": ("trace",),
    "between phases": (BETWEEN,),
}
PROCESSES = "starts and ends of processes"
WINDOW = "measure"
#: smaller shares of the wall time are not told apart: they stand under "other"
LEAST = 0.03


def phases_s(cells: Path, keys: Iterable[str]) -> dict[str, float]:
    """Seconds of each phase of these cells together, and of BETWEEN. A phase that did not end, or a file that is none, adds nothing.

    What a worker did once (its import, say) stands in each of its cells, and counts once.
    """
    spans: set[tuple[str, int, int]] = set()
    total: dict[str, float] = {}
    for key in keys:
        try:
            with (cells / key / "phases.csv").open(newline="") as file:
                of_cell = {
                    (row["phase"], int(row["start_ns"]), int(row["end_ns"]))
                    for row in csv.DictReader(file)
                    if row["end_ns"]
                }
        except (OSError, ValueError, KeyError, TypeError):
            continue
        own = of_cell - spans
        spans |= own
        for name, start_ns, end_ns in own:
            total[name] = total.get(name, 0.0) + (end_ns - start_ns) / 1e9
        if own:
            whole_ns = max(end for _, _, end in own) - min(start for _, start, _ in own)
            between_ns = max(0, whole_ns - sum(end - start for _, start, end in own))
            total[BETWEEN] = total.get(BETWEEN, 0.0) + between_ns / 1e9
    return total


def without_context_s(spells: Iterable[Sequence[Mapping[str, int]]], since_ns: int) -> float:
    """Seconds of those that began then or later. spells: `idle_without_context` of run.json, of each device."""
    return sum(
        (one["end_ns"] - one["start_ns"]) / 1e9 for device in spells for one in device if one["start_ns"] >= since_ns
    )


def sentence(phases: Mapping[str, float], wall_s: float, devices: int) -> str:
    """phases: seconds by name. wall_s: of the whole bench; several devices work side by side, so that each has as much of it."""
    whole, window_s = wall_s * devices, phases.get(WINDOW, 0.0)
    text = f"Measured windows: {window_s:.0f} s of {whole:.0f} s"
    if whole <= 0:
        return text
    kinds = {kind: sum(phases.get(name, 0.0) for name in names) for kind, names in KINDS.items()}
    kinds[PROCESSES] = max(0.0, whole - window_s - sum(kinds.values()))
    told = {kind: seconds for kind, seconds in kinds.items() if seconds >= LEAST * whole}
    other = max(0.0, whole - window_s - sum(told.values()))
    largest_first = sorted(told.items(), key=lambda one: -one[1])
    parts = [
        f"{kind} {100 * seconds / whole:.0f} %"
        for kind, seconds in [*largest_first, ("other", other)]
        if seconds >= 0.005 * whole
    ]
    return f"{text} ({100 * window_s / whole:.0f} %); {', '.join(parts)}"
