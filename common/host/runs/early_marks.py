"""Marks of a cell that its own row already tells, for whoever watches a run; all marks, and those of tables, are SQL's.

A test holds that analysis/sql/50_marks.sql says the same of the same rows.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from common.harness.other_load import disturbed
from common.host.runs.run import Run

#: stop reason -> the mark and its sign
STOPS = {"noisy": "n", "budget": "b", "unsteady": "d"}
LOAD = "l"


def of_cell(folder: Path, logical_cores: object) -> dict[str, str]:
    """Sign -> why, of the cell in a folder; empty where the row cannot be read. logical_cores: of run.json, None where unknown."""
    try:
        with (folder / "cell.csv").open(newline="", encoding="utf-8") as file:
            row = next(csv.DictReader(file), None)
    except (OSError, ValueError, csv.Error):
        return {}
    return _of_row(row, logical_cores) if row is not None else {}


def of_run(run: Run) -> Counter[str]:
    """Sign -> cells that have it."""
    cores = (run.description.get("host") or {}).get("logical_cores")
    return Counter(sign for key in run.existing_cells() for sign in of_cell(run.folder / "cells" / key, cores))


def _of_row(row: Mapping[str, str], logical_cores: object) -> dict[str, str]:
    found: dict[str, str] = {}
    stop = row.get("stop_reason") or ""
    if stop in STOPS:
        found[STOPS[stop]] = stop
    if row.get("status") != "ok":
        return found  # nothing that the load could have disturbed
    own, other = _number(row.get("cpus_own")), _number(row.get("cpus_other"))
    if row.get("cpus_other"):
        if isinstance(logical_cores, int) and disturbed(own, other, logical_cores):
            found[LOAD] = f"others kept {other:.1f} and the worker {own:.1f} of {logical_cores} CPUs busy"
        return found
    load = max((_number(row.get(name)) for name in ("load_average_start", "load_average_end")), default=0.0)
    if isinstance(logical_cores, int) and load > logical_cores:
        found[LOAD] = f"load average {load:.1f} on {logical_cores} cores"
    return found


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
