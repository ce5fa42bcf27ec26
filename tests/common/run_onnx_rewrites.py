"""Run with ONNX Runtime's environment: rewrites of graphs with branches and outputs that are inputs or constants, facts as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from common import onnx_rewrites

FLOAT = TensorProto.FLOAT
X = np.array([[3, 250, 7, 0]], np.float32)


def value(name: str, shape: Any, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def with_branches(outputs: list[str]) -> Any:
    """y of both branches of an If: x * w, in a branch that has a tensor called x/as_number, and w as it is."""
    then = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["x/as_number"]), helper.make_node("Neg", ["x/as_number"], ["then_y"])],
        "then", [], [value("then_y", None)],
    )  # fmt: skip
    other = helper.make_graph([helper.make_node("Identity", ["w"], ["else_y"])], "else", [], [value("else_y", None)])
    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other)]
    kinds = {"x": [1, 4], "w": [1, 4], "y": [None, None]}
    graph = helper.make_graph(
        nodes, "branches", [value("x", [1, 4]), value("yes", [], TensorProto.BOOL)], [value(one, kinds[one]) for one in outputs],
        [numpy_helper.from_array(np.array([[1, 2, 3, 1e9]], np.float32), "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def computed(model: Any, x: np.ndarray, yes: bool) -> list[np.ndarray]:
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    made: list[np.ndarray] = session.run(None, {"x": x, "yes": np.array(yes)})
    return made


def bytes_in_branches() -> list[bool]:
    model = with_branches(["y"])
    wanted = [computed(model, X, yes)[0] for yes in (True, False)]
    onnx_rewrites.take_bytes(model, ["x"])
    return [
        np.array_equal(computed(model, X.astype(np.uint8), yes)[0], one)
        for yes, one in zip((True, False), wanted, strict=True)
    ]


def handed_on() -> dict[str, Any]:
    """What is taken aside: the constant that the branches read stays another tensor, whose values may change."""
    model = with_branches(["w", "y", "x"])
    put_back, names = onnx_rewrites.set_handed_on_aside(model)
    left = [one.name for one in model.graph.output]
    (read,) = model.graph.initializer
    assert names == {read.name: "w"}
    read.CopyFrom(numpy_helper.from_array(np.array([[1, 2, 3, 4]], np.float32), read.name))
    count = put_back(model)
    made = {yes: [one.tolist() for one in computed(model, X, yes)] for yes in (True, False)}
    return {"left": left, "count": count, "then": made[True], "else": made[False]}


def not_read() -> list[str]:
    model = with_branches(["w", "y"])
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("Relu", ["x"], ["y"]))
    put_back, _ = onnx_rewrites.set_handed_on_aside(model)
    left = [one.name for one in model.graph.initializer]
    put_back(model)
    return [*left, "put back", *(one.name for one in model.graph.initializer)]


def listed() -> list[Any]:
    """Constants of a file of IR version 3, whose inputs they are, too."""
    model = with_branches(["w", "y"])
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 4]))
    counts = [onnx_rewrites.unlist_constants(model), onnx_rewrites.unlist_constants(model)]
    return [*counts, [one.name for one in model.graph.input], model.ir_version, computed(model, X, True)[0].shape]


def folded() -> dict[str, list[list[int]]]:
    """Shapes of the constants that are left: all that can be computed, and what is computed of a number beyond float16."""
    constants = {
        "far": np.float32(1e9),
        "million": np.float32(1e6),
        "place": np.array(1),
        "table": np.ones((2, 3), np.float32),
    }
    nodes = [
        helper.make_node("Identity", ["place"], ["same"]),
        helper.make_node("Gather", ["table", "same"], ["row"]),
        helper.make_node("Div", ["far", "million"], ["near"]),
        helper.make_node("Neg", ["near"], ["below"]),
        helper.make_node("Mul", ["x", "below"], ["scaled"]),
        helper.make_node("Add", ["scaled", "row"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    tensors = [numpy_helper.from_array(np.asarray(one), name) for name, one in constants.items()]
    graph = helper.make_graph(nodes, "g", [value("x", 1, ["n", 3])], [value("y", 1, ["n", 3])], tensors)
    found = {}
    for name, beyond in (("all", None), ("beyond float16", 65504.0)):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        count = onnx_rewrites.fold_constants(model, beyond)
        left = {one.name: list(one.dims) for one in model.graph.initializer}
        found[name] = [count, left, [node.op_type for node in model.graph.node]]
    return found


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "folded": folded(),
                "bytes": bytes_in_branches(),
                "handed on": handed_on(),
                "not read": not_read(),
                "listed": listed(),
            }
        )
    )
