"""Reads one CSV file of a run line by line and says exactly which lines cannot be trusted.

DuckDB reads valid files, and reads them fast. A file that it refuses, or whose head or tail looks wrong, comes
here: every good line is kept, every other is named. What a line may hold is decided by `common.schema` alone.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from common import cell, schema
from common.host import regular_files
from common.text import shortened

INT64 = range(-(2**63), 2**63)
#: Instants of CLOCK_MONOTONIC in ns: 31 years of uptime. Differences and sums of such fit into 64 bits.
INSTANTS = range(10**18)
#: A count beyond this is junk, and a product of two is no longer a number that DuckDB holds.
MOST_COUNT = 2**40
#: Bytes of one file of each kind. Those of many rows are read line by line, when something is wrong in them, up to
#: MOST_CAREFUL_BYTES: it takes memory, about 15 bytes for each.
MOST_BYTES: Mapping[str, int] = {
    "cell.csv": 2**20,
    "phases.csv": 2**20,
    "passes.csv": 16 * 2**20,
    "quantiles.csv": 2**20,
    "energy.csv": 16 * 2**20,
    "attempts.csv": 64 * 2**20,
    "samples.csv": 256 * 2**20,
    "device_times.csv": 256 * 2**20,
    "power.csv": 1024 * 2**20,
    "trace.csv": 2**20,
    "traced.csv": 16 * 2**20,
    "kernels.csv": 512 * 2**20,
}
MOST_CAREFUL_BYTES = 64 * 2**20
_MOST_SHOWN = 400
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

Fields = list[str]
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
        return f"{where}: {shortened(self.message, _MOST_SHOWN)}{more}"


@dataclass
class Content:
    """The rows of one file that hold, in the schema's column order, and what was wrong with the others."""

    rows: list[Fields] = field(default_factory=list)
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
    for name, words in (("status", schema.STATUSES), ("io", schema.IO_MODES)):
        if values[name] not in words:
            return f"{name} '{values[name][:40]}' is none of {', '.join(words)}"
    too_many = [name for name in COUNTS if values[name] and not 0 <= int(values[name]) <= MOST_COUNT]
    if too_many:
        return f"{too_many[0]} is {values[too_many[0]]}: no count is negative or so big"
    return cell.key_fault_of(values["cell_key"]) or cell.fault_of(_key_values(values))


#: Columns of cell.csv that count something.
COUNTS = tuple(column.name for column in schema.CELL if column.kind == "count")


def _key_values(values: Values) -> dict[str, object]:
    """The key columns of a cell that are known, as the types they are of."""
    kinds = {"BIGINT": int, "DOUBLE": float, "VARCHAR": str}
    return {
        column.name: kinds[column.type](values[column.name])
        for column in schema.CELL
        if column.kind == "key" and values[column.name]
    }


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
_INSTANTS = {
    name: frozenset(column.name for column in columns if column.kind == "instant")
    for name, columns in schema.FILES.items()
}
#: Columns that no two rows of a file may share: where they do, nothing tells which of the rows is meant.
UNIQUE: Mapping[str, tuple[str, ...]] = {
    "samples.csv": ("i",),
    "device_times.csv": ("i",),
    "passes.csv": ("i",),
    "energy.csv": ("i", "domain"),
    "quantiles.csv": ("quantile",),
}


def _records(raw: bytes, quoted_lines: bool) -> Iterator[tuple[int, list[str] | str]]:
    """(line number, fields), or (line number, what is wrong with the line).

    Lines are cut at `\\n` before anything is parsed, so that one stray quote cannot swallow the rest of the file.
    quoted_lines: a quoted field may hold line ends (the message of a cell); such a file is parsed as a whole.
    """
    if quoted_lines:
        try:
            reader = csv.reader(io.StringIO(raw.decode("utf-8"), newline=""), strict=True)
            records: list[tuple[int, list[str] | str]] = [(reader.line_num, row) for row in reader if row]
        except (UnicodeDecodeError, csv.Error):
            pass
        else:
            yield from records
            return
    for number, line in enumerate(io.BytesIO(raw), 1):
        if line.strip(b"\r\n") == b"":
            continue
        if not line.endswith(b"\n"):
            yield number, "the line is cut off"
            continue
        try:
            text = line[:-1].decode("utf-8").removesuffix("\r")
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

    file_name: which of `schema.FILES` it is. raw: what it holds, where that has been read. A line is left out when it is
    cut off, has another number of fields than the header, holds a value of another type, or contradicts itself (CHECKS);
    columns may stand in any order. A whole file is left out that is too large, is none (a link, a FIFO, ...) or holds two
    rows of one name (UNIQUE).
    Never raises for what a file holds; OSError becomes a problem too.
    """
    content = Content()
    if raw is None:
        try:
            raw = regular_files.read(path, min(MOST_BYTES[file_name], MOST_CAREFUL_BYTES))
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
    missing = [name for name in missing if name not in schema.LATER.get(file_name, ())]
    if missing:
        content.problems.append(Problem(path, f"lacks {', '.join(missing)}: taken as unknown", loses=False))
    foreign = [name for name in names if name not in known]
    if foreign:
        shown = ", ".join(repr(name[:40]) for name in foreign[:5])
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
    instants = _INSTANTS[file_name]
    bad: dict[str, _Bad] = {}
    for number, fields in records:
        reason = _wrong(fields, names, known, types, places, check, instants)
        if reason is None:
            content.rows.append([fields[place] if place >= 0 else "" for place in places])
        else:
            # one problem for each kind of fault, named by its first line, however many values were junk
            kind = _QUOTED.sub("", reason)
            if kind not in bad and len(bad) >= _MOST_KINDS:
                kind = ""
            bad.setdefault(kind, _Bad(reason)).add(number)
    content.problems.extend(Problem(path, one.reason, lines=tuple(one.first), rows=one.count) for one in bad.values())
    twice = _twice(file_name, content.rows)
    if twice:
        content.problems.append(Problem(path, f"{twice}: nothing of it can be used", rows=len(content.rows)))
        content.rows = []
    return content


#: Kinds of faults of one file that are told apart, and lines of each that are named.
_MOST_KINDS = 20
_MOST_LINES = 5


@dataclass
class _Bad:
    """Lines that were left out for one reason: the first of them, and how many."""

    reason: str
    first: list[int] = field(default_factory=list)
    count: int = 0

    def add(self, number: int) -> None:
        self.count += 1
        if len(self.first) < _MOST_LINES:
            self.first.append(number)


def _twice(file_name: str, rows: Sequence[Fields]) -> str | None:
    """What two rows have in common that no two may, or None."""
    columns = UNIQUE.get(file_name)
    if columns is None:
        return None
    places = [_KNOWN[file_name].index(name) for name in columns]
    seen: set[tuple[object, ...]] = set()
    for row in rows:
        name = tuple(_number(row[place]) for place in places)
        if name[0] == "":
            continue
        if name in seen:
            repeated = ", ".join(
                f"{column} {shortened(row[place], 40)}" for column, place in zip(columns, places, strict=True)
            )
            return f"names {repeated} twice"
        seen.add(name)
    return None


def _number(text: str) -> object:
    """7 and 007 are one name."""
    try:
        return float(text) if "." in text or "e" in text.lower() else int(text)
    except ValueError:
        return text


def _wrong(
    fields: list[str] | str,
    names: Sequence[str],
    known: Sequence[str],
    types: Sequence[str],
    places: Sequence[int],
    check: Callable[[Values], str | None],
    instants: Collection[str],
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
        if len(text) > schema.MOST_TEXT:
            return f"{name} is longer than {schema.MOST_TEXT:,} characters"
        if text and name in instants and int(text) not in INSTANTS:
            return f"{name} is {text}: no instant is negative or so late"
        values[name] = text
    return check(values)


def head_and_tail_are_valid(path: str, expected_header: bytes) -> bool:
    """Whether a file begins with exactly this header line and ends with a line end: cheap enough for 100,000 files.

    A file cut in the middle of a line can still parse, with a number that lost its last digits; this is what sees it.
    """
    handle = os.open(path, regular_files.OPEN)
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
    with os.fdopen(os.open(path, regular_files.OPEN), "rb") as file:
        file.seek(len(header_line(file_name)))
        return all(_are_typed(part, file_name) for part in _whole_lines(file))


#: Bytes of a file that are looked at together, and of one line, beyond which it is not valid.
_PART_BYTES = 32 * 2**20
_LINE_BYTES = 2**20


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    while part := file.read(_PART_BYTES):
        yield part if part.endswith(b"\n") else part + file.readline(_LINE_BYTES)


def _are_typed(lines: bytes, file_name: str) -> bool:
    kinds = _TYPES[file_name]
    for shape in set(lines.translate(None, b"0123456789").split(b"\n")[:-1]):
        fields = shape.split(b",")
        if len(fields) != len(kinds) or b'"' in shape or b"\r" in shape or b"\0" in shape:
            return False
        if any(kind == "BIGINT" and field for kind, field in zip(kinds, fields, strict=True)):
            return False
    return True


def header_line(file_name: str) -> bytes:
    return (",".join(schema.header(file_name)) + "\n").encode()


def write_rows(path: Path, header: Iterable[str], rows: Iterable[Fields]) -> None:
    """Rows as CSV for DuckDB: this process's own scratch files, never a user's."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
