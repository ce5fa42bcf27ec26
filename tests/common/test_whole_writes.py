"""What several processes may make at once is there whole or not at all, whatever their ids are."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from common.held_folders import TEMPORARY
from common.whole_writes import whole, write_whole

ROOT = Path(__file__).resolve().parents[2]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make(part: Path, text: str) -> None:
    """A folder with a file in a folder."""
    (part / "in").mkdir(parents=True)
    (part / "in" / "file").write_text(text)


def test_a_file_of_several_writers_of_one_process_id_is_one_of_theirs_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model.onnx"
    with whole(target) as one:
        one.write_text("half")
        with whole(target) as other:
            assert other != one and other.name == one.name == "model.onnx"
            other.write_text("the other's")
        assert target.read_text() == "the other's"
        one.write_text("mine, whole")
        assert target.read_text() == "the other's"
    assert target.read_text() == "mine, whole" and names(target.parent) == ["model.onnx"]


def test_threads_that_write_at_once_leave_no_mixture(tmp_path: Path) -> None:
    target, texts = tmp_path / "blob", [bytes([number]) * 200_000 for number in range(8)]
    threads = [threading.Thread(target=write_whole, args=(target, text)) for text in texts for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() in texts and names(tmp_path) == ["blob"]


def test_others_may_read_what_was_made(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "blob", b"x")
        with whole(tmp_path / "folder") as part:
            make(part, "x")
    finally:
        os.umask(before)
    assert (tmp_path / "blob").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space left"), KeyboardInterrupt(), ValueError("x")])
@pytest.mark.parametrize("folder", [False, True])
def test_nothing_is_left_of_one_that_was_not_finished(tmp_path: Path, error: BaseException, folder: bool) -> None:
    target = tmp_path / "target"
    for before in (False, True):
        if before:
            target.write_text("before") if not folder else make(target, "before")
        with pytest.raises(type(error)), whole(target) as part:
            make(part, "half") if folder else part.write_text("half")
            raise error
        assert names(tmp_path) == (["target"] if before else [])
    assert (target / "in" / "file" if folder else target).read_text() == "before"


def test_a_writer_that_wrote_nothing_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole(tmp_path / "x"):
        pass
    assert names(tmp_path) == []


def test_a_folder_takes_the_place_of_the_broken_one_that_its_maker_found(tmp_path: Path) -> None:
    make(tmp_path / "engine", "broken")
    with whole(tmp_path / "engine") as part:
        make(part, "good")
    assert (tmp_path / "engine" / "in" / "file").read_text() == "good" and names(tmp_path) == ["engine"]


@pytest.mark.parametrize("broken", [False, True])
def test_of_two_that_make_a_folder_the_first_one_stays_for_those_who_read_it(tmp_path: Path, broken: bool) -> None:
    target = tmp_path / "engine"
    if broken:
        make(target, "broken")
    with whole(target) as one, whole(target) as other:
        make(one, "one's")
        make(other, "other's")
    # the inner one was there first
    assert (target / "in" / "file").read_text() == "other's" and names(tmp_path) == ["engine"]


def test_what_a_killed_writer_left_the_next_one_removes(tmp_path: Path) -> None:
    code = "import os, signal, sys; from pathlib import Path; from common.whole_writes import whole\n"
    code += f"with whole(Path({str(tmp_path / 'x')!r})) as part:\n part.write_text('half'); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -9
    assert [name.startswith(TEMPORARY) for name in names(tmp_path)] == [True]
    with whole(tmp_path / "y") as alive:  # one at work is left alone
        alive.write_text("y")
        write_whole(tmp_path / "x", b"whole")
        assert len(names(tmp_path)) == 2
    assert names(tmp_path) == ["x", "y"]


def test_no_path_is_told_apart_by_a_process_id() -> None:
    """All containers have a process 1, and threads share an id: such names are no names of one's own."""
    number_in_name = re.compile(r"\{(os\.)?(getpid|get_ident|get_native_id)\(\)\}|\.ident\}")
    of_path = re.compile(r"with_name|with_suffix|joinpath|scratch\(| / f[\"']")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("common", "images", "analysis")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in path.read_text().splitlines()
        if number_in_name.search(line) and of_path.search(line)
    ]
    # the loop around it takes the next number where the name is taken
    assert found == ['common/host/runners/staging.py: folder = top / f"{name}.{os.getpid()}-{number}"']
