"""A cell after another one is held against the same cell alone."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from common.errors import UserError
from common.host.paths import DataFolder
from common.host.plan.options import Options
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


def test_rounds_after_the_first_start_their_two_processes_side_by_side(
    make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Watched(order.SideProcess):
        def __init__(self, name: str, *arguments: Any) -> None:
            super().__init__(name, *arguments)
            seen.append(f"start {name}")

        def facts(self) -> dict[str, Any]:
            facts = super().facts()
            seen.append(f"ready {self._name}")
            return facts

    monkeypatch.setattr(order, "SideProcess", Watched)
    order.compare(make_case(2), 8, tmp_path, rounds=2, pairs=11, block_s=0.002)
    after, alone = "the worker after", "the worker alone"
    apart = [f"start {after}", f"ready {after}", f"start {alone}", f"ready {alone}"]
    at_once = [f"start {after}", f"start {alone}", f"ready {after}", f"ready {alone}"]
    assert seen == [*apart, *at_once]


def test_orders_are_those_between_the_batch_sizes_given() -> None:
    assert order.orders_of("gpu", "") == [(32, 512), (512, 32), (1, 32)]
    assert order.orders_of("gpu", "512,32,7") == [(32, 512), (512, 32)]
    with pytest.raises(
        UserError, match=r"^no order is between the batch sizes 1,512; on a GPU there are 32 after 512; 512"
    ):
        order.orders_of("gpu", "1,512")


def test_a_batch_size_before_that_the_framework_does_not_take_is_said(make_case: Make, tmp_path: Path) -> None:
    with (
        pytest.raises(SideEnded, match="the worker after: four is too many"),
        order.both_orders(make_case(2), 4, tmp_path),
    ):
        pass


def test_a_framework_that_cannot_be_measured_costs_its_own_line_alone(
    make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "_cases", lambda *arguments: [(make_case(2), 4), (make_case(2), 8)])
    monkeypatch.setattr(order, "PAIRS_OF_A_ROUND", 11)
    monkeypatch.setattr(order, "BLOCK_S", 0.005)
    monkeypatch.setattr(
        order, "compare", lambda case, before, folder, rounds: COMPARE(case, before, folder, rounds, 11, 0.005)
    )
    console = Console(width=200, record=True, file=io.StringIO())
    assert (
        order.measure(Options(framework="onnxrt", device="cpu"), console, DataFolder(tmp_path / "data"), rounds=1) == 1
    )
    lines = [line for line in console.export_text().splitlines() if line.startswith("product")]
    assert lines[0] == "product fp32 batch 2, after batch 4 / alone: not measured: the worker after: four is too many"
    assert "after batch 8 / alone: " in lines[1] and ", 1 round of 11 pairs " in lines[1]
    with pytest.raises(UserError, match="--rounds"):
        order.measure(Options(framework="onnxrt", device="cpu"), console, DataFolder(tmp_path / "data"), rounds=0)


COMPARE = order.compare
