"""A user's ONNX file: what is taken, and one clear line for what is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from common.harness.adapter import Unsupported
from common.harness.reference import Reference
from common.host.models import ExportOptions, ensure_model, find_model, find_user_model
from common.model_files import ModelFiles
from tests.common.export.conftest import run_python

pytestmark = pytest.mark.framework

HERE = Path(__file__).parent

BAD: dict[str, tuple[list[str], dict[str, Any]]] = {
    "words": (["words.onnx", "is not an ONNX file"], {}),
    "empty": (["empty.onnx", "is not an ONNX file"], {}),
    "cut": (["cut.onnx", "is not an ONNX file"], {}),
    "sizes": (["axis 2", "'picture'", "'height'", "--shape 'height=224'"], {}),
    "first": (["'hight'", "there is batch, picture"], {"shape": "hight=8"}),
    "last": (["axis 1", "fixed at 12", "says 13"], {"shape": "picture=N,13,16,3"}),
    "raw": (["--rebatch is for a fixed batch"], {"rebatch": True}),
    "stuck": (["cannot be made dynamic", "a batch of 2 fails"], {"rebatch": True}),
    "mixing": (["cannot be made dynamic", "differs from that of single runs"], {"rebatch": True}),
    "unknown": (["ONNX Runtime does not accept it", "NoSuchOperator"], {}),
    "odd-output": (["odd-output.onnx has no output"], {}),
    "odd-input": (["odd-input.onnx: tensor 'picture' is of type 99, which onnx "], {}),
    "odd-weight": (["odd-weight.onnx: tensor 'w' is of type 99, which onnx "], {}),
    "external": (["external.onnx", "weights in another file"], {}),
    "sequence": (["'picture' is sequence_type", "no tensor"], {}),
    "sequence-alone": (["has no output that is a tensor: 'parts' is seq(tensor(float))"], {}),
    "bfloat16-alone": (
        ["has no output that can be compared: 'y' is bfloat16; float32, float64, float16, bool, text, int8"],
        {},
    ),
    "float8-alone": (["has no output that can be compared: 'y' is float8e4m3fn; float32, "], {}),
    "bfloat16-in": (["input 'x' is bfloat16, which cannot be fed; float32, float64, float16, bool, text, int8"], {}),
    "opset-99": (["does not accept it", "ONNX Runtime only *guarantees* support"], {}),
    "zero-batch": (["axis 0 of input 'x' (0, 4) has the size 0", "--shape 'x=N,4'"], {}),
    "zero-inner": (["axis 1 of input 'x' (4, 0) has the size 0", "--shape 'x=4,128'"], {}),
    "zero-wide": (["axis 1 of input 'e' (N, 0) has the size 0"], {"shape": "N=N"}),
    "expand": (["expand.onnx cannot be made dynamic: a batch of 1 fails"], {"rebatch": True}),
    "counted": (["'s + 1'", "--shape 's=1,s + 1=2'"], {"shape": "s=1"}),
    "less-mean": (["takes no picture, which --input-range, --mean and --std are for"], {"mean": "0.5", "std": "0.5"}),
    "no-rank": (["does not tell the shape of input 'x'", "--shape 'x=N,3,224,224'"], {}),
}


def export(file: Path, out: Path, python: Path, **options: Any) -> ModelFiles:
    return ensure_model(str(file), out, lambda image: python, lambda step, steps, name: None, ExportOptions(**options))


@pytest.mark.parametrize("name", BAD)
def test_unusable_file_is_one_line_and_leaves_nothing(
    name: str, tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    parts, requested = BAD[name]
    with pytest.raises(UserError) as raised:
        export(tiny_models / f"{name}.onnx", tmp_path / "models", onnxrt_python, **requested)
    message = str(raised.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert not list((tmp_path / "models").glob("*"))


@pytest.mark.parametrize(
    ("name", "layout", "shape", "kind"),
    [
        ("first", "NCHW", (3, 12, 16), "probabilities"),
        ("last", "NHWC", (12, 16, 3), "probabilities"),
        ("raw", "NCHW", (3, 12, 16), "raw"),
        ("grey", "NCHW", (1, 12, 16), "probabilities"),
    ],
)
def test_classifiers_of_images(
    name: str, layout: str, shape: tuple[int, ...], kind: str, tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    steps: list[tuple[int, int, str]] = []
    model = ensure_model(
        str(tiny_models / f"{name}.onnx"), tmp_path, lambda image: onnxrt_python, lambda *step: steps.append(step)
    )
    assert (model.name, model.layout, model.input_shape, model.output_kind) == (name, layout, shape, kind)
    assert (model.classes, model.weights, model.keras, model.saved_model) == (5, "user", None, None)
    assert (model.item, model.fixed_batch, model.weights_dtype) == ("image", None, "float32")
    assert [step for step, _, _ in steps] == list(range(1, steps[0][1] + 1))
    reference = Reference.read(model)
    pictures = np.concatenate([unit["picture"] for unit in reference.inputs])
    assert pictures.shape == (8, *shape)
    assert pictures.dtype == np.float32
    assert 0 <= pictures.min() < 60 < 200 < pictures.max() <= 255
    made = np.concatenate([unit[model.outputs[0].name] for unit in reference.outputs])
    assert made.shape == (8, 5)
    if kind == "probabilities":
        np.testing.assert_allclose(made.sum(axis=1), 1, atol=1e-6)
    extra = json.loads((model.root / "model.json").read_text())
    assert "Constant" not in extra["onnx_node_counts"]
    assert set(extra["files"]) == {"model.onnx", "reference.npz"}


#: file -> what was asked, then batch, inputs, outputs (name, type, shape, batch axis), item, and words among the notes
MODELS: dict[str, tuple[dict[str, Any], int | None, list[Any], list[Any], str, list[str]]] = {
    "two-inputs": ({}, None, [("picture", "float32", (1, 3, 12, 16), 0), ("mask", "float32", (1, 3), 0)],
                   [("classes", "float32", (1, 5), 0)], "image", ["'mask': ones"]),
    "two-outputs": ({}, None, [("picture", "float32", (1, 3, 12, 16), 0)],
                    [("other", "float32", (1, 3, 12, 16), 0), ("classes", "float32", (1, 5), 0)], "image", []),
    "bytes": ({}, None, [("picture", "uint8", (1, 3, 12, 16), 0)], [("classes", "float32", (1, 5), 0)], "image", []),
    "half": ({}, None, [("picture", "float16", (1, 3, 12, 16), 0)], [("classes", "float32", (1, 5), 0)], "image", []),
    "fixed": ({}, 1, [("picture", "float32", (1, 3, 12, 16), 0)], [("classes", "float32", (1, 5), 0)], "image", []),
    "fixed again": ({"rebatch": True}, None, [("picture", "float32", (1, 3, 12, 16), 0)],
                    [("classes", "float32", (1, 5), 0)], "image", []),
    "sizes": ({"shape": "height=12"}, None, [("picture", "float32", (1, 3, 12, 16), 0)],
              [("classes", "float32", (1, 5), 0)], "image", []),
    "flat": ({}, None, [("x", "float32", (1, 7), 0)], [("y", "float32", (1, 7), 0)], "sample", ["'x': a unit normal"]),
    # a batch of n comes out as n times as many columns of one row
    "reshape": ({}, None, [("picture", "float32", (1, 3, 12, 16), 0)], [("classes", "float32", (1, 576), 1)], "image", []),
    "refusing": ({}, 1, [("x", "float32", (1, 7), 0)], [("y", "float32", (7, 1), None)], "sample",
                 ["its batch axis is dynamic, but a batch of 2 fails", "measured at batch 1"]),
    "overflow": ({}, None, [("picture", "float32", (1, 3, 12, 16), 0)], [("scores", "float32", (1, 5), 0)], "image",
                 ["infinite", "--input-range"]),
    "words-in": ({}, None, [("ids", "int64", (1, 9), 0), ("ids_lengths", "int64", (1,), 0), ("attention_mask", "int64", (1, 9), 0)],
                 [("vectors", "float32", (1, 9, 4), 0), ("best", "int64", (1, 9), 0)], "sequence",
                 ["'ids': whole numbers within the table of 6", "'ids_lengths': 9, the length of 'ids'", "'attention_mask': ones"]),
    "recurrent": ({}, None, [("x", "float32", (1, 4), 0), ("state", "float32", (2, 1, 4), 1), ("rate", "int64", (), None)],
                  [("y", "float32", (1, 4), 0), ("stateN", "float32", (2, 1, 4), 1)], "sample",
                  ["'state': zeros, as a state begins, the same each time", "'rate': whole numbers", "'stateN' is the same"]),
    "ml": ({}, None, [("x", "float32", (1, 2), 0)], [("label", "int64", (1,), 0), ("chances", "float32", (1, 3), 0)], "sample", []),
    "ml-maps": ({}, None, [("x", "float32", (1, 2), 0)], [("label", "int64", (1,), 0), ("chances", "float32", (1, 3), 0)], "sample",
                ["output 'named' is seq(map(int64,tensor(float))), no tensor: it is not read"]),
    "boxes": ({}, None, [("x", "float32", (1, 7), 0)], [("places", "int64", (2, -1), None)], "sample", []),
    "nothing-found": ({}, None, [("x", "float32", (1, 7), 0)], [("places", "int64", (2, 0), None)], "sample",
                      ["output 'places' is empty for these inputs, so that nothing of it is compared; give others by --inputs"]),
    "bfloat16-too": ({}, None, [("x", "float32", (1, 7), 0)], [("z", "float32", (1, 7), 0)], "sample",
                     ["output 'y' is bfloat16, which cannot be compared (float32, float64, float16, bool, text, int8",
                      "uint32 and uint64 can): it is not read"]),
    "sizes-told": ({"shape": "time=20"}, None,
                   [("picture", "float32", (1, 3, 12, 16), 0), ("im_shape", "float32", (1, 2), 0),
                    ("scale_factor", "float32", (1, 2), 0), ("frames", "float32", (1, 20, 80), 0), ("frames_len", "int64", (1,), 0)],
                   [("y", "float32", (1, 2), 0)], "image",
                   ["'im_shape': height and width of 'picture'", "'scale_factor': 1, as a factor",
                    "'frames_len': 20, the length of 'frames'"]),
    "branch": ({}, None, [("token", "int64", (1, 4), 0)], [("rows", "float32", (1, 4, 3), 0)], "sequence",
               ["'token': whole numbers within the table of 5"]),
    "no-rank": ({"shape": "x=N,4"}, None, [("x", "float32", (1, 4), 0)], [("y", "float32", (1, 4), 0)], "sample", []),
    "no-rank-in-branches": ({"shape": "x=1,5"}, 1, [("x", "float32", (1, 5), 0)], [("y", "float32", (1, 5), 0)], "sample",
                            ["its axes stay open in the file"]),
    "drawing": ({}, None, [("x", "float32", (1, 4), 0)], [("y", "float32", (1, 4), 0), ("still", "float32", (1, 4), 0)], "sample",
                ["output 'y' is another one in every run"]),
    "time-first": ({"shape": "T=5"}, None,
                   [("x", "float32", (5, 1, 6), 1), ("state", "float32", (2, 1, 6), 1)],
                   [("y", "float32", (5, 1, 6), 1), ("pooled", "float32", (1, 6), 0)], "sample", []),
    "bands": ({}, 1, [("bands", "float32", (80, 20), None)], [("y", "float32", (1, 20), 0)], "sample", []),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_any_inputs_and_outputs(name: str, tiny_models: Path, onnxrt_python: Path, tmp_path: Path) -> None:
    requested, batch, inputs, outputs, item, words = MODELS[name]
    model = export(tiny_models / f"{name.split()[0]}.onnx", tmp_path, onnxrt_python, **requested)
    assert (model.fixed_batch, model.item) == (batch, item)
    assert [(one.name, one.dtype, one.shape, one.batch_axis) for one in model.inputs] == inputs
    assert [(one.name, one.dtype, one.shape, one.batch_axis) for one in model.outputs] == outputs
    notes = "; ".join(model.notes)
    for one in words:
        assert one in notes
    reference = Reference.read(model)
    assert len(reference.inputs) == 8
    assert {one.name: one.shape for one in model.inputs} == {
        name: one.shape for name, one in reference.batch(1).items()
    }


def test_an_input_whose_axes_stay_open_has_as_many_as_shape_says(
    tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    """The file did not tell how many: then no framework would know which of them is the batch."""
    model = export(tiny_models / "no-rank-in-branches.onnx", tmp_path, onnxrt_python, shape="x=1,5")
    code = (
        "import sys, onnx; print([axis.dim_param or axis.dim_value or None "
        "for axis in onnx.load(sys.argv[1]).graph.input[0].type.tensor_type.shape.dim])"
    )
    done = run_python(onnxrt_python, "-c", code, model.path(model.onnx))
    assert (done.stdout.strip(), done.stderr) == ("[None, None]", "")


def test_a_batch_of_a_fixed_size_lies_where_the_file_says(
    tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    """It once was the 5 steps of time, in front, that counted as samples."""
    model = export(tiny_models / "time-first.onnx", tmp_path / "models", onnxrt_python, shape="batch=4,T=5")
    assert model.fixed_batch == 4
    assert [(one.shape, one.batch_axis) for one in model.inputs] == [((5, 4, 6), 1), ((2, 4, 6), 1)]
    assert [(one.shape, one.batch_axis) for one in model.outputs] == [((5, 4, 6), 1), ((4, 6), 0)]
    assert len(Reference.read(model).inputs) == 2, "eight samples"


def test_what_is_as_large_as_the_batch_is_not_the_batch(tiny_models: Path, onnxrt_python: Path, tmp_path: Path) -> None:
    """A table of 4 rows, and 4 steps of time, with batches of 4: they once were cut into samples, and joined."""
    file = tiny_models / "time-first-table.onnx"
    model = export(file, tmp_path / "models", onnxrt_python, shape="batch=4,T=4")
    assert model.fixed_batch == 4
    assert [(one.shape, one.batch_axis) for one in model.inputs] == [((4, 4, 6), 1), ((4, 6), None), ((4, 6), None)]
    assert [(one.shape, one.batch_axis) for one in model.outputs] == [((4, 4, 6), 1), ((4, 6), None), ((4, 6), None)]
    rng = np.random.default_rng(2)
    values = {"x": rng.random((4, 8, 6), np.float32), "table": np.ones((4, 6), np.float32)}
    np.savez(tmp_path / "values.npz", **values, mask=np.ones((4, 6), np.float32))  # type: ignore[arg-type]
    model = export(file, tmp_path / "models", onnxrt_python, shape="batch=4", inputs=tmp_path / "values.npz")
    reference = Reference.read(model)
    assert [unit["table"].shape for unit in reference.inputs] == [(4, 6), (4, 6)]
    np.testing.assert_array_equal(reference.inputs[1]["x"], values["x"][:, 4:])


def test_the_users_own_values_of_a_sequence_time_first(tiny_models: Path, onnxrt_python: Path, tmp_path: Path) -> None:
    values = {"x": np.ones((7, 3, 6), np.float32), "state": np.zeros((2, 3, 6), np.float32)}
    np.savez(tmp_path / "values.npz", **values)  # type: ignore[arg-type]
    file = tiny_models / "time-first.onnx"
    model = export(file, tmp_path / "models", onnxrt_python, inputs=tmp_path / "values.npz")
    assert [(one.shape, one.batch_axis) for one in model.inputs] == [((7, 1, 6), 1), ((2, 1, 6), 1)]
    assert len(Reference.read(model).inputs) == 3, "three samples of 7 steps"


def test_an_input_before_the_batch_is_fed_whole(tiny_models: Path, onnxrt_python: Path, tmp_path: Path) -> None:
    """The boxes once were the samples, and x was fed whole."""
    file = tiny_models / "boxes-before.onnx"
    rng = np.random.default_rng(3)
    values = {"boxes": rng.random((7, 4), np.float32), "x": rng.random((5, 4), np.float32)}
    np.savez(tmp_path / "values.npz", **values)  # type: ignore[arg-type]
    reference = Reference.read(export(file, tmp_path / "models", onnxrt_python, inputs=tmp_path / "values.npz"))
    assert len(reference.inputs) == 5
    for number, unit in enumerate(reference.inputs):
        np.testing.assert_array_equal(unit["boxes"], values["boxes"])
        np.testing.assert_array_equal(unit["x"], values["x"][number : number + 1])
    model = export(file, tmp_path / "models", onnxrt_python, shape="boxes=7,N=4")
    assert model.fixed_batch == 4
    assert [(one.shape, one.batch_axis) for one in model.inputs] == [((7, 4), None), ((4, 4), 0)]
    assert [(one.shape, one.batch_axis) for one in model.outputs] == [((4, 7), 0)]


def test_the_users_own_values(tiny_models: Path, onnxrt_python: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    good = {"picture": rng.random((3, 3, 12, 16), np.float32), "mask": np.zeros((3, 3), np.float32)}
    file = tiny_models / "two-inputs.onnx"

    def with_values(**arrays: np.ndarray) -> ModelFiles:
        np.savez(tmp_path / "values.npz", **arrays)  # type: ignore[arg-type]
        return export(file, tmp_path / "models", onnxrt_python, inputs=tmp_path / "values.npz")

    reference = Reference.read(with_values(**good))
    np.testing.assert_array_equal(reference.batch(3)["picture"], good["picture"])
    for arrays, part in (
        ({"picture": good["picture"]}, "has no 'mask'"),
        ({**good, "more": np.zeros(1)}, "has 'more', which is no input"),
        ({**good, "mask": good["mask"].astype(np.float64)}, "'mask' is float64, the model takes float32"),
        ({**good, "mask": good["mask"][:, :2]}, "has the shape (3, 2)"),
        ({**good, "mask": good["mask"][:2]}, "different numbers of samples"),
    ):
        with pytest.raises(UserError) as raised:
            with_values(**arrays)
        assert part in str(raised.value)
        assert "\n" not in str(raised.value)


def test_an_output_of_more_or_fewer_axes_has_no_batch_beyond_the_first(
    tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    values = np.ones((4, 4), np.float32)
    values[3] = -1
    np.savez(tmp_path / "values.npz", x=values)
    model = export(tiny_models / "two-ranks.onnx", tmp_path / "models", onnxrt_python, inputs=tmp_path / "values.npz")
    assert [(one.name, one.shape, one.batch_axis) for one in model.outputs] == [("y", (-1,), None)]
    assert [unit["y"].shape for unit in Reference.read(model).outputs] == [(4, 1)] * 3 + [(1, 4, 1)]


TYPES = """
import sys, onnx
from onnx import TensorProto, numpy_helper
model = onnx.load(sys.argv[1])
onnx.checker.check_model(model, full_check=True)
kinds = [TensorProto.DataType.Name(one.type.tensor_type.elem_type) for one in (*model.graph.input, *model.graph.output)]
odd = {one.name: float(abs(numpy_helper.to_array(one)).max()) for one in model.graph.initializer if one.name in ("mask", "least")}
print("DOUBLE" in str(model), kinds, odd)
"""


@pytest.mark.parametrize("name", ["double", "double-within", "double-elsewhere"])
def test_a_file_in_float64_is_float32_for_every_framework_and_its_reference_is_not(
    name: str, tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    """ONNX Runtime computed in float64 what PyTorch computed in float32, and both rows said fp32."""
    file = tiny_models / f"{name}.onnx"
    values = np.random.default_rng(6).normal(0, 1, (3, 7))
    given = values.astype(np.float32) if name == "double-within" else values
    np.savez(tmp_path / "own.npz", x=given)
    model = export(file, tmp_path / "models", onnxrt_python, inputs=tmp_path / "own.npz")
    assert {one.dtype for one in (*model.inputs, *model.outputs)} == {"float32"}
    assert "its float64 is float32 for every framework" in model.notes[0]
    assert model.exporters == {"onnx": "as it came, its float64 as float32"}
    told = run_python(onnxrt_python, "-c", TYPES, model.path(model.onnx)).stdout.strip()
    kinds = ["FLOAT"] * (len(model.inputs) + len(model.outputs))
    limited = {"mask": float(np.finfo(np.float32).max), "least": float(np.finfo(np.float32).tiny)}
    assert told == f"False {kinds} {limited if name == 'double' else {}}"
    reference = Reference.read(model)
    fed = np.concatenate([unit["x"] for unit in reference.inputs])
    assert fed.dtype == np.float32
    np.testing.assert_array_equal(fed, values.astype(np.float32))
    made = np.concatenate([unit["y"] for unit in reference.outputs])
    if name == "double-within":
        np.testing.assert_array_equal(made, (fed / np.arange(3.0, 10)).astype(np.float32))
        return
    if name == "double-elsewhere":
        np.testing.assert_allclose(made, np.hstack([3 * fed.astype(np.float64), np.full((3, 7), 2.5)]), rtol=1e-14)
        return
    assert model.weights_dtype == "float64"
    scores = fed @ np.random.default_rng(4).normal(0, 1, (7, 5)) + 0.1
    scores[:, 2] = -np.inf
    exact = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(made, exact, rtol=1e-11)
    assert find_user_model(tmp_path / "models", file, ExportOptions(inputs=tmp_path / "own.npz")) == model
    description = json.loads((model.root / "model.json").read_text())
    del description["float64_as"]  # as before the rule
    (model.root / "model.json").write_text(json.dumps(description))
    assert find_user_model(tmp_path / "models", file, ExportOptions(inputs=tmp_path / "own.npz")) is None


def test_a_file_in_float64_that_float32_cannot_hold_is_unsupported_in_every_framework(
    tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    model = export(tiny_models / "double-far.onnx", tmp_path / "models", onnxrt_python)
    why = r"float64, and cannot in float32, which fp32 is: weight w, which MatMul reads, reaches .*e\+300, beyond float32's 3.4e\+38"
    with pytest.raises(Unsupported, match=why):
        Reference.read(model)
    assert export(tiny_models / "double-far.onnx", tmp_path / "models", onnxrt_python) == model
    assert "float64_as" not in json.loads((model.root / "model.json").read_text()), "it stays as it came"
    call = "import sys, onnx; from common.export import floats; floats.in_single(onnx.load(sys.argv[1]))"
    done = run_python(onnxrt_python, "-W", "error", "-c", call, tiny_models / "double-far.onnx")
    assert done.stderr.splitlines()[-1].startswith("common.errors.UserError: weight w"), (
        "numpy's warning of an overflow"
    )


@pytest.mark.parametrize("kind", ["branches", "constants", "call"])
def test_float64_in_functions_of_the_file_is_float32_for_every_framework_too(
    kind: str, tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    """Branches in functions were not looked at, nor what a call says of types: the file computed in float64 or did not load."""
    file = tiny_models / f"double-function-{kind}.onnx"
    values = np.float32([[0.25, 0.75, 2.0]])
    np.savez(tmp_path / "own.npz", x=values)
    model = export(file, tmp_path / "models", onnxrt_python, inputs=tmp_path / "own.npz")
    assert model.unmeasurable == ""
    assert "its float64 is float32 for every framework" in model.notes[0]
    np.testing.assert_array_equal(Reference.read(model).outputs[0]["y"], values)
    assert any("output 'y' differs by" in note for note in model.notes)
    run = "import sys, numpy as np, onnxruntime as o; print(o.InferenceSession(sys.argv[1]).run(None, dict(np.load(sys.argv[2])))[0])"
    told = run_python(onnxrt_python, "-c", run, model.path(model.onnx), tmp_path / "own.npz")
    assert told.stdout.split() == ["[[0.", "0.", "2.]]"], told.stderr
    assert find_user_model(tmp_path / "models", file, ExportOptions(inputs=tmp_path / "own.npz")) == model


def test_whole_numbers_and_truth_values_that_float32_cannot_count_are_told(
    tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    """2 ** 25 + 2 in float64 is 2 ** 25 in float32: every framework failed parity, and nothing had said so."""
    file, folder = tiny_models / "double-counted.onnx", tmp_path / "models"
    np.savez(tmp_path / "own.npz", x=np.array([[2**25 + 1, 2**24, 1]]))
    model = export(file, folder, onnxrt_python, inputs=tmp_path / "own.npz")
    told = [note for note in model.notes if "between float64 and float32: rounding alone may fail parity" in note]
    assert [note.partition(" between")[0] for note in told] == [
        "output 'y' differs in 0.67 of its values", "output 'odd' differs in 0.33 of its values",
    ]  # fmt: skip
    np.savez(tmp_path / "small.npz", x=np.array([[3, 2, 1]]))
    assert not any(
        "rounding" in one for one in export(file, folder, onnxrt_python, inputs=tmp_path / "small.npz").notes
    )


def test_what_overflows_in_float32_is_told_without_a_distance_that_is_no_number(
    tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    """It was "differs by nan between float64 and float32: rounding alone"."""
    np.savez(tmp_path / "own.npz", x=np.array([[1.0, 0.0, 2.0]]))
    model = export(tiny_models / "double-over.onnx", tmp_path, onnxrt_python, inputs=tmp_path / "own.npz")
    told = "\n".join(model.notes)
    assert "output 'y' in float32 is infinite in 2 of 3 values, where the reference is not: it may fail parity" in told
    assert (
        "output 'z' in float32 holds NaN in 2 of 3 values, where the reference holds none: it may fail parity" in told
    )
    assert "rounding" not in told


def test_the_users_own_values_that_do_not_run_are_named(tiny_models: Path, onnxrt_python: Path, tmp_path: Path) -> None:
    """It advised to say the size of the batch axis."""
    np.savez(tmp_path / "own.npz", ids=np.array([[1, 2], [3, 77]]))
    with pytest.raises(UserError, match=r"'ids' \(1, 2\) \[3 to 77\] of .*own.npz: .*idx=77") as raised:
        export(tiny_models / "table.onnx", tmp_path / "models", onnxrt_python, inputs=tmp_path / "own.npz")
    assert "--shape" not in str(raised.value)
    np.savez(tmp_path / "own.npz", ids=np.array([[1, 2], [3, 77]]), more=np.ones((2, 2), np.int64))
    with pytest.raises(UserError, match=r"with 'ids' \(1, 2\) \[3 to 77\], 'more' \(1, 2\) \[all 1\] of .*own.npz: "):
        export(tiny_models / "two-tables.onnx", tmp_path / "models", onnxrt_python, inputs=tmp_path / "own.npz")
    np.savez(tmp_path / "own.npz", ids=np.array([[1.0, 2.0]]))
    with pytest.raises(UserError, match="'ids' is float64"):
        export(tiny_models / "table.onnx", tmp_path / "models", onnxrt_python, inputs=tmp_path / "own.npz")
    np.savez(tmp_path / "own.npz", x=np.zeros((2, 5), np.float32))
    with pytest.raises(UserError, match=r"'x' has the shape \(2, 5\), the model takes \(N, 4\)"):
        export(tiny_models / "less-mean.onnx", tmp_path / "models", onnxrt_python, inputs=tmp_path / "own.npz")


def test_a_size_that_is_too_small_is_no_matter_of_the_batch(
    tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    """`--shape height=2,width=2` was answered by `--shape 'picture=128,3,2,2'`."""
    with pytest.raises(UserError, match="another size of --shape may do") as raised:
        export(tiny_models / "kernel.onnx", tmp_path / "models", onnxrt_python, shape="height=2,width=2")
    assert "is taken for the batch" not in str(raised.value)


def test_a_batch_of_which_nothing_is_like_a_single_run_is_said(
    tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    model = export(tiny_models / "less-mean.onnx", tmp_path / "models", onnxrt_python)
    assert any("differs from that of single runs altogether" in note for note in model.notes)


def test_second_call_exports_nothing_and_other_range_exports_anew(
    tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    file = tiny_models / "first.onnx"
    first = export(file, tmp_path, onnxrt_python)

    def not_again(image: str) -> Path:
        raise AssertionError("exported again")

    assert ensure_model(str(file), tmp_path, not_again, lambda *step: None) == first
    scaled = export(file, tmp_path, onnxrt_python, input_range="-1,1")
    assert scaled.hash != first.hash
    inputs = np.concatenate([unit["picture"] for unit in Reference.read(scaled).inputs])
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


def test_the_row_can_say_that_the_weights_are_quantized(tiny_models: Path, onnxrt_python: Path, tmp_path: Path) -> None:
    assert export(tiny_models / "quantized.onnx", tmp_path, onnxrt_python).weights_dtype == "int8 (quantized: QDQ)"


def test_a_copy_is_a_model_of_its_own_name(tiny_models: Path, onnxrt_python: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_models / "raw.onnx", tmp_path / "模型.onnx")
    first = export(tiny_models / "raw.onnx", tmp_path / "models", onnxrt_python)
    copied = export(tmp_path / "模型.onnx", tmp_path / "models", onnxrt_python)
    assert (first.name, copied.name) == ("raw", "模型")
    assert first.hash == copied.hash


@pytest.mark.parametrize(
    ("name", "exact"),
    [("first", True), ("two-inputs", True), ("recurrent", True), ("half", False), ("quantized", False)],
)
def test_small_graphs_have_their_reference_in_float64(
    name: str, exact: bool, tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    """Of half precision and quantized weights the rounding is part of the model: ONNX Runtime computes those."""
    model = export(tiny_models / f"{name}.onnx", tmp_path, onnxrt_python)
    evaluated_by = json.loads((model.root / "model.json").read_text())["reference_by"]
    assert evaluated_by.endswith("evaluator, float64") if exact else evaluated_by.startswith("onnxruntime ")
    kinds = {one.dtype.name for one in Reference.read(model).outputs[0].values() if one.dtype.kind == "f"}
    assert ("float64" in kinds) == exact
    assert "float64" not in {tensor.dtype for tensor in model.outputs}


def test_a_float64_reference_that_is_late_or_of_another_model_is_not_taken(
    tiny_models: Path, onnxrt_python: Path
) -> None:
    facts = json.loads(run_python(onnxrt_python, HERE / "run_double.py", tiny_models / "first.onnx").stdout)
    assert facts["taken"]
    assert 0 < facts["apart"] < 1e-5
    assert facts["late"] is None
    assert facts["another"] is None


@pytest.mark.parametrize("kind", ["node", "branch", "function"])
def test_operators_that_onnx_runtime_does_not_know_are_named_and_leave_a_model_without_a_reference(
    kind: str, tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    file = tiny_models / f"foreign-{kind}.onnx"
    model = export(file, tmp_path, onnxrt_python)
    assert model.unmeasurable == (
        "ONNX Runtime does not know far.away::Operator, so that there is no reference to compare with"
    )
    assert any(model.unmeasurable in note for note in model.notes)
    assert [(one.name, one.shape, one.batch_axis) for one in model.inputs] == [("picture", (1, 3, 12, 16), 0)]
    assert (model.layout, model.fixed_batch, model.lacking()) == ("NCHW", None, [])
    assert json.loads((model.root / "model.json").read_text())["reference_by"] == ""
    with pytest.raises(Unsupported, match=r"far\.away::Operator"):
        Reference.read(model)
    assert export(file, tmp_path, tmp_path / "no-python") == model, "found again"


def test_a_file_in_float64_with_operators_that_onnx_runtime_does_not_know_stays_as_it_came(
    tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    """It was refused: "'picture' is float32, the model takes float64", of values in float64."""
    file = tiny_models / "odd-double.onnx"
    np.savez(tmp_path / "own.npz", picture=np.random.default_rng(2).random((2, 3, 12, 16)))
    for inputs in (None, tmp_path / "own.npz"):
        model = export(file, tmp_path / "models", onnxrt_python, inputs=inputs)
        assert [one.dtype for one in (*model.inputs, *model.outputs)] == ["float64", "float64"]
        assert "far.away::Operator" in model.unmeasurable
        description = json.loads((model.root / "model.json").read_text())
        assert "float64_as" not in description
        assert description["exporters"] == {"onnx": "as it came"}
        assert find_user_model(tmp_path / "models", file, ExportOptions(inputs=inputs)) == model


def test_names_of_operators_are_words_whatever_characters_they_have(
    tiny_models: Path, onnxrt_python: Path, tmp_path: Path
) -> None:
    why = export(tiny_models / "odd-names.onnx", tmp_path, onnxrt_python).unmeasurable
    assert why.isprintable()
    assert why.startswith("ONNX Runtime does not know far.away::Odd\\x0a\\x1b[31mlonglong")
    assert "..., far.away::Operator0, far.away::Operator1, far.away::Operator2, far.away::Operator3 and 5 more" in why
    assert len(why) < 300


def test_functions_of_the_file_are_no_foreign_operators(tiny_models: Path, onnxrt_python: Path, tmp_path: Path) -> None:
    model = export(tiny_models / "foreign-told.onnx", tmp_path, onnxrt_python)
    assert model.unmeasurable == ""
    reference = Reference.read(model)
    for given, made in zip(reference.inputs, reference.outputs, strict=True):
        assert np.array_equal(made["y"], np.maximum(given["picture"], 0))
