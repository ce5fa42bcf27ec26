"""95 % intervals of the rows of a comparison, from their samples: for reports and plots, not for every row of a big set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.database.connection import Database
from common.stats.intervals import Draws, Interval, over_workers, percentile_parts, quotient_parts, throughput_parts
from common.stats.workers import pools_of

if TYPE_CHECKING:
    from analysis.database.connection import Times

#: (cell keys, run, metric name) -> interval in the unit of the metric's column
Intervals = Mapping[tuple[tuple[str, ...], str, str], Interval]

#: More samples than this in all are not drawn from: the report then says that it has no intervals.
MOST_SAMPLES = 20_000_000
#: As for rows: a complete plan of reference runs (2,448) takes half a minute.
MOST_ROWS = 5_000

_PERCENTILES = {"latency": 50.0, "p90": 90.0, "p99": 99.0}


def group_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """Framework and device: cells of one group tell the spread between workers together (common.stats.workers)."""
    return str(row["variant"]), str(row["device_name"] or row["device"])


def of_rows(database: Database, rows: Sequence[Mapping[str, Any]]) -> Intervals:
    """Intervals of throughput, median, p90 and p99, over workers; of one worker alone where nothing tells their spread.

    Empty where there are too many rows or samples. A figure with too few samples has no interval.
    """
    measured = [row for row in rows if row["status"] == "ok" and row["samples"]]
    if len(measured) > MOST_ROWS or sum(row["samples"] for row in measured) > MOST_SAMPLES:
        return {}
    found: dict[tuple[tuple[str, ...], str, str], Sequence[Draws]] = {}
    groups: dict[tuple[tuple[str, ...], str, str], tuple[str, ...]] = {}
    for row in measured:
        for name, parts in parts_of(database, row).items():
            if parts:
                place = tuple(row["cell_keys"]), row["run"], name
                found[place], groups[place] = parts, (*group_of(row), name)
    wrong = {(tuple(row["cell_keys"]), row["run"]) for row in measured if row.get("known_wrong")}
    pools = pools_of(  # what is known to be wrong tells nothing of the others
        (groups[place], [part.estimate for part in parts]) for place, parts in found.items() if place[:2] not in wrong
    )
    drawn = {place: over_workers(parts, pools.get(groups[place])) for place, parts in found.items()}
    return {place: one.interval() for place, one in drawn.items() if one is not None}


def throughput_of(database: Database, row: Mapping[str, Any]) -> list[Draws]:
    """The throughput of each worker of a row; empty where it has no samples."""
    replicates = [database.samples(row["run"], key) for key in row["cell_keys"]]
    series = [one for one in replicates if len(one[1]) > 1]
    return _throughput(series, _images_of_sample(row)) if series else []


def parts_of(database: Database, row: Mapping[str, Any]) -> dict[str, list[Draws]]:
    """Metric -> its figure for each worker of a row."""
    replicates = [database.samples(row["run"], key) for key in row["cell_keys"]]
    series = [(start, end, due) for start, end, due in replicates if len(end) > 1]
    if not series:
        return {}
    parts = {"throughput": _throughput(series, _images_of_sample(row))}
    if row["scenario"] != "offline":  # nobody waits for a single inference of it
        latencies = [(end - due) / 1e6 for _, end, due in series]
        parts |= {name: percentile_parts(latencies, share) for name, share in _PERCENTILES.items()}
    return parts


def _images_of_sample(row: Mapping[str, Any]) -> float:
    """Images, or other items, that one row of samples.csv stands for."""
    return (1.0 if row["scenario"] == "server" else float(row["batch_size"])) * float(row.get("items_per_sample", 1))


def _throughput(series: Sequence[tuple[Times, Times, Times]], images: float) -> list[Draws]:
    """From the times between completions, which add up to the window exactly, also where inferences overlap.

    Inferences that completed at the same instant (a group of the offline scenario, a batch of the server's) count as one step.
    """
    steps = [np.unique(end, return_counts=True) for _, end, _ in series]
    between = [np.diff(ends, prepend=start.min()) for (ends, _), (start, _, _) in zip(steps, series, strict=True)]
    if all(counts.max() == 1 for _, counts in steps):
        return throughput_parts(between, images)
    done = [counts * (images * 1e9) for _, counts in steps]
    return quotient_parts(done, between)
