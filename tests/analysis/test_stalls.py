"""Windows that were held up: marked, with the seconds, and the throughput with and without."""

from __future__ import annotations

from typing import Any

import pytest

from analysis.results import tables
from analysis.results.selection import Selection
from common import schema
from tests.analysis.conftest import Build, Opened

MS = 10**6
SECOND = 10**9


def _row(database: Any) -> dict[str, Any]:
    (row,) = database.query("SELECT images_per_s, images_per_s_without_stalls, stalled_s, longest_stall_s FROM results")
    return dict(row)


def _stalled(database: Any) -> list[str]:
    return [row["why"] for row in database.query("FROM marks WHERE mark = 'stalled'")]


@pytest.mark.parametrize("scenario", ["single-stream", "multi-stream", "offline"])
def test_one_inference_of_20_s(build: Build, opened: Opened, scenario: str) -> None:
    """A worker that was stopped: 149 images/s where 540 were to be had."""
    run = build()
    run.cell(batch_size=1, scenario=scenario, durations_ns=[2 * MS] * 1500 + [20 * SECOND] + [2 * MS] * 1500)
    database = opened(run)
    row = _row(database)
    assert row["stalled_s"] == pytest.approx(20, abs=0.03) == row["longest_stall_s"]
    assert row["images_per_s"] == pytest.approx(3001 / 26, rel=1e-6)
    assert row["images_per_s_without_stalls"] == pytest.approx(500, rel=0.01)
    (why,) = _stalled(database)
    assert why.startswith("20.00 s in all, 20.00 s at a time; 500.")
    (table,) = tables.build(database, tables.load(database, Selection()), ["throughput"])
    assert any(footer.startswith("h  held up") for footer in table.footers)


def test_a_gap_between_inferences_and_two_of_them(build: Build, opened: Opened) -> None:
    run = build()
    folder = run.cell(durations_ns=[5 * MS] * 1000)
    names = ("i", "start_ns", "end_ns")
    rows, at = [], run.now_ns
    for i in range(1000):
        at += 300 * MS if i in (300, 600) else 0
        rows.append(dict(zip(names, (i, at, at + 5 * MS), strict=True)))
        at += 5 * MS
    (folder / "samples.csv").write_text(schema.to_csv("samples.csv", rows))
    row = _row(opened(run))
    assert row["stalled_s"] == pytest.approx(0.6, abs=0.02)
    assert row["longest_stall_s"] == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(
    "durations",
    [
        [300 * MS] * 20,
        [300 * MS, 480 * MS] * 10,
        [MS] * 5000,
        [2 * MS] * 2000 + [100 * MS] + [2 * MS] * 2000,
        [400 * MS],
    ],
    ids=["slow", "slow and uneven", "fast", "short", "one"],
)
def test_what_is_usual_or_short_is_no_stall(build: Build, opened: Opened, durations: list[int]) -> None:
    run = build()
    run.cell(durations_ns=durations)
    database = opened(run)
    row = _row(database)
    assert row["stalled_s"] == 0 and _stalled(database) == []
    assert row["images_per_s_without_stalls"] == pytest.approx(row["images_per_s"])


@pytest.mark.parametrize("stopped", [False, True])
def test_a_server_waits_for_queries_and_stalls_over_them(build: Build, opened: Opened, stopped: bool) -> None:
    """Seldom queries, up to 0.9 s apart, are no stall; one that was due and waited for 2 s while nothing ran is."""
    run = build()
    folder = run.cell(batch_size=8, scenario="server", target_rate_per_s=5.0, durations_ns=[5 * MS] * 40)
    rows, due = [], run.now_ns
    for i in range(40):
        due += (900 if i % 7 == 0 else 100) * MS
        start = due + (2 * SECOND if stopped and i == 20 else 0)
        rows.append({"i": i, "start_ns": start, "end_ns": start + 5 * MS, "scheduled_ns": due})
        due = start
    (folder / "samples.csv").write_text(schema.to_csv("samples.csv", rows))
    row = _row(opened(run))
    assert row["stalled_s"] == pytest.approx(2.0 if stopped else 0.0, abs=0.01)
