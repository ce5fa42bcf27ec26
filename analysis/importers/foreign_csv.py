"""Reads a CSV whose columns others chose: lines that cannot be trusted become problems, the rest is kept."""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.readers.csv_by_line import Problem
from common.host import regular_files

#: Lines of one file that are named one by one.
MOST_LINES = 5
#: Counts above this are junk; fields of the schema hold them all.
MOST_COUNT = 2**31
MOST_BYTES = 2**50
MOST_ROWS = 1_000_000
#: Of one file that is imported, whatever its format.
MOST_FILE_BYTES = 64 * 2**20


#: Marks at the begin of a text, the longer ones first: that of UTF-32 begins as that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"), (codecs.BOM_UTF8, "utf-8-sig"),
)  # fmt: skip
#: Commas are CSV's own; spreadsheets of many countries write semicolons, because their numbers have commas.
_DELIMITERS = ",;\t"
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


@dataclass(frozen=True)
class Line:
    """One line with all fields of the header. number: from 1 for the header. decimal_comma: its file writes 3,5 for 3.5."""

    number: int
    fields: dict[str, str]
    decimal_comma: bool = False

    def number_in(self, name: str) -> float:
        """The field as a number that is finite and not negative; ValueError with the reason otherwise."""
        text = self.fields[name]
        if self.decimal_comma:
            if "." in text:
                raise ValueError(
                    f"{name} is '{text[:40]}', whose point may be of thousands: the file has decimal commas"
                )
            text = text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text
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


def text_of(raw: bytes, errors: str = "strict") -> str:
    """UTF-8, or what a mark at the begin names; UTF-16 is recognised also without one. ValueError, with the reason, for others.

    errors: as of bytes.decode; "replace" to look at the begin of a file alone.
    """
    name = next((name for mark, name in _MARKS if raw.startswith(mark)), None)
    if name is None and b"\0" in raw[:2]:
        name = "utf-16-be" if raw[:1] == b"\0" else "utf-16-le"
    try:
        text = raw.decode(name or "utf-8", errors)
    except UnicodeDecodeError:
        raise ValueError(f"is no text in {(name or 'UTF-8').removesuffix('-sig').upper()}; save it as UTF-8") from None
    if "\0" in text:
        raise ValueError("is not text")
    return text


def delimited_by(text: str) -> tuple[str, str]:
    """(text without a first line `sep=;`, as spreadsheets write it; the delimiter: that of which the header has most)."""
    first, _, rest = text.partition("\n")
    named = re.fullmatch(r'"?sep=(.)"?\r?', first)
    if named:
        return rest, named[1]
    return text, max(_DELIMITERS, key=first.count)


def read(
    path: Path, needed: Sequence[str], known: Sequence[str], problems: list[Problem], follow: bool = False
) -> list[Line]:
    """All lines of the right length. Empty, with a problem, where a needed column is missing or it is no CSV.

    follow: whether a link is followed, as one that the user has named is.
    known: columns that the format has but which are not needed; others are named and left out.
    """
    try:
        text, delimiter = delimited_by(text_of(regular_files.read(path, MOST_FILE_BYTES, follow)))
    except OSError as error:
        problems.append(Problem(path, f"cannot be read: {error.strerror}"))
        return []
    except ValueError as error:
        problems.append(Problem(path, str(error)))
        return []
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    decimal_comma = False
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
        lines: list[Line] = []
        short: list[int] = []
        for row in reader:
            if not row:
                continue
            if len(lines) + len(short) >= MOST_ROWS:
                problems.append(Problem(path, f"has more than {MOST_ROWS:,} lines: the first are taken"))
                break
            if len(row) != len(header):
                short.append(reader.line_num)
            else:
                lines.append(Line(reader.line_num, dict(zip(header, row, strict=True))))
                decimal_comma |= delimiter != "," and any(_DECIMAL_COMMA.fullmatch(field) for field in row)
    except csv.Error as error:
        problems.append(Problem(path, f"is not CSV ({error})"))
        return []
    if short:
        message = f"the line has another number of fields than the header's {len(header)}"
        problems.append(Problem(path, message, lines=tuple(short[:MOST_LINES]), rows=len(short)))
    return [replace(line, decimal_comma=True) for line in lines] if decimal_comma else lines


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
