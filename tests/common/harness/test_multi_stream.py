"""Several streams at once: all play together, each with an adapter of its own, and none is left behind."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from common.cell import Cell
from common.harness.adapter import DeviceOutOfMemory
from common.harness.scenarios import OutputDiffers, Stage, for_one_adapter, multi_stream
from tests.common.harness.conftest import QUICK, Bench

CELL = Cell("toy", "good", "fp32", 2, scenario="multi-stream", streams=3)


def quiet(*_: object) -> None:
    pass


class Device:
    """Makes adapters that sleep, and notes in which threads they were made, used and closed."""

    def __init__(self, fails: dict[int, BaseException] | None = None, wrong: int = -1, breaks: int = -1) -> None:
        self.fails = fails or {}
        self.wrong, self.breaks = wrong, breaks
        self.adapters: list[Sleeper] = []
        self.running = 0
        self.together = 0
        self.lock = threading.Lock()

    def make(self) -> Sleeper:
        number = len(self.adapters)
        if number in self.fails:
            raise self.fails[number]
        self.adapters.append(Sleeper(self, number))
        return self.adapters[-1]

    def stage(self) -> Stage:
        return Stage(self.make(), {"y": np.ones((2, 2), dtype=np.float32)}, "fp32", self.make, 0)  # type: ignore[arg-type]


class Sleeper:
    def __init__(self, device: Device, number: int) -> None:
        self.device, self.number = device, number
        self.threads = {threading.get_ident()}
        self.made_in = threading.get_ident()
        self.runs = 0
        self.closed = 0

    def run(self) -> None:
        self.threads.add(threading.get_ident())
        with self.device.lock:
            self.device.running += 1
            self.device.together = max(self.device.together, self.device.running)
        time.sleep(0.001)
        with self.device.lock:
            self.device.running -= 1
        self.runs += 1
        if self.number == self.device.breaks and self.runs > 20:
            raise ValueError("a stream breaks")

    def output(self) -> dict[str, np.ndarray]:
        return {"y": np.full((2, 2), 3.0 if self.number == self.device.wrong else 1.0, dtype=np.float32)}

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1


def streams_alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("stream", "referee"))]


def test_all_streams_play_at_once_each_in_its_thread() -> None:
    device = Device()
    stage = device.stage()
    warmup = multi_stream.warm_up(stage, CELL, QUICK, quiet)
    before = sum(adapter.runs for adapter in device.adapters)
    done = multi_stream.measure(stage, CELL, QUICK, warmup, quiet)
    assert len(device.adapters) == 3 and device.together == 3
    assert all(len(adapter.threads) == 1 for adapter in device.adapters)
    assert len({adapter.made_in for adapter in device.adapters}) == 3
    assert [adapter.closed for adapter in device.adapters] == [0, 1, 1]  # the first belongs to the worker
    assert streams_alive() == []
    assert len(done.starts_ns) == sum(adapter.runs for adapter in device.adapters) - before
    assert np.all(done.starts_ns < done.ends_ns) and np.all(np.diff(done.ends_ns) >= 0)
    assert done.begin_ns <= done.starts_ns.min() and done.ends_ns.max() <= done.end_ns
    # never more than three at a time, and three most of the time
    busy = (done.ends_ns - done.starts_ns).sum() / (done.ends_ns.max() - done.starts_ns.min())
    assert 1.0 < busy <= 3.0


def test_one_stream_is_allowed_and_none_is_not() -> None:
    device = Device()
    stage, cell = device.stage(), replace(CELL, streams=1)
    done = multi_stream.measure(stage, cell, QUICK, multi_stream.warm_up(stage, cell, QUICK, quiet), quiet)
    assert np.all(done.starts_ns[1:] >= done.ends_ns[:-1])
    with pytest.raises(ValueError, match="streams"):
        replace(CELL, streams=0)


def test_no_memory_for_the_third_stream() -> None:
    device = Device({2: DeviceOutOfMemory("2 GiB asked, 1 GiB free")})
    with pytest.raises(DeviceOutOfMemory, match="2 GiB asked"):
        multi_stream.warm_up(device.stage(), CELL, QUICK, quiet)
    assert [adapter.closed for adapter in device.adapters] == [0, 1]
    assert streams_alive() == []


def test_a_stream_that_computes_something_else() -> None:
    device = Device(wrong=2)
    with pytest.raises(OutputDiffers, match="stream 2 differs"):
        multi_stream.warm_up(device.stage(), CELL, QUICK, quiet)
    assert streams_alive() == []


@pytest.mark.parametrize("number", [0, 2])
def test_a_stream_that_breaks_ends_all(number: int) -> None:
    device = Device(breaks=number)
    stage = device.stage()
    settings = replace(QUICK, min_seconds=5.0, max_seconds=5.0, warmup_max_seconds=0.001)
    with pytest.raises(ValueError, match="a stream breaks"):
        multi_stream.measure(stage, CELL, settings, multi_stream.warm_up(stage, CELL, settings, quiet), quiet)
    assert streams_alive() == []
    assert [adapter.closed for adapter in device.adapters] == [0, 1, 1]


def test_an_adapter_sees_one_stream_of_its_own() -> None:
    assert for_one_adapter(CELL) == replace(CELL, scenario="single-stream", streams=1)
    offline = replace(CELL, scenario="offline", streams=1)
    assert for_one_adapter(offline) == offline


def test_multi_stream_cells_in_a_job(bench: Bench) -> None:
    cells = [replace(CELL, streams=count) for count in (2, 4)] + [replace(CELL, scenario="single-stream", streams=1)]
    code, _ = bench.run(bench.job(cells=cells))
    assert code == 0
    for cell in cells:
        row = bench.cell(cell)
        assert (row["status"], row["message"], row["streams"]) == ("ok", "", str(cell.streams))
        assert int(row["samples"]) == len(bench.file(cell, "samples.csv")) >= 16
    assert len({bench.cell(cell)["worker"] for cell in cells}) == 1
    assert "-x4_" in cells[1].key


def test_more_streams_than_memory_in_a_job(bench: Bench) -> None:
    cells = [replace(CELL, variant="two-fit", streams=count) for count in (3, 2)]
    code, _ = bench.run(bench.job("two-fit", cells=cells))
    assert code == 0
    assert bench.cell(cells[0])["status"] == "oom"
    assert "no room for a third" in bench.cell(cells[0])["message"]
    assert bench.cell(cells[1])["status"] == "ok"
