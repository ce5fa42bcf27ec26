from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.database import cache, loading
from analysis.database.open_runs import open_runs
from common import schema
from tests.analysis.conftest import Build, RunBuilder

MS = 10**6
VIEWS = (
    "comparison", "results", "marks", "cells", "phases", "latency", "throughput", "energy", "conditions", "measured", "run",
    "run_device", "samples", "queueing",
)  # fmt: skip


#: of the tables that are kept, and what is computed of them: enough to see what was read, where views are not at stake
KEPT = ("cells", "phases", "measured", "comparison", "samples")


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
def run(build: Build) -> Callable[..., RunBuilder]:
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


def everything(runs: list[Any], folder: Path | None, views: Sequence[str] = VIEWS) -> dict[str, list[tuple[Any, ...]]]:
    with open_runs([run.folder for run in runs], folder) as database:
        return {view: database.execute(f"SELECT * FROM {view} ORDER BY ALL").fetchall() for view in views}


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
    everything([one], folder, KEPT)
    everything([one], folder, KEPT)
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
    everything([one], folder, KEPT)
    assert len(everything([one], folder, KEPT)["cells"]) == 4


def test_what_is_wrong_is_reported_each_time(run: Any, folder: Path) -> None:
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
    plain = everything([one], folder, KEPT)
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
        monkeypatch.setattr(cache, "version", lambda: "another")
    assert everything([one], folder, KEPT) == plain
    assert reads == ["one"]


def test_a_cache_that_cannot_be_written(run: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert len(everything([run("one")], blocked / "cache")["cells"]) == 3


def test_many_segments_become_one(run: Any, folder: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_SEGMENTS", 3)
    runs = [run(f"run{number}", 5 + number) for number in range(cache.MOST_SEGMENTS + 2)]
    for one in runs:
        everything([one], folder, KEPT)
    reads.clear()
    assert everything(runs, folder, KEPT) == everything(runs, None, KEPT)
    assert reads == [one.folder.name for one in runs], "once, without the cache"
    entries = json.loads((folder / "index.json").read_text())["runs"].values()
    assert len(entries) == len(runs)
    assert len({entry["segment"] for entry in entries}) <= cache.MOST_SEGMENTS


def test_runs_of_the_same_name(build: Build, tmp_path: Path, folder: Path) -> None:
    runs = []
    for parent, ms in (("a", 1), ("b", 2)):
        made = build("run")
        made.folder = tmp_path / parent / "run"
        made.run_json()
        made.cell("torch", 8, durations_ns=[ms * MS] * 20)
        settle(made.folder)
        runs.append(made)
    everything(runs[:1], folder, KEPT)
    found = everything(runs, folder, KEPT)
    assert found == everything(runs, None, KEPT)
    assert {row[0] for row in found["comparison"]} == {"a/run", "b/run"}


# --- what was edited ----------------------------------------------------------------------------------------------------


def test_every_table_with_rows_of_runs_is_kept(run: Any) -> None:
    with open_runs([run("one").folder]) as database:
        rows = database.connection.execute(
            "SELECT DISTINCT table_name FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal AND column_name = 'run' "
            "AND table_name IN (SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' AND NOT temporary)"
        ).fetchall()
        huge = database.connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = 'main' AND data_type = 'HUGEINT'"
        ).fetchall()
    assert {name for (name,) in rows} == set(cache.TABLES)
    assert [row for row in huge if row[0] in cache.TABLES] == [], "Parquet has no such type: a sum is cast"


def figures(runs: list[Any], folder: Path) -> tuple[list[Any], list[str]]:
    with open_runs([one.folder for one in runs], folder) as database:
        rows = database.query("SELECT run, images_per_s FROM comparison ORDER BY ALL")
        return rows, [str(problem) for problem in database.problems]


def edit_figures(folder: Path, keep_size: bool) -> None:
    """Doubles every rate in the kept comparison, in files of the same names."""
    import duckdb

    for path in folder.glob("*/comparison.parquet"):
        size = path.stat().st_size
        duckdb.connect().sql(
            f"COPY (SELECT * REPLACE (images_per_s * 2 AS images_per_s) FROM '{path}') TO '{path}.new' (FORMAT parquet)"
        )
        Path(f"{path}.new").replace(path)
        if keep_size:
            os.truncate(path, size)


@pytest.mark.parametrize("keep_size", [False, True])
def test_an_edited_figure_is_noticed_reported_and_read_anew(
    run: Any, folder: Path, reads: list[str], keep_size: bool
) -> None:
    runs = [run("one")]
    before, _ = figures(runs, folder)
    edit_figures(folder, keep_size)
    after, problems = figures(runs, folder)
    assert after == before and reads == ["one"] * 2
    assert problems == [f"{folder}: was changed since it was written: all that it held is read anew"]
    assert figures(runs, folder) == (before, []) and reads == ["one"] * 2, "what was read anew is kept anew"


def test_an_edited_file_of_a_run_that_was_not_asked_for_is_noticed_later(
    run: Any, folder: Path, reads: list[str]
) -> None:
    one, other = run("one"), run("other", 20)
    before, _ = figures([one, other], folder)
    alone, _ = figures([one], folder)
    third = run("third", 30)
    edit_figures(folder, keep_size=False)
    figures([third], folder)  # writes the index anew, with the edited segment in it
    assert figures([one], folder)[0] == alone
    assert figures([one, other], folder)[0] == before


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(types={"cell_row": {"run": "VARCHAR; COPY (SELECT 1) TO 'PWNED'; --"}}),
        lambda document: [entry.update(segment="../../etc") for entry in document["runs"].values()],
        lambda document: [entry.update(names=["x"]) for entry in document["runs"].values()],
        lambda document: [sums.update({"comparison.parquet": "0" * 40}) for sums in document["segments"].values()],
        lambda document: document.update(runs=[]),
        lambda document: document.clear(),
        lambda document: document.update(version=1, digest=2),
    ],
)
def test_an_edited_index_is_not_believed(run: Any, folder: Path, reads: list[str], change: Any) -> None:
    runs = [run("one")]
    before, _ = figures(runs, folder)
    document = json.loads((folder / "index.json").read_text())
    change(document)
    (folder / "index.json").write_text(json.dumps(document))
    after, problems = figures(runs, folder)
    assert after == before and reads == ["one"] * 2 and len(problems) == 1
    assert not Path("PWNED").exists()


def test_an_index_that_was_edited_with_its_digest_still_names_no_statement_and_no_other_folder(
    run: Any, folder: Path, tmp_path: Path
) -> None:
    runs = [run("one")]
    before, _ = figures(runs, folder)
    victim = tmp_path / "victim"
    document = json.loads((folder / "index.json").read_text())
    document.pop("digest")
    evil = f"x'; COPY (SELECT 1) TO '{victim}'; --"
    for segments in (document["segments"],):
        for name in list(segments):
            segments[evil] = {f"{evil}.parquet": "0", **segments[name]}
    for entry in document["runs"].values():
        entry["segment"] = evil
    document["types"] = {evil: {evil: evil}}
    document = {"digest": cache._digest(cache._canonical(document)), **document}
    (folder / "index.json").write_text(json.dumps(document))
    assert figures(runs, folder)[0] == before
    assert not victim.exists()


@pytest.mark.parametrize("name", ["index.json", "comparison.parquet", "cell_row.parquet"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_something_else_in_place_of_a_file_of_the_cache_is_not_opened(
    run: Any, folder: Path, name: str, make: Callable[[Path], object]
) -> None:
    one = run("one")
    before = everything([one], folder, KEPT)
    (path,) = folder.rglob(name)
    path.unlink()
    make(path)
    assert everything([one], folder, KEPT) == before


def test_a_cache_that_cannot_be_written_is_one_line_and_costs_no_answer(
    run: Any, tmp_path: Path, reads: list[str]
) -> None:
    link = tmp_path / "host-cache"
    link.symlink_to(tmp_path / "unmounted")
    one = run("one")
    expected = everything([one], None, KEPT)
    folder = link / "analysis"
    assert everything([one], folder, KEPT) == expected
    _, problems = figures([one], folder)
    assert problems == [
        f"{folder}: cannot be written ({link} is a link to {tmp_path}/unmounted, which does not exist): "
        "the next analysis reads all files again"
    ]
    (tmp_path / "unmounted").mkdir()
    assert figures([one], folder)[1] == []
    reads.clear()
    assert figures([one], folder)[1] == [] and reads == []
