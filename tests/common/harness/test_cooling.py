"""Waiting for a GPU to cool, by what the sidecar writes into the run's folder."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common import schema
from common.harness.cooling import FRESH_NS, temperature

UUID, OTHER = "GPU-1", "GPU-2"


def reading(t_ns: int, degrees: int | None, uuid: str = UUID) -> dict[str, Any]:
    return {"t_ns": t_ns, "domain": "gpu", "uuid": uuid, "device": 0, "temperature_c": degrees}


def write(run: Path, rows: list[dict[str, Any]], name: str = "power.csv", tail: str = "") -> None:
    run.mkdir(exist_ok=True)
    (run / name).write_text(schema.to_csv("power.csv", rows) + tail)


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


def _job(bench: Any, target: float, longest: float) -> Any:
    job = bench.job(batch_sizes=(1,), device_uuid=UUID)
    return replace(job, settings=replace(job.settings, cool_to_c=target, cool_max_seconds=longest))


@pytest.mark.parametrize(("degrees", "longest"), [(44, 60.0), (None, 60.0), (61, 0.3)])
def test_a_cool_gpu_an_unknown_one_and_one_that_stays_hot(bench: Any, degrees: int | None, longest: float) -> None:
    write(bench.run_dir, [reading(time.monotonic_ns(), degrees)])
    code, events = bench.run(_job(bench, 45, longest))
    cooling = [event for event in events if event["event"] == "cooling"]
    assert code == 0 and [event["event"] for event in events][-2:] == ["cell_finish", "job_finish"]
    last = cooling[-1]
    assert last["done"] and (last["temperature_c"], last["target_c"]) == (degrees, 45)
    assert len(cooling) == 1 or (degrees == 61 and last["seconds"] >= longest)
    assert not any(event["done"] for event in cooling[:-1])


def test_the_cell_begins_when_the_gpu_has_cooled(bench: Any) -> None:
    ended = threading.Event()
    cool_from = time.monotonic() + 1.0

    def sidecar() -> None:
        while not ended.wait(0.05):
            write(bench.run_dir, [reading(time.monotonic_ns(), 45 if time.monotonic() > cool_from else 70)])

    write(bench.run_dir, [reading(time.monotonic_ns(), 70)])
    thread = threading.Thread(target=sidecar)
    thread.start()
    try:
        code, events = bench.run(_job(bench, 45, 60.0))
    finally:
        ended.set()
        thread.join()
    kinds = [event["event"] for event in events]
    cooling = [event for event in events if event["event"] == "cooling"]
    assert code == 0 and kinds.index("cell_start") == len(cooling)
    assert cooling[-1]["temperature_c"] == 45 and cooling[-1]["seconds"] < 60
