"""Intervals that do not come from samples: of passes and energies that others published, and of our own energy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.database.connection import Database
from common.stats.intervals import Interval
from common.stats.student_t import two_sided_quantile

_PASSES = """
WITH one AS (
  SELECT p.run, p.cell_key, p.images / p.duration_s AS throughput, p.duration_s / p.images AS seconds_per_image,
    e.energy_mj / 1e3 / p.images AS joules_per_image, e.energy_mj * 1e6 / e.time_ns AS power
  FROM pass_row AS p LEFT JOIN energy_row AS e ON e.run = p.run AND e.cell_key = p.cell_key AND e.i = p.i AND e.domain = 'gpu'
), long AS (UNPIVOT one ON throughput, seconds_per_image, joules_per_image, power INTO NAME metric VALUE figure)
SELECT run, cell_key, metric, count(*) AS n, avg(figure) AS mean, stddev_samp(figure) AS spread
FROM long GROUP BY ALL HAVING count(*) >= 3
"""

_ENERGY = """
SELECT e.run, e.cell_key, e.uncertainty_j / e.gross_j AS share
FROM energy AS e JOIN cell_row AS c USING (run, cell_key)
WHERE e.class = CASE WHEN c.device = 'cpu' THEN 'package' ELSE 'gpu' END AND e.gross_j > 0 AND e.uncertainty_j IS NOT NULL
"""

_COLUMNS = {
    "throughput": "images_per_s",
    "seconds_per_image": "seconds_per_image",
    "joules_per_image": "joules_per_image",
    "power": "power_gross_w",
}


def of_rows(database: Database, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[tuple[str, ...], str, str], Interval]:
    """(cell keys, run, metric name) -> 95 % interval in the unit of the metric's column.

    Imported passes: Student's t over the passes, which were timed in one process: the spread between processes is not in
    it. Our own energy and power: the bound of the error of reading the meter (analysis/sql/20_energy.sql).
    """
    found: dict[tuple[tuple[str, ...], str, str], Interval] = {}
    passes = {(p["run"], p["cell_key"], p["metric"]): p for p in database.query(_PASSES)}
    shares = {(e["run"], e["cell_key"]): e["share"] for e in database.query(_ENERGY)}
    for row in rows:
        keys = tuple(row["cell_keys"])
        for name, column in _COLUMNS.items():
            value = row[column]
            if value is None or row["status"] != "ok":
                continue
            half, n = None, 0
            if len(keys) == 1 and (one := passes.get((row["run"], keys[0], name))) is not None:
                n = one["n"]
                half = two_sided_quantile(0.95, n - 1) * one["spread"] / math.sqrt(n)
            elif name in ("joules_per_image", "power"):
                known = [shares[row["run"], key] for key in keys if (row["run"], key) in shares]
                half, n = (value * max(known), len(known)) if len(known) == len(keys) else (None, 0)
            if half is not None:
                found[keys, row["run"], name] = Interval(
                    value, max(0.0, value - half), value + half, 0.95, n, len(keys)
                )
    return found
