"""95 % intervals of every figure that has one: from samples, from published passes, from energy meters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.database.connection import Database, Row
from analysis.results import energy_intervals, published_intervals, sample_intervals
from analysis.results.sample_intervals import Intervals


def all_intervals(database: Database, rows: Sequence[Row], metered: Sequence[Row] | None = None) -> Intervals:
    """(cell keys, run, metric name) -> interval, device by device: what is known of one does not depend on the others.

    rows: all of a device that the question is about, as the spread between workers is learnt from all of them. metered:
    those of which the interval of the energy is asked for, which reads meters; default: all.
    """
    devices: dict[str, list[Row]] = {}
    for row in rows:
        devices.setdefault(str(row["device_name"] or row["device"]), []).append(row)
    found: dict[Any, Any] = {}
    for members in devices.values():
        known = {**published_intervals.of_rows(database, members), **sample_intervals.of_rows(database, members)}
        if len(members) <= sample_intervals.MOST_ROWS:
            known |= energy_intervals.of_rows(database, members, known, metered)
        found |= known
    return found
