"""The share of measured windows in a bench's wall time."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.host.bench.time_share import sentence, windows_s
from common.schema import to_csv


def cell(folder: Path, key: str, *phases: tuple[str, int, int | None]) -> None:
    (folder / key).mkdir(parents=True)
    rows = [{"phase": name, "start_ns": start, "end_ns": end} for name, start, end in phases]
    (folder / key / "phases.csv").write_text(to_csv("phases.csv", rows))


def test_windows_of_the_cells_that_were_made(tmp_path: Path) -> None:
    cell(tmp_path, "a", ("compile", 0, 9_000_000_000), ("measure", 9_000_000_000, 12_000_000_000))
    cell(tmp_path, "b", ("measure", 0, 1_500_000_000))
    cell(tmp_path, "died", ("measure", 0, None))
    cell(tmp_path, "of an earlier call", ("measure", 0, 99_000_000_000))
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "phases.csv").write_text("phase,start_ns,end_ns\nmeasure,x,y\n")
    assert windows_s(tmp_path, ["a", "b", "died", "junk", "not there"]) == pytest.approx(4.5)


def test_several_devices_have_the_wall_time_each() -> None:
    assert sentence(48.0, 240.0, 1).startswith("Measured windows: 48 s of 240 s (20 %)")
    assert sentence(48.0, 120.0, 2).startswith("Measured windows: 48 s of 240 s (20 %)")
    assert "%" not in sentence(1.0, 0.0, 1)
