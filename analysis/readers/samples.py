"""The instants of all inferences of some cells as arrays, and which files had to be read line by line for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from analysis.readers import csv_by_line, csv_of_integers
from analysis.readers.csv_by_line import Fields
from analysis.readers.run_folder import BigFile
from common import schema

HEADER = csv_by_line.header_line("samples.csv")
_NUMBER, _START, _END, _DUE = (
    schema.header("samples.csv").index(name) for name in ("i", "start_ns", "end_ns", "scheduled_ns")
)
#: Bytes of a line as the harness writes it, at least: what room to make for.
_USUAL_LINE = 24


class SampleTimes:
    """The rows of some files of samples: for each inference its file's number and its instants in ns.

    due_ns is the start where an inference was not due at an instant of its own (queued). The memory is used again by the
    next files: to get it from the system anew costs as much as to fill it.
    """

    _TYPES: ClassVar = {
        "file": np.int32, "start_ns": np.int64, "end_ns": np.int64, "due_ns": np.int64, "queued": np.bool_
    }  # fmt: skip

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows = 0
        self._all: dict[str, npt.NDArray[Any]] = {name: np.empty(0, kind) for name, kind in self._TYPES.items()}

    def clear(self, expected: int = 0) -> None:
        """No rows; room for as many as expected."""
        self._rows = 0
        self._make_room(expected)

    def add(self, **columns: npt.NDArray[Any]) -> None:
        """Rows: one array (n,) for each column. Several threads may add at a time; the order of rows means nothing."""
        count = len(columns["file"])
        with self._lock:
            self._make_room(self._rows + count)
            for name, whole in self._all.items():
                whole[self._rows : self._rows + count] = columns[name]
            self._rows += count

    def _make_room(self, rows: int) -> None:
        for name, whole in self._all.items():
            if len(whole) < rows:
                grown = np.empty(max(rows, 2 * self._rows), whole.dtype)
                grown[: self._rows] = whole[: self._rows]
                self._all[name] = grown

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """As DuckDB takes them: views of the memory."""
        return {name: whole[: self._rows] for name, whole in self._all.items()}


def read(files: Sequence[BigFile], times: SampleTimes, readers: Executor) -> list[int]:
    """Fills `times` with the rows of all valid files and returns the numbers of the others.

    A file's number is its position in `files`.
    """
    times.clear(sum(file.size for file in files) // _USUAL_LINE)
    doubtful = readers.map(lambda span: _read_together(files, span, times), spans(files))
    return [number for numbers in doubtful for number in numbers]


def keep_freed_memory() -> None:
    """Lets glibc keep what arrays of some megabytes free for the next ones, which come a thousand times a second.

    Without this it gives each back to the system, which has to fill it with zeros anew: a third of the time of reading.
    The size up to which memory is kept is that of the largest array so far that was freed (mallopt(3), M_MMAP_THRESHOLD;
    at most 32 MiB). Elsewhere this does nothing.
    """
    np.empty(31 * 2**20, np.uint8)


def spans(files: Sequence[BigFile]) -> Iterator[range]:
    """Positions of files that are read together."""
    first, size = 0, 0
    for number, file in enumerate(files):
        size += file.size
        if size >= csv_of_integers.CHUNK_BYTES:
            yield range(first, number + 1)
            first, size = number + 1, 0
    if first < len(files):
        yield range(first, len(files))


def _read_together(files: Sequence[BigFile], span: range, times: SampleTimes) -> list[int]:
    some = [files[number] for number in span]
    lines = csv_of_integers.read([file.path for file in some], [file.size for file in some], HEADER, (_START, _END))
    place = np.repeat(np.arange(len(some), dtype=np.int32), lines.counts)
    start, end = lines.number(_START), lines.number(_END)
    queued = lines.known(_DUE)
    due = np.where(queued, lines.number(_DUE), start) if queued.any() else start
    valid = lines.valid
    wrong = (end < start) | (due > start)
    wrong[1:] |= unordered(place, lines.number(_NUMBER), lines.known(_NUMBER))
    if wrong.any():
        valid[place[wrong]] = False
        kept = valid[place]
        place, start, end, due, queued = place[kept], start[kept], end[kept], due[kept], queued[kept]
    times.add(file=place + np.int32(span.start), start_ns=start, end_ns=end, due_ns=due, queued=queued)
    return [span[place] for place in np.flatnonzero(~valid)]


def unordered(file: npt.NDArray[Any], i: npt.NDArray[Any], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(rows - 1,) whether a row of the same file as the one before has not a higher `i`; nothing where none is known.

    Rows that do not rise may still be fine: they are looked at one by one.
    """
    if not known.any():
        return np.zeros(max(len(i) - 1, 0), np.bool_)
    found: npt.NDArray[np.bool_] = (i[1:] <= i[:-1]) & (file[1:] == file[:-1]) & known[1:]
    return found


def add_rows(times: SampleTimes, number: int, rows: Sequence[Fields]) -> None:
    """Adds the rows that `reading.read` found in the file of this number."""
    times.add(
        file=np.full(len(rows), number, np.int32),
        start_ns=np.array([int(row[_START]) for row in rows], np.int64),
        end_ns=np.array([int(row[_END]) for row in rows], np.int64),
        due_ns=np.array([int(row[_DUE] or row[_START]) for row in rows], np.int64),
        queued=np.array([row[_DUE] != "" for row in rows], np.bool_),
    )
