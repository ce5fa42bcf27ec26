from __future__ import annotations

from pathlib import Path
from typing import Any

from common.window_edges import mark_edge
from tests.common.sidecar.conftest import Start


def _counted(rows: list[dict[str, str]]) -> int:
    return sum(bool(row["energy_mj"]) for row in rows)


def test_the_counter_is_read_when_a_worker_tells_of_an_edge(start: Start, tmp_path: Path) -> None:
    """Without it, only at the intervals: here once an hour, after the first reading."""
    job = tmp_path / "staging" / "job-1"
    job.mkdir(parents=True)
    sidecar: Any = start("--energy-interval-ms", "3600000", "--no-rapl", "--edges", str(job.parent))
    sidecar.ready()
    sidecar.wait_for(lambda rows: len(rows) > 10)
    before = _counted(sidecar.rows)
    mark_edge(job)
    sidecar.wait_for(lambda rows: _counted(rows) > before)
    assert sidecar.end() == 0
