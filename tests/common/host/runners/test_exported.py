"""What an exporter's container may leave in its folder, and what of it becomes a model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserError
from common.host.models import find_model, read_progress
from common.host.runners.exported import DOWNLOADS, exporters_folder, take_model
from common.model_files import DESCRIPTION, ModelFiles
from tests.common.host.runners.staged_job import model as toy

NAME = "m-" + "0" * 12


def describe(root: Path, **fields: object) -> None:
    files = {name: {"bytes": (root / name).stat().st_size} for name in ("m.onnx", "r.npz")}
    model = replace(toy(root), onnx="m.onnx", forms=None)
    (root / DESCRIPTION).write_text(json.dumps({**model.describe(), "files": files, **fields}))


def export(root: Path, content: str = "weights") -> Path:
    root.mkdir()
    (root / "m.onnx").write_text(content)
    (root / "r.npz").write_text("reference")
    describe(root)
    return root


def test_a_model_is_moved_and_its_folder_goes(tmp_path: Path) -> None:
    with exporters_folder(tmp_path) as folder:
        assert find_model(tmp_path, "m") is None
        export(folder / NAME)
        (folder / DOWNLOADS / "weights.h5").write_text("x")
        model = take_model(folder, NAME, tmp_path)
    assert (model.root, model.path(model.onnx).read_text()) == (tmp_path / NAME, "weights")
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert find_model(tmp_path, "m") == model


def test_the_first_of_two_exports_stays_unless_it_lacks_files(tmp_path: Path) -> None:
    for content, there in (("first", "first"), ("second", "first")):
        with exporters_folder(tmp_path) as folder:
            export(folder / NAME, content)
            assert take_model(folder, NAME, tmp_path).path("m.onnx").read_text() == there
    (tmp_path / NAME / "r.npz").unlink()
    with exporters_folder(tmp_path) as folder:
        export(folder / NAME, "third")
        assert take_model(folder, NAME, tmp_path).path("m.onnx").read_text() == "third"
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / "m.onnx").unlink()
        make(root / "m.onnx")

    return change


def nested(root: Path) -> None:
    for _ in range(20):
        root = root / "a"
        root.mkdir()


def linked(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))
    root.symlink_to("elsewhere")


#: what is done to the model's folder, what is said
HOSTILE: list[tuple[Callable[[Path], object], str]] = [
    (replaced(lambda path: path.symlink_to("/etc/passwd")), "m.onnx is a link"),
    (replaced(os.mkfifo), "m.onnx is a FIFO"),
    (lambda root: os.link(root / "m.onnx", root / "again"), "has 2 names"),
    (lambda root: (root / "deep").symlink_to("/etc"), "deep is a link"),
    (linked, "is a link"),
    (nested, "folders lie more than 16 deep"),
    (lambda root: (root / DESCRIPTION).unlink(), "model.json is missing"),
    (lambda root: os.truncate(root / DESCRIPTION, 2**30), "model.json is larger than"),
    (lambda root: (root / DESCRIPTION).write_text("[" * 10_000), "is not a model description"),
    (lambda root: describe(root, classes=10**400), "is not a model description"),
    (lambda root: describe(root, onnx="../../victim"), "is no file within the folder"),
    (lambda root: describe(root, reference="/etc/passwd"), "is no file within the folder"),
    (lambda root: describe(root, forms={"tflite": "a/../../../b"}), "is no file within the folder"),
    (lambda root: describe(root, input_range=["low", 10**400]), "has an input_range that is none"),
    (lambda root: describe(root, input_range=7), "has an input_range that is none"),
    (lambda root: describe(root, name="other"), "model.json is of other-"),
    (lambda root: describe(root, files={"../../x": {"bytes": 1}}), "is missing or of another size"),
    (lambda root: (root / "r.npz").unlink(), "is missing or of another size"),
    (lambda root: (root / "m.onnx").write_text("longer than it says"), "is missing or of another size"),
]  # fmt: skip


@pytest.mark.parametrize(("attack", "words"), HOSTILE, ids=[words for _, words in HOSTILE])
def test_what_is_no_model_is_refused_and_goes(tmp_path: Path, attack: Callable[[Path], object], words: str) -> None:
    with pytest.raises(UserError, match=words) as raised, exporters_folder(tmp_path) as folder:
        attack(export(folder / NAME))
        take_model(folder, NAME, tmp_path)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 600
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "/etc", "", ".", "a\nb", "\x1b[31m", DOWNLOADS, "x" * 300])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="is refused: its name is"), exporters_folder(tmp_path) as folder:
        take_model(folder, name, tmp_path)


def test_more_forms_and_nothing_else(tmp_path: Path) -> None:
    export(tmp_path / NAME)
    before = ModelFiles.read(tmp_path / NAME)

    def add(root: Path, **fields: object) -> None:
        (root / "m.tflite").write_text("lite")
        describe(root, forms={"onnx": "m.onnx", "tflite": "m.tflite"}, **fields)

    for harm, words in (
        (lambda root: add(root, weights="imagenet"), "has changed beyond its forms"),
        (lambda root: (add(root), (root / "m.onnx").write_text("WEIGHTS")), "m.onnx has changed"),
    ):
        with pytest.raises(UserError, match=words), exporters_folder(tmp_path, before) as folder:
            harm(folder / NAME)
            take_model(folder, NAME, tmp_path, before)
        assert ModelFiles.read(tmp_path / NAME).forms == before.forms
    with exporters_folder(tmp_path, before) as folder:
        add(folder / NAME)
        model = take_model(folder, NAME, tmp_path, before)
    assert model.form("tflite").read_text() == "lite" and model.form("onnx").read_text() == "weights"
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_what_an_exporter_prints_is_progress_or_nothing() -> None:
    steps: list[tuple[int, int, str]] = []
    lines = [
        "words", "[]", "7", "{" * 50_000, '{"step": 1}', '{"step": "1", "steps": 2, "name": "x"}', '{"folder": ["a"]}',
        '{"step": ' + "9" * 400 + ', "steps": -1, "name": "a\\u001b[31m\\nb"}', '{"folder": "m"}', '{"folder": null}',
    ]  # fmt: skip
    assert read_progress(lines, lambda *step: steps.append(step)) == "m"
    assert steps == [(1000, 0, "a [31m b")]
