"""Run folders: written whole, found again while unfinished, locked against a second user."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from common.errors import UserError
from common.harness import cell_folder
from common.host.runs.run import Run, check_writable, find_unfinished, locked, make_folder, read_run, set_boots_apart


def make_run(results: Path, request: str) -> Run:
    folder = make_folder(results, "cpu")
    run = Run(folder, {"request": request, "finished_utc": None, "plan": []})
    run.save()
    return run


def test_only_an_unfinished_run_of_the_same_request_is_continued(tmp_path: Path) -> None:
    run = make_run(tmp_path, "same")
    make_run(tmp_path, "other")
    found = find_unfinished(tmp_path, request="same")
    assert found is not None
    assert found.folder == run.folder
    run.finish()
    assert find_unfinished(tmp_path, request="same") is None


def test_a_run_that_finishes_leaves_no_folder_of_a_dead_process(tmp_path: Path) -> None:
    run = make_run(tmp_path, "one")
    (run.folder / "unfinished" / "tmp-123").mkdir(parents=True)
    (run.folder / "unfinished" / "tmp-123" / "left").write_text("x")
    with cell_folder.scratch(run.folder, "alive") as alive:
        run.finish()
        assert list((run.folder / "unfinished").iterdir()) == [alive]
    assert read_run(run.folder).finished


def test_two_runs_in_one_second_get_two_folders(tmp_path: Path) -> None:
    assert len({make_folder(tmp_path, "cpu") for _ in range(5)}) == 5


def test_cells_exist_only_when_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path, "x")
    for name in ("whole", ".tmp-half-1"):
        (run.folder / "cells" / name).mkdir(parents=True)
        (run.folder / "cells" / name / "cell.csv").write_text("")
    (run.folder / "cells" / "empty").mkdir()
    assert run.existing_cells() == {"whole"}


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_a_broken_run_json_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json"):
        read_run(tmp_path)


def test_a_broken_neighbour_does_not_hide_an_unfinished_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, "x")
    (tmp_path / "99999999_broken").mkdir()
    (tmp_path / "99999999_broken" / "run.json").write_text("{")
    found = find_unfinished(tmp_path, request="x")
    assert found is not None
    assert found.folder == run.folder


def _try_lock(path: Path, queue: multiprocessing.Queue[str]) -> None:
    try:
        with locked(path, "cpu"):
            queue.put("got it")
    except UserError as error:
        queue.put(str(error))


def test_the_second_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "cpu.lock"
    queue: multiprocessing.Queue[str] = multiprocessing.get_context("fork").Queue()
    with locked(path, "cpu"):
        child = multiprocessing.get_context("fork").Process(target=_try_lock, args=(path, queue))
        child.start()
        said = queue.get(timeout=60)
        child.join()
    assert f"cpu is in use by process {os.getpid()}" in said
    with locked(path, "cpu"):
        pass


def test_an_unwritable_data_folder_is_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        check_writable(blocked / "results")
    with pytest.raises(UserError, match="cannot be written"):
        make_folder(blocked / "results", "cpu")
    with pytest.raises(UserError, match=r"MiB left, a run needs"):
        check_writable(tmp_path, needed_bytes=2**60)


def test_what_was_measured_before_a_reboot_is_set_apart(tmp_path: Path) -> None:
    run = make_run(tmp_path, "x")

    def measure(key: str) -> None:
        (run.folder / "cells" / key).mkdir(parents=True)
        (run.folder / "cells" / key / "cell.csv").write_text("")
        (run.folder / "power-gpu0.csv").write_text(f"power of {key}")

    set_boots_apart(run, "one")
    measure("a")
    run.description["idle_without_context"] = {"gpu0": [{"start_ns": 1, "end_ns": 2}]}
    set_boots_apart(run, "one")  # continued, and nothing happened in between
    assert "earlier_boots" not in run.description
    set_boots_apart(run, "two")
    measure("b")
    set_boots_apart(run, "three")
    measure("c")
    set_boots_apart(run, None)  # a kernel that does not tell: nothing is known of a reboot
    run.save()
    first, second = read_run(run.folder).description["earlier_boots"]
    assert first == {
        "boot_id": "one", "cells": ["a"], "power": ["power-gpu0-boot1.csv"],
        "idle_without_context": {"gpu0": [{"start_ns": 1, "end_ns": 2}]},
    }  # fmt: skip
    assert (second["cells"], second["power"]) == (["b"], ["power-gpu0-boot2.csv"])
    assert {path.name: path.read_text() for path in run.folder.glob("power*.csv")} == {
        "power-gpu0-boot1.csv": "power of a", "power-gpu0-boot2.csv": "power of b", "power-gpu0.csv": "power of c",
    }  # fmt: skip
