"""A cell after another one is held against the same cell alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from common.host.selfbench import order
from common.host.verify.command import Case, SideEnded

Make = Callable[..., Case]


def test_the_worker_after_has_run_the_other_batch_size_first(make_case: Make, tmp_path: Path) -> None:
    with order.both_orders(make_case(2), 8, tmp_path) as (after, alone):
        assert len(after.block(0.01)) > 0
        assert len(alone.block(0.01)) > 0
    cells = {name: json.loads((tmp_path / name / "job.json").read_text())["cells"] for name in ("after", "alone")}
    assert [cell["batch_size"] for cell in cells["after"]] == [8, 2]
    assert [cell["batch_size"] for cell in cells["alone"]] == [2]


def test_the_ratio_has_an_interval_over_rounds_of_fresh_processes(make_case: Make, tmp_path: Path) -> None:
    ratio = order.compare(make_case(2), 8, tmp_path, rounds=2, pairs=11, block_s=0.005)
    assert ratio.low <= ratio.estimate <= ratio.high
    assert {path.name for path in tmp_path.iterdir()} >= {"0", "1"}


def test_a_batch_size_before_that_the_framework_does_not_take_is_said(make_case: Make, tmp_path: Path) -> None:
    with (
        pytest.raises(SideEnded, match="the worker after: four is too many"),
        order.both_orders(make_case(2), 4, tmp_path),
    ):
        pass
