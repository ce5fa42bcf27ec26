"""Small CSV files that need no second look: recognised whole by one pattern each, without being taken apart.

A run of 100 cells has 200 of them, and reading them line by line took longer than all that is learned from them. A pattern
is made from the schema and is stricter than `analysis.readers.csv_by_line`: whatever it accepts, the careful reader accepts too, and
DuckDB reads the same values from the same bytes (a test holds all three against each other). What it does not accept is
not wrong, only read with care.
"""

from __future__ import annotations

import re
from functools import cache

from analysis.readers import csv_by_line
from common import cell, schema

# A double that is finite whatever its digits are; an integer that fits into 64 bits.
_DOUBLE = rb"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,2})?"
_INTEGER = rb"-?[0-9]{1,18}"
_COUNT = rb"[0-9]{1,12}"
_INSTANT = rb"[0-9]{1,18}"
# What common.names takes, but for other scripts, commas and a space at the end.
_NAME = rb"[A-Za-z0-9_](?:[A-Za-z0-9 _.+:=@()\[\]#%~-]{0,98}[A-Za-z0-9_.)-])?"
_KEY = rb"[A-Za-z0-9_](?:[A-Za-z0-9 _.+:=@()\[\]#%~-]{0,238}[A-Za-z0-9_.)-])?"
# An empty field in quotes is left out: DuckDB would tell it from an empty one.
_PLAIN = rb'[^",\r\n\0]{1,4096}'
_ONE_LINE = rb"(?:" + _PLAIN + rb'|"(?:[^"\r\n\0]|""){1,4096}")'
_SEVERAL_LINES = rb"(?:" + _PLAIN + rb'|"(?:[^"\r\0]|""){1,4096}")'


def _words(words: tuple[str, ...]) -> bytes:
    return rb"(?:" + "|".join(map(re.escape, words)).encode() + rb")"


#: What a field must be beyond its type (`reading.CHECKS`), and the ones that `Cell` is made from.
_FIELDS = {
    **{
        ("cell.csv", name): _NAME if name in csv_by_line.ESSENTIAL["cell.csv"] else rb"(?:" + _NAME + rb")?"
        for name in cell.NAMES
    },
    ("cell.csv", "cell_key"): rb"(?P<key>" + _KEY + rb")",
    ("cell.csv", "batch_size"): rb"[1-9][0-9]{0,6}",
    ("cell.csv", "streams"): rb"(?:[1-9][0-9]{0,3})?",
    ("cell.csv", "replicate"): rb"(?:[0-9]{1,5})?",
    ("cell.csv", "target_rate_per_s"): rb"(?:[1-9][0-9]{0,8}(?:\.[0-9]{1,40})?)?",
    **{("cell.csv", name): rb"(?:" + _COUNT + rb")?" for name in csv_by_line.COUNTS if name != "batch_size"},
    ("cell.csv", "status"): rb"(?P<status>" + _words(schema.STATUSES) + rb")",
    ("cell.csv", "io"): _words(schema.IO_MODES),
    ("cell.csv", "scenario"): rb"(?P<scenario>" + _NAME + rb")",
    ("phases.csv", "phase"): _PLAIN,
    ("phases.csv", "start_ns"): rb"[0-9]{1,18}",
    ("phases.csv", "end_ns"): rb"[0-9]{0,18}",
    ("attempts.csv", "t_ns"): _INSTANT,
    ("attempts.csv", "event"): rb"(?:start|finish)",
    ("kernels.csv", "kind"): _words(schema.RECORD_KINDS),
}


@cache
def _pattern(file_name: str) -> re.Pattern[bytes]:
    text = _SEVERAL_LINES if file_name == "cell.csv" else _ONE_LINE
    values = {"VARCHAR": text, "BIGINT": _INTEGER, "DOUBLE": _DOUBLE}
    fields = []
    for column in schema.FILES[file_name]:
        known = _FIELDS.get((file_name, column.name))
        if known is None:
            value = values[column.type]
            known = value if column.name in csv_by_line.ESSENTIAL[file_name] else rb"(?:" + value + rb")?"
        fields.append(known)
    row = b",".join(fields) + rb"\n"
    # possessive: a line that fits fits in one way, so there is nothing to come back for
    rows = row if file_name == "cell.csv" else rb"(?:" + row + rb")*+"
    return re.compile(re.escape(csv_by_line.header_line(file_name)) + rows)


def match(file_name: str, raw: bytes) -> re.Match[bytes] | None:
    """Not None where every line of `raw` holds what the schema says; for cell.csv with groups key, status and scenario.

    file_name: cell.csv, phases.csv, kernels.csv or attempts.csv. The order of a phase's two instants is for `intervals_rise`.
    """
    if not raw.isascii():
        return None  # text that may not be text
    return _pattern(file_name).fullmatch(raw)


_INTERVAL = re.compile(rb",([0-9]+),([0-9]+)\n")


def intervals_rise(phases: bytes) -> bool:
    """Whether no phase of a valid phases.csv ends before it begins."""
    return all(int(start) <= int(end) for start, end in _INTERVAL.findall(phases))
