from __future__ import annotations

import math
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from analysis.database import loading
from analysis.database.connection import SQL, Database
from analysis.database.open_runs import open_runs
from common.errors import UserError
from common.host.runs.archive import unpacked
from tests.analysis.conftest import Build, Opened

MS = 10**6
SECOND = 10**9


def one(database: Database, sql: str) -> dict[str, Any]:
    rows = database.query(sql)
    assert len(rows) == 1
    return rows[0]


def test_throughput_is_images_by_window_and_coverage_tells_the_gaps(build: Build, opened: Opened) -> None:
    run = build()
    run.cell(batch_size=8, durations_ns=[10 * MS] * 100, gap_ns=2 * MS)
    row = one(opened(run), "FROM throughput")
    window = (100 * 10 + 99 * 2) / 1000
    assert row["images_per_s"] == pytest.approx(800 / window)
    assert row["coverage"] == pytest.approx(1 / window)
    assert one(opened(run), "FROM marks")["mark"] == "gaps"


@pytest.mark.parametrize(
    ("n", "shown"),
    [
        (10, []),
        (11, ["median_ms"]),
        (63, ["median_ms"]),
        (64, ["median_ms", "p90_ms"]),
        (130, ["median_ms", "p90_ms", "p95_ms"]),
        (661, ["median_ms", "p90_ms", "p95_ms"]),
        (662, ["median_ms", "p90_ms", "p95_ms", "p99_ms"]),
        (6636, ["median_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms"]),
    ],
)
def test_a_percentile_needs_its_number_of_samples(build: Build, opened: Opened, n: int, shown: list[str]) -> None:
    run = build()
    run.cell(durations_ns=[MS + i for i in range(n)])
    row = one(opened(run), "SELECT median_ms, p90_ms, p95_ms, p99_ms, p999_ms FROM latency")
    assert [name for name, value in row.items() if value is not None] == shown


def test_server_latency_counts_from_when_the_query_was_due(build: Build, opened: Opened) -> None:
    run = build()
    folder = run.cell(durations_ns=[MS] * 20, scenario="server")
    rows = (folder / "samples.csv").read_text().splitlines()
    start = [int(line.split(",")[1]) for line in rows[1:]]
    due = [f"{line}{at - 4 * MS}" for line, at in zip(rows[1:], start, strict=True)]
    (folder / "samples.csv").write_text("\n".join([rows[0], *due]) + "\n")
    assert one(opened(run), "SELECT median_ms FROM latency")["median_ms"] == pytest.approx(5.0)


def test_import_and_load_are_shared_by_the_cells_of_a_worker(build: Build, opened: Opened) -> None:
    run = build()
    run.cell(
        batch_size=1, durations_ns=[MS] * 20, worker="w", phases={"import": 2 * SECOND, "load": SECOND, "first": SECOND}
    )
    run.cell(batch_size=8, durations_ns=[MS] * 20, worker="w", phases={"compile": 4 * SECOND, "first": SECOND})
    rows = opened(run).query("SELECT batch_size, import_s, cold_start_s FROM results ORDER BY batch_size")
    assert rows == [
        {"batch_size": 1, "import_s": 2.0, "cold_start_s": 4.0},
        {"batch_size": 8, "import_s": 2.0, "cold_start_s": 8.0},
    ]


def test_a_conversion_is_part_of_the_cold_start_of_every_cell_of_its_worker(build: Build, opened: Opened) -> None:
    run = build()
    before = {"import": 2 * SECOND, "convert": 7 * SECOND, "load": SECOND}
    run.cell(batch_size=1, durations_ns=[MS] * 20, worker="w", phases={**before, "first": SECOND})
    run.cell(batch_size=8, durations_ns=[MS] * 20, worker="w", phases={"compile": 4 * SECOND, "first": SECOND})
    rows = opened(run).query("SELECT batch_size, convert_s, cold_start_s FROM results ORDER BY batch_size")
    assert rows == [
        {"batch_size": 1, "convert_s": 7.0, "cold_start_s": 11.0},
        {"batch_size": 8, "convert_s": 7.0, "cold_start_s": 15.0},
    ]


def test_replicates_become_their_mean_and_a_failed_one_does_not_count(build: Build, opened: Opened) -> None:
    run = build()
    for replicate, duration in enumerate((10, 20, 40)):
        run.cell(batch_size=1, replicate=replicate, durations_ns=[duration * MS] * 20)
    run.cell(batch_size=1, replicate=3, status="crashed", message="signal 11")
    row = one(opened(run), "FROM comparison")
    assert (row["status"], row["replicates"], row["images_per_s"]) == ("ok", 3, pytest.approx(175 / 3))


def test_cells_that_failed_have_a_status_and_no_figure(build: Build, opened: Opened) -> None:
    run = build()
    run.cell("tf", durations_ns=[MS] * 20, status="parity_failed", message="relative L2 error 0.5")
    run.cell("torch", status="oom", message="out of memory")
    rows = opened(run).query("SELECT variant, status, images_per_s, marks FROM comparison ORDER BY variant")
    assert rows == [
        {"variant": "tf", "status": "parity_failed", "images_per_s": None, "marks": ["parity_failed"]},
        {"variant": "torch", "status": "oom", "images_per_s": None, "marks": []},
    ]


def test_marks_say_why(build: Build, opened: Opened) -> None:
    run = build()
    run.run_json(devices=[{"device": "gpu0", "uuid": "GPU-1", "name": "G", "processes": [{"pid": 1}, {"pid": 2}]}])
    run.device, run.uuid = "gpu0", "GPU-1"
    run.cell(durations_ns=[MS] * 20, stop_reason="noisy", load_average_end=5.3)
    marks = {row["mark"]: row["why"] for row in opened(run).query("FROM marks")}
    assert marks == {
        "noisy": "stopped as noisy",
        "load": "load average 5.3 on 4 cores",
        "foreign_processes": "2 at the begin of the run",
    }


def test_samples_outside_the_measure_phase_are_marked(build: Build, opened: Opened) -> None:
    run = build()
    folder = run.cell(durations_ns=[MS] * 20)
    lines = (folder / "samples.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    seconds = [",".join([i, *(str(int(float(x) / 1e9)) if x else "" for x in times)]) for i, *times in rows]
    (folder / "samples.csv").write_text("\n".join([lines[0], *seconds]) + "\n")
    assert {row["mark"] for row in opened(run).query("FROM marks")} >= {"outside"}


def test_every_mark_has_a_meaning(build: Build, opened: Opened) -> None:
    text = (SQL / "50_marks.sql").read_text()
    known = {row["mark"] for row in opened(build()).query("FROM mark_meaning")}
    assert all(f"'{mark}'" in text for mark in known)


def test_damage_costs_its_own_rows_and_the_rest_is_analyzed(build: Build, opened: Opened) -> None:
    run = build()
    cut = run.cell("torch", durations_ns=[MS] * 20) / "samples.csv"
    cut.write_bytes(cut.read_bytes()[:-9])
    run.cell("onnxrt", durations_ns=[MS] * 20)
    (run.cell("tf", durations_ns=[MS] * 20) / "cell.csv").write_bytes(b"\x00\x01\x02")
    (run.cell("keras", durations_ns=[MS] * 20) / "samples.csv").write_bytes(b"")
    (run.cell("tfxla", durations_ns=[MS] * 20) / "phases.csv").unlink()
    database = opened(run)
    found = {row["variant"]: row["n"] for row in database.query("SELECT variant, n FROM results")}
    assert found == {"torch": 19, "onnxrt": 20, "keras": None, "tfxla": 20}
    problems = sorted(str(problem).split("cells/")[1] for problem in database.problems)
    assert [line.split("/")[1].split(" ")[0] for line in problems] == [
        "samples.csv:", "cell.csv:", "phases.csv:", "samples.csv:21:",
    ]  # fmt: skip
    assert database.exit_code == 1


def test_a_copied_cell_folder_is_no_second_measurement(build: Build, opened: Opened) -> None:
    run = build()
    folder = run.cell(durations_ns=[MS] * 20)
    shutil.copytree(folder, folder.with_name(folder.name + " (copy)"))
    database = opened(run)
    assert one(database, "SELECT count(*) AS n FROM cells")["n"] == 1
    assert "second cell of that key" in str(database.problems[0])
    assert database.exit_code == 1


def test_an_empty_run_is_a_note(build: Build, opened: Opened) -> None:
    database = opened(build())
    assert "holds no cell" in str(database.problems[0])
    assert database.exit_code == 0
    assert database.query("FROM comparison") == []
    assert database.query("FROM samples") == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"host": 3, "devices": [null, 7, {"name": {}}], "seed": 1e999}']
)
def test_a_run_json_that_cannot_be_used_makes_the_machine_unknown(build: Build, opened: Opened, content: bytes) -> None:
    run = build()
    run.cell(durations_ns=[MS] * 20)
    (run.folder / "run.json").write_bytes(content)
    assert one(opened(run), "SELECT cpu_model, n FROM results") == {"cpu_model": None, "n": 20}


def test_two_runs_of_one_name_and_one_run_given_twice(build: Build, opened: Opened, tmp_path: Path) -> None:
    run = build()
    run.cell(durations_ns=[MS] * 20)
    shutil.copytree(run.folder, tmp_path / "other" / "run")
    database = opened(run, run, tmp_path / "other" / "run")
    assert sorted(row["run"] for row in database.query("FROM cells")) == ["other/run", "results/run"]


def test_names_with_quotes_and_stars_are_names(build: Callable[..., Any], opened: Opened) -> None:
    run = build("it's [a] run*; DROP TABLE cells; --")
    run.cell(durations_ns=[MS] * 20)
    run.power([{"t_ns": 1, "domain": "gpu", "power_mw": 5}])
    database = opened(run)
    assert database.problems == []
    assert one(database, "SELECT n FROM latency") == {"n": 20}
    assert len(database.query("FROM samples")) == 20
    assert len(database.query("FROM power")) == 1


def test_small_batches_give_the_same_numbers(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for index in range(5):
        run = build(f"run{index}")
        run.cell(durations_ns=[(index + 1) * MS] * 20)
        runs.append(run.folder)
    with open_runs(runs) as at_once:
        expected = at_once.query("SELECT run, images_per_s FROM comparison ORDER BY run")
    monkeypatch.setattr("analysis.database.loading.BATCH_BYTES", 1)
    with open_runs(runs) as in_turn:
        assert in_turn.query("SELECT run, images_per_s FROM comparison ORDER BY run") == expected
        assert len(in_turn.query("FROM samples")) == 100


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run folder"):
        open_runs([tmp_path / "nothing"])
    with pytest.raises(UserError, match="no run to analyze"):
        open_runs([])


def test_what_lies_between_workers_has_a_view(build: Build, opened: Opened) -> None:
    run = build()
    for replicate, duration in enumerate((10, 11, 12)):
        run.cell("torch", replicate=replicate, durations_ns=[duration * MS] * 20)
    run.cell("onnxrt", durations_ns=[MS] * 20)
    row = one(opened(run), "FROM worker_spread")
    assert (row["variant"], row["workers"], row["median_ms"]) == ("torch", 3, pytest.approx(11))
    spread = statistics.stdev(math.log(x) for x in (10, 11, 12))
    assert row["median_ms_spread"] == pytest.approx(spread)
    assert row["median_ms_high"] == pytest.approx(11 * math.exp(4.303 * spread / 3**0.5), rel=1e-4)
    assert row["images_per_s_low"] < row["images_per_s"] < row["images_per_s_high"]
    assert row["joules_per_image"] is None


def test_an_unsteady_window_is_marked(build: Build, opened: Opened) -> None:
    run = build()
    run.cell(durations_ns=[MS] * 20, stop_reason="unsteady")
    assert one(opened(run), "FROM comparison")["marks"] == ["unsteady"]


def test_older_rows_of_keras_tell_keras_version(build: Build, opened: Opened) -> None:
    run = build("run-1")
    text = '{"framework": "2.17.0", "keras": "3.4.1", "tensorflow": "2.17.0"}'
    expected = {
        "keras": ("2.17.0", text, "3.4.1"),
        "kerasxla": ("3.15.1", '{"framework": "3.15.1", "keras": "3.15.1", "tensorflow": "2.21.0"}', "3.15.1"),
        "tf": ("2.17.0", text, "2.17.0"),
        "tfxla": ("2.17.0", None, "2.17.0"),
    }
    for variant, (framework, versions, _) in expected.items():
        run.cell(variant, durations_ns=[MS] * 20, framework_version=framework, versions=versions)
    run.cell("keras", batch_size=1, durations_ns=[MS] * 20, framework_version="2.17.0", versions="not JSON")
    run.cell("keras", batch_size=2, durations_ns=[MS] * 20)
    database = opened(run)
    shown = {(row["variant"], row["batch_size"]): row["framework_version"] for row in database.query("FROM comparison")}
    assert shown == {(variant, 8): last for variant, (_, _, last) in expected.items()} | {
        ("keras", 1): "2.17.0", ("keras", 2): None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("usable", "limit", "marked"), [(8, 1.5, True), (8, None, False), (2, 4.0, False), (2, 2.0, False)]
)
def test_a_cpu_quota_is_a_mark(build: Build, opened: Opened, usable: int, limit: float | None, marked: bool) -> None:
    run = build("run-1").run_json(host={"usable_cores": usable, "logical_cores": 8, "cpu_quota": limit})
    run.cell("onnxrt", durations_ns=[MS] * 20)
    rows = opened(run).query("SELECT why FROM marks WHERE mark = 'quota'")
    assert [row["why"] for row in rows] == ([f"{limit:.2f} CPUs of {usable}"] if marked else [])


@pytest.mark.parametrize("reference", ["h100", "h100-containers"])
def test_columns_that_came_later_are_no_complaint_of_committed_runs(reference: str, tmp_path: Path) -> None:
    """Which would be said for each cell, and keep them out of the cache."""
    archive = min(
        (SQL.parents[1] / "data" / "reference" / reference).glob("*.tar.xz"), key=lambda one: one.stat().st_size
    )
    with open_runs([unpacked(archive, tmp_path)]) as database:
        assert database.problems == []


@pytest.mark.parametrize(
    ("sql", "rows", "created"),
    [
        ("SELECT count(*) AS n FROM time_by_class", 0, {"explained"}),
        ("SELECT count(*) AS n FROM (FROM kernels)", 0, {"explained"}),
        ("SELECT class_of('aten::conv2d') = 'convolution' AS n", 1, {"explained"}),
        ("SELECT count(*) AS n FROM Samples", 20, {"samples"}),
        ("SELECT count(*) AS n FROM meter_joules", 0, {"samples"}),
        (
            "SELECT count(*) AS n FROM samples JOIN device_times USING (run) JOIN worth USING (run)",
            0,
            {"samples", "worth"},
        ),
        ("SELECT student_975(1) > 12 AS n", 1, {"worth"}),
        ("SELECT count(*) AS n FROM comparison", 1, set()),
        *(
            (f"SELECT count(*) AS n FROM {what}", rows, {"explained", "samples", "worth"})
            for what, rows in {
                "duckdb_views() WHERE length(view_name) = 9 AND view_name LIKE 'expl%'": 1,
                "pg_views WHERE viewname LIKE 'level_st%'": 1,
                "pg_catalog.pg_class WHERE relname LIKE 'level_st%'": 1,
                "(SHOW TABLES) WHERE name LIKE 'level_st%'": 1,
                "duckdb_functions() WHERE function_name LIKE 'class_o%'": 1,
                "query_table('wor' || 'th')": 0,
            }.items()
        ),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_views_that_few_ask_for_are_created_for_whoever_names_one_or_asks_what_there_is(
    build: Build, tmp_path: Path, sql: str, rows: int, created: set[str], cached: bool
) -> None:
    run = build()
    run.cell(durations_ns=[MS] * 20)
    there = "SELECT view_name FROM duckdb_views() WHERE view_name IN ('explained', 'samples', 'worth')"
    folder = tmp_path / "cache" if cached else None
    with open_runs([run.folder], folder) as database:
        assert database.connection.execute(there).fetchall() == []
        assert one(database, sql)["n"] == rows
        assert {name for (name,) in database.connection.execute(there).fetchall()} == created


def test_a_view_of_files_is_an_error_until_its_files_are_known(build: Build, opened: Opened) -> None:
    """No rows would be a lie. Those beside it in its file are created with it, bound to no file."""
    run = build()
    run.cell(durations_ns=[MS] * 20)
    database = opened(run)
    assert one(database, "SELECT count(*) AS n FROM power") == {"n": 0}
    with pytest.raises(duckdb.Error):
        database.connection.execute("FROM samples")
    assert one(database, "SELECT count(*) AS n FROM samples") == {"n": 20}


def test_a_question_that_was_interrupted_can_be_asked_again(
    build: Build, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a notebook, while the files of a view are looked at or after its statements were run."""
    run = build()
    run.cell(durations_ns=[MS] * 20)
    database = opened(run)
    set_paths = Database.set_paths
    for last in range(6):
        calls = iter(range(last))

        def interrupted(self: Database, kind: str, paths: Sequence[str], calls: Iterator[int] = calls) -> None:
            set_paths(self, kind, paths)
            if next(calls, None) is None:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(Database, "set_paths", interrupted)
            database.query("SELECT count(*) FROM samples")
            assert last == 5, "four kinds of files and the view's own"
    assert one(database, "SELECT count(*) AS n FROM samples") == {"n": 20}
    assert one(opened(run), "SELECT count(*) AS n FROM samples") == {"n": 20}


def test_every_statement_that_lists_the_tables_lists_them_all(build: Build, opened: Opened) -> None:
    run = build()
    run.cell(durations_ns=[MS] * 20)
    for statement in ("PRAGMA show_tables", "SHOW TABLES", "SHOW ALL TABLES", "DESCRIBE"):
        listed = {row["name"] for row in opened(run).query(statement)}
        assert {"explained", "samples", "worth", "comparison"} <= listed, statement


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [("sampels", "samples"), ("powr", "power"), ("worker_spred", "worker_spread"), ("level_step", "level_steps")],
)
def test_duckdb_suggests_a_view_that_had_not_been_created(
    build: Build, opened: Opened, mistyped: str, meant: str
) -> None:
    """It once suggested the nearest of those that were there: sample_source, power_source, idle_spell."""
    run = build()
    run.cell(durations_ns=[MS] * 20)
    for ask in (Database.execute, Database.sql):
        with pytest.raises(duckdb.CatalogException, match=f'Did you mean "{meant}"'):
            ask(opened(run), f"FROM {mistyped}")


def test_of_several_statements_none_is_run_twice(build: Build, opened: Opened) -> None:
    run = build()
    run.cell(durations_ns=[MS] * 20)
    database = opened(run)
    with pytest.raises(duckdb.CatalogException, match="sampels"):
        database.execute("CREATE TABLE mine AS SELECT 1 AS a; INSERT INTO mine VALUES (2); FROM sampels")
    assert database.query("FROM mine ORDER BY a") == [{"a": 1}, {"a": 2}]


def test_a_relation_of_any_view_and_of_what_the_caller_has(build: Build, opened: Opened) -> None:
    run = build()
    for replicate in range(2):
        run.cell(durations_ns=[MS + replicate] * 20, replicate=replicate)
    database = opened(run)
    assert database.sql("SELECT workers FROM worker_spread").fetchall() == [(2,)]
    assert database.sql("SELECT count(*) FROM samples").fetchall() == [(40,)]
    mine = {"run": np.array([1, 2])}
    assert database.sql("SELECT sum(run) FROM mine").fetchall() == [(3,)]
    assert len(mine) == 1


@pytest.mark.parametrize(("much_bytes", "times"), [(loading.MUCH_BYTES, 1), (0, 2)], ids=["a small run", "a large one"])
def test_a_small_run_is_read_by_one_thread_and_questions_have_all(
    build: Build, monkeypatch: pytest.MonkeyPatch, much_bytes: int, times: int
) -> None:
    run = build()
    run.cell(durations_ns=[MS] * 100)
    called: list[int] = []

    def use_all_threads(database: Database) -> None:
        called.extend(row[0] for row in database.connection.execute("SELECT current_setting('threads')").fetchall())
        original(database)

    original = Database.use_all_threads
    monkeypatch.setattr(Database, "use_all_threads", use_all_threads)
    monkeypatch.setattr(loading, "MUCH_BYTES", much_bytes)
    with open_runs([run.folder]) as database:
        cpus = duckdb.connect().execute("SELECT current_setting('threads')").fetchall()
        assert database.execute("SELECT current_setting('threads')").fetchall() == cpus
    assert called == [1, cpus[0][0]][:times]
