"""95 % intervals of the rows of a comparison, from their samples: for reports and plots, not for every row of a big set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.database import Database
from analysis.intervals import Draws, Interval, percentile_draws, throughput_draws

#: (cell keys, run, metric name) -> interval in the unit of the metric's column
Intervals = Mapping[tuple[tuple[str, ...], str, str], Interval]

#: More samples than this in all are not drawn from: the report then says that it has no intervals.
MOST_SAMPLES = 20_000_000
MOST_ROWS = 2_000

_PERCENTILES = {"latency": 50.0, "p90": 90.0, "p99": 99.0}


def of_rows(database: Database, rows: Sequence[Mapping[str, Any]]) -> Intervals:
    """Intervals of throughput, median, p90 and p99; replicates are the outer level of the bootstrap.

    Empty where there are too many rows or samples. A figure with too few samples has no interval.
    """
    measured = [row for row in rows if row["status"] == "ok" and row["samples"]]
    if len(measured) > MOST_ROWS or sum(row["samples"] for row in measured) > MOST_SAMPLES:
        return {}
    found: dict[tuple[tuple[str, ...], str, str], Interval] = {}
    for row in measured:
        replicates = [database.samples(row["run"], key) for key in row["cell_keys"]]
        series = [(start, end, due) for start, end, due in replicates if len(end) > 1]
        if not series:
            continue
        # the time from one completion to the next adds up to the window exactly, also where inferences overlap
        between = [np.diff(np.sort(end), prepend=start.min()) for start, end, _ in series]
        latencies = [(end - due) / 1e6 for _, end, due in series]
        draws: dict[str, Draws | None] = {"throughput": throughput_draws(between, float(row["batch_size"]))}
        draws |= {name: percentile_draws(latencies, share) for name, share in _PERCENTILES.items()}
        for name, drawn in draws.items():
            if drawn is not None:
                found[tuple(row["cell_keys"]), row["run"], name] = drawn.interval()
    return found
