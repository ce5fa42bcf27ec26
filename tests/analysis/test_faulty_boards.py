"""Boards that measure energy badly: whatever is more than 2 % off has a mark (faulty_boards.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.database.open_runs import open_runs
from tests.analysis.faulty_boards import KINDS
from tests.analysis.nvml_simulator import Measurement, write_run

HONEST = {"energy_suspect", "energy_coarse", "no_power"}


#: (error of gross, of net where there is one, whether it is marked, method), errors as shares
Judged = tuple[float, float | None, bool, str]
#: further ones of a kind: name -> (kind, seed of the boards, seed of the readings)
FURTHER = {
    "late counters": ("counter up to 0.5 s late", 5, 6),
    "fall": ("counter starts again within the window", 8, 9),
    "few readings": ("3 s, counter read every 0.9 s", 3, 4),
}
PLANNED = {**{kind: (kind, number, 7) for number, kind in enumerate(KINDS)}, **FURTHER}
EACH = 40


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Judged]]:
    """What the analysis says of each; a run for each name, and one reading of them all, which takes longest."""
    folder = tmp_path_factory.mktemp("boards")
    made: dict[str, list[Measurement]] = {}
    for number, (name, (kind, boards, readings)) in enumerate(PLANNED.items()):
        rng = np.random.default_rng(boards)
        made[name] = [KINDS[kind](rng) for _ in range(EACH)]
        write_run(folder / f"run{number:02d}", made[name], np.random.default_rng(readings))
    order = "ORDER BY run, regexp_extract(cell_key, '_r([0-9]+)$', 1)::BIGINT"
    with open_runs(sorted(folder.iterdir())) as database:
        rows = iter(database.query(f"SELECT * FROM energy {order}"))
        marked = {(row["run"], row["cell_key"]) for row in database.query("FROM marks") if row["mark"] in HONEST}
    found = {name: [judge(next(rows), m, marked) for m in measurements] for name, measurements in made.items()}
    assert next(rows, None) is None
    return found


def judge(row: dict[str, Any], m: Measurement, marked: set[tuple[str, str]]) -> Judged:
    assert m.idle_before is not None
    idle = float(m.curve.joules(m.idle_before[1]) - m.curve.joules(m.idle_before[0]))
    net = None if row["net_j"] is None else row["net_j"] / (m.true_j - idle * (m.end_s - m.start_s)) - 1
    return row["gross_j"] / m.true_j - 1, net, (row["run"], row["cell_key"]) in marked, row["method"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_more_than_2_percent_off_is_marked(judged: dict[str, list[Judged]], kind: str) -> None:
    assert [row for row in judged[kind] if not row[2] and max(abs(row[0]), abs(row[1] or 0)) > 0.02] == []


def test_late_counters_of_steady_windows_need_no_mark(judged: dict[str, list[Judged]]) -> None:
    found = judged["late counters"]
    assert {row[3] for row in found} == {"slope"}
    assert max(abs(row[0]) for row in found) <= 0.005
    assert not any(row[2] for row in found)


def test_any_fall_of_the_counter_leaves_the_integral(judged: dict[str, list[Judged]]) -> None:
    found = judged["fall"]
    assert {row[3] for row in found} == {"integral"}
    assert max(abs(row[0]) for row in found) <= 0.02 and all(row[2] for row in found)


def test_few_readings_of_the_counter_need_no_mark_where_the_power_agrees(judged: dict[str, list[Judged]]) -> None:
    """Three or four in 3 s leave 3 to 5 % by themselves; the integral of power, scaled to the counter, tells the rest."""
    found = judged["few readings"]
    unmarked = [row for row in found if not row[2]]
    assert len(unmarked) >= 20
    assert max(abs(row[0]) for row in unmarked) <= 0.02
