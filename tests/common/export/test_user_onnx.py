"""A user's ONNX file: what is taken, and one clear line for what is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from common.host.models import Asked, ensure_model, find_model
from common.model_files import ModelFiles

pytestmark = pytest.mark.framework

BAD = {
    "words": ["words.onnx", "is not an ONNX file"],
    "empty": ["empty.onnx", "is not an ONNX file"],
    "cut": ["cut.onnx", "is not an ONNX file"],
    "two-inputs": ["2 inputs", "'picture', 'mask'"],
    "bytes": ["'picture'", "uint8", "float32"],
    "half": ["'picture'", "float16", "float32"],
    "fixed": ["axis 0", "'picture'", "fixed at 1", "re-export", "dynamic_axes"],
    "sizes": ["axis 2", "'picture'", "height", "re-export"],
    "flat": ["(b, 7)", "4 axes"],
    "channels": ["(b, 7, 8, 9)", "channels"],
    "reshape": ["'classes'", "16 images"],
    "picture": ["no output", "'other'"],
    "overflow": ["not finite", "--input-range"],
    "unknown": ["ONNX Runtime does not accept it", "NoSuchOperator"],
    "external": ["external.onnx", "weights in another file"],
}


def export(file: Path, out: Path, python: Path, **options: Any) -> ModelFiles:
    return ensure_model(str(file), out, lambda image: python, lambda step, steps, name: None, Asked(**options))


@pytest.mark.parametrize("name", BAD)
def test_unusable_file_is_one_line_and_leaves_nothing(
    name: str, tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as raised:
        export(tiny_models / f"{name}.onnx", tmp_path / "models", onnxrt_python)
    message = str(raised.value)
    assert "\n" not in message
    for part in BAD[name]:
        assert part in message
    assert not list((tmp_path / "models").glob("*"))


@pytest.mark.parametrize(
    ("name", "layout", "shape", "kind"),
    [
        ("first", "NCHW", (3, 12, 16), "probabilities"),
        ("last", "NHWC", (12, 16, 3), "probabilities"),
        ("raw", "NCHW", (3, 12, 16), "raw"),
        ("grey", "NCHW", (1, 12, 16), "probabilities"),
        ("two-outputs", "NCHW", (3, 12, 16), "probabilities"),
    ],
)
def test_usable_file(
    name: str, layout: str, shape: tuple[int, ...], kind: str, tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    steps: list[tuple[int, int, str]] = []
    model = ensure_model(
        str(tiny_models / f"{name}.onnx"), tmp_path, lambda image: onnxrt_python, lambda *step: steps.append(step)
    )
    assert (model.name, model.layout, model.input_shape, model.output_kind) == (name, layout, shape, kind)
    assert (model.classes, model.weights, model.keras, model.saved_model) == (5, "user", None, None)
    assert model.onnx_input == "picture"
    assert model.onnx_output == ("scores" if kind == "raw" else "classes")
    assert [step for step, _, _ in steps] == list(range(1, steps[0][1] + 1))
    reference = np.load(model.path(model.reference))
    assert reference["inputs"].shape == (8, *shape)
    assert reference["inputs"].dtype == np.float32
    assert 0 <= reference["inputs"].min() < 60 < 200 < reference["inputs"].max() <= 255
    assert reference["outputs"].shape == (8, 5)
    if kind == "probabilities":
        np.testing.assert_allclose(reference["outputs"].sum(axis=1), 1, atol=1e-6)
    extra = json.loads((model.root / "model.json").read_text())
    assert "Constant" not in extra["onnx_node_counts"]
    assert set(extra["files"]) == {"model.onnx", "reference.npz"}


def test_second_call_exports_nothing_and_other_range_exports_anew(
    tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    file = tiny_models / "first.onnx"
    first = export(file, tmp_path, onnxrt_python)

    def not_again(image: str) -> Path:
        raise AssertionError("exported again")

    assert ensure_model(str(file), tmp_path, not_again, lambda *step: None) == first
    scaled = export(file, tmp_path, onnxrt_python, input_range=(-1.0, 1.0))
    assert scaled.hash != first.hash
    inputs = np.load(scaled.path(scaled.reference))["inputs"]
    assert -1 <= inputs.min() < -0.5 < 0.5 < inputs.max() <= 1


def test_two_exports_of_the_same_file_are_the_same_model(
    tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    first = export(tiny_models / "last.onnx", tmp_path / "one", onnxrt_python)
    second = export(tiny_models / "last.onnx", tmp_path / "two", onnxrt_python)
    assert first.hash == second.hash


def test_users_model_never_passes_for_a_registered_one(tiny_models: Path, onnxrt_python: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_models / "first.onnx", tmp_path / "MobileNetV3L.onnx")
    model = export(tmp_path / "MobileNetV3L.onnx", tmp_path / "models", onnxrt_python)
    assert model.name == "MobileNetV3L"
    assert find_model(tmp_path / "models", "MobileNetV3L") is None
    assert find_model(tmp_path / "models", "MobileNetV3L", "user") == model


def test_awkward_stem_becomes_a_safe_name(tiny_models: Path, onnxrt_python: Path, tmp_path: Path) -> None:
    awkward = tmp_path / "my model_v1 (final).onnx"
    shutil.copy(tiny_models / "first.onnx", awkward)
    assert export(awkward, tmp_path / "models", onnxrt_python).name == "my-model-v1-final"
