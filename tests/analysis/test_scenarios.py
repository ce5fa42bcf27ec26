"""What rows of samples.csv mean in the scenarios other than single-stream: images, latency, queueing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis.database.connection import Database
from analysis.results import durations, sample_intervals
from common import schema
from tests.analysis.conftest import RunBuilder

MS = 1_000_000


def write_samples(folder: Path, rows: list[tuple[int, int, int | None]]) -> None:
    samples = [{"i": i, "start_ns": s, "end_ns": e, "scheduled_ns": due} for i, (s, e, due) in enumerate(rows)]
    (folder / "samples.csv").write_text(schema.to_csv("samples.csv", samples))


@pytest.fixture
def database(build: Callable[..., RunBuilder], opened: Callable[..., Database]) -> Database:
    run = build()
    # 40 groups of 5 inferences of 8 images, 100 ms each
    offline = run.cell("onnxrt", 8, [100 * MS] * 40, scenario="offline")
    t0 = 10_000 * MS
    write_samples(
        offline, [(t0 + g * 100 * MS + k, t0 + (g + 1) * 100 * MS, None) for g in range(40) for k in range(5)]
    )
    # 100 inferences of two queries each, every 20 ms, of 10 ms; the second of each pair is due 4 ms after the first,
    # and both are taken 1 ms after that
    server = run.cell("onnxrt", 4, [10 * MS] * 100, scenario="server", target_rate_per_s=100.0)
    rows = []
    for k in range(100):
        due = t0 + k * 20 * MS
        rows += [(due + 5 * MS, due + 15 * MS, due), (due + 5 * MS, due + 15 * MS, due + 4 * MS)]
    write_samples(server, rows)
    return opened(run)


def row_of(database: Database, scenario: str, view: str = "results") -> dict:
    (row,) = database.query(
        f"SELECT v.* FROM {view} AS v JOIN cells USING (run, cell_key) WHERE cells.scenario = '{scenario}'"
    )
    return row


def test_offline_has_throughput_and_no_latency(database: Database) -> None:
    row = row_of(database, "offline")
    assert row["images"] == 40 * 5 * 8
    assert row["images_per_s"] == pytest.approx(400)
    assert row["n"] == 200
    for name in ("mean_ms", "min_ms", "max_ms", "median_ms", "p90_ms", "p95_ms", "p99_ms"):
        assert row[name] is None, name


def test_server_counts_queries_and_latency_from_when_they_were_due(database: Database) -> None:
    row = row_of(database, "server")
    assert row["images"] == 200
    assert row["images_per_s"] == pytest.approx(200 / (99 * 0.020 + 0.010))
    assert row["mean_ms"] == pytest.approx((15 + 11) / 2)


def test_queueing_and_inference_apart(database: Database) -> None:
    row = row_of(database, "server", "queueing")
    assert row["queries"] == 200 and row["images_per_inference"] == 2
    assert row["mean_wait_ms"] == pytest.approx(3) and row["mean_inference_ms"] == pytest.approx(10)
    assert row["median_inference_ms"] == pytest.approx(10) and row["p90_wait_ms"] == pytest.approx(5)
    assert row["p99_wait_ms"] is None  # 200 queries are too few
    assert row["utilisation"] == pytest.approx(100 * 10 / (99 * 20 + 10))
    assert row["arrived_per_s"] == pytest.approx(199 / (99 * 0.020 + 0.004))
    assert database.query("SELECT count(*) AS n FROM queueing")[0]["n"] == 1


def test_intervals_count_groups_and_batches_as_one_step(database: Database) -> None:
    rows = database.query("SELECT * FROM comparison")
    found = sample_intervals.of_rows(database, rows)
    by_scenario = {row["scenario"]: row for row in rows}
    offline, server = (tuple(by_scenario[name]["cell_keys"]) for name in ("offline", "server"))
    run = rows[0]["run"]
    interval = found[offline, run, "throughput"]
    assert interval.low == pytest.approx(400, rel=0.01) and interval.high == pytest.approx(400, rel=0.01)
    assert not any((offline, run, name) in found for name in ("latency", "p90", "p99"))
    middle = found[server, run, "throughput"]
    assert middle.low <= by_scenario["server"]["images_per_s"] <= middle.high
    assert found[server, run, "latency"].low >= 11


def test_no_table_mixes_scenarios(database: Database) -> None:
    from analysis.results.selection import Selection
    from analysis.results.tables import build as build_tables
    from analysis.results.tables import load

    tables = build_tables(database, load(database, Selection()))
    for table in tables:
        assert table.group["scenario"] in ("offline", "server")
    latency = {table.group["scenario"] for table in tables if table.metric.name in ("latency", "p90", "p99")}
    assert latency == {"server"}


def test_runs_are_compared_by_the_share_of_an_inference_in_its_group(
    build: Callable[..., RunBuilder], opened: Callable[..., Database]
) -> None:
    """Groups of other sizes are no difference; the time from a row's start to its end would make them one."""
    runs = [build("a"), build("b")]
    for run, size in zip(runs, (4, 9), strict=True):
        cell = run.cell("onnxrt", 1, [10 * MS] * size, scenario="offline")
        rng = np.random.default_rng(size)
        ends = np.cumsum(rng.normal(10 * MS * size, 1000, 60).astype(np.int64)) + 5_000 * MS
        starts = np.concatenate([[5_000 * MS], ends[:-1]])
        write_samples(
            cell, [(int(s) + k, int(e), None) for s, e in zip(starts, ends, strict=True) for k in range(size)]
        )
    database = opened(*runs)
    rows = {row["run"]: row for row in database.query("SELECT * FROM comparison")}
    medians = [float(np.median(durations.of_row(database, row)[0])) for row in rows.values()]
    assert medians == pytest.approx([10 * MS] * 2, rel=0.001)
