"""Runs that came from somebody else: a bad file costs itself, named in one line, and the good run beside it is analyzed."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from analysis.analyze import analyze
from analysis.database.connection import Database
from analysis.database.open_runs import open_runs
from analysis.readers import csv_by_line, run_folder
from common import schema
from common.host.cli.terminal import Terminal
from tests.analysis.conftest import Build

MS = 10**6
SCRIPT = "<script>window.PWN=1</script><img src=x onerror=window.PWN=1>"
ESCAPES = "\x1b]0;PWNED\x07\x1b[2J\x1b[31mRED\x1b[0m\u202e"


@pytest.fixture
def good(build: Build) -> Path:
    run = build("good")
    run.cell("onnxrt", 8, durations_ns=[10 * MS + i % 5 * 1000 for i in range(70)])
    return Path(run.folder)


@pytest.fixture
def bad(build: Build) -> Path:
    """A run of two valid cells, of which a test spoils the first."""
    run = build("bad")
    run.cell("onnxrt", 8, durations_ns=[10 * MS] * 30)
    run.cell("torch", 8, durations_ns=[10 * MS] * 30)
    (run.folder / "power.csv").write_text(schema.to_csv("power.csv", [{"t_ns": 1, "domain": "gpu", "power_mw": 1}]))
    return Path(run.folder)


def first(run: Path) -> Path:
    return next(run.glob("cells/*onnxrt*"))


@contextmanager
def both(good: Path, *bad: Path) -> Iterator[Database]:
    """All together: the good one is always all there."""
    with open_runs([good, *bad]) as database:
        assert database.query("SELECT samples, status FROM comparison WHERE run = 'good'") == [
            {"samples": 70, "status": "ok"}
        ]
        for view in ("samples", "power", "device_times", "attempts", "marks", "energy", "run"):
            database.query(f"FROM {view}")
        yield database


def ok_cells(database: Database) -> list[str]:
    rows = database.query("SELECT variant FROM cells WHERE run LIKE '%bad%' AND status = 'ok' ORDER BY 1")
    return [row["variant"] for row in rows]


def problems(database: Database) -> str:
    lines = [str(problem) for problem in database.problems]
    assert all("\n" not in line and len(line) < 1000 for line in lines)
    return "\n".join(lines)


# --- what is no file ----------------------------------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def link_to_a_file(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_nothing(path: Path) -> None:
    path.symlink_to("gone")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def unix_socket(path: Path) -> None:
    there = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(there)


KINDS = (fifo, folder, link_to_a_file, link_to_a_device, link_to_nothing, link_to_itself, unix_socket)


@pytest.fixture
def many(build: Build) -> Callable[[int], Path]:
    """Makes a run of so many valid cells, which a test spoils."""

    def make(cells: int) -> Path:
        run = build("bad")
        for number in range(cells):
            run.cell("torch", number + 1, durations_ns=[10 * MS] * 30)
        return Path(run.folder)

    return make


def cells_of(run: Path) -> list[Path]:
    return sorted((run / "cells").iterdir())


@pytest.mark.parametrize(
    "name", ["cell.csv", "samples.csv", "phases.csv", "device_times.csv", "passes.csv", "quantiles.csv", "energy.csv"]
)
def test_in_place_of_a_file_of_a_cell(good: Path, many: Callable[[int], Path], name: str) -> None:
    run = many(len(KINDS) + 1)
    *spoiled, valid = cells_of(run)
    for cell, kind in zip(spoiled, KINDS, strict=True):
        (cell / name).unlink(missing_ok=True)
        kind(cell / name)
    with both(good, run) as database:
        lines = problems(database).splitlines()
        for cell in spoiled:
            assert [line for line in lines if str(cell) in line and f"{cell / name}: is a" in line], cell
            assert len([line for line in lines if str(cell / name) in line]) == 1
        assert not any(str(valid) in line for line in lines)
        assert ok_cells(database).count("torch") == (1 if name == "cell.csv" else len(KINDS) + 1)


@pytest.mark.parametrize("name", ["run.json", "power.csv", "attempts.csv", "cells"])
def test_in_place_of_a_file_of_the_run(good: Path, bad: Path, name: str) -> None:
    runs = []
    for number, kind in enumerate(KINDS):
        run = Path(shutil.copytree(bad, bad.with_name(f"bad{number}")))
        if name == "cells":
            shutil.rmtree(run / name)
        else:
            (run / name).unlink(missing_ok=True)
        kind(run / name)
        runs.append(run)
    with both(good, *runs) as database:
        assert len(ok_cells(database)) == (0 if name == "cells" else 2 * len(KINDS))
        for run in runs:
            assert str(run / name) in problems(database) or (
                name == "cells" and f"{run}: holds no cell" in problems(database)
            )


def test_a_link_in_place_of_folders(good: Path, bad: Path, tmp_path: Path) -> None:
    moved = first(bad).rename(tmp_path / "moved")
    (bad / "cells" / moved.name).symlink_to(moved)
    with both(good, bad) as database:
        assert ok_cells(database) == ["torch"]
        assert "is a link, not a folder" in problems(database)
    everything = (bad / "cells").rename(tmp_path / "cells")
    (bad / "cells").symlink_to(everything)
    with both(good, bad) as database:
        assert ok_cells(database) == []
        assert "is a link, not a folder: no cell of it is read" in problems(database)


def test_a_link_that_comes_after_the_run_was_read(good: Path, bad: Path) -> None:
    path = first(bad) / "samples.csv"
    with open_runs([good, bad]) as database:
        path.unlink()
        path.symlink_to("/etc/passwd")
        assert {row["run"] for row in database.query("SELECT DISTINCT run FROM samples")} == {"good", "bad"}
        rows = database.query("SELECT DISTINCT cell_key FROM samples WHERE run = 'bad'")
        assert [row["cell_key"] for row in rows] == [next(bad.glob("cells/*torch*")).name]


# --- what is too much ---------------------------------------------------------------------------------------------------


def test_files_beyond_their_size(good: Path, bad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (first(bad) / "samples.csv").stat().st_size
    monkeypatch.setattr(csv_by_line, "MOST_BYTES", {**csv_by_line.MOST_BYTES, "samples.csv": size - 1})
    (first(bad) / "samples.csv").write_bytes((first(bad) / "samples.csv").read_bytes() + b"30,1,2,\n")
    with open_runs([bad]) as database:
        assert "samples.csv: is larger than 1 KiB: it is not read" in problems(
            database
        ) or "larger than 0 KiB" in problems(database)


def test_doubtful_files_are_read_with_care_up_to_a_size(good: Path, bad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (first(bad) / "samples.csv").open("a") as file:
        file.write("junk\n")
    monkeypatch.setattr(csv_by_line, "MOST_CAREFUL_BYTES", 500)
    with both(good, bad) as database:
        assert "samples.csv: cannot be read: it is larger than 0 KiB" in problems(database)
        assert "torch" in ok_cells(database)


def spoil(cell: Path, **fields: str) -> None:
    with (cell / "cell.csv").open(newline="") as file:
        rows = [{**row, **fields} for row in csv.DictReader(file)]
    (cell / "cell.csv").write_text(schema.to_csv("cell.csv", rows))


FIELDS: tuple[dict[str, str], ...] = (
    {"batch_size": str(2**62)}, {"batch_size": "-8"}, {"batch_size": "0"}, {"batch_size": "8.5"}, {"batch_size": "9" * 400},
    {"streams": str(2**62)}, {"replicate": str(2**62)}, {"target_rate_per_s": "nan"}, {"target_rate_per_s": "1e308"},
    {"target_rate_per_s": "-1"}, {"samples": str(2**62)}, {"samples": "-1"}, {"warmup_runs": str(2**60)},
    {"variant": "../../x"}, {"model": SCRIPT}, {"precision": ESCAPES}, {"device": "=cmd|'/c calc'!A1"}, {"model": "x" * 101},
    {"variant": "[red]x[/red]\n"}, {"status": "great"}, {"io": "x" * 60_000}, {"parity_rel_l2": "nan"},
)  # fmt: skip


def test_a_cell_that_cannot_be_costs_itself(good: Path, many: Callable[[int], Path]) -> None:
    run = many(len(FIELDS) + 1)
    *spoiled, _ = cells_of(run)
    for cell, fields in zip(spoiled, FIELDS, strict=True):
        spoil(cell, **fields)
    with both(good, run) as database:
        assert ok_cells(database) == ["torch"]
        for cell in spoiled:
            assert str(cell / "cell.csv") in problems(database)


def test_a_field_of_megabytes(good: Path, bad: Path) -> None:
    path = first(bad) / "cell.csv"
    path.write_text(path.read_text().replace("onnxrt", "A" * 2_000_000))
    with both(good, bad) as database:
        assert ok_cells(database) == ["torch"]
        assert "cell.csv: is larger than 1 MiB" in problems(database)


ENDLESS = ("A" * 200_000, '"' * 200_000, "\0" * 10, "," * 100_000, "\n" * 100_000, '"' + "x\n" * 50_000)


@pytest.mark.parametrize("name", ["cell.csv", "phases.csv", "samples.csv"])
def test_lines_without_end(good: Path, many: Callable[[int], Path], name: str) -> None:
    run = many(len(ENDLESS) + 1)
    for cell, text in zip(cells_of(run), ENDLESS, strict=False):
        with (cell / name).open("a") as file:
            file.write(text)
    with both(good, run) as database:
        assert "torch" in ok_cells(database)
        problems(database)


def test_instants_that_cannot_be(good: Path, bad: Path) -> None:
    path = first(bad) / "samples.csv"
    lines = path.read_text().splitlines()
    ends = [str(2**63 - 1), str(2**64), str(10**18), "-10", "nan", "1e18", "9" * 5000]
    for number, end in enumerate(ends, 5):
        lines[number] = ",".join([*lines[number].split(",")[:2], end, ""])
    path.write_text("\n".join(lines) + "\n")
    with both(good, bad) as database:
        assert ok_cells(database) == ["onnxrt", "torch"]
        assert len(database.query("FROM samples WHERE run = 'bad' AND cell_key LIKE '%onnxrt%'")) == 30 - len(ends)
        assert f"{path}:6" in problems(database)


def test_a_power_reading_at_the_end_of_time(good: Path, bad: Path) -> None:
    rows = [{"t_ns": t, "domain": "gpu", "power_mw": 1e5} for t in (1, 2**62, 2**63 - 1)]
    (bad / "power.csv").write_text(schema.to_csv("power.csv", rows))
    with both(good, bad) as database:
        assert "power.csv:3" in problems(database)


@pytest.mark.parametrize("name", ["samples.csv", "device_times.csv", "passes.csv", "energy.csv", "quantiles.csv"])
def test_a_row_that_is_there_twice_costs_its_file(good: Path, bad: Path, name: str) -> None:
    values = {
        "samples.csv": {"i": 7, "start_ns": 10, "end_ns": 20},
        "device_times.csv": {"i": 7, "start_ns": 1, "end_ns": 2, "device_ns": 1},
        "passes.csv": {"i": 7, "images": 8, "duration_s": 1.5}, "quantiles.csv": {"quantile": 0.5, "latency_ns": 10},
        "energy.csv": {"i": 7, "domain": "gpu", "energy_mj": 5, "time_ns": 10},
    }  # fmt: skip
    path = first(bad) / name
    path.write_text(schema.to_csv(name, [values[name], {**values[name]}]))
    with both(good, bad) as database:
        assert "twice: nothing of it can be used" in problems(database)
        assert str(path) in problems(database)


def test_samples_in_another_order_are_all_read(good: Path, bad: Path) -> None:
    path = first(bad) / "samples.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(lines)]) + "\n")
    with both(good, bad) as database:
        assert database.problems == [] or "samples.csv" not in problems(database)
        assert database.query("SELECT samples FROM comparison WHERE run = 'bad' AND variant = 'onnxrt'") == [
            {"samples": 30}
        ]


DOCUMENTS = (
    "[" * 200_000 + "]" * 200_000,
    '{"a":' * 100_000,
    *("[]", "null", "NaN", "{", "\0", '{"seed": 1e999}'),
    *(f'{{"seed": {"9" * digits}}}' for digits in (400, 5000)),
    f'{{"host": {{"logical_cores": {10**40}, "memory_bytes": NaN}}}}',
    '{"command": "a\\udcffb\\u0000"}',
    '{"devices": [{"device": "gpu0", "name": "\\ud800", "processes": {}}]}',
    '{"devices": {}, "cooling": [], "images": []}',
    f'{{"idle_without_context": {{"gpu0": [{{"start_ns": {2**70}, "end_ns": 1e300}}]}}}}',
    '{"earlier_boots": [1, {"cells": {}, "power": [[]]}]}',
    json.dumps({"command": "x" * 100_000}),
)


def test_any_run_json(good: Path, bad: Path) -> None:
    runs = [Path(shutil.copytree(bad, bad.with_name(f"bad{number}"))) for number in range(len(DOCUMENTS))]
    for run, text in zip(runs, DOCUMENTS, strict=True):
        (run / "run.json").write_text(text)
    with both(good, *runs) as database:
        assert len(ok_cells(database)) == 2 * len(runs)
        assert "left out (" not in problems(database)


def test_a_run_json_of_megabytes(good: Path, bad: Path) -> None:
    (bad / "run.json").write_text('{"a":"' + "x" * (17 * 2**20) + '"}')
    with both(good, bad) as database:
        assert "run.json: cannot be read: it is larger than 16 MiB" in problems(database)
        assert ok_cells(database) == ["onnxrt", "torch"]


def test_more_cells_and_files_than_any_run_has(good: Path, bad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "MOST_CELLS", 1)
    with open_runs([bad]) as database:
        assert "holds 2 entries: the first 1 are read" in problems(database)
    monkeypatch.setattr(run_folder, "MOST_CELLS", 10)
    monkeypatch.setattr(run_folder, "MOST_ENTRIES", 5)
    for number in range(9):
        (first(bad) / f"junk{number}").touch()
    with both(good, bad) as database:
        assert "holds more than 5 files" in problems(database)


# --- names --------------------------------------------------------------------------------------------------------------

NAMES = [
    "run'; DROP TABLE cell_row; --",
    'a"b',
    "glob[ab]*?",
    "a b",
    "<b>x<",
    "模型",
    "$x$",
    "a\x1b[31mb",
    "caf\udce9",
    "-rf",
    "=1+1",
]


def test_any_name_of_a_run(good: Path, bad: Path, tmp_path: Path) -> None:
    runs = [Path(shutil.copytree(bad, bad.with_name(f"bad{name}"))) for name in NAMES]
    with both(good, *runs) as database:
        assert len(ok_cells(database)) == 2 * len(NAMES)
        assert len(database.query("FROM samples WHERE run LIKE 'bad%'")) == 60 * len(NAMES)
        assert all(path.is_relative_to(bad.parent) for path in (problem.path for problem in database.problems))
    assert analyze([good, runs[-3]], tmp_path / "out", Terminal(quiet=True), cache=tmp_path / "cache").report.is_file()


def test_any_name_of_a_folder_in_cells(good: Path, many: Callable[[int], Path]) -> None:
    run = many(len(NAMES) + 1)
    for cell, name in zip(cells_of(run), NAMES, strict=False):
        cell.rename(run / "cells" / name)
    with both(good, run) as database:
        assert ok_cells(database) == ["torch"]
        assert problems(database).count("in a folder of another name") == len(NAMES)


def test_a_run_that_no_check_has_foreseen_is_left_out(good: Path, bad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis.database import loading

    insert_lines = loading.insert_lines

    def failing(database: Any, table: str, columns: Any, lines: Any) -> None:
        lines = list(lines)
        if any(line.startswith(b"bad,") for line in lines):
            raise OverflowError("a sum does not fit")
        insert_lines(database, table, columns, lines)

    monkeypatch.setattr(loading, "insert_lines", failing)
    with both(good, bad) as database:
        assert ok_cells(database) == []
        assert problems(database) == f"{bad}: cannot be analyzed and is left out (a sum does not fit)"
        assert database.exit_code == 1


# --- what people read ---------------------------------------------------------------------------------------------------

HOSTILE = SCRIPT + ESCAPES + "[x](javascript:alert(1)) | $\\frac{ [bold]b[/bold]"


def test_hostile_text_in_every_output(build: Build, tmp_path: Path) -> None:
    run = build("hostile", device_name=HOSTILE)
    run.cell("onnxrt", 8, durations_ns=[10 * MS + i for i in range(70)], framework_version=HOSTILE, versions=HOSTILE,
             settings=HOSTILE, weights=HOSTILE, image=HOSTILE, message="=cmd|'/c calc'!A1")  # fmt: skip
    run.cell("torch", 8, durations_ns=[11 * MS] * 70, framework_version="=1+1", model_hash="@SUM(1)")
    run.cell("tf", 8, status="crashed", message=HOSTILE)
    document = json.loads((run.folder / "run.json").read_text())
    document |= {"command": HOSTILE, "source_revision": HOSTILE, "origin": HOSTILE}
    document["host"] = {"cpu_model": HOSTILE, "os": HOSTILE, "kernel": HOSTILE}
    (run.folder / "run.json").write_text(json.dumps(document))
    with (tmp_path / "terminal").open("w", encoding="utf-8") as file:
        result = analyze([run.folder], tmp_path / "out", Terminal(file=file, width=100))
    for path in [tmp_path / "terminal", *(one for one in result.paths if one.suffix not in (".png", ".xlsx"))]:
        text = path.read_text(encoding="utf-8")
        assert not any(one in text for one in ("\x1b", "\x07", "\u202e")), path
        if path.suffix in (".html", ".svg"):
            assert "<script>window.PWN" not in text and "<img src=x" not in text, path
        if path.suffix == ".md":
            assert "](javascript" not in text and "<img" not in text
        if path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as rows:
                for row in csv.reader(rows):
                    assert not any(field.startswith(("=", "+", "@", "\t")) for field in row)


def test_nothing_in_a_path_is_a_column(build: Build, tmp_path: Path) -> None:
    """DuckDB takes `name=value/` in a path for a column of all files below it, unless told otherwise."""
    columns = ("run=x", "variant=torch", "start_ns=5", "end_ns=7", "power_mw=9", "t_ns=1", "cell_key=k", "batch_size=1")
    run = build("good")
    run.cell("onnxrt", 8, durations_ns=[10 * MS] * 30, idle_ns=10**9)
    run.power([{"t_ns": 1000 * 10**9 + i * 10**8, "domain": "gpu", "power_mw": 100} for i in range(20)])
    place = tmp_path.joinpath(*columns)
    shutil.copytree(run.folder, place / "good")

    def seen(folder: Path, cache: Path | None) -> list[Any]:
        with open_runs([folder], cache) as database:
            assert database.problems == []
            (key,) = (row["cell_key"] for row in database.query("FROM cells"))
            views = ("comparison", "samples", "power", "energy", "conditions")
            rows = [database.execute(f"FROM {view} ORDER BY ALL").fetchall() for view in views]
            return [*rows, *(list(times) for times in database.samples("good", key))]

    was = seen(run.folder, None)
    assert seen(place / "good", None) == was
    for path in (place, *place.rglob("*")):
        os.utime(path, (1, 1))
    for _ in range(2):  # into a cache in such a place, and from it
        assert seen(place / "good", place / "cache") == was


def test_every_statement_that_reads_files_says_so() -> None:
    analysis = Path(csv_by_line.__file__).parents[1]
    texts = [path.read_text() for path in (*analysis.rglob("*.sql"), *(analysis / "database").glob("*.py"))]
    calls = [text[found.start() :][:400] for text in texts for found in re.finditer(r"read_(csv|parquet)\(", text)]
    assert len(calls) >= 9 and all("hive_partitioning = false" in call for call in calls)


def test_figures_that_cannot_be_are_drawn_without_a_word_of_the_drawing_library(
    build: Build, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    run = build("zero")
    for size in (1, 2):
        run.cell("onnxrt", size, durations_ns=[0] * 30)
    analyze([run.folder], tmp_path / "out", Terminal(quiet=True))
    assert [str(one.message) for one in recwarn if issubclass(one.category, UserWarning)] == []
