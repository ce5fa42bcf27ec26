"""Further forms of a model are made whole, in its folder."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from common.export import forms
from common.export.store import publish, temporary_folder
from common.held_folders import TEMPORARY, YOUNG_S
from common.model_files import ModelFiles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = ModelFiles(
        root=tmp_path, name="toy", hash="0123456789ab", onnx="model.onnx", keras=None, saved_model="saved",
        reference="reference.npz", input_shape=(4, 4, 3), layout="NHWC", onnx_input="x", onnx_output="y",
        output_kind="raw", classes=5, weights="user", weights_note="A toy.",
    )  # fmt: skip
    with temporary_folder(tmp_path / "models") as made:
        for name in ("model.onnx", "reference.npz"):
            (made / name).write_text("")
        (made / "saved").mkdir()
        return publish(made, replace(model, root=made), {})


def test_what_a_killed_process_left_of_a_form_is_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name for path in folder.iterdir()}
    monkeypatch.setitem(forms.FORMS, "tflite", replace(forms.FORMS["tflite"], make=lambda path: b"made"))
    (folder / f"{TEMPORARY}abc").mkdir()
    (folder / f"{TEMPORARY}abc" / "model.tflite").write_bytes(b"ha")
    long_ago = time.time() - 2 * YOUNG_S
    os.utime(folder / f"{TEMPORARY}abc", (long_ago, long_ago))
    forms.add(folder, ["tflite"])
    assert {path.name for path in folder.iterdir()} == {*before, "model.tflite"}
    assert (folder / "model.tflite").read_bytes() == b"made"
    assert ModelFiles.read(folder).form("tflite") == folder / "model.tflite"
