"""How hot the GPU is, from what the sidecar has just written: the supervisor needs no NVML to wait until it has cooled."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import List, Optional

from common import schema

#: a reading older than this says nothing about now
FRESH_NS = 5_000_000_000
#: holds some hundred readings of one GPU, and of each of eight GPUs still more than one
_TAIL_BYTES = 65536
_COLUMNS = schema.header("power.csv")
_TIME, _UUID, _TEMPERATURE = (_COLUMNS.index(name) for name in ("t_ns", "uuid", "temperature_c"))


def temperature(run_dir: Path, uuid: str, now_ns: Optional[int] = None) -> Optional[int]:
    """Degrees Celsius of that GPU by the newest reading in the run's power*.csv; None where there is no fresh one.

    now_ns: CLOCK_MONOTONIC, which sidecar and supervisor share also across containers.
    """
    now_ns = time.monotonic_ns() if now_ns is None else now_ns
    newest: Optional[int] = None
    found: Optional[int] = None
    for path in run_dir.glob("power*.csv"):
        for line in _tail(path):
            fields = line.split(",")
            # The last line may be half written; the first of the tail is cut.
            if len(fields) != len(_COLUMNS) or fields[_UUID] != uuid:
                continue
            try:
                t_ns, degrees = int(fields[_TIME]), int(fields[_TEMPERATURE])
            except ValueError:
                continue
            if now_ns - FRESH_NS <= t_ns <= now_ns and (newest is None or t_ns > newest):
                newest, found = t_ns, degrees
    return found


def _tail(path: Path) -> List[str]:
    """Whole lines at the end of a file, none where it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = text.split("\n")
    return lines[1 if size > _TAIL_BYTES else 0 : -1]
