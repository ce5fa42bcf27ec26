"""A sidecar that dies in the middle of a sweep, and what the sidecar reads while nobody works."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from analysis.database.open_runs import open_runs
from analysis.readers import csv_by_line
from tests.common.host.faults.conftest import CELLS, World, descendants, read_rows, role
from tests.waiting import wait_for


def sidecars(pid: int) -> list[int]:
    return [child for child, command in descendants(pid).items() if role(command) == "sidecar"]


def test_a_sidecar_that_is_killed_is_started_again_after_the_cell(world: World) -> None:
    sweep = world.start()
    world.wait_for_cells(2)
    (first,) = sidecars(sweep.pid)
    power = next((world.data / "results").glob("*/power.csv"))
    os.kill(first, signal.SIGKILL)
    before = power.read_bytes()
    wait_for(lambda: sweep.poll() is not None or set(sidecars(sweep.pid)) - {first})
    output, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, output
    words = "The sidecar of gpu0 was ended by SIGKILL; what was measured meanwhile has no energy; it is started again"
    assert words in output

    (folder,) = world.folders()
    whole = before[: before.rfind(b"\n") + 1]
    assert power.read_bytes().startswith(whole), "what was written before stays as it is"
    assert csv_by_line.read(power, "power.csv").problems == []
    description = json.loads((folder / "run.json").read_text())
    assert description["sidecar"]["gpu0"]["deaths"] == ["was ended by SIGKILL"]
    assert description["sidecar"]["gpu0"]["event"] == "done"
    with open_runs([folder]) as database:
        cells = {row["cell_key"] for row in database.query("SELECT cell_key FROM cells WHERE status = 'ok'")}
        metered = {row["cell_key"] for row in database.query("SELECT cell_key FROM energy WHERE class = 'gpu'")}
        marked = {row["cell_key"] for row in database.query("SELECT cell_key FROM marks WHERE mark = 'no_power'")}
    assert len(cells) == CELLS
    # The cell that ran when it died, and perhaps one that had begun already: said, and all others have their energy.
    assert marked == cells - metered and len(marked) <= 2
    assert last_cell(folder) in metered


def last_cell(folder: Path) -> str:
    return [row["cell_key"] for row in read_rows(folder / "attempts.csv") if row["event"] == "finish"][-1]


def test_the_device_is_read_before_the_first_worker_opens_a_context(world: World) -> None:
    world.environment["FRAMEWATT_POWERCAP"] = str(world.data / "powercap")
    code, output = world.run()
    assert code == 0, output
    (folder,) = world.folders()
    description = json.loads((folder / "run.json").read_text())
    ((spell,),) = description["idle_without_context"].values()
    assert description["power"]["gpu0"] == {
        "recording": True, "reason": "", "no_cpu_energy": f"no RAPL domain in {world.data / 'powercap'}",
    }  # fmt: skip
    readings = [int(row["t_ns"]) for row in read_rows(folder / "power.csv")]
    starts = [int(row["start_ns"]) for path in folder.glob("cells/*/phases.csv") for row in read_rows(path)]
    assert readings[0] <= spell["start_ns"] < spell["end_ns"] <= min(starts)
    assert spell["end_ns"] - spell["start_ns"] >= 20_000_000
    with open_runs([folder]) as database:
        rows = database.query(
            "SELECT idle_before_w, idle_after_w, idle_without_context_w FROM energy WHERE class = 'gpu'"
        )
    assert len(rows) == CELLS
    assert all(value == pytest.approx(100) for row in rows for value in row.values()), (
        "the stand-in draws 100 W throughout"
    )


def test_a_sidecar_that_cannot_be_started_again_is_left_alone(world: World) -> None:
    sweep = world.start()
    world.wait_for_cells(1)
    power = next((world.data / "results").glob("*/metering/power/power.csv"))
    (first,) = sidecars(sweep.pid)
    power.rename(power.with_name("moved"))
    power.mkdir()  # where a folder lies, no file can be opened
    os.kill(first, signal.SIGKILL)
    output, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 0 and "Traceback" not in output, output
    tries = [line for line in output.splitlines() if "does not start again" in line]
    assert len(tries) == 3 and "will not be tried again" in tries[-1], output
    assert len(world.cells()) == CELLS
    assert {row["status"] for path in world.cells() for row in read_rows(path)} == {"ok"}


#: becomes part of every Python of the sweep: the first so many sidecars are killed while they start
_KILLER = """\
import os, pathlib, sys
if "common.sidecar" in sys.orig_argv:
    starts = pathlib.Path(__file__).parent / "starts"
    with starts.open("a") as file:
        file.write("x")
    if starts.stat().st_size <= {times}:
        os.kill(os.getpid(), {number})
"""


@pytest.mark.parametrize(("times", "number"), [(1, signal.SIGKILL), (2, signal.SIGTERM)])
def test_a_sidecar_that_is_killed_while_it_starts_is_tried_again_after_the_first_cell(
    world: World, tmp_path: Path, times: int, number: signal.Signals
) -> None:
    kill_starts(world, tmp_path, times, number)
    code, output = world.run()
    assert code == 0, output
    reason = f"it was ended by {number.name} while it started, and is tried again after the first cell"
    assert f"No power readings for gpu0: {reason}" in " ".join(output.split())
    (folder,) = world.folders()
    description = json.loads((folder / "run.json").read_text())
    assert description["power"]["gpu0"]["recording"] and description["power"]["gpu0"]["reason"] == ""
    assert description["sidecar"]["gpu0"]["deaths"] == [f"was ended by {number.name}"]
    with open_runs([folder]) as database:
        metered = {row["cell_key"] for row in database.query("SELECT cell_key FROM energy WHERE class = 'gpu'")}
        marks = {row["cell_key"]: row["why"] for row in database.query("FROM marks WHERE mark = 'no_power'")}
    assert marks.keys() | metered == {path.parent.name for path in world.cells()}
    # those before it ran, and those that end while it starts, which on a busy machine may be several
    assert times <= len(marks) and not marks.keys() & metered
    assert last_cell(folder) in metered


def test_cells_say_so_where_the_sidecar_is_killed_at_each_start(world: World, tmp_path: Path) -> None:
    kill_starts(world, tmp_path, 99, signal.SIGKILL)
    code, output = world.run()
    assert code == 0 and "Traceback" not in output, output
    assert output.count("does not start again") == 2 and "will not be tried again" in output
    assert len((tmp_path / "killer" / "starts").read_text()) == 3
    (folder,) = world.folders()
    state = json.loads((folder / "run.json").read_text())["power"]["gpu0"]
    assert not state["recording"] and state["reason"] == "it was ended by SIGKILL"
    with open_runs([folder]) as database:
        marks = {row["cell_key"]: row["why"] for row in database.query("FROM marks WHERE mark = 'no_power'")}
    assert marks == {path.parent.name: f"the sidecar recorded nothing: {state['reason']}" for path in world.cells()}


def kill_starts(world: World, tmp_path: Path, times: int, number: signal.Signals) -> None:
    folder = tmp_path / "killer"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_KILLER.format(times=times, number=int(number)))
    world.environment["PYTHONPATH"] += os.pathsep + str(folder)
