"""A disk that is full or read-only, a second sweep on the same data folder, and a wall clock that jumps."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analysis.database.open_runs import open_runs
from common import schema
from tests.common.host.faults.conftest import CELLS, World, read_rows

MakeWorld = Callable[..., World]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 60 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def errors(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("error: ")]


def test_a_disk_that_fills_up_costs_one_line_and_no_finished_cell(small_disk: Path, make_world: MakeWorld) -> None:
    world = make_world(small_disk / "data")
    sweep = world.start()
    world.wait_for_cells(2)
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
    output, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 2, output
    assert "Traceback" not in output, output
    assert any("no space left" in line.lower() for line in errors(output)), output
    finished = {path: path.read_bytes() for path in world.cells()}
    assert len(finished) >= 2

    code, output = world.run()  # still full: said before anything is made
    assert code == 2 and len(errors(output)) == 1 and "MiB left" in output, output
    (small_disk / "filler").unlink()
    code, output = world.run()
    assert code == 0, output
    (folder,) = world.folders()
    assert len(world.cells()) == CELLS
    assert {path: path.read_bytes() for path in finished} == finished
    assert {row["status"] for path in world.cells() for row in read_rows(path)} == {"ok"}
    with open_runs([folder]) as database:
        # The sidecar or the journal may have met the full disk in the middle of a line: named, never half a number.
        assert all(problem.path.name in ("attempts.csv", "power.csv") for problem in database.problems)


def test_a_read_only_data_folder_is_one_line(small_disk: Path, make_world: MakeWorld) -> None:
    world = make_world(small_disk / "data")
    before = sorted(world.data.rglob("*"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, output = world.run()
    assert code == 2 and "Traceback" not in output, output
    (line,) = errors(output)
    assert "cannot be written" in line and "FRAMEWATT_DATA" in line
    assert sorted(world.data.rglob("*")) == before


def test_the_second_sweep_on_a_data_folder_is_reported_who_holds_it(world: World) -> None:
    first = world.start()
    world.wait_for_cells(1)
    code, output = world.run()
    assert code == 2, output
    (line,) = errors(output)
    assert f"is in use by process {first.pid}" in line
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 0, output
    (folder,) = world.folders()
    assert len(world.cells()) == CELLS
    assert json.loads((folder / "run.json").read_text())["finished_utc"]


def test_ctrl_c_and_again(world: World) -> None:
    sweep = world.start()
    world.wait_for_cells(1)
    sweep.send_signal(signal.SIGINT)
    output, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 130 and "Traceback" not in output, output
    kept = {path: path.stat().st_mtime_ns for path in world.cells()}
    assert 0 < len(kept) < CELLS
    code, output = world.run()
    assert code == 0 and len(world.folders()) == 1, output
    assert {path: path.stat().st_mtime_ns for path in kept} == kept and len(world.cells()) == CELLS


def test_nothing_depends_on_the_wall_clock(world: World, tmp_path: Path) -> None:
    code, output = world.run()
    assert code == 0, output
    (folder,) = world.folders()
    jumped = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, jumped)
    for number, path in enumerate(sorted(jumped.rglob("*.csv"))):
        rows = path.read_text().splitlines(keepends=True)
        names = rows[0].rstrip("\n").split(",")
        wall = [i for i, name in enumerate(names) if name in ("started_utc", "utc", "driver_timestamp_us")]
        if not wall:
            continue
        changed = read_rows(path)
        for row, values in enumerate(changed):
            for i in wall:
                hours = 24 - (row + number) % 24  # backwards, an hour a row, over midnight
                values[names[i]] = (
                    str(hours * 3600) if names[i].endswith("_us") else f"1999-12-31T{hours - 1:02}:00:00Z"
                )
        path.write_text(schema.to_csv(path.name, changed))
    run = json.loads((jumped / "run.json").read_text())
    (jumped / "run.json").write_text(json.dumps({**run, "created_utc": "2031-01-01", "finished_utc": "1970-01-01"}))
    unstable = "EXCLUDE (created_utc, started_utc)"
    shown = []
    for path in (folder, jumped):
        with open_runs([path]) as database:
            assert database.problems == []
            # by all columns: a cell may have several marks
            tables = [f"SELECT * {unstable} FROM cells ORDER BY ALL"]
            names = ("latency", "throughput", "phases", "conditions", "marks", "energy")
            tables += [f"FROM {name} ORDER BY ALL" for name in names]
            shown.append([database.query(query) for query in tables])
    assert shown[0] == shown[1]
    assert len(shown[0][0]) == CELLS and shown[0][names.index("energy") + 1] != [], "nothing was compared"
