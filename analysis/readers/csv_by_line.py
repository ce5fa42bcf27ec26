"""Reads one CSV file of a run line by line and says exactly which lines cannot be trusted.

DuckDB reads sound files, and reads them fast. A file that it refuses, or whose head or tail looks wrong, comes
here: every good line is kept, every other is named. What a line may hold is decided by `common.schema` alone.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common import schema

INT64 = range(-(2**63), 2**63)
_QUOTED = re.compile("'.*'")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")

#: Columns without which a file says nothing; any other may be missing and is then unknown.
ESSENTIAL: Mapping[str, tuple[str, ...]] = {
    "cell.csv": ("cell_key", "model", "variant", "precision", "batch_size", "io", "scenario", "device", "status"),
    "phases.csv": ("phase", "start_ns", "end_ns"),
    "samples.csv": ("start_ns", "end_ns"),
    "device_times.csv": ("device_ns",),
    "trace.csv": ("records",),
    "traced.csv": ("i", "traced", "start_ns", "end_ns"),
    "kernels.csv": ("kind", "name", "start_ns", "end_ns"),
    "passes.csv": ("images", "duration_s"),
    "quantiles.csv": ("quantile", "latency_ns"),
    "energy.csv": ("domain", "energy_mj", "time_ns"),
    "power.csv": ("t_ns", "domain"),
    "attempts.csv": ("t_ns", "event", "cell_key"),
}

Row = list[str]
Values = Mapping[str, str]


@dataclass(frozen=True)
class Problem:
    """Something in the input that a person should know: one line on the terminal.

    lines: numbers of the lines that were left out, from 1 for the header; empty where the whole file is meant.
    rows: how many rows were lost; 0 for a note that costs nothing.
    """

    path: Path
    message: str
    lines: tuple[int, ...] = ()
    rows: int = 0
    loses: bool = True

    def __str__(self) -> str:
        where = str(self.path)
        if self.lines:
            where += f":{self.lines[0]}"
        more = f" (and {self.rows - 1} more rows of this file)" if self.rows > 1 and self.lines else ""
        return f"{where}: {self.message}{more}"


@dataclass
class Content:
    """The rows of one file that hold, in the schema's column order, and what was wrong with the others."""

    rows: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def _fits(kind: str, text: str) -> bool:
    if text == "":
        return True
    if kind == "BIGINT":
        return bool(_INTEGER.fullmatch(text)) and int(text) in INT64
    if kind == "DOUBLE":
        return _is_number(text)
    return "\0" not in text


def _interval(values: Values) -> str | None:
    start, end = values["start_ns"], values["end_ns"]
    if not start or not end:
        return "begin or end is missing"
    return "ends before it begins" if int(end) < int(start) else None


def _sample(values: Values) -> str | None:
    due = values["scheduled_ns"]
    if not _interval(values) and due and int(due) > int(values["start_ns"]):
        return "was taken from the queue before it was due"
    return _interval(values)


def _cell(values: Values) -> str | None:
    empty = [name for name in ESSENTIAL["cell.csv"] if not values[name]]
    if empty:
        return f"{', '.join(empty)} is empty"
    if int(values["batch_size"]) < 1:
        return f"batch_size is {values['batch_size']}, not a positive number"
    if values["status"] not in schema.STATUSES:
        return f"status '{values['status']}' is none of {', '.join(schema.STATUSES)}"
    if values["io"] not in schema.IO_MODES:
        return f"io '{values['io']}' is none of {', '.join(schema.IO_MODES)}"
    return None


def _phase(values: Values) -> str | None:
    if not values["phase"]:
        return "phase is empty"
    if values["start_ns"] and not values["end_ns"]:
        return None  # the phase in which a worker died has no end
    return _interval(values)


def _pass(values: Values) -> str | None:
    if not values["images"] or int(values["images"]) < 1:
        return "images is not a positive number"
    if not values["duration_s"] or float(values["duration_s"]) <= 0:
        return "duration_s is not a positive number"
    return None


def _quantile(values: Values) -> str | None:
    if not values["quantile"] or not 0 < float(values["quantile"]) < 1:
        return "quantile is not between 0 and 1"
    if not values["latency_ns"] or float(values["latency_ns"]) <= 0:
        return "latency_ns is not a positive number"
    return None


def _energy(values: Values) -> str | None:
    if not values["domain"] or not values["energy_mj"] or not values["time_ns"]:
        return "domain, energy_mj or time_ns is empty"
    if float(values["energy_mj"]) < 0 or float(values["time_ns"]) <= 0:
        return "energy is negative, or its time is not positive"
    return None


def _power(values: Values) -> str | None:
    if not values["t_ns"] or not values["domain"]:
        return "t_ns or domain is empty"
    for name in ("power_mw", "energy_mj"):
        if values[name] and float(values[name]) < 0:
            return f"{name} is negative"
    return None


def _device_time(values: Values) -> str | None:
    return "device_ns is missing or negative" if not values["device_ns"] or int(values["device_ns"]) < 0 else None


def _traced(values: Values) -> str | None:
    if any(not values[name] for name in ("i", "traced", "start_ns", "end_ns")):
        return "a field is missing"
    return "it ends before it begins" if int(values["end_ns"]) < int(values["start_ns"]) else None


def _kernel(values: Values) -> str | None:
    if values["kind"] not in schema.RECORD_KINDS:
        return f"kind is none of {', '.join(schema.RECORD_KINDS)}"
    return "start_ns or end_ns is missing" if not values["start_ns"] or not values["end_ns"] else None


def _attempt(values: Values) -> str | None:
    return None if values["event"] in ("start", "finish") and values["cell_key"] else "event is not start or finish"


#: What a row must hold beyond the types of its fields: None, or what is wrong.
CHECKS: Mapping[str, Callable[[Values], str | None]] = {
    "cell.csv": _cell,
    "phases.csv": _phase,
    "samples.csv": _sample,
    "device_times.csv": _device_time,
    "trace.csv": lambda values: None,
    "traced.csv": _traced,
    "kernels.csv": _kernel,
    "passes.csv": _pass,
    "quantiles.csv": _quantile,
    "energy.csv": _energy,
    "power.csv": _power,
    "attempts.csv": _attempt,
}


_KNOWN = {name: schema.header(name) for name in schema.FILES}
_TYPES = {name: [column.type for column in columns] for name, columns in schema.FILES.items()}


def _records(raw: bytes, quoted_lines: bool) -> Iterator[tuple[int, list[str] | str]]:
    """(line number, fields), or (line number, what is wrong with the line).

    Lines are cut at `\\n` before anything is parsed, so that one stray quote cannot swallow the rest of the file.
    quoted_lines: a quoted field may hold line ends (the message of a cell); such a file is parsed as a whole.
    """
    if quoted_lines:
        try:
            reader = csv.reader(raw.decode("utf-8").splitlines(keepends=True), strict=True)
            records: list[tuple[int, list[str] | str]] = [(reader.line_num, row) for row in reader if row]
        except (UnicodeDecodeError, csv.Error):
            pass
        else:
            yield from records
            return
    lines = raw.split(b"\n")
    for number, line in enumerate(lines, 1):
        if line.strip(b"\r") == b"":
            continue
        if number == len(lines):
            yield number, "the line is cut off"
            continue
        try:
            text = line.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError:
            yield number, "the line is not text"
            continue
        if '"' not in text and "\r" not in text and "\0" not in text:
            yield number, text.split(",")
            continue
        try:
            yield number, next(iter(csv.reader([text], strict=True)), [])
        except csv.Error as error:
            yield number, f"the line is not CSV ({error})"


def read(path: Path, file_name: str, raw: bytes | None = None) -> Content:
    """Every row of `path` that holds, as strings in the schema's column order; empty stands for unknown.

    file_name: which of `schema.FILES` it is. A line is left out when it is cut off, has another number of fields than
    the header, holds a value of another type, or contradicts itself (CHECKS); columns may stand in any order.
    Never raises for what a file holds; OSError becomes a problem too.
    """
    content = Content()
    if raw is None:
        try:
            raw = path.read_bytes()
        except OSError as error:
            content.problems.append(Problem(path, f"cannot be read: {error.strerror}"))
            return content
    records = iter(_records(raw, quoted_lines=file_name == "cell.csv" and raw.endswith(b"\n")))
    known = _KNOWN[file_name]
    first = next(records, None)
    if first is None:
        content.problems.append(Problem(path, "is empty"))
        return content
    names = first[1]
    if isinstance(names, str) or not set(names) & set(known):
        content.problems.append(Problem(path, f"has no header; its columns should be {','.join(known[:4])},..."))
        return content
    if len(set(names)) != len(names):
        content.problems.append(Problem(path, "names a column twice", lines=(1,)))
        return content
    if names == known:
        return _rows_of(path, file_name, records, names, list(range(len(known))), content)
    missing = [name for name in known if name not in names]
    lost = [name for name in missing if name in ESSENTIAL[file_name]]
    if lost:
        content.problems.append(Problem(path, f"lacks the column {', '.join(lost)}: nothing of it can be used"))
        return content
    if missing:
        content.problems.append(Problem(path, f"lacks {', '.join(missing)}: taken as unknown", loses=False))
    foreign = [name for name in names if name not in known]
    if foreign:
        shown = ", ".join(repr(name) for name in foreign[:5])
        content.problems.append(Problem(path, f"has columns that are not framewatt's: {shown}; left out", loses=False))

    places = [names.index(name) if name in names else -1 for name in known]
    return _rows_of(path, file_name, records, names, places, content)


def _rows_of(
    path: Path,
    file_name: str,
    records: Iterator[tuple[int, list[str] | str]],
    names: Sequence[str],
    places: Sequence[int],
    content: Content,
) -> Content:
    """Adds the rows below the header that hold; places: where each column of the schema stands in a line, or -1."""
    known = _KNOWN[file_name]
    types = _TYPES[file_name]
    check = CHECKS[file_name]
    bad: dict[str, tuple[str, list[int]]] = {}
    for number, fields in records:
        reason = _wrong(fields, names, known, types, places, check)
        if reason is None:
            content.rows.append([fields[place] if place >= 0 else "" for place in places])
        else:
            # one problem for each kind of fault, told by its first line, however many values were junk
            bad.setdefault(_QUOTED.sub("", reason), (reason, []))[1].append(number)
    content.problems.extend(
        Problem(path, reason, lines=tuple(numbers[:5]), rows=len(numbers)) for reason, numbers in bad.values()
    )
    return content


def _wrong(
    fields: list[str] | str,
    names: Sequence[str],
    known: Sequence[str],
    types: Sequence[str],
    places: Sequence[int],
    check: Callable[[Values], str | None],
) -> str | None:
    """Why a line cannot be used, or None."""
    if isinstance(fields, str):
        return fields
    if len(fields) != len(names):
        return f"the line has {len(fields)} fields, the header {len(names)}"
    values: dict[str, str] = {}
    for name, kind, place in zip(known, types, places, strict=True):
        text = fields[place] if place >= 0 else ""
        if kind != "VARCHAR" and not _fits(kind, text):
            return f"{name} is '{text[:40]}', not {'a whole number' if kind == 'BIGINT' else 'a finite number'}"
        if "\0" in text:
            return f"{name} holds a zero byte"
        values[name] = text
    return check(values)


def head_and_tail_are_sound(path: str, expected_header: bytes) -> bool:
    """Whether a file begins with exactly this header line and ends with a line end: cheap enough for 100,000 files.

    A file cut in the middle of a line can still parse, with a number that lost its last digits; this is what sees it.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(handle).st_size
        if size < len(expected_header) or os.pread(handle, len(expected_header), 0) != expected_header:
            return False
        return size == len(expected_header) or os.pread(handle, 1, size - 1) == b"\n"
    finally:
        os.close(handle)


def has_typed_rows(path: str, file_name: str) -> bool:
    """Whether every line below the header has as many fields as the schema, and no field of a whole number anything but digits.

    DuckDB takes `12.5`, `1e3` and `0x10` for whole numbers, rounds, and forgives a comma too many. With the digits taken
    out, the lines of a file have a handful of shapes, and those are looked at: 0.3 s for a million readings. For files
    without quoted fields; False only means that the file must be read line by line.
    """
    raw = Path(path).read_bytes()[len(header_line(file_name)) :]
    kinds = _TYPES[file_name]
    for shape in set(raw.translate(None, b"0123456789").split(b"\n")[:-1]):
        fields = shape.split(b",")
        if len(fields) != len(kinds) or b'"' in shape or b"\r" in shape or b"\0" in shape:
            return False
        if any(kind == "BIGINT" and field for kind, field in zip(kinds, fields, strict=True)):
            return False
    return True


def header_line(file_name: str) -> bytes:
    return (",".join(schema.header(file_name)) + "\n").encode()


def write_rows(path: Path, header: Iterable[str], rows: Iterable[Row]) -> None:
    """Rows as CSV for DuckDB: this process's own scratch files, never a user's."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
