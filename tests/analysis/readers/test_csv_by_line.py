from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.database.open_runs import open_runs
from analysis.readers import csv_by_line
from common import schema

HEADER = "i,start_ns,end_ns,scheduled_ns\n"


def read(tmp_path: Path, body: str | bytes, file_name: str = "samples.csv") -> csv_by_line.Content:
    path = tmp_path / file_name
    path.write_bytes(body.encode() if isinstance(body, str) else body)
    return csv_by_line.read(path, file_name)


@pytest.mark.parametrize(
    ("body", "rows", "line", "message"),
    [
        (HEADER + "0,10,20,\n1,20,31,", 1, 3, "cut off"),
        (HEADER + "0,10,20,\n1,20\n2,31,40,\n", 2, 3, "2 fields, the header 4"),
        (HEADER + "0,20,10,\n1,20,31,\n", 1, 2, "ends before it begins"),
        (HEADER + "0,nan,10,\n1,20,31,\n", 1, 2, "start_ns is 'nan', not a whole number"),
        (HEADER + "0,10,12.5,\n", 0, 2, "not a whole number"),
        (HEADER + "0,,12,\n", 0, 2, "missing"),
        (HEADER + "0,1,99999999999999999999,\n", 0, 2, "not a whole number"),
        (HEADER.encode() + b"0,10,20,\n\xff\xfe\x00junk\n1,20,30,\n", 2, 3, "not text"),
        (HEADER + '0,10,20,\n"1,20,30,\n2,30,40,\n', 2, 3, "not CSV"),
    ],
)
def test_a_bad_line_costs_itself_alone(tmp_path: Path, body: str | bytes, rows: int, line: int, message: str) -> None:
    content = read(tmp_path, body)
    assert len(content.rows) == rows
    assert [problem.lines for problem in content.problems] == [(line,)]
    assert message in content.problems[0].message
    assert content.problems[0].loses
    assert f"samples.csv:{line}: " in str(content.problems[0])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "is empty"),
        ("0,10,20,\n1,20,30,\n", "has no header"),
        ("i,start_ns\n0,10\n", "lacks the column end_ns"),
        ("i,start_ns,end_ns,end_ns\n0,1,2,2\n", "names a column twice"),
        (b"\x7fELF\x00\x01\x02", "has no header"),
    ],
)
def test_a_file_without_its_columns_costs_the_file(tmp_path: Path, body: str | bytes, message: str) -> None:
    content = read(tmp_path, body)
    assert content.rows == []
    assert message in content.problems[0].message
    assert content.problems[0].loses


def test_columns_may_be_missing_foreign_or_in_another_order(tmp_path: Path) -> None:
    content = read(tmp_path, "end_ns,colour,start_ns\n20,red,10\n")
    assert content.rows == [["", "10", "20", ""]]
    assert [problem.loses for problem in content.problems] == [False, False]
    assert "lacks i, scheduled_ns" in content.problems[0].message
    assert "'colour'" in content.problems[1].message


def test_many_faults_of_one_kind_are_one_problem(tmp_path: Path) -> None:
    content = read(tmp_path, HEADER + "".join(f"{i},x{i},20,\n" for i in range(100)))
    assert len(content.problems) == 1
    assert content.problems[0].rows == 100
    assert "and 99 more" in str(content.problems[0])


def test_a_message_with_line_ends_and_commas_is_read(tmp_path: Path) -> None:
    row = {
        "cell_key": "k", "model": "m", "variant": "v", "precision": "fp32", "batch_size": 1, "io": "host",
        "scenario": "single-stream", "device": "cpu", "status": "crashed", "message": 'said "no",\nthen died',
    }  # fmt: skip
    content = read(tmp_path, schema.to_csv("cell.csv", [row]), "cell.csv")
    assert content.problems == []
    assert content.rows[0][schema.header("cell.csv").index("message")] == 'said "no",\nthen died'


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"status": "great"}, "status 'great' is none of"),
        ({"io": "disk"}, "io 'disk' is none of"),
        ({"variant": ""}, "variant is empty"),
        ({"parity_rel_l2": "nan"}, "not a finite number"),
    ],
)
def test_a_cell_that_contradicts_the_schema_is_left_out(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    row = {
        "cell_key": "k", "model": "m", "variant": "v", "precision": "fp32", "batch_size": 1, "io": "host",
        "scenario": "single-stream", "device": "cpu", "status": "ok",
    }  # fmt: skip
    content = read(tmp_path, schema.to_csv("cell.csv", [{**row, **changes}]), "cell.csv")
    assert content.rows == []
    assert message in content.problems[0].message


@given(file_name=st.sampled_from(sorted(schema.FILES)), raw=st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_it_raise(file_name: str, raw: bytes) -> None:
    csv_by_line.read(Path("x.csv"), file_name, raw)
    csv_by_line.read(Path("x.csv"), file_name, csv_by_line.header_line(file_name) + raw)


@given(data=st.data())
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_database_and_the_careful_reader_agree_on_damaged_files(
    build: Callable[..., Any], data: st.DataObject
) -> None:
    """Differential: whatever is done to samples.csv, the database counts and sums what the line reader would keep.

    Many files at a time: to open a run takes longer than to read it.
    """
    run = build(uuid.uuid4().hex)
    expected = []
    for replicate in range(36):
        folder = run.cell(replicate=replicate, durations_ns=[10_000 + 37 * i for i in range(30)])
        path = folder / "samples.csv"
        raw = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(0, 3))):
            place = data.draw(st.integers(0, len(raw)))
            junk = data.draw(
                st.sampled_from([b"\n", b",", b'"', b"9", b"-", b"x", b"\x00", b"\xff", b"\r", b"\n\n", b""])
            )
            raw[place : place + data.draw(st.integers(0, 20))] = junk
        path.write_bytes(raw)
        kept = csv_by_line.read(path, "samples.csv").rows
        if kept:
            busy = float(sum(int(row[2]) - int(row[1]) for row in kept))
            expected.append({"cell_key": folder.name, "n": len(kept), "busy_ns": busy})
    with contextlib.closing(open_runs([run.folder])) as database:
        found = database.query("SELECT cell_key, n, busy_ns FROM measured ORDER BY cell_key")
    assert found == sorted(expected, key=lambda row: row["cell_key"])


def test_the_phase_in_which_a_worker_died_has_no_end(tmp_path: Path) -> None:
    path = tmp_path / "phases.csv"
    path.write_text("phase,start_ns,end_ns\nload,5,9\ncompile,10,\nfirst,,12\n")
    content = csv_by_line.read(path, "phases.csv")
    assert content.rows == [["load", "5", "9"], ["compile", "10", ""]]
    assert [problem.lines for problem in content.problems] == [(4,)]


def test_published_quantiles(tmp_path: Path) -> None:
    path = tmp_path / "quantiles.csv"
    path.write_text("quantile,latency_ns\n0.5,1e6\n95,2e6\n0.99,-1\n")
    content = csv_by_line.read(path, "quantiles.csv")
    assert content.rows == [["0.5", "1e6"]]
    assert [problem.lines for problem in content.problems] == [(3,), (4,)]
