"""Made-up traced windows of known content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import schema

MS = 10**6
#: where the traced window begins on the clock
T0 = 5000 * 10**9


def kernel(name: str, start: float, end: float, inference: int | None = 0, **more: Any) -> dict[str, Any]:
    """A record from `start` to `end`, in ms since the begin of its inference's wall (or of the window)."""
    return {"kind": "kernel", "name": name, "start": start, "end": end, "inference": inference, **more}


def write_trace(
    cell: Path, records: Sequence[Mapping[str, Any]], walls_ms: Sequence[float] = (10.0,), untraced_ms: Sequence[float] = (10.0,),
    **facts: Any,
) -> None:  # fmt: skip
    """Adds trace.csv, traced.csv and kernels.csv to a cell's folder; the recorded inferences follow each other, 1 ms apart.

    Recording costs nothing unless the times without it are given.
    """
    starts, at = [], T0
    for wall in walls_ms:
        starts.append(at)
        at += round((wall + 1) * MS)
    rows = []
    for i, record in enumerate(records):
        row = dict(record)
        begin = starts[row["inference"]] if row["inference"] is not None else T0
        rows.append(
            {
                "i": i,
                "start_ns": begin + round(row.pop("start") * MS),
                "end_ns": begin + round(row.pop("end") * MS),
                **row,
            }
        )
    walls = [
        {"i": i, "traced": 1, "start_ns": start, "end_ns": start + round(wall * MS)}
        for i, (start, wall) in enumerate(zip(starts, walls_ms, strict=True))
    ]
    walls += [{"i": i, "traced": 0, "start_ns": 0, "end_ns": round(wall * MS)} for i, wall in enumerate(untraced_ms)]
    reported = {
        "source": "cupti",
        "source_version": "13.0.1",
        "records": len(rows),
        "dropped": 0,
        "clock_error_ns": 100,
        **facts,
    }
    (cell / "trace.csv").write_text(schema.to_csv("trace.csv", [reported]))
    if walls_ms:
        (cell / "traced.csv").write_text(schema.to_csv("traced.csv", walls))
        (cell / "kernels.csv").write_text(schema.to_csv("kernels.csv", rows))
