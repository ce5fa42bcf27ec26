"""Sweeps that are disturbed at random moments and run again until one comes to its end, and what must be true of them then."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from analysis.database.open_runs import open_runs
from analysis.readers import csv_by_line
from tests.common.host.faults.conftest import CELLS, World, read_rows

SEED = int(os.environ.get("FRAMEWATT_CHAOS_SEED", random.SystemRandom().randrange(10**6)))


def moments(unasked: int) -> int:
    """How often to strike: FRAMEWATT_CHAOS, else `unasked`."""
    return int(os.environ.get("FRAMEWATT_CHAOS", unasked))


def disturbed_sweeps(
    world: World,
    moments: int,
    chance: random.Random,
    strike: Callable[[subprocess.Popen[str]], str],
    ends: Callable[[int, str], bool],
) -> Counter[str]:
    """Runs sweeps, striking at random moments, until all moments are spent and the last sweep is done; who was struck.

    strike: what was struck, "" when it was gone already. ends: whether a sweep may end so (exit code, what it said).
    """
    struck: Counter[str] = Counter()
    while True:
        sweep = world.start()
        while struck.total() < moments:
            try:
                sweep.wait(timeout=chance.uniform(0.02, 2.5))
                break
            except subprocess.TimeoutExpired:
                victim = strike(sweep)
                struck.update([victim] if victim else [])
        output, _ = sweep.communicate(timeout=240)
        assert ends(sweep.returncode, output), f"exit code {sweep.returncode}\n{output}"
        assert "Traceback" not in output, output
        if struck.total() >= moments and sweep.returncode == 0:
            return struck


def check_run(folder: Path, words: Collection[str] = ("SIGKILL",)) -> Counter[str]:
    """Every planned cell exists once and whole, and nothing else does; returns the statuses.

    words: one of them stands in the message of a cell that crashed.
    """
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
            # a machine that is busy may end a window by its budget
            assert len(samples) >= 16 or row["stop_reason"] == "budget"
        else:
            assert row["status"] == "crashed" and any(word in row["message"] for word in words), row["message"]
    # a sidecar that is killed while it starts is not started again, and leaves no file; the host says so
    never_read = not (folder / "power.csv").exists() and all(end["event"] == "lost" for end in run["sidecar"].values())
    for name in ("attempts.csv",) if never_read else ("attempts.csv", "power.csv"):
        problems = [str(problem) for problem in csv_by_line.read(folder / name, name).problems]
        assert problems == [], problems  # no rewriting of asserts here: the message says what it was
    finishes = Counter(
        line["cell_key"]
        for line in read_rows(folder / "attempts.csv")
        if line["event"] == "finish" and line["status"] == "ok"
    )
    assert set(finishes.values()) <= {1}
    return statuses


def check_table(world: World, crashed: int) -> None:
    """The table has the rows of an undisturbed run, which is made now; a cell that was killed has no figure in it.

    crashed: so many cells of the disturbed runs.
    """
    # One sweep after the other: what one left, the next one finished. Nothing but empty folders has no run.json.
    # (A probe of whether the folder can be written may be left by a kill; invoke clean removes it.)
    for path in (world.data / "results").glob("[!.]*"):
        assert path in world.folders() or not any(path.iterdir())

    code, output = world.run()
    assert code == 0, output
    undisturbed = world.folders()[-1]
    assert check_run(undisturbed) == {"ok": CELLS}
    with open_runs(world.folders()) as database:
        assert [str(problem) for problem in database.problems] == []
        cells = shown_keys(database.query("SELECT run, cell_key AS shown FROM cells"))
        table = shown_keys(database.query("SELECT run, variant || ' ' || batch_size AS shown FROM comparison"))
        failed = database.query("SELECT images_per_s FROM results WHERE status <> 'ok'")
        # Where there is no energy, a mark says so: a sidecar that was killed is no silent hole.
        silent = database.query(
            "SELECT run, cell_key FROM cells WHERE status = 'ok' AND (run, cell_key) NOT IN (SELECT (run, cell_key) FROM energy) "
            "AND (run, cell_key) NOT IN (SELECT (run, cell_key) FROM marks WHERE mark = 'no_power')"
        )
    for found in (cells, table):
        assert len(found) == len(world.folders())
        assert all(keys == found[undisturbed.name] for keys in found.values())
    assert [row["images_per_s"] for row in failed] == [None] * crashed
    # A run whose sidecar was killed while it started has no readings at all, which is no mark of a cell.
    assert [row for row in silent if (world.data / "results" / row["run"] / "power.csv").exists()] == []


def shown_keys(rows: list[dict[str, str]]) -> dict[str, list[str]]:
    """Run -> what it shows, sorted, doubles included."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["run"], []).append(row["shown"])
    return {run: sorted(keys) for run, keys in found.items()}
