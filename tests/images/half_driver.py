"""Run by PyTorch's interpreter: models in half precision, the module on the CPU as the adapter makes it for a GPU, as facts in JSON.

`half_driver.py graphs FOLDER`: small graphs that make float32 themselves. `half_driver.py refusals FOLDER`: graphs with weights out
of range. `half_driver.py model FOLDER`: a folder of an exported
model. `half_driver.py recipe FOLDER PROGRAM`: what the program's module computes of the same model.
"""

import json
import runpy
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from common.harness.adapter import Unsupported
from common.harness.reference import Reference
from common.model_files import ModelFiles, Tensor
from images.torch import adapter as torch_adapter
from images.torch.tensors import in_precision, listed, on_host

SIZES = 2051  # float16 has no such number, its neighbour is 2052
FLOAT, WHOLE = TensorProto.FLOAT, TensorProto.INT64
RANDOM = np.random.default_rng(3)
X = RANDOM.standard_normal((2, 6)).astype(np.float32)
IDS = np.array([[0, 1, 5001], [2, 0, 2999]], np.int64)


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def graph(name, nodes, inputs, **constants):
    """inputs: name -> (type, shape). The output is y; w is a matrix of 6 x 4 weights."""
    constants = {"w": RANDOM.standard_normal((6, 4)).astype(np.float32), **constants}
    read = {one for each in nodes for one in each.input}
    tensors = [numpy_helper.from_array(np.asarray(value), one) for one, value in constants.items() if one in read]
    given = [helper.make_tensor_value_info(one, *what) for one, what in inputs.items()]
    return helper.make_graph(
        nodes, name, given, [helper.make_tensor_value_info("y", FLOAT, ["rows", "columns"])], tensors
    )


def graphs():
    x, ids = {"x": (FLOAT, ["n", 6])}, {"ids": (WHOLE, ["n", 3])}
    keep = {"keep": (WHOLE, ["n", 6])}
    one = np.float32(1)
    return {
        # 1 - mask, times a number that float16 does not have, before a softmax and a product
        "mask": (graph("mask", [
            node("Cast", "keep", "kept", to=FLOAT), node("Sub", "one kept", "dropped"), node("Mul", "dropped never", "far"),
            node("Add", "x far", "scores"), node("Softmax", "scores", "shares", axis=1), node("MatMul", "shares w", "y"),
        ], {**x, **keep}, one=one, never=np.float32(-1e9)), {"x": X, "keep": (IDS.repeat(2, 1) % 2)}),
        "constant of shape": (graph("constant_of_shape", [
            node("Shape", "x", "shape"),
            node("ConstantOfShape", "shape", "filled", value=numpy_helper.from_array(np.array([0.5], np.float32))),
            node("ConstantOfShape", "shape", "zeros"), node("Greater", "x zeros", "positive"),
            node("Where", "positive x filled", "chosen"), node("MatMul", "chosen w", "y"),
        ], x), {"x": X}),
        "range": (graph("range", [
            node("Shape", "ids", "shape"), node("Gather", "shape last", "size"), node("Cast", "size", "end", to=FLOAT),
            node("Range", "zero end one", "steps"), node("Mul", "steps small", "scaled"), node("Sin", "scaled", "sines"),
            node("Unsqueeze", "sines axis", "column"), node("MatMul", "column row", "y"),
        ], {"ids": (WHOLE, ["n", "m"])}, last=np.array(1), zero=np.float32(0), one=one, small=np.float32(0.01),
            axis=np.array([1]), row=np.ones((1, 2), np.float32)), {"ids": np.zeros((1, SIZES), np.int64)}),
        "positions": (graph("positions", [
            node("Cast", "ids", "numbers", to=FLOAT), node("Div", "numbers three", "thirds"), node("Floor", "thirds", "floors"),
            node("Cast", "floors", "rows", to=WHOLE), node("Gather", "table rows", "taken", axis=0), node("MatMul", "taken w", "y"),
        ], ids, three=np.float32(3), table=RANDOM.standard_normal((1668, 6)).astype(np.float32)), {"ids": IDS}),
        "double": (graph("double", [
            node("Cast", "keep", "numbers", to=TensorProto.DOUBLE), node("Expand", "numbers shape", "many"),
            node("Mul", "many scale", "scaled"), node("Cast", "scaled", "floats", to=FLOAT), node("MatMul", "floats w", "y"),
        ], keep, shape=np.array([2, 2, 6]), scale=np.float64(0.3)), {"keep": IDS.repeat(2, 1) % 3}),
        "epsilon": (graph("epsilon", [
            node("Sub", "x x", "nothing"), node("Add", "nothing least", "root"), node("Div", "nothing root", "zero"),
            node("Add", "zero x", "same"), node("MatMul", "same w", "y"),
        ], x, least=np.float32(1e-12)), {"x": X}),
        "returned": (graph("returned", [node("Cast", "ids", "y", to=FLOAT)], ids), {"ids": IDS + 2049}),
        "steps of one": (graph("steps", [
            node("EyeLike", "x", "eye", dtype=FLOAT), node("MatMul", "eye w", "y"),
        ], {"x": (FLOAT, [6, 6])}), {"x": np.ones((6, 6), np.float32)}),
    }  # fmt: skip


def too_far():
    """Graphs with a constant of 1e9 that is no mask, by what reads it."""
    far = np.eye(6, dtype=np.float32)
    far[1, 2] = 1e9
    ones, x = np.ones(6, np.float32), {"x": (FLOAT, ["n", 6])}
    picture, filters = {"x": (FLOAT, ["n", 6, 1, 1])}, far[:4, :, None, None]
    flat = node("Flatten", "pixels", "y")
    return {
        "MatMul": graph("product", [node("MatMul", "x far", "y")], x, far=far),
        "Add and MatMul": graph("both", [node("Add", "x far", "z"), node("MatMul", "z far", "y")], x, far=far),
        "expanded to MatMul": graph("expanded", [
            node("Shape", "x", "shape"), node("Concat", "shape six", "sizes", axis=0), node("Expand", "far sizes", "many"),
            node("Unsqueeze", "x axis", "row"), node("MatMul", "row many", "rows"), node("ReduceSum", "rows axis", "y", keepdims=0),
        ], {"x": (FLOAT, [1, 6])}, far=far, six=np.array([6]), axis=np.array([1])),
        "concatenated to MatMul": graph("concatenated", [
            node("Concat", "far small", "both", axis=0), node("MatMul", "x both", "y"),
        ], {"x": (FLOAT, ["n", 6])}, far=far[:3], small=np.eye(6, dtype=np.float32)[:3]),
        "Conv": graph("convolution", [node("Conv", "x far", "pixels"), flat], picture, far=filters),
        "Gemm": graph("dense", [node("Gemm", "x far", "y")], x, far=far),
        "variance": graph("variance", [
            node("BatchNormalization", "x ones ones ones far", "pixels"), flat,
        ], picture, ones=ones, far=far[1]),
        "Div": graph("quotient", [node("Div", "x far", "y")], x, far=far[1] + 1),
    }  # fmt: skip


def loaded(model, precision, folder):
    one = torch_adapter.create("torch")
    one.load(model, precision, "cpu", str(folder / "cache"), 1)
    return one


def computed(module, dtype, arrays):
    given = in_precision([torch.from_numpy(np.array(values)) for values in arrays], dtype)
    with torch.inference_mode():
        return [on_host(one) for one in listed(module(*given))]


def distance(made, wanted):
    return float(np.linalg.norm(made - wanted) / np.linalg.norm(wanted))


def files_of(folder, proto, inputs):
    """The ModelFiles of a graph, with the model; inputs: name -> array of a batch."""
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / f"{proto.name}.onnx"))
    files = ModelFiles(
        root=folder, name=proto.name, hash=proto.name, onnx=f"{proto.name}.onnx", keras=None, saved_model=None, reference="none",
        input_shape=(6,), layout="", onnx_input="x", onnx_output="y", output_kind="raw", classes=0, weights="user", weights_note="",
        inputs=tuple(Tensor(one, values.dtype.name, (1, *values.shape[1:])) for one, values in inputs.items()),
        outputs=(Tensor("y", "float32", (1, 4)),),
    )  # fmt: skip
    return files, model


def refusals(folder):
    found = {}
    for name, proto in too_far().items():
        shape = [one.dim_value or 1 for one in proto.input[0].type.tensor_type.shape.dim]
        files, _ = files_of(folder, proto, {"x": np.ones(shape, np.float32)})
        found[name] = {}
        for precision in ("fp16", "bf16"):
            try:
                found[name][precision] = loaded(files, precision, folder).settings().get("half_precision", "")
            except Unsupported as error:
                found[name][precision] = f"refused: {error}"
    return found


def of_graph(folder, name, proto, inputs):
    files, model = files_of(folder, proto, inputs)
    (wanted,) = ReferenceEvaluator(model).run(None, inputs)
    facts = {}
    for precision, dtype in (("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)):
        one = loaded(files, precision, folder)
        (made,) = computed(one._module, dtype, inputs.values())
        assert made.shape == wanted.shape, (name, made.shape)
        facts[precision] = {"distance": distance(made, wanted), "settings": one.settings().get("half_precision", "")}
    return facts


def of_model(folder):
    files = ModelFiles.read(folder)
    batch = Reference.read(files).batch(2)
    facts = {}
    whole = computed(loaded(files, "fp32", folder)._module, torch.float32, [batch[one.name] for one in files.inputs])
    for precision, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        one = loaded(files, precision, folder)
        made = computed(one._module, dtype, [batch[name] for name in one._given])
        np.savez(folder / f"{precision}.npz", *made)
        facts[precision] = {"distance": max(map(distance, made, whole)), "settings": one.settings()}
    return facts


def of_recipe(folder, program):
    files = ModelFiles.read(folder)
    batch = Reference.read(files).batch(2)
    names = runpy.run_path(program, run_name="a_recipe")
    module, given, _ = names["prepared"](str(files.path(files.onnx)), "cpu")
    made = computed(module, torch.float16, [batch[name] for name in given])
    with np.load(folder / "fp16.npz") as kept:
        return {"equal": [bool(np.array_equal(one, kept[f"arr_{number}"])) for number, one in enumerate(made)]}


if __name__ == "__main__":
    where = Path(sys.argv[2])
    if sys.argv[1] == "refusals":
        print(json.dumps(refusals(where)))
    elif sys.argv[1] == "graphs":
        print(json.dumps({name: of_graph(where, name, *one) for name, one in graphs().items()}))
    else:
        print(json.dumps(of_model(where) if sys.argv[1] == "model" else of_recipe(where, sys.argv[3])))
