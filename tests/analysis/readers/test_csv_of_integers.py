"""The reader in bulk against the careful one: what it takes is what that one keeps, and what that one faults it refuses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.readers import csv_by_line, csv_of_integers
from analysis.readers.csv_of_integers import Lines
from common import schema

HEADER = csv_by_line.header_line("samples.csv")
REQUIRED = (1, 2)
COUNT = itertools.count()


def read(folder: Path, *bodies: bytes, sizes: Sequence[int] | None = None, header: bytes = HEADER) -> Lines:
    paths = []
    for body in bodies:
        path = folder / f"{next(COUNT)}.csv"
        path.write_bytes(header + body)
        paths.append(str(path))
    sizes = sizes or [len(header + body) for body in bodies]
    return csv_of_integers.read(paths, sizes, HEADER, REQUIRED)


def rows(lines: Lines) -> list[list[int | None]]:
    columns = [
        [int(value) if known else None for value, known in zip(lines.number(field), lines.known(field), strict=True)]
        for field in range(csv_of_integers.FIELDS)
    ]
    return [list(row) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize(
    "body",
    [
        b"0,1,2,\n",
        b"0,1,2,\n1,3,4,\n",
        b"9,1234567,12345678,\n10,123456789,1234567890123456,\n",
        b"0,123456789012345678,999999999999999999,\n",
        b"0,1000000000000000,1000000000000001,1000000000000000\n1,1000000000000000,1000000000000001,\n",
        b",00000000000000007,8,\n",
        b"".join(b"%d,%d,%d,%d\n" % (i, 10**15 + i, 10**15 + 5 + i, 10**15) for i in range(1200)),
    ],
)
def test_numbers_of_any_width(tmp_path: Path, body: bytes) -> None:
    lines = read(tmp_path, body)
    assert lines.valid.tolist() == [True]
    assert rows(lines) == [[int(x) if x else None for x in line.split(b",")] for line in body.splitlines()]


@pytest.mark.parametrize(
    "body",
    [
        b"0,1,2", b"0,1,2,", b"0,1,2,3", b"\n", b"0,1,2,\n\n", b"0,1,2\n", b"0,1,2,3,\n", b"0,,2,\n", b"0,1,,\n", b"0,1,2.5,\n",
        b"0,1,2,\r\n", b"0, 1,2,\n", b"0,+1,2,\n", b"0,-1,2,\n", b'"0",1,2,\n', b"0,1,1e3,\n", b"0,1,0x1,\n", b"0,1,2,\0\n",
        b"0,1,2,\xff\n", b"0,1,1234567890123456789,\n", b"0,1,2,1234567890123456789\n", b"1234567890123456789,1,2,\n",
        b"0,1,2,\n1,2,\n3,4,,5\n", b"0,1,2,\n1,2,3,4,5,6,7,\n",
    ],
)  # fmt: skip
def test_what_leaves_a_doubt_is_refused_and_its_neighbours_are_read(tmp_path: Path, body: bytes) -> None:
    good = b"7,70,80,\n"
    lines = read(tmp_path, good, body, good + good)
    assert lines.valid.tolist() == [True, False, True]
    assert lines.counts.tolist() == [1, 0, 2]
    assert rows(lines) == [[7, 70, 80, None]] * 3


def test_lines_of_different_files_do_not_make_up_for_each_other(tmp_path: Path) -> None:
    """Two commas too many here, two too few there, and all is as it should be on the whole."""
    lines = read(tmp_path, b"0,1,2,\n1,2,3,4\n", b"0,1\n,2,\n", b"1,2,\n3,4,5,6,7\n")
    assert lines.valid.tolist() == [True, False, False]
    assert rows(lines) == [[0, 1, 2, None], [1, 2, 3, 4]]


def test_a_header_alone_is_valid_and_has_no_line(tmp_path: Path) -> None:
    assert read(tmp_path, b"").valid.tolist() == [True]
    lines = read(tmp_path, b"", b"0,1,2,\n", b"")
    assert lines.counts.tolist() == [0, 1, 0]


def test_another_header(tmp_path: Path) -> None:
    assert read(tmp_path, b"0,1,2,\n", header=b"i,end_ns,start_ns,scheduled_ns\n").valid.tolist() == [False]


def test_a_file_that_changes_size_or_is_gone(tmp_path: Path) -> None:
    body = b"0,1,2,\n1,3,4,\n"
    whole = len(HEADER + body)
    assert read(tmp_path, body, sizes=[whole + 1]).valid.tolist() == [False], "it has shrunk"
    grown = read(tmp_path, body, sizes=[whole - 7])
    assert rows(grown) == [[0, 1, 2, None]], "as it was when it was looked at"
    assert read(tmp_path, body, sizes=[whole - 3]).valid.tolist() == [False], "it was half a line then"
    gone = csv_of_integers.read([str(tmp_path / "no"), str(tmp_path)], [90, 4096], HEADER, REQUIRED)
    assert gone.valid.tolist() == [False, False]
    assert not len(gone.number(1))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Bodies that are nearly right: whole lines with a piece of something in between."""
    number = st.integers(0, 10**18 - 1) | st.integers(0, 99) | st.integers(10**12, 10**12 + 99)
    line = st.builds(
        lambda i, start, end, due: f"{i},{start},{end},{due}\n".encode(),
        st.integers(0, 99) | st.just(""), number, number, number | st.just(""),
    )  # fmt: skip
    raw = bytearray(b"".join(draw(st.lists(line, max_size=5))))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 4))] = draw(
            st.sampled_from([b"", b",", b"\n", b"-", b".", b"1", b"\r\n", b'"', b" ", b"\0", b",,\n", b"9" * 19])
        )
    return bytes(raw)


@given(several=st.lists(bodies(), min_size=1, max_size=4))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_agrees_with_the_careful_reader(tmp_path: Path, several: list[bytes]) -> None:
    lines = read(tmp_path, *several)
    found = iter(rows(lines))
    for body, valid, count in zip(several, lines.valid, lines.counts, strict=True):
        if valid:
            # shape and types are what it vouches for; which instant comes first is asked afterwards
            every = [[int(x) if x else None for x in line.split(b",")] for line in body.splitlines()]
            assert [next(found) for _ in range(count)] == every
            careful = csv_by_line.read(Path("samples.csv"), "samples.csv", HEADER + body)
            assert {problem.message for problem in careful.problems if "twice" not in problem.message} <= {
                "ends before it begins", "was taken from the queue before it was due"
            }  # fmt: skip
        else:
            assert count == 0
    assert next(found, None) is None


def test_what_the_harness_writes_is_valid(tmp_path: Path) -> None:
    """Else every cell would be read line by line, and nobody would notice but for the time."""
    text = schema.to_csv(
        "samples.csv", [{"i": i, "start_ns": 10**14 + i, "end_ns": 10**14 + i + 9} for i in range(50)]
    ).encode()
    lines = read(tmp_path, text.removeprefix(HEADER))
    assert lines.valid.all() and np.diff(lines.number(1)).tolist() == [1] * 49
