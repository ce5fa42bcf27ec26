"""Durations of a cell's inferences as comparisons take them: one series per worker, in the order of time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.database.connection import Database

Durations = npt.NDArray[np.floating[Any] | np.integer[Any]]


def of_row(database: Database, row: Mapping[str, Any]) -> list[Durations]:
    """One series for each replicate of a row of `comparison`, in ns."""
    return [_of_cell(database, row["run"], cell, row["scenario"]) for cell in row["cell_keys"]]


def _of_cell(database: Database, run: str, cell_key: str, scenario: str) -> Durations:
    """Of each inference (offline: its share of its group), or of each image of a published pass."""
    start, end, due = database.samples(run, cell_key)
    if len(end) and scenario == "offline":
        ends, counts = np.unique(end, return_counts=True)
        shares: Durations = np.diff(ends, prepend=start.min()) / counts
        return shares
    if len(end):
        return end - due
    found = database.query(
        "SELECT duration_s / images * 1e9 AS ns FROM pass_row WHERE run = $1 AND cell_key = $2 ORDER BY i",
        [run, cell_key],
    )
    return np.array([row["ns"] for row in found], dtype=float)
