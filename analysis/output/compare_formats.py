"""What `invoke compare` found as other programs take it: JSON, and github-action-benchmark's customSmallerIsBetter.

The latter's format is a list of objects with name, unit, value, and optionally range and extra
(https://github.com/benchmark-action/github-action-benchmark, README, "customSmallerIsBetter").
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from analysis.comparisons.run_tables import Compared, full_name, images, markdown
from analysis.database.connection import Row
from common.errors import unknown
from common.stats.comparison import Verdict


def as_json(compared: Compared, failed: Sequence[str] = ()) -> str:
    """One object: the runs, counts of verdicts, every figure of every cell, what could not be compared, and the rule."""
    found = compared.found
    counts = {verdict.value: sum(one.verdict is verdict for one in found.cells.values()) for verdict in Verdict}
    document = {
        "a": compared.sides[0],
        "b": compared.sides[1],
        "per_image": compared.per_image,
        "verdicts": counts,
        "cells": [
            {
                name: _known(value)
                for name, value in {"name": compared.name(compared.a[key]), **compared.values(key)}.items()
            }
            for key in found.cells
        ],
        "only_in_a": len(found.only_a),
        "only_in_b": len(found.only_b),
        "failed_in_b": list(failed),
        "rule": found.correction,
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _known(value: Any) -> Any:
    """JSON has no infinity: an end of an interval that is none is unknown."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_benchmark_action(compared: Compared, failed: Sequence[str] = ()) -> str:
    """The median of run B's cells in ms, each with its verdict against A; cells without a median are left out."""
    known = {key: compared.b[key] for key in compared.found.cells if compared.b[key]["median_ms"] is not None}
    # whatever A was measured on: a series goes on when B is the A of the next comparison
    with_device = len({row["device"] for row in compared.b.values()}) > 1
    names = {key: _series(row, with_device, with_version=False) for key, row in known.items()}
    if len(set(names.values())) < len(names):  # several versions of one run: each is a series
        names = {key: _series(row, with_device, with_version=True) for key, row in known.items()}
    entries = []
    for key, row in known.items():
        one = compared.found.cells[key]
        count = images(row) if compared.per_image else 1
        entry = {
            "name": names[key],
            "unit": compared.unit,
            "value": row["median_ms"] / count,
            "extra": f"{one.verdict.value}: B / A of durations {one.ratio_text}\nA: {compared.sides[0]}, B: {compared.sides[1]}",
        }
        entries.append(entry)
    return json.dumps(entries, indent=1, allow_nan=False) + "\n"


def _series(row: Row, with_device: bool, with_version: bool) -> str:
    """What a dashboard knows a cell by over releases: all of it but the version."""
    name = f"{full_name(row if with_version else {**row, 'version': ''})} {row['model']} {row['device_name'] or row['device']}"
    return f"{name} {row['device']}" if with_device else name


def as_markdown(compared: Compared, failed: Sequence[str] = ()) -> str:
    """The table, and under it the cells that no longer run."""
    return markdown(compared) + "".join(f"{line}  \n" for line in failed)


#: `--format` -> text of what was found; the second argument are sentences on cells that ran in A and do not in B
FORMATS: Mapping[str, Callable[[Compared, Sequence[str]], str]] = {
    "markdown": as_markdown,
    "json": as_json,
    "customSmallerIsBetter": as_benchmark_action,
}


def writer(name: str, out: TextIO | None = None) -> Callable[[Compared, Sequence[str]], None]:
    """Prints the form of that name, by default to standard output. Raises UserError for a name that does not exist."""
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)

    def write(compared: Compared, failed: Sequence[str]) -> None:
        (out or sys.stdout).write(FORMATS[name](compared, failed))

    return write
