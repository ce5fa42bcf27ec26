"""Run with ONNX Runtime's interpreter: a graph whose branches depend on sizes, before and after they are settled, as facts in JSON."""

import json

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from common import onnx_known_values


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name, array):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array), name))


def branch(name, nodes, outputs, initializers=()):
    return helper.make_graph(nodes, name, [], [value(one, None) for one in outputs], list(initializers))


def made():
    """`squeeze` as PyTorch writes it, whose branch is known; its second output is a constant."""
    weight = numpy_helper.from_array(np.float32([2, 3]), "weight")
    taken = branch(
        "then",
        [constant("axes", np.int64([1])), helper.make_node("Squeeze", ["x", "axes"], ["flat"])],
        ["flat", "weight"],
        [weight],
    )
    left = branch(
        "else",
        [helper.make_node("Identity", ["x"], ["flat"]), constant("weight", np.float32([0]))],
        ["flat", "weight"],
    )
    open_then = branch("open_then", [helper.make_node("Relu", ["sum"], ["positive"])], ["positive"])
    open_else = branch("open_else", [helper.make_node("Neg", ["sum"], ["negative"])], ["negative"])
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        constant("place", np.int64(1)),
        helper.make_node("Gather", ["shape", "place"], ["size"]),
        constant("one", np.int64(1)),
        helper.make_node("Equal", ["size", "one"], ["is_one"]),
        helper.make_node("If", ["is_one"], ["a", "b"], then_branch=taken, else_branch=left),
        helper.make_node("ReduceSum", ["b"], ["total"], keepdims=0),
        helper.make_node("Mul", ["a", "total"], ["ab"]),
        helper.make_node("Add", ["ab", "total"], ["sum"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=open_then, else_branch=open_else),
    ]
    inputs = [value("x", ["batch", 1, 4]), value("flag", [], TensorProto.BOOL)]
    graph = helper.make_graph(nodes, "branches", inputs, [value("y", ["batch", 4])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model, flag):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal((3, 1, 4)).astype(np.float32)
    return session.run(None, {"x": x, "flag": np.array(flag)})[0]


model = made()
before = [run(model, flag) for flag in (True, False)]
onnx_known_values.settle(model)
onnx.checker.check_model(model)
after = [run(model, flag) for flag in (True, False)]
operators = [node.op_type for node in model.graph.node]
print(json.dumps({"operators": operators, "same": all(map(np.array_equal, before, after))}))
