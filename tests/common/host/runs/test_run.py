"""Run folders: written whole, found again while unfinished, locked against a second user."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from common.harness import cell_folder
from common.host.paths import ROOT
from common.host.runs.run import (
    Run,
    check_writable,
    find_unfinished,
    has_ok_cell,
    locked,
    make_folder,
    read_run,
    set_boots_apart,
)


def make_run(results: Path, request: str) -> Run:
    folder = make_folder(results, "cpu")
    run = Run(folder, {"request": request, "finished_utc": None, "plan": [], "seed": 7})
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


def test_the_second_is_reported_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "cpu.lock"
    queue: multiprocessing.Queue[str] = multiprocessing.get_context("fork").Queue()
    with locked(path, "cpu"):
        child = multiprocessing.get_context("fork").Process(target=_try_lock, args=(path, queue))
        child.start()
        messages = queue.get(timeout=60)
        child.join()
    assert f"cpu is in use by process {os.getpid()}" in messages
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


def test_a_disk_without_room_is_left_as_it_was(tmp_path: Path) -> None:
    # a limit on files of no byte at all: names can be made, contents cannot
    code = (
        "import resource, sys; from pathlib import Path; from common.host.runs.run import check_writable\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "check_writable(Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert f"{tmp_path} cannot be written: File too large" in done.stderr
    assert not list(tmp_path.iterdir())


def test_whether_any_cell_was_measured(tmp_path: Path) -> None:
    run = make_run(tmp_path, "x")
    assert not has_ok_cell(run)
    contents = {"bad": b"status,message\ncrashed,ok\n", "torn": b"\xff\xfe\0", "empty": b"", "odd": b"message\nok\n"}
    for name, content in contents.items():
        (run.folder / "cells" / name).mkdir(parents=True)
        (run.folder / "cells" / name / "cell.csv").write_bytes(content)
        assert not has_ok_cell(run)
    (run.folder / "cells" / "good").mkdir()
    (run.folder / "cells" / "good" / "cell.csv").write_text("message,status\n,ok\n")
    assert has_ok_cell(run)


def linked(path: Path, target: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target)


#: where the host would write or append when a run goes on
PLACES = (
    "attempts.csv", "power.csv", ".run.json.new", "picture.npy", ".lock", "logs", "jobs", "cells", "unfinished", "staging",
    "metering", "logs/sidecar-cpu.log", "jobs/onnxrt_fp32_script_cpu_r0.json", "cells/key",
)  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_run_that_leads_elsewhere_is_not_continued(tmp_path: Path, place: str) -> None:
    """Such as one that was copied from somebody else."""
    older = make_run(tmp_path / "results", "same")
    run = make_run(tmp_path / "results", "same")
    victim = tmp_path / "victim"
    victim.mkdir()
    linked(run.folder / place, victim)
    messages: list[str] = []
    found = find_unfinished(tmp_path / "results", messages.append, request="same")
    assert found is not None and found.folder == older.folder
    assert messages == [f"{run.name} is not finished and is not continued: {place} is a link"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "x"), ("seed", None), ("plan", {}), ("plan", [[]]), ("continued_utc", "x"), ("earlier_boots", [7]),
        ("earlier_boots", [{"cells": [[]], "power": []}]), ("power", []), ("sidecar", 1), ("cooling", "x"),
        ("idle_without_context", {"cpu": 7}),
    ],
)  # fmt: skip
def test_a_run_whose_description_cannot_be_added_to_is_not_continued(tmp_path: Path, name: str, value: object) -> None:
    run = make_run(tmp_path, "same")
    run.description[name] = value
    run.save()
    messages: list[str] = []
    assert find_unfinished(tmp_path, messages.append, request="same") is None
    assert messages == [f"{run.name} is not finished and is not continued: run.json has no {name} that can be used"]


def test_a_fifo_or_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    run = make_run(tmp_path, "same")
    os.mkfifo(run.folder / "attempts.csv")
    assert find_unfinished(tmp_path, request="same") is None
    (run.folder / "attempts.csv").unlink()
    (run.folder / "logs").touch()
    assert find_unfinished(tmp_path, request="same") is None
