"""Reads a CSV whose columns others chose: lines that cannot be trusted become problems, the rest is kept."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.readers.csv_by_line import Problem

#: Lines of one file that are named one by one.
MOST_LINES = 5
#: Counts above this are junk; fields of the schema hold them all.
MOST_COUNT = 2**31
MOST_BYTES = 2**50


@dataclass(frozen=True)
class Line:
    """One line with all fields of the header. number: from 1 for the header."""

    number: int
    fields: dict[str, str]

    def number_in(self, name: str) -> float:
        """The field as a number that is finite and not negative; ValueError with the reason otherwise."""
        text = self.fields[name]
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{name} is '{text[:40]}', not a number") from None
        if not math.isfinite(value) or "_" in text:
            raise ValueError(f"{name} is '{text[:40]}', not a finite number")
        if value < 0:
            raise ValueError(f"{name} is {text[:40]}: it cannot be negative")
        return value

    def positive(self, name: str) -> float:
        value = self.number_in(name)
        if value == 0:
            raise ValueError(f"{name} is 0")
        return value

    def bytes_in(self, name: str) -> int:
        """An amount of memory, rounded to whole bytes."""
        value = self.number_in(name)
        if value > MOST_BYTES:
            raise ValueError(f"{name} is {value:g}: no device has so much memory")
        return round(value)

    def whole(self, name: str) -> int:
        """A positive whole number, also written as 8.0."""
        value = self.positive(name)
        if value != int(value):
            raise ValueError(f"{name} is {value}, not a whole number")
        if value > MOST_COUNT:
            raise ValueError(f"{name} is {value:g}: no count is so big")
        return int(value)


def read(path: Path, needed: Sequence[str], known: Sequence[str], problems: list[Problem]) -> list[Line]:
    """All lines of the right length. Empty, with a problem, where a needed column is missing or it is no CSV.

    known: columns that the format has but which are not needed; others are told and left out.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(path, f"cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}"))
        return []
    if "\0" in text:
        problems.append(Problem(path, "is not text"))
        return []
    reader = csv.reader(io.StringIO(text))
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in needed if name not in header]
        if missing:
            problems.append(Problem(path, f"lacks the column {', '.join(missing)}: nothing of it can be used"))
            return []
        if len(set(header) - {""}) != len([name for name in header if name]):
            problems.append(Problem(path, "names a column twice", lines=(1,)))
            return []
        foreign = [name for name in header if name and name not in needed and name not in known]
        if foreign:
            shown = ", ".join(repr(name[:40]) for name in foreign[:MOST_LINES])
            problems.append(Problem(path, f"has unknown columns: {shown}; left out", loses=False))
        lines, short = [], []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                short.append(reader.line_num)
            else:
                lines.append(Line(reader.line_num, dict(zip(header, row, strict=True))))
    except csv.Error as error:
        problems.append(Problem(path, f"is not CSV ({error})"))
        return []
    if short:
        message = f"the line has another number of fields than the header's {len(header)}"
        problems.append(Problem(path, message, lines=tuple(short[:MOST_LINES]), rows=len(short)))
    return lines


class Refused:
    """Collects the lines of one file that were refused, one problem for each reason."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[str, list[int]] = {}

    def add(self, line: Line, reason: str) -> None:
        self._lines.setdefault(reason, []).append(line.number)

    def problems(self, loses: bool = True) -> list[Problem]:
        """One problem per reason. loses: False where the rest of such a line was used."""
        return [
            Problem(self.path, reason, tuple(numbers[:MOST_LINES]), len(numbers) if loses else 0, loses)
            for reason, numbers in self._lines.items()
        ]
