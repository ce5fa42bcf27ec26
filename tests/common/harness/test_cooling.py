"""Waiting for a GPU to cool, by what the sidecar writes into the run's folder."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common import schema
from common.harness.cooling import FRESH_NS, Thermometer

UUID, OTHER = "GPU-1", "GPU-2"


def reading(t_ns: int, degrees: int | None, uuid: str = UUID) -> dict[str, Any]:
    return {"t_ns": t_ns, "domain": "gpu", "uuid": uuid, "device": 0, "temperature_c": degrees}


def write(run: Path, rows: list[dict[str, Any]], name: str = "power.csv", tail: str = "") -> None:
    run.mkdir(exist_ok=True)
    (run / name).write_text(schema.to_csv("power.csv", rows) + tail)


def temperature(run: Path, uuid: str, now_ns: int) -> int | None:
    return Thermometer(run, uuid).degrees_c(now_ns)


def test_the_newest_fresh_reading_of_that_gpu(tmp_path: Path) -> None:
    now = 100 * FRESH_NS
    assert temperature(tmp_path, UUID, now) is None
    write(
        tmp_path, [reading(now - 30, 50), reading(now - 20, 49), reading(now - 10, 90, OTHER), reading(now - 5, None)]
    )
    assert temperature(tmp_path, UUID, now) == 49
    write(tmp_path, [reading(now - 1, 48)], "power-gpu0.csv")
    assert temperature(tmp_path, UUID, now) == 48
    assert temperature(tmp_path, UUID, now + 2 * FRESH_NS) is None  # the sidecar has died
    assert temperature(tmp_path, "GPU-3", now) is None


def test_half_a_line_and_a_long_file(tmp_path: Path) -> None:
    now = 100 * FRESH_NS
    rows = [reading(now - 5000 + i, 70 if i < 4999 else 41) for i in range(5000)]
    whole = schema.to_csv("power.csv", [reading(now, 12)], with_header=False)
    write(tmp_path, rows, tail=whole[:-6])
    assert temperature(tmp_path, UUID, now) == 41


def test_a_file_without_a_whole_line_for_a_moment_is_no_end_of_knowledge(tmp_path: Path) -> None:
    now = 100 * FRESH_NS
    thermometer = Thermometer(tmp_path, UUID)
    write(tmp_path, [reading(now, 70)])
    assert thermometer.degrees_c(now) == 70
    (tmp_path / "power.csv").write_text("")
    assert thermometer.degrees_c(now + FRESH_NS) == 70
    assert thermometer.degrees_c(now + FRESH_NS + 1) is None  # but what is old is no temperature
    write(tmp_path, [reading(now + 2 * FRESH_NS, 60)])
    assert thermometer.degrees_c(now + 2 * FRESH_NS) == 60


def _job(bench: Any, target: float, longest: float) -> Any:
    job = bench.job(batch_sizes=(1,), device_uuid=UUID)
    return replace(job, settings=replace(job.settings, cool_to_c=target, cool_max_seconds=longest))


@contextmanager
def sidecar(run: Path, degrees: list[int | None]) -> Iterator[None]:
    """Appends a reading of degrees[0] every 50 ms, as the real one appends, while the block runs."""
    ended = threading.Event()

    def append() -> None:
        with (run / "power.csv").open("a") as file:
            while not ended.wait(0.05):
                row = reading(time.monotonic_ns(), degrees[0])
                file.write(schema.to_csv("power.csv", [row], with_header=False))
                file.flush()

    write(run, [reading(time.monotonic_ns(), degrees[0])])
    thread = threading.Thread(target=append)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize(("degrees", "longest"), [(44, 60.0), (None, 60.0), (61, 0.3)])
def test_a_cool_gpu_an_unknown_one_and_one_that_stays_hot(bench: Any, degrees: int | None, longest: float) -> None:
    with sidecar(bench.run_dir, [degrees]):
        code, events = bench.run(_job(bench, 45, longest))
    cooling = [event for event in events if event["event"] == "cooling"]
    assert code == 0 and [event["event"] for event in events][-2:] == ["cell_finish", "job_finish"]
    last = cooling[-1]
    assert last["done"] and (last["temperature_c"], last["target_c"]) == (degrees, 45)
    assert len(cooling) == 1 or (degrees == 61 and last["seconds"] >= longest)
    assert not any(event["done"] for event in cooling[:-1])


def test_the_cell_begins_when_the_gpu_has_cooled(bench: Any) -> None:
    degrees: list[int | None] = [70]
    with sidecar(bench.run_dir, degrees):
        process = bench.start(_job(bench, 45, 600.0))
        events = []
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == "cooling":
                degrees[0] = 45  # once it has been seen to wait
        code = process.wait()
    kinds = [event["event"] for event in events]
    cooling = [event for event in events if event["event"] == "cooling"]
    assert code == 0 and kinds.index("cell_start") == len(cooling)
    assert cooling[0]["temperature_c"] == 70 and not cooling[0]["done"]
    assert cooling[-1]["temperature_c"] == 45 and cooling[-1]["done"]
