"""Folders of models: whole or not there, and the same for two exporters at once."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.export.store import Digest, existing, publish, temporary_folder
from common.held_folders import (
    STALE_AFTER_S,
    TEMPORARY,
    YOUNG_S,
    held_folder,
    holding,
    is_held,
    owner,
    remove_abandoned,
)
from common.model_files import ModelFiles


def fill(folder: Path, content: str = "weights") -> ModelFiles:
    (folder / "model.onnx").write_text(content)
    (folder / "reference.npz").write_text("")
    return ModelFiles(
        root=folder, name="toy", hash="0123456789ab", onnx="model.onnx", keras=None, saved_model=None,
        reference="reference.npz", input_shape=(4, 4, 3), layout="NHWC", onnx_input="x", onnx_output="y",
        output_kind="raw", classes=5, weights="user", weights_note="A toy.",
    )  # fmt: skip


def test_published_folder_can_be_read_back(tmp_path: Path) -> None:
    with temporary_folder(tmp_path / "models") as folder:
        model = fill(folder)
        assert not existing(tmp_path / "models", "toy", "0123456789ab")
        final = publish(folder, model, {"parameters": 3})
    assert final == tmp_path / "models" / "toy-0123456789ab"
    assert existing(tmp_path / "models", "toy", "0123456789ab")
    assert ModelFiles.read(final).describe() == model.describe()
    assert json.loads((final / "model.json").read_text())["files"]["model.onnx"]["bytes"] == len("weights")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["toy-0123456789ab"]


def test_the_second_of_two_exporters_keeps_the_first_ones_files(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as one, temporary_folder(tmp_path) as other:
        assert publish(one, fill(one, "first"), {}) == publish(other, fill(other, "second"), {})
    assert (tmp_path / "toy-0123456789ab" / "model.onnx").read_text() == "first"
    assert len(list(tmp_path.iterdir())) == 1


def lose(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, 3)


def replace_folder_by_file(folder: Path) -> None:
    shutil.rmtree(folder / "saved_model")
    (folder / "saved_model").write_text("")


def replace_file_by_folder(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx" / "within").mkdir(parents=True)


@pytest.mark.parametrize(
    "harm",
    [
        lose("model.onnx"), lose("reference.npz"), lose("model.json"), lose("classes.txt"),
        lose("saved_model/variables/index"), cut("model.onnx"), cut("model.json"), cut("saved_model/variables/index"),
        replace_folder_by_file, replace_file_by_folder, lambda folder: shutil.rmtree(folder / "saved_model"),
    ],
)  # fmt: skip
def test_a_folder_that_lacks_a_file_is_completed(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    def export() -> Path:
        with temporary_folder(tmp_path) as folder:
            (folder / "saved_model" / "variables").mkdir(parents=True)
            (folder / "saved_model" / "variables" / "index").write_text("index of the variables")
            (folder / "classes.txt").write_text("cat\ndog\n")
            return publish(folder, replace(fill(folder), saved_model="saved_model"), {})

    final = export()
    whole = {path.relative_to(final): path.read_bytes() for path in final.rglob("*") if path.is_file()}
    harm(final)
    (final / "mine").write_text("somebody's own")
    assert not existing(tmp_path, "toy", "0123456789ab")
    assert export() == final
    assert existing(tmp_path, "toy", "0123456789ab")
    (final / "mine").unlink()
    assert {path.relative_to(final): path.read_bytes() for path in final.rglob("*") if path.is_file()} == whole
    assert [path.name for path in tmp_path.iterdir()] == [final.name]


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "toy-0123456789ab").write_text("mine")
    with temporary_folder(tmp_path) as folder, pytest.raises(OSError, match="toy-0123456789ab"):
        publish(folder, fill(folder), {})
    assert (tmp_path / "toy-0123456789ab").read_text() == "mine"


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), temporary_folder(tmp_path) as folder:
        fill(folder)
        raise RuntimeError("killed half-way")
    assert not list(tmp_path.iterdir())


def aged(folder: Path, seconds: float) -> None:
    moment = folder.stat().st_mtime - seconds
    os.utime(folder, (moment, moment))


def test_what_killed_exporters_left_is_removed(tmp_path: Path) -> None:
    """Neither a folder that somebody still writes, however old, nor one that is too young to tell, nor anything else."""
    for name, age in ((".tmp-left", YOUNG_S + 60), (".tmp-young", 60.0), ("kept", 10 * YOUNG_S)):
        (tmp_path / name).mkdir()
        aged(tmp_path / name, age)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".tmp-link").symlink_to(tmp_path / "elsewhere")
    os.utime(tmp_path / ".tmp-link", (0, 0), follow_symlinks=False)
    with held_folder(tmp_path) as busy:
        aged(busy, 10 * STALE_AFTER_S)
        with temporary_folder(tmp_path):
            assert {path.name for path in tmp_path.iterdir()} >= {".tmp-young", "kept", busy.name, "elsewhere"}
            assert not (tmp_path / ".tmp-left").exists()
        assert is_held(busy)
    assert not is_held(busy)


def test_what_the_exporter_of_a_dead_process_left_is_removed_at_once(tmp_path: Path) -> None:
    def names(parent: Path) -> set[str]:
        return {path.name for path in parent.iterdir()}

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    alive = owner()
    place = alive.rsplit("-", 2)[0]
    left = tmp_path / f"{TEMPORARY}{place}-{ended.pid}-0123abcd-xyz"
    other_boot = tmp_path / f"{TEMPORARY}00000000-1-{ended.pid}-0123abcd-xyz"  # of another machine, or a container
    handed_over = tmp_path / f"{TEMPORARY}{alive}0123abcd-xyz"
    for folder in (left, other_boot, handed_over):
        folder.mkdir()
    with holding(left):
        remove_abandoned(tmp_path)
        assert names(tmp_path) == {left.name, other_boot.name, handed_over.name}
    remove_abandoned(tmp_path)
    assert names(tmp_path) == {other_boot.name, handed_over.name}


def test_an_owner_whose_process_belongs_to_another_user_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With /proc mounted `hidepid` it is not seen there; a signal to it is refused."""
    place = owner().rsplit("-", 2)[0]
    folder = tmp_path / f"{TEMPORARY}{place}-1234-0123abcd-xyz"
    folder.mkdir()
    (tmp_path / f"{TEMPORARY}{place}-{10**20}-0123abcd-xyz").mkdir()  # no number of a process

    def refuse(pid: int, number: int) -> None:
        assert number == 0
        raise PermissionError(errno.EPERM, "Operation not permitted") if pid == 1234 else OverflowError

    monkeypatch.setattr(os, "kill", refuse)
    remove_abandoned(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(os, "kill", lambda pid, number: (_ for _ in ()).throw(ProcessLookupError))
    remove_abandoned(tmp_path)
    assert not list(tmp_path.iterdir())


def test_where_locks_are_unknown_only_old_folders_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    for name, age in ((".tmp-old", STALE_AFTER_S + 60), (".tmp-busy", YOUNG_S + 60)):
        (tmp_path / name).mkdir()
        aged(tmp_path / name, age)
    remove_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".tmp-busy"]


def test_whoever_comes_to_hold_a_folder_waits_for_one_who_looks_whether_it_is_held(tmp_path: Path) -> None:
    looking = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(looking, fcntl.LOCK_EX)
    done = threading.Timer(0.2, os.close, (looking,))
    done.start()
    with holding(tmp_path):
        done.join()
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write models to"), temporary_folder(tmp_path / "file" / "models"):
        pass


def test_incomplete_folder_does_not_exist(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as folder:
        final = publish(folder, fill(folder), {})
    (final / "model.onnx").unlink()
    assert not existing(tmp_path, "toy", "0123456789ab")


def test_digest_depends_on_label_shape_type_and_values() -> None:
    def digest(label: str, values: np.ndarray) -> str:
        made = Digest()
        made.array(label, values)
        return made.short()

    values = np.arange(6, dtype=np.float32)
    different = [
        digest("a", values),
        digest("b", values),
        digest("a", values.reshape(2, 3)),
        digest("a", values.astype(np.float64)),
        digest("a", values + 1),
    ]
    assert len(set(different)) == len(different)
    assert digest("a", values) == digest("a", values.astype(">f4")) == digest("a", np.repeat(values, 2)[::2])
    assert len(different[0]) == 12
