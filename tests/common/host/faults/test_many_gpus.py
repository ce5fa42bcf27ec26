"""Several GPUs of one host at once, on the NVML stand-in."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable

import pytest

from analysis.database.open_runs import open_runs
from tests.common.host.faults.conftest import CELLS, World, descendants, read_rows, role
from tests.waiting import wait_for

BOARDS = 8  # of which one of four batch sizes is measured


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux' affinity")
def test_eight_gpus_each_have_a_worker_and_readings_of_their_own(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.environment |= {"FAKE_NVML_GPUS": str(BOARDS), "SWEEP_GPU": "all", "SWEEP_BATCHES": "1"}
    process = world.start()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    (folder,) = world.folders()
    document = json.loads((folder / "run.json").read_text())
    assert len(world.cells()) == BOARDS * CELLS // 4
    for board in range(BOARDS):
        rows = read_rows(folder / f"power-gpu{board}.csv")
        assert {row["device"] for row in rows if row["domain"] == "gpu"} == {str(board)}
    short = document["placement"]["short"]
    assert bool(document["placement"]["workers"]) == (len(os.sched_getaffinity(0)) > BOARDS) or short
    with open_runs([folder]) as database:
        (counted,) = database.query("SELECT count(*) AS cells FROM cells WHERE status = 'ok'")
        (marked,) = database.query("SELECT count(*) AS cells FROM marks WHERE mark = 'cores'")
    assert counted["cells"] == BOARDS * CELLS // 4
    assert marked["cells"] == (BOARDS * CELLS // 4 if short else 0)
    if short:
        assert f"{short}; cells are marked" in " ".join(output.split())


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs to tell apart"
)
def test_workers_and_sidecars_run_where_they_were_placed(make_world: Callable[..., World]) -> None:
    first, second = sorted(os.sched_getaffinity(0))[:2]
    world = make_world()
    world.environment |= {"FAKE_NVML_GPUS": "2", "SWEEP_GPU": "all", "SWEEP_SHARES": f"{first} {second} {second}"}
    process = world.start()
    seen: dict[str, set[tuple[int, ...]]] = {"worker": set(), "supervisor": set(), "sidecar": set()}

    def look() -> bool:
        for pid, command in descendants(process.pid).items():
            # before it becomes the program, a process shows the words of what it will be, on its starter's CPUs
            if (what := role(command)) and "prctl" not in command:
                with contextlib.suppress(OSError):
                    seen[what].add(tuple(sorted(os.sched_getaffinity(pid))))
        return len(seen["worker"]) == 2 or process.poll() is not None

    wait_for(look)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert seen["worker"] == seen["supervisor"] == {(first,), (second,)}
    assert seen["sidecar"] == {(second,)}
    (folder,) = world.folders()
    placed = json.loads((folder / "run.json").read_text())["placement"]
    assert placed["workers"]["gpu1"] == {"cpus": str(second), "near": True, "memory_node": 0}
    assert placed["sidecars"] == str(second)
