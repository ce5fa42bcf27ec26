"""Worker, supervisor, sidecar and host are killed at random moments of a sweep that is run again until it is done.

FRAMEWATT_CHAOS=50 says how often (8 without it), FRAMEWATT_CHAOS_SEED repeats a run. tests/engine/test_engine_dies.py does
the same to containers, and to the engine itself.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.common.host.faults.chaos import SEED, check_run, check_table, disturbed_sweeps, moments
from tests.common.host.faults.conftest import World, descendants, role


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


@pytest.mark.timeout(900)
def test_no_kill_loses_doubles_or_halves_a_cell(world: World) -> None:
    print(f"FRAMEWATT_CHAOS_SEED={SEED}")
    chance = random.Random(SEED)
    killed = disturbed_sweeps(
        world,
        moments(8),
        chance,
        lambda sweep: kill_someone(sweep, chance),
        lambda code, output: code in (0, -signal.SIGKILL),
    )
    print("killed:", dict(killed))
    statuses: Counter[str] = Counter()
    for folder in world.folders():
        statuses += check_run(folder)
    # A host that is killed costs nothing; a worker or a supervisor one cell each, and the row says so.
    assert statuses["crashed"] <= killed["worker"] + killed["supervisor"]
    assert set(statuses) <= {"ok", "crashed"}
    check_table(world, statuses["crashed"])


def test_a_sidecar_that_is_killed_while_it_starts_costs_the_energy_alone(world: World) -> None:
    sweep = world.start()
    while not (sidecars := [pid for pid, command in descendants(sweep.pid).items() if role(command) == "sidecar"]):
        assert sweep.poll() is None
        time.sleep(0.002)
    os.kill(sidecars[0], signal.SIGKILL)  # an interpreter takes longer than that to open a file
    output, _ = sweep.communicate(timeout=240)
    assert sweep.returncode == 0, output
    (folder,) = world.folders()
    assert set(check_run(folder)) == {"ok"}
    assert (folder / "power.csv").exists() or "No power readings for gpu0: it was ended by SIGKILL" in output
    check_table(world, 0)


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
    output, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, output
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
