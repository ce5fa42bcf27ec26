"""Worker, supervisor, sidecar and host are killed at random moments of a sweep that is run again until it is done.

FRAMEWATT_CHAOS=50 says how often (8 without it), FRAMEWATT_CHAOS_SEED repeats a run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from analysis import reading
from analysis.database import open_runs
from tests.common.host.faults.conftest import CELLS, World, descendants, read_rows, role

MOMENTS = int(os.environ.get("FRAMEWATT_CHAOS", "8"))
SEED = int(os.environ.get("FRAMEWATT_CHAOS_SEED", random.SystemRandom().randrange(10**6)))


def kill_someone(sweep: subprocess.Popen[str], chance: random.Random) -> str:
    """Kills one process of the sweep at once; returns what it was, "" when it was gone already."""
    alive = {role(command): pid for pid, command in descendants(sweep.pid).items() if role(command)}
    alive["host"] = sweep.pid
    victim = chance.choice(sorted(alive))
    try:
        os.kill(alive[victim], signal.SIGKILL)
    except ProcessLookupError:
        return ""
    return victim


def disturbed_sweeps(world: World, moments: int, chance: random.Random) -> Counter[str]:
    """Runs sweeps, killing at random moments, until all moments are spent and the last sweep is done; who was killed."""
    killed: Counter[str] = Counter()
    while True:
        sweep = world.start()
        while killed.total() < moments:
            try:
                sweep.wait(timeout=chance.uniform(0.02, 2.5))
                break
            except subprocess.TimeoutExpired:
                victim = kill_someone(sweep, chance)
                killed.update([victim] if victim else [])
        said, _ = sweep.communicate(timeout=120)
        assert sweep.returncode in (0, -signal.SIGKILL), said
        assert "Traceback" not in said, said
        if killed.total() >= moments and sweep.returncode == 0:
            return killed


def check_run(folder: Path) -> Counter[str]:
    """Every planned cell exists once and whole, and nothing else does; returns the statuses."""
    run = json.loads((folder / "run.json").read_text())
    assert run["finished_utc"]
    assert len(run["plan"]) == len(set(run["plan"])) == CELLS
    assert {path.name for path in (folder / "cells").iterdir()} == set(run["plan"])
    assert list((folder / "unfinished").iterdir()) == []
    assert [path.name for path in folder.glob(".*") if path.name != ".lock"] == []
    statuses: Counter[str] = Counter()
    for key in run["plan"]:
        (row,) = read_rows(folder / "cells" / key / "cell.csv")
        samples = read_rows(folder / "cells" / key / "samples.csv")
        assert row["cell_key"] == key
        assert [int(sample["i"]) for sample in samples] == list(range(int(row["samples"])))
        statuses[row["status"]] += 1
        if row["status"] == "ok":
            assert len(samples) >= 16
        else:
            assert row["status"] == "crashed" and "SIGKILL" in row["message"], row["message"]
    for name in ("attempts.csv", "power.csv"):
        assert reading.read(folder / name, name).problems == []
    finishes = Counter(
        line["cell_key"]
        for line in read_rows(folder / "attempts.csv")
        if line["event"] == "finish" and line["status"] == "ok"
    )
    assert set(finishes.values()) <= {1}
    return statuses


def test_no_kill_loses_doubles_or_halves_a_cell(world: World) -> None:
    print(f"FRAMEWATT_CHAOS_SEED={SEED}")
    killed = disturbed_sweeps(world, MOMENTS, random.Random(SEED))
    print("killed:", dict(killed))
    statuses: Counter[str] = Counter()
    for folder in world.folders():
        statuses += check_run(folder)
    # A host that is killed costs nothing; a worker or a supervisor one cell each, and the row says so.
    assert statuses["crashed"] <= killed["worker"] + killed["supervisor"]
    assert set(statuses) <= {"ok", "crashed"}

    # One sweep after the other: what one left, the next one finished. Nothing but empty folders has no run.json.
    # (A probe of whether the folder can be written may be left by a kill; invoke clean removes it.)
    for path in (world.data / "results").glob("[!.]*"):
        assert path in world.folders() or not any(path.iterdir())

    code, said = world.run()
    assert code == 0, said
    undisturbed = world.folders()[-1]
    assert check_run(undisturbed) == {"ok": CELLS}
    with open_runs(world.folders()) as database:
        assert [str(problem) for problem in database.problems] == []
        cells = shown_keys(database.query("SELECT run, cell_key AS shown FROM cells"))
        table = shown_keys(database.query("SELECT run, variant || ' ' || batch_size AS shown FROM comparison"))
        failed = database.query("SELECT images_per_s FROM results WHERE status <> 'ok'")
    # The table has the rows of an undisturbed run; a cell that was killed has no figure in it.
    for found in (cells, table):
        assert len(found) == len(world.folders())
        assert all(keys == found[undisturbed.name] for keys in found.values())
    assert [row["images_per_s"] for row in failed] == [None] * statuses["crashed"]


def shown_keys(rows: list[dict[str, str]]) -> dict[str, list[str]]:
    """Run -> what it shows, sorted, doubles included."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["run"], []).append(row["shown"])
    return {run: sorted(keys) for run, keys in found.items()}


@pytest.mark.parametrize("victim", ["worker", "supervisor"])
def test_whoever_is_killed_the_sweep_goes_on_by_itself(world: World, victim: str) -> None:
    sweep = world.start()
    world.wait_for_cells(2)
    while True:
        assert sweep.poll() is None
        pids = [pid for pid, command in descendants(sweep.pid).items() if role(command) == victim]
        if pids:
            os.kill(pids[0], signal.SIGKILL)
            break
    said, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, said
    (folder,) = world.folders()
    assert check_run(folder)["crashed"] <= 1


def test_a_host_that_is_killed_leaves_nobody_behind(world: World) -> None:
    sweep = world.start()
    world.wait_for_cells(1)
    left = {pid: command for pid, command in descendants(sweep.pid).items() if role(command)}
    assert left
    sweep.kill()
    sweep.communicate(timeout=30)
    for pid, command in left.items():
        for _ in range(1000):
            path = Path(f"/proc/{pid}/cmdline")
            if not path.exists() or path.read_bytes() == b"":
                break
            os.sched_yield()
            signal.sigtimedwait([], 0.01)
        else:
            pytest.fail(f"still there: {command}")
