"""What `invoke clean` takes for left behind by a kill."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from common.held_folders import TEMPORARY, holding, is_held
from common.host import temporary
from common.host.cleaning import leftovers
from common.host.frameworks.environments import size_of
from common.host.paths import ROOT, DataFolder
from common.host.runs import archive
from common.host.runs.archive import seal, unpacked
from common.host.temporary import temporary_folder
from tests.common.host.runs.test_find import make_run

PLACES = (
    "models",
    "models/BERT-Tiny-0123",
    "framework-cache/processes/onnxrt",
    "framework-cache/framewatt/tensorrt/engines",
    "host-cache/unsealed",
)


def age(folder: Path) -> None:
    """Older than what is left alone because its maker may not have come to lock it."""
    moment = time.time() - 120
    os.utime(folder, (moment, moment))


@pytest.mark.parametrize("place", PLACES)
def test_what_a_kill_left_of_a_whole_write_goes_and_what_is_held_stays(tmp_path: Path, place: str) -> None:
    data = DataFolder(tmp_path)
    left, at_work = (tmp_path / place / f"{TEMPORARY}{name}" for name in ("left", "at-work"))
    for folder in (left, at_work):
        folder.mkdir(parents=True)
        (folder / "part").write_text("half")
        two_days_ago = time.time() - 2 * 24 * 3600
        os.utime(folder, (two_days_ago, two_days_ago))
    (tmp_path / place / "whole").write_text("whole")
    with holding(at_work):
        assert leftovers(data) == [left]
    assert leftovers(data) == [at_work, left]


def test_what_a_killed_verify_left_goes_and_what_is_held_or_another_users_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    left, not_ours = tmp_path / "tmp" / "framewatt-verify-abc", tmp_path / "tmp" / "framewatt-verify-link"
    (left / "tmp").mkdir(parents=True)
    (left / "tmp" / "ccabcdef.s").write_text("half")
    not_ours.symlink_to(tmp_path)
    age(left)
    (tmp_path / "tmp" / "framewatt-other-abc").mkdir()
    data = DataFolder(tmp_path / "data")
    with temporary_folder("verify") as held, temporary_folder("order") as other:
        age(held)
        age(other)
        assert held.parent == left.parent
        assert leftovers(data) == [left]
    assert not held.exists()
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    assert leftovers(data) == []


def test_a_killed_process_leaves_what_clean_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = (
        "import time\nfrom common.host.temporary import temporary_folder\n"
        "with temporary_folder('verify'):\n    print(flush=True)\n    time.sleep(3600)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (folder,) = tmp_path.glob("framewatt-verify-*")
        age(folder)
        assert temporary.leftovers() == []
        process.kill()
        process.wait()
    assert temporary.leftovers() == [folder]


def test_a_folder_that_its_maker_has_not_come_to_lock_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = Path(tempfile.mkdtemp(prefix="framewatt-docker-"))
    assert temporary.leftovers() == []
    age(made)
    assert temporary.leftovers() == [made]


def test_a_folder_is_held_until_it_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    held = []
    remove = shutil.rmtree

    def watched(folder: Path, **options: Any) -> None:
        held.append(is_held(Path(folder)))
        remove(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", watched)
    with pytest.raises(KeyboardInterrupt), temporary_folder("verify") as folder:
        (folder / "part").write_text("half")
        raise KeyboardInterrupt
    assert held == [True]
    assert not list(tmp_path.iterdir())


def test_what_goes_while_its_size_is_taken_counts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below" / "deep").mkdir(parents=True)
    for name, text in (("a", "four"), ("b", "gone"), ("below/c", "seven77"), ("below/deep/d", "gone")):
        (tmp_path / name).write_text(text)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "up").symlink_to(tmp_path)
    assert size_of(tmp_path) == 19
    look = Path.lstat

    def removing(path: Path) -> os.stat_result:
        (tmp_path / "b").unlink(missing_ok=True)
        if path.name == "c":
            shutil.rmtree(tmp_path / "below" / "deep")
        return look(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "lstat", removing)
        found = size_of(tmp_path)
    assert found == size_of(tmp_path) == 11
    assert size_of(tmp_path / "none") == 0


def test_links_that_containers_made_are_not_followed(tmp_path: Path) -> None:
    data, elsewhere = DataFolder(tmp_path / "data"), tmp_path / "elsewhere"
    (elsewhere / f"{TEMPORARY}mine").mkdir(parents=True)
    for folder in (data.models, data.framework_cache("onnxrt")):
        folder.mkdir(parents=True)
        (folder / "linked").symlink_to(elsewhere)
        (folder / f"{TEMPORARY}linked").symlink_to(elsewhere)
    assert leftovers(data) == []


def test_a_data_folder_on_another_disk_is_cleaned(tmp_path: Path) -> None:
    data, disk = DataFolder(tmp_path / "data"), tmp_path / "disk"
    (disk / "m" / f"{TEMPORARY}left").mkdir(parents=True)
    data.root.mkdir()
    data.models.symlink_to(disk)
    assert leftovers(data) == [data.models / "m" / f"{TEMPORARY}left"]


def test_a_run_that_is_being_unpacked_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataFolder(tmp_path / "data")
    sealed = seal(make_run(tmp_path / "r1"))
    seen: list[list[Path]] = []
    put = archive._put_in_place

    def watched(part: Path, place: Path, note: Path) -> None:
        assert part.is_dir()
        seen.append(leftovers(data))
        put(part, place, note)

    monkeypatch.setattr(archive, "_put_in_place", watched)
    unpacked(sealed, data.host_cache)
    assert seen == [[]]
