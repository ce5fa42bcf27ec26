"""CSV files and run.json that anything may have happened to: never a traceback, never a number that was not there."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.database.open_runs import open_runs
from analysis.readers import csv_by_line, run_json
from common import schema
from tests.analysis.conftest import Build, RunBuilder

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = sorted(schema.FILES)
NUMBERS = itertools.count()

#: a valid value of each kind of column that a row's checks look at
VALID: dict[str, dict[str, str]] = {
    "cell.csv": {"batch_size": "8", "status": "ok", "io": "host", "streams": "1", "replicate": "0"},
    "passes.csv": {"images": "512"},
    "samples.csv": {"scheduled_ns": ""},
    "attempts.csv": {"event": "start"},
    "kernels.csv": {"kind": "kernel"},
}
#: columns of an interval, in the order that they must rise in
RISING = ("scheduled_ns", "start_ns", "end_ns")


def valid_file(name: str, rows: int = 6) -> bytes:
    """A file whose every number is different, so that a number in the wrong place would be seen."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(schema.header(name))
    for row in range(rows):
        values = []
        for place, column in enumerate(schema.FILES[name]):
            number = 100_000_000 * (row + 1) + 1_000_000 * (place + 1) + 4321
            value = {"BIGINT": str(number), "DOUBLE": f"{number}.25"}.get(column.type, f"{column.name}{row}")
            value = f"0.{row + 1}" if column.name == "quantile" else value
            values.append(VALID.get(name, {}).get(column.name, value))
        writer.writerow(values)
    return out.getvalue().encode()


def rows_of(name: str, raw: bytes) -> list[list[str]]:
    return csv_by_line.read(Path(name), name, raw).rows


def assert_valid(name: str, rows: list[list[str]]) -> None:
    """Every value is empty or of its column's type."""
    for row in rows:
        assert len(row) == len(schema.FILES[name])
        for column, text in zip(schema.FILES[name], row, strict=True):
            if text and column.type == "BIGINT":
                assert -(2**63) <= int(text) < 2**63 and text.lstrip("+-").isdigit()
            elif text and column.type == "DOUBLE":
                assert math.isfinite(float(text))


@pytest.mark.parametrize("name", NAMES)
def test_a_valid_file_is_read_whole(name: str) -> None:
    content = csv_by_line.read(Path(name), name, valid_file(name))
    assert content.problems == [] and len(content.rows) == 6


@FUZZ
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_a_file_cut_anywhere_keeps_whole_rows_and_invents_none(data: st.DataObject, name: str) -> None:
    raw = valid_file(name)
    cut = data.draw(st.integers(0, len(raw) - 1))
    content = csv_by_line.read(Path(name), name, raw[:cut])
    whole = max(0, raw[:cut].count(b"\n") - 1)
    assert content.rows == rows_of(name, raw)[:whole]
    if not raw[:cut].endswith(b"\n"):
        assert content.problems != []


@FUZZ
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_bytes_changed_anywhere(data: st.DataObject, name: str) -> None:
    raw = bytearray(valid_file(name))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        junk = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"\n", b",", b'"', b"\0", b"\r\n", b"nan", b"1e400", b"0x1"])
        )
        raw[at : at + data.draw(st.integers(0, 3))] = junk
    assert_valid(name, rows_of(name, bytes(raw)))


@FUZZ
@given(raw=st.binary(max_size=200), name=st.sampled_from(NAMES), headed=st.booleans())
def test_any_bytes_at_all(raw: bytes, name: str, headed: bool) -> None:
    assert_valid(name, rows_of(name, (csv_by_line.header_line(name) if headed else b"") + raw))


@FUZZ
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_columns_in_any_order_and_some_missing(data: st.DataObject, name: str) -> None:
    raw = valid_file(name)
    lines = list(csv.reader(raw.decode().splitlines()))
    order = data.draw(st.permutations(range(len(lines[0]))))
    kept = order[: data.draw(st.integers(1, len(order)))]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([[line[i] for i in kept] for line in lines])
    whole = rows_of(name, raw)
    for number, row in enumerate(rows_of(name, out.getvalue().encode())):
        assert row == [value if i in kept else "" for i, value in enumerate(whole[number])]


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["host", "devices", "settings", "cooling", "processes", "memory_bytes", "seed", "model", "uuid"]
            )
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@FUZZ
@given(document=JSON)
def test_a_run_json_of_any_shape(tmp_path: Path, document: Any) -> None:
    (tmp_path / "run.json").write_text(json.dumps(document))
    found, problem = run_json.read(tmp_path)
    assert (problem is None) == isinstance(document, dict)
    row = run_json.run_row(found)
    for (kind, _), value in zip(run_json.RUN.values(), row, strict=True):
        assert value is None or type(value) is {"VARCHAR": str, "BIGINT": int, "DOUBLE": float}[kind]
    for rows, declared in (
        (run_json.device_rows(found), run_json.DEVICE),
        (run_json.cooling_rows(found), run_json.COOLING),
    ):
        assert all(len(values) in (len(declared), len(declared) + 1) for values in rows)


def damaged(build: Build, data: st.DataObject) -> tuple[Path, Path]:
    """(run with one file cut and overwritten at random, folder of the cell that nothing happened to)."""
    run = build(f"run{next(NUMBERS):06d}")
    run.cell("onnxrt", durations_ns=range(10**6, 10**6 + 30))
    whole = run.cell("torch", durations_ns=range(10**6, 10**6 + 30))
    run.power(
        {"t_ns": run.now_ns - i * 10**8, "domain": "package-0", "energy_mj": 10**6 - i * 10.5, "temperature_c": 40}
        for i in range(40, 0, -1)
    )
    files = sorted(path for path in run.folder.rglob("*") if path.is_file() and whole not in path.parents)
    path = data.draw(st.sampled_from(files))
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    path.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    return run.folder, whole


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_runs_are_analyzed_without_a_traceback(build: Build, data: st.DataObject) -> None:
    """Several at a time: to open a run takes longer than to read it."""
    runs = [damaged(build, data) for _ in range(4)]
    valid = [(whole / "samples.csv").read_text() for _, whole in runs]
    with open_runs([run for run, _ in runs]) as database:
        results = database.query("SELECT * FROM results WHERE variant = 'torch'")
        database.query("FROM comparison")
        database.query("FROM marks")
    assert [(whole / "samples.csv").read_text() for _, whole in runs] == valid
    # The cells that nothing happened to have their own figures, whatever their neighbours look like.
    assert [row["n"] for row in results] == [30] * len(runs)
    for row in results:
        assert row["images_per_s"] == pytest.approx(8 * 30 / (sum(range(10**6, 10**6 + 30)) / 1e9))


JUNK = ("12.5", "1e3", "0x10", "1_000", "+5", " 7", "7.0", "9" * 19, "9" * 30)
COLUMNS = ("t_ns", "temperature_c", "event_reasons")
#: (highest temperature and number of readings, energies, problems) of a run
Facts = tuple[list[dict[str, Any]], list[dict[str, Any]], list[csv_by_line.Problem]]


@pytest.fixture(scope="module")
def of_readings(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Facts]:
    """(junk, column) -> facts of a run with one such reading; all runs are opened at once, which takes longest."""
    runs = {}
    for number, (junk, column) in enumerate(itertools.product(JUNK, COLUMNS)):
        folder = tmp_path_factory.mktemp("readings") / f"junk{number}"
        run = RunBuilder(folder, device="gpu0", device_name="G", uuid="GPU-1").run_json()
        start = run.now_ns
        run.cell("torch", durations_ns=[10**6] * 30)
        rows = [
            {"t_ns": start + i * 10**6, "domain": "gpu", "device": 0, "uuid": "GPU-1", "power_mw": 100_000, "power_source": "instant",
             "temperature_c": 40, "event_reasons": 0}
            for i in range(-5, 40)
        ]  # fmt: skip
        rows[15][column] = junk
        run.power(rows)
        runs[junk, column] = folder
    found = {}
    with open_runs(list(runs.values())) as database:
        for key, folder in runs.items():
            name = [folder.name]
            found[key] = (
                database.query("SELECT count(*) AS n, max(temperature_c) AS c FROM power WHERE run = $1", name),
                database.query("SELECT integral_j FROM energy WHERE run = $1", name),
                [problem for problem in database.problems if problem.path.is_relative_to(folder)],
            )
    return found


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("column", COLUMNS)
def test_what_duckdb_would_take_for_a_whole_number_of_a_reading(
    of_readings: dict[tuple[str, str], Facts], junk: str, column: str
) -> None:
    temperatures, energies, problems = of_readings[junk, column]
    if csv_by_line._fits("BIGINT", junk):  # a sign is no other number
        assert problems == []
        return
    (energy,) = energies
    assert temperatures == [{"n": 44, "c": 40}]
    assert energy["integral_j"] == pytest.approx(0.03 * 100)
    (problem,) = problems
    assert problem.lines == (17,) and column in problem.message and repr(junk) in problem.message


@pytest.mark.parametrize("junk", ["1000000.5", "1e9", "0x10", "1_000", "+5", " 7", "1.0"])
def test_what_duckdb_would_take_for_a_whole_number(build: Build, junk: str) -> None:
    run = build()
    path = run.cell("torch", durations_ns=[10**6] * 30) / "samples.csv"
    lines = path.read_text().splitlines(keepends=True)
    fields = lines[15].split(",")
    lines[15] = ",".join([fields[0], fields[1], junk, *fields[3:]])
    path.write_text("".join(lines))
    with open_runs([run.folder]) as database:
        (row,) = database.query("SELECT n, max_ms FROM latency")
        assert (row["n"], row["max_ms"]) == (29, pytest.approx(1.0))
        (problem,) = database.problems
    assert problem.lines == (16,)
