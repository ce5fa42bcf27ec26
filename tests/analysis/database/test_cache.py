from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.database import cache as cache_module
from analysis.database import loading
from analysis.database.open_runs import open_runs
from common import schema

MS = 10**6
VIEWS = (
    "comparison", "results", "marks", "cells", "phases", "latency", "throughput", "energy", "conditions", "measured", "run",
    "run_device", "samples", "queueing",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs that were read from their files, in order."""
    seen: list[str] = []
    scan = loading.scan

    def noting(name: str, path: Path) -> Any:
        seen.append(name)
        return scan(name, path)

    monkeypatch.setattr(loading, "scan", noting)
    return seen


@pytest.fixture
def run(build: Any) -> Callable[..., Any]:
    def make(name: str, ms: int = 10) -> Any:
        made = build(name)
        made.cell(
            "onnxrt", 8, durations_ns=[ms * MS + i % 5 * 1000 for i in range(70)], phases={"load": MS, "first": MS}
        )
        made.cell("torch", 8, durations_ns=[2 * ms * MS] * 20, stop_reason="budget")
        made.cell("tf", 8, status="crashed", message="no")
        settle(made.folder)
        return made

    return make


def settle(path: Path, seconds: float = 60) -> None:
    """Makes every file and folder look as if it had been written a while ago."""
    for file in path.rglob("*"):
        then = file.stat().st_mtime_ns - int(seconds * 1e9)
        os.utime(file, ns=(then, then))


def everything(runs: list[Any], folder: Path | None) -> dict[str, list[tuple[Any, ...]]]:
    with open_runs([run.folder for run in runs], folder) as database:
        return {view: database.execute(f"SELECT * FROM {view} ORDER BY ALL").fetchall() for view in VIEWS}


def test_the_second_time_nothing_is_read_and_all_is_the_same(run: Any, folder: Path, reads: list[str]) -> None:
    runs = [run("one"), run("two", 20)]
    plain = everything(runs, None)
    first = everything(runs, folder)
    assert reads == ["one", "two"] * 2
    second = everything(runs, folder)
    assert reads == ["one", "two"] * 2
    assert first == plain
    assert second == plain
    assert len(plain["comparison"]) == 6 and len(plain["samples"]) == 180 and len(plain["marks"]) == 2


def test_types_and_columns_do_not_change(run: Any, folder: Path) -> None:
    one = run("one")
    everything([one], folder)
    with open_runs([one.folder]) as plain, open_runs([one.folder], folder) as cached:
        for view in VIEWS:
            assert plain.execute(f"DESCRIBE {view}").fetchall() == cached.execute(f"DESCRIBE {view}").fetchall()


def test_samples_and_documents_of_a_cached_run(run: Any, folder: Path) -> None:
    one = run("one")
    everything([one], folder)
    with open_runs([one.folder], folder) as database:
        key = database.query("SELECT cell_key FROM cells WHERE variant = 'torch'")[0]["cell_key"]
        assert len(database.samples("one", key)[0]) == 20
        assert database.documents["one"]["command"] == "invoke bench"


def test_only_what_changed_is_read_again(run: Any, folder: Path, reads: list[str]) -> None:
    runs = [run(name) for name in ("one", "two", "three")]
    everything(runs, folder)
    reads.clear()
    path = next(runs[1].folder.glob("cells/*torch*/samples.csv"))
    rows = [{"i": i, "start_ns": 10**12 + i * MS, "end_ns": 10**12 + (i + 1) * MS} for i in range(20)]
    path.write_text(schema.to_csv("samples.csv", rows))
    settle(runs[1].folder)
    found = everything(runs, folder)
    assert reads == ["two"]
    assert found == everything(runs, None)
    reads.clear()
    assert everything(runs, folder) == found
    assert reads == []


@pytest.mark.parametrize("change", ["same size", "new cell", "lost cell", "run.json", "power"])
def test_every_change_is_seen(run: Any, folder: Path, reads: list[str], change: str) -> None:
    one = run("one")
    everything([one], folder)
    reads.clear()
    path = next(one.folder.glob("cells/*onnxrt*/samples.csv"))
    if change == "same size":
        text = path.read_text()
        path.write_text(text.replace("1000010000000", "1000010000001"))
        assert path.read_text() != text and path.stat().st_size == len(text)
    elif change == "new cell":
        one.cell("keras", 8, durations_ns=[MS] * 20)
    elif change == "lost cell":
        for file in path.parent.iterdir():
            file.unlink()
        path.parent.rmdir()
    elif change == "run.json":
        one.run_json(command="invoke sweep")
    else:
        one.power({"t_ns": i, "domain": "package-0", "energy_mj": i} for i in range(3))
    settle(one.folder, 30)
    assert everything([one], folder) == everything([one], None)
    assert reads == ["one", "one"]


def test_a_run_in_progress_is_never_kept(run: Any, folder: Path, reads: list[str]) -> None:
    one = run("one")
    # ahead of now: on a busy machine reading takes longer than a run needs to count as settled
    soon = time.time_ns() + 600 * 10**9
    os.utime(one.folder / "run.json", ns=(soon, soon))
    everything([one], folder)
    everything([one], folder)
    assert reads == ["one", "one"]
    assert not (folder / "index.json").exists()


def test_a_run_that_grew_while_it_was_read_is_not_kept(
    run: Any, folder: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = run("one")
    measure = loading._measure

    def growing(database: Any, batch: Any) -> None:
        measure(database, batch)
        monkeypatch.undo()
        one.cell("keras", 8, durations_ns=[MS] * 20)
        settle(one.folder)

    monkeypatch.setattr(loading, "_measure", growing)
    everything([one], folder)
    assert len(everything([one], folder)["cells"]) == 4


def test_what_is_wrong_is_told_each_time(run: Any, folder: Path) -> None:
    runs = [run("good"), run("bad")]
    path = next(runs[1].folder.glob("cells/*torch*/samples.csv"))
    path.write_bytes(path.read_bytes()[:-4])
    settle(runs[1].folder)
    for _ in range(2):
        with open_runs([one.folder for one in runs], folder) as database:
            assert [problem.message for problem in database.problems] == ["the line is cut off"]
            assert database.exit_code == 1
            assert database.query("SELECT n FROM results WHERE run = 'bad' AND variant = 'torch'") == [{"n": 19}]


@pytest.mark.parametrize("damage", ["index", "segment", "lost", "version"])
def test_a_damaged_cache_costs_time_only(
    run: Any, folder: Path, reads: list[str], damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = run("one")
    plain = everything([one], folder)
    reads.clear()
    (segment,) = (path for path in folder.iterdir() if path.is_dir())
    if damage == "index":
        (folder / "index.json").write_text('{"version": ')
    elif damage == "segment":
        file = segment / "cell_row.parquet"
        file.write_bytes(b"\0" * file.stat().st_size)
    elif damage == "lost":
        (segment / "measured.parquet").unlink()
    else:
        monkeypatch.setattr(cache_module, "version", lambda: "another")
    assert everything([one], folder) == plain
    assert reads == ["one"]


def test_a_cache_that_cannot_be_written(run: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert len(everything([run("one")], blocked / "cache")["cells"]) == 3


def test_many_segments_become_one(run: Any, folder: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MOST_SEGMENTS", 3)
    runs = [run(f"run{number}", 5 + number) for number in range(cache_module.MOST_SEGMENTS + 2)]
    for one in runs:
        everything([one], folder)
    reads.clear()
    assert everything(runs, folder) == everything(runs, None)
    assert reads == [one.folder.name for one in runs], "once, without the cache"
    entries = json.loads((folder / "index.json").read_text())["runs"].values()
    assert len(entries) == len(runs)
    assert len({entry["segment"] for entry in entries}) <= cache_module.MOST_SEGMENTS


def test_runs_of_the_same_name(build: Any, tmp_path: Path, folder: Path) -> None:
    runs = []
    for parent, ms in (("a", 1), ("b", 2)):
        made = build("run")
        made.folder = tmp_path / parent / "run"
        made.run_json()
        made.cell("torch", 8, durations_ns=[ms * MS] * 20)
        settle(made.folder)
        runs.append(made)
    everything(runs[:1], folder)
    found = everything(runs, folder)
    assert found == everything(runs, None)
    assert {row[0] for row in found["comparison"]} == {"a/run", "b/run"}
