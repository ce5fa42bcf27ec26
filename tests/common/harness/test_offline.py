"""The offline scenario: the device kept full, groups waited for, and what its rows mean."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from common.cell import Cell
from common.harness.scenarios import OutputDiffers, Stage, offline
from tests.common.harness.conftest import QUICK, Bench


class Pipeline:
    """An adapter whose inferences take no time to hand over and are done when they are waited for."""

    def __init__(self, outputs: list[float] | None = None) -> None:
        self.in_flight = 0
        self.most = 0
        self.waits: list[int] = []
        self._outputs = outputs or [1.0]

    def enqueue(self) -> None:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)

    def synchronize(self) -> None:
        self.waits.append(self.in_flight)
        self.in_flight = 0

    def output(self) -> dict[str, np.ndarray]:
        return {"y": np.full((1, 2), self._outputs[(len(self.waits) - 1) % len(self._outputs)], dtype=np.float32)}


def stage(adapter: Pipeline) -> Stage:
    return Stage(adapter, {"y": np.ones((1, 2), dtype=np.float32)}, "fp32", lambda: adapter, 0)  # type: ignore[arg-type, return-value]


def quiet(*_: object) -> None:
    pass


CELL = Cell("toy", "good", "fp32", 1, scenario="offline")


def test_a_group_lasts_a_quarter_second_and_has_64_inferences_where_the_budget_allows() -> None:
    assert offline.group_size(1e6, 30.0) == 250
    assert offline.group_size(10e6, 30.0) == 64
    assert offline.group_size(100e6, 30.0) == 15  # 64 would take 6.4 s: twenty groups must fit into 30 s
    assert offline.group_size(5e9, 30.0) == 2
    assert offline.group_size(0.0, 30.0) <= 1 << 18


def test_two_or_more_are_in_flight_and_every_row_ends_with_its_group() -> None:
    adapter = Pipeline()
    settings = replace(QUICK, max_seconds=0.2)
    warmup = offline.warm_up(stage(adapter), CELL, settings, quiet)
    assert adapter.most >= 2
    warm_runs = sum(adapter.waits)
    assert warmup.runs == warm_runs
    adapter.waits.clear()
    done = offline.measure(stage(adapter), CELL, settings, replace(warmup, expected_ns=1e5), quiet)
    size = offline.group_size(1e5, settings.max_seconds)
    assert adapter.waits == [size] * (len(done.ends_ns) // size)
    assert len(done.starts_ns) == len(done.ends_ns) == sum(adapter.waits)
    groups = done.ends_ns.reshape(-1, size)
    assert np.all(groups == groups[:, :1])
    assert np.all(np.diff(done.starts_ns) >= 0) and np.all(done.starts_ns <= done.ends_ns)
    assert done.begin_ns <= done.starts_ns[0] and done.ends_ns[-1] <= done.end_ns
    # nobody begins a group before the one before it is waited for
    assert np.all(done.starts_ns.reshape(-1, size)[1:, 0] >= groups[:-1, 0])
    assert done.notes["offline_group"].startswith(f"{size} ")


def test_a_buffer_that_gives_another_output_is_found() -> None:
    offline.warm_up(stage(Pipeline([1.0, 1.0005])), CELL, QUICK, quiet)  # rounding
    for wrong in (1.1, math.nan):
        with pytest.raises(OutputDiffers, match="enqueued inference differs from run"):
            offline.warm_up(stage(Pipeline([1.0, 1.0, wrong])), CELL, QUICK, quiet)


def test_streams_belong_to_another_scenario() -> None:
    assert "not 3" in (offline.unsupported(replace(CELL, streams=3)) or "")
    assert offline.unsupported(CELL) is None


def test_an_offline_cell_in_a_job(bench: Bench) -> None:
    cells = [replace(CELL, batch_size=size) for size in (1, 19)]
    code, _ = bench.run(bench.job(cells=cells, settings=replace(QUICK, min_seconds=0.1, max_seconds=0.4)))
    assert code == 0
    for cell in cells:
        row, samples = bench.cell(cell), bench.file(cell, "samples.csv")
        assert (row["status"], row["scenario"], row["message"]) == ("ok", "offline", "")
        assert "offline" in cell.key
        assert int(row["samples"]) == len(samples) >= math.ceil(32 / cell.batch_size)
        size = int(json.loads(row["settings"])["offline_group"].split()[0])
        ends = [int(sample["end_ns"]) for sample in samples]
        assert len(set(ends)) == len(samples) / size
        assert {sample["scheduled_ns"] for sample in samples} == {""}
        window = (ends[-1] - int(samples[0]["start_ns"])) / 1e9
        assert window >= 0.1 or row["stop_reason"] == "budget"


def test_a_slot_of_its_own_that_is_wrong_costs_the_cell(bench: Bench) -> None:
    cell = replace(CELL, variant="stale-slot")
    code, _ = bench.run(bench.job("stale-slot", cells=[cell, replace(cell, scenario="single-stream")]))
    assert code == 0
    row = bench.cell(cell)
    assert row["status"] == "parity_failed"
    assert "enqueued" in row["message"]
    assert bench.cell(replace(cell, scenario="single-stream"))["status"] == "ok"
