"""Whether the files of a cell are what its job asked for: columns, types, and every part that the host knows itself.

They are copies of the host's own by now, so that what is checked is what stays.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from common import schema
from common.cell import Cell
from common.harness.rows import fits
from common.host.runs.untrusted import Refused, shown
from common.job import Job
from common.model_files import ModelFiles

#: file of a cell -> the most bytes that it may have. A sample takes about 50: 20 million of them fit
MOST_BYTES: Mapping[str, int] = {
    "cell.csv": 2**18,
    "phases.csv": 2**16,
    "samples.csv": 2**30,
    "device_times.csv": 2**26,
    "trace.csv": 2**16,
    "traced.csv": 2**22,
    "kernels.csv": 2**28,
}
REQUIRED = ("cell.csv", "phases.csv", "samples.csv")
#: of a traced window (common/harness/tracing)
TRACED = ("trace.csv", "traced.csv", "kernels.csv")
_MOST_RECORDS = 2**21
#: CLOCK_MONOTONIC in ns does not come that far in a hundred years
_LARGEST = 2**62
_CHUNK = 1 << 22


def checked_row(folder: Path, cell: Cell, job: Job, model: ModelFiles) -> dict[str, str]:
    """The row of cell.csv, when all files of the cell's folder hold. Raises Refused with what does not."""
    row = _the_row(folder / "cell.csv")
    for name, expected in _known(cell, job, model).items():
        if row[name] != expected:
            raise Refused(f"cell.csv says {name} {shown(row[name])!r}, the job {expected!r}")
    if row["status"] not in schema.STATUSES:
        raise Refused(f"cell.csv has the status {shown(row['status'])!r}")
    for name in ("versions", "settings", "top3"):
        _check_json(name, row[name])
    _check_phases(folder / "phases.csv", row["status"])
    count = _check_numbered(folder / "samples.csv")
    if row["samples"] != str(count):
        raise Refused(f"cell.csv says {shown(row['samples'])} samples, samples.csv has {count}")
    if (folder / "device_times.csv").exists():
        _check_numbered(folder / "device_times.csv")
    for name in TRACED:
        if (folder / name).exists():
            for _ in rows_of(name, _text(folder / name), _MOST_RECORDS):
                pass
    return row


def _known(cell: Cell, job: Job, model: ModelFiles) -> dict[str, str]:
    """Columns whose values the host knows better than whoever wrote the row."""
    values = {
        **cell.to_dict(),
        "cell_key": cell.key,
        "device_uuid": job.device_uuid or None,
        "device_name": job.device_name or None,
        "image": job.image,
        "model_hash": model.hash,
        "weights": model.weights,
        "runner": job.runner,
        "image_digest": job.image_digest or None,
        "min_seconds": job.settings.min_seconds,
        "max_seconds": job.settings.max_seconds,
        "origin": "framewatt",
    }
    return {name: "" if value is None else str(value) for name, value in values.items()}


def rows_of(name: str, text: str, most: int) -> Iterator[dict[str, str]]:
    """Rows of a CSV with this file's columns, each value fit for its column. Raises Refused."""
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns = schema.FILES[name]
    try:
        if next(lines, None) != schema.header(name):
            raise Refused(f"{name} has other columns")
        for number, values in enumerate(lines):
            if number == most:
                raise Refused(f"{name} has more than {most} rows")
            yield fitting(name, columns, values)
    except csv.Error as error:
        raise Refused(f"{name} is no CSV: {error}") from error


def fitting(name: str, columns: tuple[schema.Column, ...], values: list[str]) -> dict[str, str]:
    """The values under their columns' names. Raises Refused where one is not of its column's type."""
    if len(values) != len(columns):
        raise Refused(f"{name} has a row of {len(values)} fields")
    for column, value in zip(columns, values, strict=True):
        if value and not _fits(column.type, value):
            raise Refused(f"{name} has {shown(value)!r} as {column.name}")
    return {column.name: value for column, value in zip(columns, values, strict=True)}


def _fits(kind: str, value: str) -> bool:
    if kind == "BIGINT":
        return re.fullmatch(r"-?[0-9]{1,18}", value) is not None
    if kind == "DOUBLE":
        return re.fullmatch(r"-?[0-9]{1,40}(\.[0-9]{0,40})?(e[-+]?[0-9]{1,3})?", value) is not None and math.isfinite(
            float(value)
        )
    return fits(value)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise Refused(f"{path.name} is no text") from error


def _the_row(path: Path) -> dict[str, str]:
    rows = list(rows_of(path.name, _text(path), 1))
    if len(rows) != 1:
        raise Refused(f"{path.name} has no row")
    return rows[0]


def _check_json(name: str, text: str) -> None:
    try:
        if text:
            json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"cell.csv has {name} that are no JSON") from error


def _check_phases(path: Path, status: str) -> None:
    seen: set[str] = set()
    for row in rows_of(path.name, _text(path), len(schema.PHASE_NAMES)):
        name, start, end = row["phase"], row["start_ns"], row["end_ns"]
        if name not in schema.PHASE_NAMES or name in seen:
            raise Refused(f"phases.csv has the phase {shown(name)!r}" + (" twice" if name in seen else ""))
        if not start or (end and int(end) < int(start)) or (not end and status == "ok"):
            raise Refused(f"phases.csv has a {name} that ends before it begins, or does not end")
        seen.add(name)


def _check_numbered(path: Path) -> int:
    """Rows of a file of instants, numbered from 0; returns how many. Raises Refused."""
    header = (",".join(schema.header(path.name)) + "\n").encode()
    count = 0
    with path.open("rb") as file:
        if file.readline(4096) != header:
            raise Refused(f"{path.name} has other columns")
        rest = b""
        while chunk := file.read(_CHUNK):
            whole, newline, rest = (rest + chunk).rpartition(b"\n")
            if not newline and len(rest) > 4096:
                raise Refused(f"{path.name} has a line without end")
            if newline:
                count = _check_lines(path.name, whole + newline, len(schema.FILES[path.name]), count)
    if rest:
        raise Refused(f"{path.name} ends in the middle of a line")
    return count


def _check_lines(name: str, lines: bytes, width: int, count: int) -> int:
    rows = lines.count(b"\n")
    # All but digits: a tenth of the time of a regular expression.
    if lines.translate(None, b"-0123456789") != (b"," * (width - 1) + b"\n") * rows:
        raise Refused(f"{name} holds more than whole numbers in {width} columns")
    # The last columns may be empty, in all rows of a file alike.
    filled = re.sub(rb",+\n", b"\n", lines)
    columns = filled.partition(b"\n")[0].count(b",") + 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # older numpy warns of what cannot be read to its end
            numbers = np.fromstring(filled.replace(b"\n", b",").decode(), dtype=np.int64, sep=",")
    except (ValueError, DeprecationWarning):
        numbers = np.empty(0, np.int64)
    if columns < 3 or len(numbers) != rows * columns or (numbers > _LARGEST).any() or (numbers < -_LARGEST).any():
        raise Refused(f"{name} has fields that are empty or no number")
    table = numbers.reshape(rows, columns)
    if not np.array_equal(table[:, 0], np.arange(count, count + rows)):
        raise Refused(f"{name} is not numbered from 0")
    if (table[:, 1:] < 0).any() or (table[:, 2] < table[:, 1]).any():
        raise Refused(f"{name} has an inference that ends before it begins")
    return count + rows
