"""CSV files of whole numbers, many at a time and strictly: samples.csv and device_times.csv as arrays.

Reading 100 million rows is most of an analysis, so this is the one place where bytes become numbers in bulk. A file is
taken only when nothing about it needs a decision: the schema's header, then four fields a line of at most 18 digits each,
and a line end after the last. Whatever else it holds, it is left to `analysis.readers.csv_by_line`, which goes line by line and says
what is wrong. (DuckDB's own reader takes `12.5` and `0x10` for whole numbers and forgives a comma too many.)

Eight digits become a number by three multiplications of the word that they are: D. Lemire, "Quickly parsing eight digits"
(2018).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.host import regular_files

Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

#: Fields of a line; both files have as many.
FIELDS = 4
#: A field of more digits is left to the careful reader: 10**18 ns of CLOCK_MONOTONIC are 31 years of uptime.
MOST_DIGITS = 18
#: Files are read together up to this many bytes: enough to make numpy's calls cheap, few enough to stay in a CPU's cache.
CHUNK_BYTES = 2 * 2**20

#: Zeros before the first line, so that the words before a short number lie within the buffer.
_FRONT = 24
_COMMA, _LINE_END, _ZERO, _NINE = ord(","), ord("\n"), ord("0"), ord("9")
_DIGIT, _PAIR, _FOUR = (np.uint64(mask) for mask in (0x0F0F0F0F0F0F0F0F, 0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF))
_TENS, _HUNDREDS, _MYRIADS = (np.uint64(1 + (power << shift)) for power, shift in ((10, 8), (100, 16), (10_000, 32)))
_8, _16, _32 = np.uint64(8), np.uint64(16), np.uint64(32)


#: Digits of a field: of each line, or of all lines where they have the same number.
Lengths = Integers | int


@dataclass(frozen=True)
class Lines:
    """The lines of some files that hold nothing but whole numbers.

    counts: (files,) lines of each file, in the order that was asked for; 0 for one that is not valid. valid: (files,).
    raw: the files' bytes. ends, lengths: for each field (lines,) where it ends in raw, and its digits.
    """

    counts: Integers
    valid: npt.NDArray[np.bool_]
    raw: Bytes
    ends: tuple[Integers, ...]
    lengths: tuple[Lengths, ...]

    def number(self, field: int) -> Integers:
        """(lines,) the values of a field; 0 where it is empty."""
        ends, lengths = self.ends[field], self.lengths[field]
        most = int(np.max(lengths, initial=0))
        total = _eight_digits(self.raw, ends, lengths) if most else np.zeros(len(ends), np.uint64)
        for skipped in range(8, most, 8):
            more = _eight_digits(self.raw, ends - skipped, lengths - skipped)
            more *= np.uint64(10**skipped)
            total += more
        return total.view(np.int64)

    def known(self, field: int) -> npt.NDArray[np.bool_]:
        """(lines,) whether a field is not empty."""
        return np.broadcast_to(np.greater(self.lengths[field], 0), len(self.ends[field]))


def _eight_digits(raw: Bytes, ends: Integers, lengths: Lengths) -> Words:
    """(lines,) the number that the last eight digits before each end make, or as many as `lengths` says if fewer."""
    every = np.ndarray((len(raw) - 7,), "<u8", raw, strides=(1,))  # the eight bytes from each byte on
    words: Words = every[ends - 8]
    words &= _DIGIT
    if np.min(lengths) < 8:
        # what stands before the number is shifted out of the word; a shift by all 64 bits is not defined
        unused = ((8 - np.clip(lengths, 0, 8)) * 8).astype(np.uint64)
        words >>= unused
        words <<= unused
        if np.min(lengths) <= 0:
            words *= np.greater(lengths, 0)
    for weights, width, mask in ((_TENS, _8, _PAIR), (_HUNDREDS, _16, _FOUR)):
        words *= weights
        words >>= width
        words &= mask
    words *= _MYRIADS
    words >>= _32
    return words


def read(paths: Sequence[str], sizes: Sequence[int], header: bytes, required: Sequence[int]) -> Lines:
    """The lines of the valid ones among these files.

    sizes: bytes of each file; one that has shrunk is not valid, of one that has grown the first bytes count.
    header: the first line, line end included. required: fields that must not be empty. Never raises for what a file holds,
    nor for one that cannot be read: it is not valid.
    """
    raw = np.empty(_FRONT + sum(sizes) + 1, np.uint8)
    raw[:_FRONT] = _ZERO
    bounds, valid = _gather(paths, sizes, header, raw)
    whole = _lines(raw[: bounds[-1]], bounds, valid, required)
    if whole is None:  # something is wrong somewhere: each by itself
        for place in np.flatnonzero(valid):
            alone = np.concatenate([raw[:_FRONT], raw[bounds[place] : bounds[place + 1]]])
            edges = np.array([_FRONT, len(alone)])
            valid[place] = _lines(alone, edges, np.ones(1, np.bool_), required) is not None
        kept = [raw[bounds[place] : bounds[place + 1]] for place in np.flatnonzero(valid)]
        bounds = np.concatenate([[0], np.cumsum(np.where(valid, np.diff(bounds), 0))]) + _FRONT
        whole = _lines(np.concatenate([raw[:_FRONT], *kept]), bounds, valid, required)
        assert whole is not None, "files that are valid by themselves are valid together"
    return whole


def _gather(
    paths: Sequence[str], sizes: Sequence[int], header: bytes, raw: Bytes
) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Reads what stands below the headers into `raw`: (files + 1,) bounds of each file's lines, and (files,) whether it
    begins with the header and ends with a line end."""
    view = raw.data
    head = bytearray(len(header))
    at = _FRONT
    bounds, valid = [at], []
    for path, size in zip(paths, sizes, strict=True):
        body = size - len(header)
        good = False
        if body >= 0:
            try:
                file = os.open(path, regular_files.OPEN)
            except OSError:
                file = -1
            if file >= 0:
                try:
                    good = os.preadv(file, [head, view[at : at + body]], 0) == size and head == header
                except OSError:
                    pass
                finally:
                    os.close(file)
        if good and body:
            good = view[at + body - 1] == _LINE_END
        if good:
            at += body
        bounds.append(at)
        valid.append(good)
    return np.array(bounds), np.array(valid, np.bool_)


def _lines(raw: Bytes, bounds: Integers, valid: npt.NDArray[np.bool_], required: Sequence[int]) -> Lines | None:
    """None where something stands in `raw` that is not FIELDS whole numbers a line."""
    if raw.max() > _NINE:
        return None
    found = _fields_of_one_width(raw, required) or _fields_of_any_width(raw, required)
    if found is None:
        return None
    ends, lengths = found
    return Lines(np.diff(np.searchsorted(ends[-1], bounds)), valid, raw, ends, lengths)


_Fields = tuple[tuple[Integers, ...], tuple[Lengths, ...]]


def _fields_of_one_width(raw: Bytes, required: Sequence[int]) -> _Fields | None:
    """Ends and lengths of the fields where all but the first are as long in each line as in the first line; else None.

    So they nearly always are, since instants of one machine have as many digits for months. raw: no byte above `9`.
    """
    line_ends = np.flatnonzero(raw == _LINE_END)
    if not len(line_ends):
        return None
    first = raw[_FRONT : line_ends[0]].tobytes().split(b",")
    widths = [len(field) for field in first]
    if len(first) != FIELDS or max(widths) > MOST_DIGITS or any(widths[field] == 0 for field in required if field):
        return None
    ends = [line_ends]
    for width in reversed(widths[1:]):
        ends.insert(0, ends[0] - (width + 1))
    numbers = np.diff(line_ends, prepend=_FRONT - 1) - (sum(widths[1:]) + FIELDS)
    if numbers.min() < (0 in required) or numbers.max() > MOST_DIGITS:
        return None
    if not all((raw[end] == _COMMA).all() for end in ends[:-1]):
        return None
    # these are all that is below `0`: the rest are digits
    if np.count_nonzero(raw < _ZERO) != FIELDS * len(line_ends):
        return None
    return tuple(ends), (numbers, *widths[1:])


def _fields_of_any_width(raw: Bytes, required: Sequence[int]) -> _Fields | None:
    """Ends and lengths of the fields; None where the lines are not valid. raw: no byte above `9`."""
    places = np.flatnonzero(raw < _ZERO)
    if len(places) % FIELDS:
        return None
    marks = raw[places].reshape(-1, FIELDS)
    if not ((marks[:, :-1] == _COMMA).all() and (marks[:, -1] == _LINE_END).all()):
        return None
    digits = np.diff(places, prepend=_FRONT - 1).reshape(-1, FIELDS) - 1
    if len(digits) and (digits.max() > MOST_DIGITS or any(digits[:, field].min() == 0 for field in required)):
        return None
    ends = places.reshape(-1, FIELDS)
    return tuple(np.ascontiguousarray(ends.T)), tuple(np.ascontiguousarray(digits.T))
