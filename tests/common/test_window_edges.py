from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.window_edges import MARKER, READ_AGAIN_NS, Watch, mark_edge

STEP = READ_AGAIN_NS + 1
LOOK = 600_000_000


def _touch(folder: Path, at_ns: int) -> None:
    mark_edge(folder)
    os.utime(folder / MARKER, ns=(at_ns, at_ns))


@pytest.mark.parametrize("below", [".", "job-1"])
def test_a_touch_is_reported_once(tmp_path: Path, below: str) -> None:
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    watch = Watch(tmp_path)
    assert not watch.touched(LOOK)
    _touch(folder, 1)
    assert watch.touched(2 * LOOK) and not watch.touched(3 * LOOK)
    _touch(folder, 2)
    assert watch.touched(4 * LOOK)


def test_what_was_there_before_is_no_edge(tmp_path: Path) -> None:
    _touch(tmp_path, 1)
    watch = Watch(tmp_path)
    assert not watch.touched(LOOK)


def test_a_worker_that_touches_without_end_costs_a_read_each_300_ms(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    touched = 0
    for number in range(1, 200):
        _touch(tmp_path, number)
        touched += watch.touched(LOOK + number * 20_000_000)
    assert touched <= 200 * 20_000_000 / READ_AGAIN_NS + 1


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_what_is_no_file_is_not_followed_or_opened(tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("kept")
    run = tmp_path / "run"
    run.mkdir()
    place = run / MARKER
    {"link": lambda: place.symlink_to(outside), "folder": place.mkdir, "fifo": lambda: os.mkfifo(place)}[kind]()
    watch = Watch(run)
    os.utime(outside, ns=(5, 5))
    assert not watch.touched(LOOK)
    if kind != "fifo":
        mark_edge(run)
        assert outside.read_text() == "kept" and outside.stat().st_mtime_ns == 5


def test_folders_that_are_not_there_cost_nothing(tmp_path: Path) -> None:
    mark_edge(tmp_path / "none")
    assert not Watch(tmp_path / "none").touched(LOOK)
