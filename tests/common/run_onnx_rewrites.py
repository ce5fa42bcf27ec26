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
    return run(model, x, yes)


def run(model: Any, x: np.ndarray, yes: bool) -> list[np.ndarray]:
    """Models of unknown rank, too, which the checker does not take."""
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
    found["made beyond float16"] = made_beyond()
    return found


def made_beyond() -> list[Any]:
    """Likewise of whole numbers that are cast and of numbers within the range; a node that reads no number beyond it stays."""
    constants = {
        "whole": np.array([10**6]),
        "places": np.array([1, 1]),
        "many": np.float32(1e3),
        "two": np.array([2, 3]),
    }
    nodes = [
        helper.make_node("Reshape", ["whole", "places"], ["turned"]),
        helper.make_node("Cast", ["turned"], ["million"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["many", "many"], ["another"]),
        helper.make_node("ConstantOfShape", ["two"], ["filled"], value=numpy_helper.from_array(np.float32([1e6]))),
        helper.make_node("Identity", ["many"], ["same"]),
        helper.make_node("Sum", ["x", "million", "another", "filled", "same"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    tensors = [numpy_helper.from_array(np.asarray(one), name) for name, one in constants.items()]
    graph = helper.make_graph(nodes, "g", [value("x", 1, [2, 3])], [value("y", 1, [2, 3])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    count = onnx_rewrites.fold_constants(model, 65504.0)
    left = {one.name: float(numpy_helper.to_array(one).max()) for one in model.graph.initializer}
    return [count, left, [node.op_type for node in model.graph.node]]


def hard_swishes(
    constants: dict[str, Any], shape: list[Any], extra: Any = None, names: tuple[str, str] = ("", "")
) -> Any:
    """Two spelt out, one behind the other, by nodes of these names; extra: nodes behind them. Constants: of shape () by default."""
    constants = {"three": 3.0, "zero": 0.0, "six": 6.0, "sixth": 1 / 6, **constants}
    tensors = [numpy_helper.from_array(np.asarray(one, np.float32), name) for name, one in constants.items()]
    nodes, x = [], "x"
    for number, name in enumerate(names):
        a, b, c, y = (f"{what}{number}" for what in "abcy")
        nodes += [
            helper.make_node("Add", [x, "three"], [a]), helper.make_node("Clip", [a, "zero", "six"], [b], name=name),
            helper.make_node("Mul", [b, "sixth"], [c]), helper.make_node("Mul", [x, c], [y]),
        ]  # fmt: skip
        x = y
    graph = helper.make_graph(
        [*nodes, *(extra or [])], "swishes", [value("x", shape), value("yes", [], TensorProto.BOOL)], [value("y1", None)], tensors
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def branch(nodes: list[Any], *outputs: str) -> Any:
    return helper.make_graph(nodes, "branch", [], [value(one, None) for one in outputs])


def fused(model: Any, x: np.ndarray = X, fuse: Any = onnx_rewrites.fuse_hard_swish) -> list[Any]:
    """How many were fused, the nodes' operators, the shape of the outputs, and whether they stayed as they were in shape and value."""
    wanted = run(model, x, True)
    count = fuse(model)
    made = run(model, x, True)
    same = all(a.shape == b.shape and np.allclose(a, b, atol=1e-5) for a, b in zip(made, wanted, strict=True))
    return [count, [node.op_type for node in model.graph.node], list(made[0].shape), same]


def named() -> dict[str, list[Any]]:
    """Of models that have the names already which new nodes would get."""
    own = helper.make_node("Neg", ["y1"], ["z"], name="b0_HardSwish")
    inner = [helper.make_node("Neg", ["y1"], ["b1_HardSwish"], name="relu6_HardSwish")]
    outer = helper.make_node("If", ["yes"], ["w"], then_branch=branch(inner, "b1_HardSwish"), else_branch=branch(
        [helper.make_node("Identity", ["y1"], ["other"])], "other"))  # fmt: skip
    of_model = hard_swishes({}, [1, 4], [own, outer], ("", "relu6"))
    found = {"none": fused(hard_swishes({}, [1, 4])), "its own": fused(of_model)}
    names = [node.name for node in of_model.graph.node]
    found["new"] = [names[0], names[1]]

    model = hard_swishes({}, [1, 4], [helper.make_node("Neg", ["y1"], ["z"], name="x/cast")])
    model.graph.value_info.append(value("x/as_number", [7, 7]))
    wanted = run(model, X, True)
    onnx_rewrites.take_bytes(model, ["x"])
    made = run(model, X.astype(np.uint8), True)
    found["bytes"] = [model.graph.node[0].name, model.graph.node[0].output[0], np.allclose(made[0], wanted[0])]

    weights = numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "k")
    scale = numpy_helper.from_array(np.float32([[[[2]], [[3]]]]), "s")
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"]), helper.make_node("Mul", ["c", "s"], ["y"]),
        helper.make_node("Add", ["y", "k_folded"], ["z"]),
    ]  # fmt: skip
    inputs = [value("x", [1, 2, 1, 1]), value("k_folded", [1, 2, 1, 1])]
    graph = helper.make_graph(nodes, "conv", inputs, [value("z", [1, 2, 1, 1])], [weights, scale])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    count = onnx_rewrites.fold_scale_and_shift(model)
    onnx.checker.check_model(model)
    found["constants"] = [count, sorted(one.name for one in model.graph.initializer)]
    return found


def kept_as_they_are() -> dict[str, list[Any]]:
    """What looks like a hard-swish and is none, and constants with axes."""
    found: dict[str, list[Any]] = {}
    for name, number in (("three", 3.0), ("sixth", 1 / 6)):
        for axes in (1, 2, 3):
            found[f"{name} of {axes} axes"] = fused(hard_swishes({name: np.full((1,) * axes, number)}, [1, 4]))
    found["unknown axes"] = fused(hard_swishes({"three": [3.0]}, None))

    reader = branch([helper.make_node("Neg", ["c0"], ["inner"])], "inner")
    other = branch([helper.make_node("Neg", ["a1"], ["outer"])], "outer")
    choice = helper.make_node("If", ["yes"], ["chosen"], then_branch=reader, else_branch=other)
    model = hard_swishes({}, [1, 4], [choice])
    model.graph.output.append(value("chosen", None))
    found["read in branches"] = fused(model)

    whole = hard_swishes({}, [1, 4])
    for clip in whole.graph.node:
        clip.domain = "of.others" if clip.op_type == "Clip" else clip.domain
    found["another's operator"] = [onnx_rewrites.fuse_hard_swish(whole)]

    numbers = hard_swishes({}, [1, 4])
    for node in numbers.graph.node:
        node.op_type = "Div" if node.output[0] in ("c0", "c1") else node.op_type
    for tensor, number in zip(numbers.graph.initializer, (3, 0, 6, 6), strict=True):
        tensor.CopyFrom(numpy_helper.from_array(np.array(number, np.int32), tensor.name))
    numbers.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    numbers.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    found["whole numbers"] = fused(numbers, X.astype(np.int32))
    return found


def constants_of_nodes() -> dict[str, list[Any]]:
    """Hard-swishes whose numbers Constant nodes hold, as exporters with opset 14 and newer write them."""
    found = {}
    for name, told in (
        ("tensor", "value"),
        ("number", "value_float"),
        ("numbers", "value_floats"),
        ("read elsewhere", "value"),
    ):
        model = hard_swishes({}, [1, 4])
        for place, tensor in enumerate(list(model.graph.initializer)):
            number = float(numpy_helper.to_array(tensor).reshape(-1)[0])
            held = {"value": tensor, "value_float": number, "value_floats": [number]}[told]
            model.graph.node.insert(place, helper.make_node("Constant", [], [tensor.name], **{told: held}))
        if name == "read elsewhere":
            model.graph.node.append(helper.make_node("Identity", ["six"], ["z"]))
            model.graph.output.append(value("z", None))
        del model.graph.initializer[:]
        found[name] = fused(model)
    return found


def unread_default() -> list[Any]:
    """An input with a default that no node reads: without the default it would have to be fed."""
    model = hard_swishes({"unread": [1.0]}, [1, 4])
    model.graph.input.append(value("unread", [1]))
    return fused(model)


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "folded": folded(),
                "named": named(),
                "kept": kept_as_they_are(),
                "unread default": unread_default(),
                "constants of nodes": constants_of_nodes(),
                "bytes": bytes_in_branches(),
                "handed on": handed_on(),
                "not read": not_read(),
                "listed": listed(),
            }
        )
    )
