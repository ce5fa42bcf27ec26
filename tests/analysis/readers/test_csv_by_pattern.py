"""What a pattern accepts, the careful reader accepts too, and DuckDB reads the same values from the same bytes."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.readers import csv_by_line, csv_by_pattern
from common import schema

FILES = ("cell.csv", "phases.csv", "attempts.csv")
CELL = {
    "cell_key": "k", "model": "m", "variant": "v", "precision": "fp32", "batch_size": 8, "io": "host",
    "scenario": "single-stream", "device": "cpu", "status": "ok",
}  # fmt: skip


CONNECTION = duckdb.connect()


def by_duckdb(path: Path, file_name: str) -> list[tuple[Any, ...]]:
    """As analysis.database.loading lets it read the lines of such files."""
    return CONNECTION.execute(
        "FROM read_csv($1, columns = $2, header = true, auto_detect = false, delim = ',', quote = '\"', escape = '\"', "
        "new_line = '\\n', parallel = false)",
        [str(path), schema.duckdb_columns(file_name)],
    ).fetchall()


def values(file_name: str, rows: list[Any]) -> list[tuple[Any, ...]]:
    kinds = {"VARCHAR": str, "BIGINT": int, "DOUBLE": float}
    types = [kinds[column.type] for column in schema.FILES[file_name]]
    return [tuple(kind(text) if text else None for kind, text in zip(types, row, strict=True)) for row in rows]


def assert_all_agree(folder: Path, file_name: str, raw: bytes) -> bool:
    """Whether the pattern accepted the file; if so, all three must read the same."""
    if csv_by_pattern.match(file_name, raw) is None:
        return False
    if file_name == "phases.csv" and not csv_by_pattern.intervals_rise(raw):
        return False
    path = folder / file_name
    path.write_bytes(raw)
    content = csv_by_line.read(path, file_name, raw)
    assert content.problems == []
    assert by_duckdb(path, file_name) == values(file_name, content.rows)
    return True


_TEXT = st.text(st.sampled_from("ab,\"\n' é\\{}:.-0"), max_size=6)
_NUMBER = {
    "BIGINT": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 10**16),
    "DOUBLE": st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 99),
}


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file as the harness might write it, sometimes with a piece of something in it."""
    name = draw(st.sampled_from(FILES))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(schema.header(name))
    for _ in range(1 if name == "cell.csv" else draw(st.integers(0, 3))):
        row: dict[str, Any] = {}
        for column in schema.FILES[name]:
            row[column.name] = draw(_NUMBER.get(column.type, _TEXT) | st.just(""))
        if name == "cell.csv":
            row |= CELL | {"cell_key": draw(st.sampled_from(["k", "a_b", "x,y"]))}
        elif name == "phases.csv":
            row |= {"phase": draw(st.sampled_from(["load", "measure"])), "start_ns": draw(st.integers(0, 50))}
            row["end_ns"] = draw(st.integers(0, 99) | st.just(""))
        else:
            row |= {"event": draw(st.sampled_from(["start", "finish"])), "cell_key": "k", "t_ns": 5}
        writer.writerow(row.values())
    raw = bytearray(out.getvalue().encode())
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 3))] = draw(
            st.sampled_from(
                [b"", b",", b"\n", b'"', b'""', b"\r", b"\0", b"\xff", b" ", b"nan", b"1e999", b"-", b"0x1", b"1_0"]
            )
        )
    return name, bytes(raw)


@given(file=files())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_three_agree(tmp_path: Path, file: tuple[str, bytes]) -> None:
    assert_all_agree(tmp_path, *file)


@pytest.mark.parametrize("name", FILES)
def test_what_the_harness_writes_is_recognised(tmp_path: Path, name: str) -> None:
    """Else every file would be read line by line, and nobody would notice but for the time."""
    rows: dict[str, list[dict[str, Any]]] = {
        "cell.csv": [
            CELL
            | {"versions": '{"torch": "2.13.0", "cuda": null}', "message": "line one\nline two, with a comma", "samples": 5,
               "parity_rel_l2": 3.2e-07, "target_rate_per_s": 400.0, "started_utc": "2026-01-01T00:00:00Z"}
        ],
        "phases.csv": [
            {"phase": "load", "start_ns": 5, "end_ns": 9}, {"phase": "measure", "start_ns": 9, "end_ns": None}
        ],
        "attempts.csv": [
            {"t_ns": 1, "utc": "2026-01-01T00:00:00.000Z", "event": "start", "cell_key": "k", "worker": "w-1"},
            {"t_ns": 2, "event": "finish", "cell_key": "k", "status": "crashed", "message": 'signal 9, "killed"'},
        ],
    }  # fmt: skip
    assert assert_all_agree(tmp_path, name, schema.to_csv(name, rows[name]).encode())
    if name != "cell.csv":
        assert assert_all_agree(tmp_path, name, csv_by_line.header_line(name))


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 0}, {"batch_size": -1}, {"status": "great"}, {"io": "disk"}, {"variant": ""}, {"parity_rel_l2": "nan"},
        {"parity_rel_l2": "1e999"}, {"samples": "1.5"}, {"samples": 2**63}, {"message": "é"}, {"cell_key": 'a"b'},
    ],
)  # fmt: skip
def test_what_leaves_a_doubt_is_not_recognised(change: dict[str, Any]) -> None:
    assert csv_by_pattern.match("cell.csv", schema.to_csv("cell.csv", [CELL]).encode())
    assert csv_by_pattern.match("cell.csv", schema.to_csv("cell.csv", [CELL | change]).encode()) is None


def test_two_rows_of_a_cell_are_not_recognised() -> None:
    assert csv_by_pattern.match("cell.csv", schema.to_csv("cell.csv", [CELL, CELL]).encode()) is None
    assert csv_by_pattern.match("cell.csv", csv_by_line.header_line("cell.csv")) is None


def test_key_status_and_scenario() -> None:
    match = csv_by_pattern.match("cell.csv", schema.to_csv("cell.csv", [CELL]).encode())
    assert match is not None
    assert (match["key"], match["status"], match["scenario"]) == (b"k", b"ok", b"single-stream")


def test_phases_that_end_before_they_begin() -> None:
    def phases(start: int, end: int | None) -> bytes:
        return schema.to_csv("phases.csv", [{"phase": "load", "start_ns": start, "end_ns": end}]).encode()

    assert csv_by_pattern.intervals_rise(phases(5, 5)) and csv_by_pattern.intervals_rise(phases(5, None))
    assert not csv_by_pattern.intervals_rise(phases(10, 9))
