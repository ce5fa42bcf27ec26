"""What a container may leave in its staging folder, and what of it becomes the run's: cells that hold, and nothing else."""

from __future__ import annotations

import csv
import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from common import schema
from common.harness import journal
from common.harness.parity import Parity
from common.host.runners import cell_check, staging
from common.host.runners.staging import journal_rows, recover
from common.host.runs import untrusted
from tests.common.host.runners.staged_job import CELLS, NAME, Container, replace_by_fifo, replace_by_link

ONE, TWO, THREE = CELLS
SECRET = "of the host alone"


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host that no container may read, write or replace."""
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


def rows(run: Path) -> dict[str, dict[str, str]]:
    found = {}
    for path in run.glob("cells/*/cell.csv"):
        with path.open(newline="") as file:
            (found[path.parent.name],) = csv.DictReader(file)
    return found


def test_cells_are_taken_as_they_are_finished(container: Container) -> None:
    container.measure(ONE)
    (first,) = container.staging.take()
    assert (first.key, first.status) == (ONE.key, "ok")
    assert container.staging.take() == []
    container.measure(TWO)
    container.write(THREE, "oom", message="no memory")  # the supervisor was killed before it could journal it
    container.log()
    assert [(done.key, done.status, done.message) for done in container.staging.take_rest()] == [
        (TWO.key, "ok", ""), (THREE.key, "oom", "no memory"),
    ]  # fmt: skip
    for cell in CELLS:
        for path in container.path(cell).iterdir():
            taken = container.run / "cells" / cell.key / path.name
            assert taken.read_bytes() == path.read_bytes()
            assert not taken.samefile(path)
    assert [(row["event"], row["cell_key"], row["status"]) for row in journal_rows(container.run)] == [
        ("start", ONE.key, ""), ("finish", ONE.key, "ok"), ("start", TWO.key, ""), ("finish", TWO.key, "ok"),
        ("finish", THREE.key, "oom"),
    ]  # fmt: skip
    assert [path.read_text() for path in (container.run / "logs").iterdir()] == ["words\n"]
    assert container.staging.problems == []
    container.staging.remove()
    assert not container.folder.exists()


def test_what_is_written_after_a_cell_was_taken_changes_nothing(container: Container) -> None:
    container.measure(ONE)
    held = container.path(ONE, "samples.csv").open("r+")
    container.staging.take()
    before = (container.run / "cells" / ONE.key / "samples.csv").read_bytes()
    with held:
        held.write("0,0,0,\n" * 50)
    container.finish(ONE, "crashed")
    container.staging.take_rest()
    assert (container.run / "cells" / ONE.key / "samples.csv").read_bytes() == before
    assert rows(container.run)[ONE.key]["status"] == "ok"


def outgrown(path: Path) -> None:
    os.truncate(path, cell_check.MOST_BYTES[path.name] + 1)  # sparse


def bound(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's address is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def changed(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def due_at(instant: str) -> Callable[[Path], None]:
    """In the last column of each line."""
    return lambda path: [changed(f"{end},\n", f"{end},{instant}\n")(path) for end in (1500, 2600, 3700)] and None


#: file of a cell, what is done to it, what is said
HOSTILE: list[tuple[str, Callable[[Path], object], str]] = [
    ("cell.csv", replace_by_fifo, "cell.csv is a FIFO"),
    ("samples.csv", replace_by_fifo, "samples.csv is a FIFO"),
    ("samples.csv", bound, "samples.csv is a socket"),
    ("phases.csv", made_a_folder, "phases.csv is a folder"),
    ("samples.csv", Path.unlink, "samples.csv is missing"),
    ("samples.csv", outgrown, "samples.csv is larger than 1073741824 bytes"),
    ("cell.csv", outgrown, "cell.csv is larger than 262144 bytes"),
    ("samples.csv", lambda path: path.chmod(0), "samples.csv: permission denied"),
    ("samples.csv", lambda path: (path.parent / "more.so").write_text("x"), "more.so is no file of a cell"),
    ("samples.csv", lambda path: os.link(path, path.parents[2] / "again"), "samples.csv has 2 names"),
    ("cell.csv", changed(ONE.key, TWO.key), "cell.csv says cell_key"),
    ("cell.csv", changed(",onnxrt,", ",torch,"), "cell.csv says variant 'torch', the job 'onnxrt'"),
    ("cell.csv", changed("0" * 12, "1" * 12), "cell.csv says model_hash"),
    ("cell.csv", changed(",docker,", ",local,"), "cell.csv says runner 'local', the job 'docker'"),
    ("cell.csv", changed(",ok,", ",splendid,"), "cell.csv has the status 'splendid'"),
    ("cell.csv", changed(",3,", ",4,"), "cell.csv says 4 samples, samples.csv has 3"),
    ("cell.csv", changed("cell_key", "cell_kee"), "cell.csv has other columns"),
    ("cell.csv", changed(",w,", ",w\x1b[31m,"), "as worker"),
    ("cell.csv", changed(",3,", ",3e400,"), "as samples"),
    ("cell.csv", lambda path: path.write_bytes(b"\xff\xfe"), "cell.csv is no text"),
    ("cell.csv", lambda path: path.write_text(schema.to_csv("cell.csv", [])), "cell.csv has no row"),
    ("cell.csv", lambda path: path.write_text(path.read_text() + path.read_text().splitlines()[1]), "more than 1 rows"),
    ("cell.csv", changed(",w,", ',"w,'), "cell.csv is no CSV"),
    ("phases.csv", changed("measure", "import"), "phases.csv has the phase 'import' twice"),
    ("phases.csv", changed("measure", "dancing"), "phases.csv has the phase 'dancing'"),
    ("phases.csv", changed("1000,3700", "1000,"), "ends before it begins, or does not end"),
    ("samples.csv", changed("1,2000", "0,2000"), "samples.csv is not numbered from 0"),
    ("samples.csv", changed("2600", "26"), "samples.csv has an inference that ends before it begins"),
    ("samples.csv", changed("2600", "2600.5"), "samples.csv holds more than whole numbers"),
    ("samples.csv", changed("2600", "26-00"), "samples.csv has fields that are empty or no number"),
    ("samples.csv", changed("2600", "9" * 40), "samples.csv has fields that are empty or no number"),
    ("samples.csv", changed("2000,2600,", "2000,2600,7"), "samples.csv has fields that are empty or no number"),
    ("samples.csv", due_at("-9223372036854775808"), "samples.csv has fields that are empty or no number"),
    ("samples.csv", due_at("-7"), "samples.csv has an inference that ends before it begins"),
    ("samples.csv", changed("2600,\n", "2600,\n" + "1" * 5000), "samples.csv has fields that are empty or no number"),
    ("samples.csv", changed("3700,\n", "3700,"), "samples.csv ends in the middle of a line"),
]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["out'\"put\nline", "\x1b[31m", "no\u00a0break", "wide\u3000space", "\ud800", "\r", "x" * 40_000]
)
@pytest.mark.parametrize("outputs", [2, 1500])
def test_what_the_harness_says_of_outputs_of_any_name_and_number_is_taken(
    container: Container, name: str, outputs: int
) -> None:
    """And the same text raw is refused."""
    others = {f"StatefulPartitionedCall:{place}": place / 7e9 for place in range(outputs - 1)}
    verdict = Parity("raw", 1e-3, 0.5, 0.5, None, None, 0.0, output=name, by_output={name: 0.5, **others})
    container.write(ONE, **verdict.columns, message=verdict.reason)
    if name != "\ud800":  # which no file can hold
        container.write(TWO, **{**verdict.columns, "parity_output": name})
    for cell in (ONE, TWO):
        container.finish(cell)
    status = {settled.key: settled.status for settled in container.staging.take_rest()}
    assert status[ONE.key] == "ok"
    assert status[TWO.key] == "crashed"


@pytest.mark.parametrize(("name", "attack", "words"), HOSTILE, ids=[f"{n}: {w}" for n, _, w in HOSTILE])
def test_a_file_that_does_not_hold_costs_its_cell(
    container: Container, name: str, attack: Callable[[Path], object], words: str
) -> None:
    if "permission" in words and os.getuid() == 0:
        pytest.skip("root may read everything")
    for cell in CELLS:
        container.write(cell)
    attack(container.path(ONE, name))
    for cell in CELLS:
        container.finish(cell)
    done = {settled.key: settled for settled in container.staging.take_rest()}
    assert done[ONE.key].status == "crashed"
    assert done[ONE.key].message.startswith("what its container left is refused: ") and words in done[ONE.key].message
    row = rows(container.run)
    assert (row[ONE.key]["status"], row[ONE.key]["message"]) == ("crashed", done[ONE.key].message)
    assert row[ONE.key]["message"].isprintable()
    assert [row[cell.key]["status"] for cell in (TWO, THREE)] == ["ok", "ok"]
    assert sorted(path.name for path in (container.run / "cells").iterdir()) == sorted(cell.key for cell in CELLS)
    assert {line["cell_key"]: line["status"] for line in journal_rows(container.run) if line["status"]} == {
        ONE.key: "crashed", TWO.key: "ok", THREE.key: "ok",
    }  # fmt: skip
    container.staging.remove()
    assert not container.folder.exists()


@pytest.mark.parametrize("name", ["cell.csv", "phases.csv", "samples.csv"])
def test_a_link_is_not_followed_wherever_it_leads(container: Container, secret: Path, name: str) -> None:
    container.measure(ONE)
    replace_by_link(container.path(ONE, name), secret)
    container.measure(TWO)
    elsewhere = container.run / "elsewhere"
    container.path(TWO).rename(elsewhere)
    container.path(TWO).symlink_to(elsewhere)  # the files of a folder that hold, but not here
    done = container.staging.take()
    assert [settled.status for settled in done] == ["crashed", "crashed"]
    assert f"{name} is a link" in done[0].message
    assert "is a link" in done[1].message
    assert not any(SECRET in path.read_text() for path in container.run.glob("cells/*/*"))


def test_a_folder_of_cells_that_is_a_link(container: Container, tmp_path: Path) -> None:
    container.measure(ONE)
    (container.folder / "cells").rename(tmp_path / "cells")
    (container.folder / "cells").symlink_to(tmp_path / "cells")
    (done,) = container.staging.take_rest()
    assert (done.status, "cells is a link" in done.message) == ("crashed", True)
    assert container.staging.problems == [f"{NAME}: not taken from its container: cells is a link"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a device")
def test_a_device_is_not_opened(container: Container) -> None:
    container.measure(ONE)
    path = container.path(ONE, "samples.csv")
    path.unlink()
    try:
        os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        pytest.skip("this machine lets nobody make devices")
    (done,) = container.staging.take()
    assert "samples.csv is a device" in done.message


def test_a_place_of_another_job_is_nobodys_business(container: Container) -> None:
    container.measure(ONE)
    stranger = container.path(ONE).with_name("m_torch_fp32_b0001_host_single-stream_script_cpu_r0")
    shutil.copytree(container.path(ONE), stranger)
    journal.append(container.folder, "finish", stranger.name, "w", "ok")
    container.staging.take_rest()
    assert list(rows(container.run)) == [ONE.key]
    problems = container.staging.problems
    assert len(problems) == 2 and all(stranger.name in line and "none of its cells" in line for line in problems)
    assert [row["cell_key"] for row in journal_rows(container.run)] == [ONE.key, ONE.key]


def test_a_cell_that_the_run_has_stays(container: Container) -> None:
    container.write(ONE)
    cell = container.run / "cells" / ONE.key
    shutil.copytree(container.path(ONE), cell)
    (cell / "mark").write_text("earlier")
    again = staging.JobStaging(container.run, NAME, container.job, container.model, container.folder)
    container.finish(ONE)
    assert again.take_rest() == []
    assert (cell / "mark").read_text() == "earlier"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x" * 10_000, "attempts.csv has a line of more than 4096 bytes"),
        ("1,u,start\n", "attempts.csv has a row of 3 fields"),
        ("1,u,begin,KEY,w,,\n", "attempts.csv has a line that is neither start nor finish"),
        ("1,u,finish,KEY,w,grand,\n", "attempts.csv has a line that is neither start nor finish"),
        ("x,u,start,KEY,w,,\n", "attempts.csv has 'x' as t_ns"),
        ("1,u,start,KEY,w\x1b[2J,,\n", "as worker"),
        ("1,u,finish,KEY,w,interrupted,\n" * 100, "attempts.csv has more lines than its cells need"),
    ],
)
def test_a_journal_that_does_not_hold_is_left_and_cells_are_taken(container: Container, text: str, words: str) -> None:
    container.write(ONE)
    (container.folder / journal.FILE).write_text(text.replace("KEY", TWO.key))
    assert [done.status for done in container.staging.take_rest()] == ["ok"]
    (line,) = container.staging.problems
    assert words in line
    assert len((container.run / journal.FILE).read_text()) < 5000


def test_a_journal_that_is_a_link_or_fifo(container: Container, secret: Path) -> None:
    container.write(ONE)
    (container.folder / journal.FILE).symlink_to(secret)
    assert container.staging.take() == []
    assert [done.key for done in container.staging.take_rest()] == [ONE.key]
    assert container.staging.problems == [f"{NAME}: not taken from its container: attempts.csv is a link"]
    again = staging.JobStaging.make(container.run, NAME, container.job, container.model)
    os.mkfifo(again.folder / journal.FILE)
    assert again.take_rest() == []
    assert "attempts.csv is a FIFO" in again.problems[0]


def test_logs_go_nowhere_but_where_the_job_s_logs_are(container: Container, secret: Path) -> None:
    container.log(name=f"{NAME}.container.log")
    container.log(name="sidecar-cpu.log")
    container.log(name=f"torch_fp32_script_cpu_r0{container.log().name[len(NAME) :]}")
    link = container.folder / "logs" / f"{NAME}_20261128T120000_7-2.log"
    link.symlink_to(secret)
    large = container.log(name=f"{NAME}_20261128T120000_7-3.log")
    os.truncate(large, staging._MOST_LOG_BYTES + 1)
    container.staging.take_rest()
    assert [path.name for path in (container.run / "logs").iterdir()] == [f"{NAME}_20261128T120000_7-1.log"]
    assert len(container.staging.problems) == 5
    shutil.rmtree(container.folder / "logs")
    (container.folder / "logs").symlink_to(secret.parent)
    container.staging.take_rest()
    assert container.staging.problems[-1].endswith("logs: logs is a link")


def test_a_log_of_the_host_that_a_container_would_have_made_a_link_is_out_of_its_reach(container: Container) -> None:
    """The host writes logs/ of the run; what lies in the staging folder under the same name is another file."""
    assert not (container.run / "logs").exists()
    container.log()
    assert container.folder.parent.parent == container.run


def test_a_folder_without_end_and_a_cell_of_many_files(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    container.measure(ONE)
    for number in range(50):
        container.path(ONE, f"{number}").touch()
    for number in range(200):
        (container.folder / "cells" / f"no{number}").mkdir()
    (done,) = container.staging.take_rest()
    assert "a folder holds more than" in done.message
    assert any("a folder holds more than" in line for line in container.staging.problems)
    assert len(container.staging.problems) <= 10


def test_a_container_that_keeps_rewriting_while_it_is_harvested(container: Container, secret: Path) -> None:
    """Whatever is caught, it is whole and holds, or it is refused: never a mixture, never what a link leads to."""
    container.write(ONE)
    folder, ended = container.path(ONE), threading.Event()
    good = {path.name: path.read_bytes() for path in folder.iterdir()}

    def rewrite() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            path = folder / sorted(good)[number % 3]
            kind = number % 4
            path.unlink(missing_ok=True)
            if kind == 0:
                path.symlink_to(secret)
            elif kind == 1:
                os.mkfifo(path)
            else:
                path.write_bytes(good[path.name] if kind == 2 else b"x" * 100)

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        for number in range(300):
            run = container.run.with_name(f"run{number}")
            run.mkdir()
            taking = staging.JobStaging(run, NAME, container.job, container.model, container.folder)
            (done,) = taking.take_rest() or [None]
            if done is None:
                continue
            kept = {path.name: path.read_bytes() for path in (run / "cells" / ONE.key).iterdir()}
            if done.status == "ok":
                assert kept == good
            else:
                assert done.message.startswith("what its container left is refused: ")
            assert not any(SECRET.encode() in content for content in kept.values())
    finally:
        ended.set()
        thread.join()


def test_what_a_killed_start_left_is_taken_by_the_next_one(container: Container) -> None:
    (container.run / "jobs").mkdir()
    container.job.write(container.run / "jobs" / f"{NAME}.json")
    container.measure(ONE)
    container.staging.take()  # and here the host was killed
    container.measure(TWO)
    journal.append(container.folder, "start", THREE.key, "w")
    unknown = container.run / "staging" / "nobody_knows.1-0"
    shutil.copytree(container.folder, unknown)
    assert recover(container.run, container.model) == []
    assert sorted(rows(container.run)) == sorted([ONE.key, TWO.key])
    lines = [(row["event"], row["cell_key"]) for row in journal_rows(container.run)]
    assert lines == [
        ("start", ONE.key),
        ("finish", ONE.key),
        ("start", TWO.key),
        ("finish", TWO.key),
        ("start", THREE.key),
    ]
    assert not (container.run / "staging").exists()


def test_folders_that_do_not_want_to_go(tmp_path: Path, secret: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(secret.parent)
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(3000):  # deeper than a path may be long, and than Python calls itself
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    (top / "closed" / "in").mkdir(parents=True)
    (top / "closed").chmod(0)
    untrusted.remove_folder(top)
    assert not top.exists() and secret.read_text() == SECRET
    top.symlink_to(secret.parent)
    untrusted.remove_folder(top)
    assert secret.exists()


def test_a_file_that_is_too_large_is_refused_before_anything_of_it_is_copied(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    container.measure(ONE)
    outgrown(container.path(ONE, "samples.csv"))
    monkeypatch.setattr(untrusted, "read_part", lambda *of: pytest.fail("it was read"))
    with untrusted.opened_folder(container.path(ONE)) as folder, pytest.raises(untrusted.Refused, match="larger"):
        untrusted.copy_file("samples.csv", folder, container.run / "copy", cell_check.MOST_BYTES["samples.csv"])
