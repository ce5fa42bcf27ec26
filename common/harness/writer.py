"""The files of one cell, as text; `cell_folder` makes them appear at once.

Standard library alone: the supervisor writes the rows of cells whose worker died, and it imports no numpy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from common import schema
from common.harness.cell_folder import staged

#: (phase, start_ns, end_ns); end_ns is None for the phase in which a worker died
PhaseRow = Tuple[str, int, Optional[int]]
_ROWS_AT_A_TIME = 65536


def write_cell(
    run_dir: Path,
    row: Mapping[str, Any],
    phases: Iterable[PhaseRow],
    starts_ns: Sequence[int] = (),
    ends_ns: Sequence[int] = (),
    scheduled_ns: Optional[Sequence[int]] = None,
    device_times: Optional[Sequence[Tuple[int, int, int]]] = None,
    more: Optional[Mapping[str, Iterable[Mapping[str, Any]]]] = None,
) -> None:
    """Writes `cells/<key>/`, whole or not at all. Raises CannotWrite.

    row: the columns of cell.csv that are known. starts_ns, ends_ns, scheduled_ns: one entry an inference.
    device_times: (start_ns, end_ns, device_ns) of the `device` phase, None where there was none: then no file.
    more: further files of the schema with their rows.
    """
    with staged(run_dir, str(row["cell_key"])) as folder:
        (folder / "cell.csv").write_text(schema.to_csv("cell.csv", [row]))
        (folder / "phases.csv").write_text(schema.to_csv("phases.csv", map(_phase, phases)))
        columns: List[Sequence[int]] = [starts_ns, ends_ns]
        if scheduled_ns is not None:
            columns.append(scheduled_ns)
        _write_numbered(folder / "samples.csv", columns)
        if device_times is not None:
            _write_numbered(folder / "device_times.csv", [list(column) for column in zip(*device_times)])
        for name, rows in (more or {}).items():
            (folder / name).write_text(schema.to_csv(name, rows))


def _phase(phase: PhaseRow) -> Dict[str, Any]:
    name, start_ns, end_ns = phase
    return {"phase": name, "start_ns": start_ns, "end_ns": end_ns}


def _write_numbered(path: Path, columns: Sequence[Sequence[int]]) -> None:
    """A CSV of integers: row number, the columns, and empty fields up to the schema's width.

    Integers need no quoting, so a format string does what csv.writer would, four times as fast.
    """
    names = schema.header(path.name)
    empty = len(names) - 1 - len(columns)
    line = ",".join(["%d"] * (1 + len(columns))) + "," * empty + "\n"
    count = len(columns[0]) if columns else 0
    with path.open("w", newline="") as file:
        file.write(",".join(names) + "\n")
        for begin in range(0, count, _ROWS_AT_A_TIME):
            end = min(count, begin + _ROWS_AT_A_TIME)
            parts = [column[begin:end] for column in columns]
            file.write("".join(map(line.__mod__, zip(range(begin, end), *parts))))
