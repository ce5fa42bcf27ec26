"""Boards that measure energy badly: whatever is more than 2 % off has a mark (faulty_boards.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.database.open_runs import open_runs
from tests.analysis.faulty_boards import KINDS
from tests.analysis.nvml_simulator import Measurement, write_run

HONEST = {"energy_suspect", "energy_coarse", "no_power"}


def judged(folder: Path, measurements: list[Measurement], seed: int) -> list[tuple[float, float | None, bool, str]]:
    """(error of gross, of net where there is one, whether it is marked, method) of each, errors as shares."""
    write_run(folder / "run", measurements, np.random.default_rng(seed))
    order = "ORDER BY regexp_extract(cell_key, '_r([0-9]+)$', 1)::BIGINT"
    with open_runs([folder / "run"]) as database:
        rows = database.query(f"SELECT * FROM energy {order}")
        marked = {row["cell_key"] for row in database.query("FROM marks") if row["mark"] in HONEST}
    assert len(rows) == len(measurements)
    found = []
    for row, m in zip(rows, measurements, strict=True):
        assert m.idle_before is not None
        idle = float(m.curve.joules(m.idle_before[1]) - m.curve.joules(m.idle_before[0]))
        net = None if row["net_j"] is None else row["net_j"] / (m.true_j - idle * (m.end_s - m.start_s)) - 1
        found.append((row["gross_j"] / m.true_j - 1, net, row["cell_key"] in marked, row["method"]))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_more_than_2_percent_off_is_marked(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(list(KINDS).index(kind))
    found = judged(tmp_path, [KINDS[kind](rng) for _ in range(40)], 7)
    assert [row for row in found if not row[2] and max(abs(row[0]), abs(row[1] or 0)) > 0.02] == []


def test_late_counters_of_steady_windows_need_no_mark(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    found = judged(tmp_path, [KINDS["counter up to 0.5 s late"](rng) for _ in range(40)], 6)
    assert {row[3] for row in found} == {"slope"}
    assert max(abs(row[0]) for row in found) <= 0.005
    assert not any(row[2] for row in found)


def test_any_fall_of_the_counter_leaves_the_integral(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    found = judged(tmp_path, [KINDS["counter starts again within the window"](rng) for _ in range(40)], 9)
    assert {row[3] for row in found} == {"integral"}
    assert max(abs(row[0]) for row in found) <= 0.02 and all(row[2] for row in found)


def test_few_readings_of_the_counter_need_no_mark_where_the_power_agrees(tmp_path: Path) -> None:
    """Three or four in 3 s leave 3 to 5 % by themselves; the integral of power, scaled to the counter, tells the rest."""
    rng = np.random.default_rng(3)
    found = judged(tmp_path, [KINDS["3 s, counter read every 0.9 s"](rng) for _ in range(40)], 4)
    unmarked = [row for row in found if not row[2]]
    assert len(unmarked) >= 20
    assert max(abs(row[0]) for row in unmarked) <= 0.02
