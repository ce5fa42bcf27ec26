"""Run by the interpreter of .envs/tensorrt-cpu: what TensorRT-RTX makes of a model, as one JSON object.

python rtx_probe.py build MODEL.onnx OUTPUTS PRECISION    parse and build for compute capability 8.9
python rtx_probe.py toy FOLDER                            write FOLDER/toy.onnx, and FOLDER/broken.onnx
python rtx_probe.py outputs FOLDER PRECISION              retype graphs with outputs of all kinds, evaluate and build them
python rtx_probe.py retype MODEL.onnx PRECISION           evaluate the retyped model beside the original
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from common.harness.adapter import DeviceOutOfMemory, Unsupported  # noqa: E402
from images.tensorrt.build import Request, build, unsupported_precision  # noqa: E402
from images.tensorrt.log import Complaints, make_logger  # noqa: E402
from images.tensorrt.profile import Profile  # noqa: E402
from images.tensorrt.retype import bfloat16_bits, retype  # noqa: E402


def probe_build(onnx: str, outputs: str, precision: str) -> dict[str, Any]:
    trt: Any = importlib.import_module("tensorrt_rtx")

    complaints = Complaints()
    logger = make_logger(trt, complaints)
    reason = unsupported_precision(trt, precision)
    if reason is not None:
        return {"unsupported": reason}
    request = Request(
        onnx=Path(onnx), outputs=tuple(filter(None, outputs.split(","))), precision=precision, profile=Profile(1, 8, 8),
        tactic_mask=None, workspace_bytes=1 << 30, builder_level=None, compute_capability=(8, 9), timing_cache=None,
    )  # fmt: skip
    try:
        plan, facts = build(trt, logger, complaints, request)
    except (Unsupported, DeviceOutOfMemory) as error:
        return {type(error).__name__: str(error)}
    return {"bytes": len(plan), **facts}


def probe_toy(folder: str) -> dict[str, Any]:
    """A convolution, a resize (whose scales must stay float32), a mean, a dense layer and a softmax; two outputs."""
    import onnx
    from onnx import helper, numpy_helper

    random = np.random.default_rng(4)

    def constant(name: str, values: Any) -> Any:
        return numpy_helper.from_array(np.asarray(values), name)

    weights = [
        constant("filters", random.normal(0, 0.3, (6, 3, 3, 3)).astype(np.float32)),
        constant("scales", np.array([1, 1, 2, 2], np.float32)),
        constant("dense", random.normal(0, 0.5, (6, 5)).astype(np.float32)),
    ]
    nodes = [
        helper.make_node("Constant", [], ["factor"], value=constant("c", np.float32(1 / 127.5))),
        helper.make_node("Constant", [], ["offset"], value_float=-1.0),
        helper.make_node("Cast", ["images"], ["as_float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["as_float", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "filters"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Resize", ["features", "", "scales"], ["larger"], mode="nearest"),
        helper.make_node("Relu", ["larger"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "toy",
        [helper.make_tensor_value_info("images", float32, ["N", 8, 8, 3])],
        [helper.make_tensor_value_info("probabilities", float32, ["N", 5]),
         helper.make_tensor_value_info("logits", float32, ["N", 5])],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(Path(folder) / "toy.onnx"))
    for node in graph.node:
        if node.op_type == "Relu":
            node.op_type = "NoSuchOperator"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        str(Path(folder) / "broken.onnx"),
    )
    return {}


def probe_masked(folder: str, precision: str) -> dict[str, Any]:
    """A mask's -1e9, an epsilon and zeros of no named type, retyped: the outputs of both, and what becomes of a weight of 1e9."""
    import onnx
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    def value(name: str, number: float) -> Any:
        return numpy_helper.from_array(np.array(number, np.float32), name)

    nodes = [
        helper.make_node("Cast", ["keep"], ["kept"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "kept"], ["dropped"]),
        helper.make_node("Mul", ["dropped", "never"], ["far"]),
        helper.make_node("Shape", ["keep"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Add", ["zeros", "least"], ["root"]),
        helper.make_node("Div", ["zeros", "root"], ["nothing"]),
        helper.make_node("Add", ["far", "nothing"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"]),
        helper.make_node("MatMul", ["shares", "dense"], ["y"]),
    ]
    path = Path(folder) / "masked.onnx"
    found: dict[str, Any] = {}
    for largest in (1.0, 1e9):
        dense = numpy_helper.from_array(np.array([[1.0], [2], [largest]], np.float32), "dense")
        graph = helper.make_graph(
            nodes, "masked", [helper.make_tensor_value_info("keep", onnx.TensorProto.INT64, ["N", 3])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 1])],
            [value("one", 1), value("never", -1e9), value("least", 1e-12), dense],
        )  # fmt: skip
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
        try:
            typed = onnx.load_from_string(retype(path, precision))
        except Unsupported as error:
            found["refused"] = str(error)
            continue
        if precision == "fp16":
            onnx.checker.check_model(typed, full_check=True)
            keep = {"keep": np.array([[1, 0, 1], [0, 1, 0]], np.int64)}
            found["y"] = [
                np.asarray(ReferenceEvaluator(m).run(None, keep)[0]).tolist() for m in (onnx.load(path), typed)
            ]
    return found


def _graphs_by_outputs() -> dict[str, tuple[list[Any], list[str], dict[str, Any], tuple[str, ...], int]]:
    """Kind of output -> nodes, outputs, constants, those of them that are listed among the inputs, version of ONNX's format."""
    from onnx import helper

    def node(kind: str, inputs: str, outputs: str, **more: Any) -> Any:
        return helper.make_node(kind, inputs.split(" ") if inputs else [], outputs.split(), **more)

    relu, product = node("Relu", "x", "y"), node("Mul", "x w", "y")
    w = {"w": np.array([1.5, 2.1, 0.1, 3], np.float32)}
    far = {"w": np.array([1e9, 2.1, 0.1, 3], np.float32)}
    return {
        "an input": ([relu], ["y", "x"], {}, (), 8),
        "an input in front": ([relu], ["x", "y"], {}, (), 8),
        "a constant": ([relu], ["y", "w"], w, (), 8),
        "a constant that is read": ([product], ["w", "y"], w, (), 8),
        "a constant out of range": ([relu], ["y", "w"], far, (), 8),
        "a listed constant that is read": ([product], ["w", "y"], w, ("w",), 3),
        "beside a listed constant": ([product], ["y"], w, ("w",), 3),
        "of a Constant node": ([node("Constant", "", "c", value_floats=[1.5, 2.0]), relu], ["c", "y"], {}, (), 8),
        "read inside": ([relu, node("Mul", "y w", "z")], ["y", "z"], w, (), 8),
        "several of a node": ([node("Split", "x", "y z", axis=1)], ["z", "y"], {}, (), 13),
        "twice by Identity": ([relu, node("Identity", "y", "z")], ["z", "y"], {}, (), 8),
        "names that are taken": ([node("Relu", "x", "x__typed"), node("Neg", "x__typed", "y__typed"), node("Exp", "y__typed", "y")],
                                 ["x__typed", "y"], {}, (), 8),
        "what stays float32": ([node("Unsqueeze", "x last", "long"), node("Resize", "long  sizes", "y", mode="nearest")],
                               ["sizes", "y"], {"sizes": np.array([1, 2, 1], np.float32), "last": np.array([2])}, (), 8),
        "whole numbers": ([node("Shape", "x", "s"), relu], ["s", "n", "y"], {"n": np.array([3])}, (), 8),
    }  # fmt: skip


def probe_outputs(folder: str, precision: str) -> dict[str, Any]:
    """By kind of output: whether the outputs are those of the original, and what TensorRT-RTX says of the graph, "" for nothing."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    given = {"x": np.array([[0.25, -2, 3, 0.5]], np.float32)}
    found: dict[str, Any] = {}
    for kind, (nodes, outputs, constants, listed, version) in _graphs_by_outputs().items():
        whole = {"s": TensorProto.INT64, "n": TensorProto.INT64}
        tensors = [numpy_helper.from_array(values, name) for name, values in constants.items()]
        graph = helper.make_graph(
            nodes, "outputs",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4]),
             *(helper.make_tensor_value_info(name, TensorProto.FLOAT, constants[name].shape) for name in listed)],
            [helper.make_tensor_value_info(name, whole.get(name, TensorProto.FLOAT), None) for name in outputs],
            tensors,
        )  # fmt: skip
        path = Path(folder) / "outputs.onnx"
        shapeless = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=version)
        for value, one in zip(graph.output, ReferenceEvaluator(shapeless).run(None, given), strict=True):
            shape = [None] * np.ndim(one)
            value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shape))
        original = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=version)
        onnx.save(original, str(path))
        typed = onnx.load_from_string(retype(path, precision))
        inferred = onnx.shape_inference.infer_shapes(typed, strict_mode=True)
        onnx.checker.check_model(inferred)
        facts: dict[str, Any] = {"outputs": [value.name for value in typed.graph.output], "asked": outputs}
        facts["float32"] = all(
            value.type.tensor_type.elem_type == whole.get(value.name, TensorProto.FLOAT) for value in typed.graph.output
        )
        if precision == "fp16":
            wanted, made = (ReferenceEvaluator(one).run(None, given) for one in (original, typed))
            facts["same"] = [
                one.dtype == two.dtype and np.allclose(one, two, rtol=2e-3)
                for one, two in zip(wanted, made, strict=True)
            ]
            facts["exact"] = [np.array_equal(one, two) for one, two in zip(wanted, made, strict=True)]
        facts["rtx"] = probe_build(str(path), ",".join(outputs), precision).get("Unsupported", "")
        found[kind] = facts
    return found


def probe_retype(path: str, precision: str) -> dict[str, Any]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    original, typed = onnx.load(path), onnx.load_from_string(retype(Path(path), precision))
    kinds = {tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in typed.graph.initializer}
    found: dict[str, Any] = {
        "inputs": [[v.name, v.type.tensor_type.elem_type] for v in typed.graph.input],
        "outputs": [[v.name, v.type.tensor_type.elem_type] for v in typed.graph.output],
        "initializers": kinds,
        "casts": sum(node.op_type == "Cast" for node in typed.graph.node),
        "bits": [int(b) for b in bfloat16_bits(np.array([1, -2, 3.14159, np.inf, np.nan, 1.00390625], np.float32))],
    }
    if precision == "fp16":
        onnx.checker.check_model(typed, full_check=True)
        images = np.random.default_rng(8).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
        one, two = (np.asarray(ReferenceEvaluator(m).run(None, {"images": images})[0]) for m in (original, typed))
        found["difference"] = float(np.abs(one - two).max())
        found["type"] = str(two.dtype)
    return found


if __name__ == "__main__":
    probes: dict[str, Any] = {
        "build": probe_build,
        "toy": probe_toy,
        "retype": probe_retype,
        "masked": probe_masked,
        "outputs": probe_outputs,
    }
    print(json.dumps(probes[sys.argv[1]](*sys.argv[2:])))
