"""Runs in an interpreter that has the framework and onnx: `onnx_driver.py REQUEST.json`, facts as JSON to the file that it names.

Actions: `make` writes a small network as a user's ONNX file would have it (Constant nodes, a batch normalisation and a
hard-swish spelt out, Pad, Reshape); `exercise` puts one variant through the contract of an adapter; `refusals` only asks
what it supports; `two_adapters` has two in one process; `several` answers a list of requests.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

SIZE = 24
CLASSES = 10


def rel_l2(output, reference):
    return float(np.linalg.norm(output.astype(np.float64) - reference) / np.linalg.norm(reference))


def make(request):
    import onnx
    from onnx.reference import ReferenceEvaluator

    random = np.random.default_rng(5)
    model = small_network(random, request["opset"])
    root = Path(request["model"])
    root.mkdir(parents=True)
    onnx.save(model, str(root / "model.onnx"))
    # pictures of different contrast and tint, so that the answers differ
    inputs = random.uniform(0, 255, (8, SIZE, SIZE, 3)) * random.uniform(0.1, 1, (8, 1, 1, 3))
    inputs = inputs.astype(np.float32)
    outputs = ReferenceEvaluator(model).run(None, {"images": inputs})[0]
    np.savez(root / "reference.npz", inputs=inputs, outputs=outputs)
    description = {
        "name": root.name, "hash": f"{request['opset']:012d}", "onnx": "model.onnx", "keras": None, "saved_model": None,
        "reference": "reference.npz", "input_shape": [SIZE, SIZE, 3], "layout": "NHWC", "onnx_input": "images",
        "onnx_output": "probabilities", "output_kind": "probabilities", "classes": CLASSES, "weights": "seeded",
        "weights_note": "random",
    }  # fmt: skip
    (root / "model.json").write_text(json.dumps(description))
    return {"spread": float(np.ptp(outputs, axis=0).max())}


def small_network(random, opset):
    """images (n, SIZE, SIZE, 3) -> probabilities (n, CLASSES), an onnx.ModelProto that the checker accepts."""
    import onnx
    from onnx import TensorProto, helper

    graph = Graph()
    x = swish_of_convolution(graph, random)
    x = excited_depthwise(graph, random, x)
    shape = graph.constant("shape", np.array([0, -1], dtype=np.int64), as_node=True)
    x = graph.node("Reshape", [x, shape], "flat")
    matrix = graph.constant("w3", 3 * weights(random, CLASSES, 16 * (SIZE // 2) ** 2))
    x = graph.node("Gemm", [x, matrix, graph.constant("b3", weights(random, CLASSES))], "logits", transB=1)
    graph.node("Softmax", [x], "probabilities", axis=1)
    made = helper.make_graph(
        graph.nodes, "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", CLASSES])],
        graph.initializers,
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


class Graph:
    """Nodes and initializers in the order of the calls; each call returns the name of what it made."""

    def __init__(self):
        self.nodes, self.initializers = [], []

    def constant(self, name, value, as_node=False):
        from onnx import helper, numpy_helper

        tensor = numpy_helper.from_array(np.asarray(value), name)
        if as_node:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
        return name

    def node(self, kind, inputs, output, **attributes):
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output


def weights(random, *shape):
    return random.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)


def swish_of_convolution(graph, random):
    """Pixels to -1..1, a convolution, a batch normalization and a hard-swish spelt out; returns its output's name."""
    constant, node = graph.constant, graph.node
    centred = node("Mul", ["images", constant("scale", np.float32(1 / 127.5), as_node=True)], "scaled")
    centred = node("Sub", [centred, constant("one", np.float32(1))], "centred")
    x = node("Transpose", [centred], "nchw", perm=[0, 3, 1, 2])
    x = node("Conv", [x, constant("w0", weights(random, 16, 3, 3, 3))], "c0", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    x = node("Mul", [x, constant("gamma", random.uniform(0.8, 1.2, (1, 16, 1, 1)).astype(np.float32))], "normal")
    x = node("Add", [x, constant("beta", random.normal(0, 0.2, (1, 16, 1, 1)).astype(np.float32))], "shifted")
    gate = node("Add", [x, constant("three", np.float32(3), as_node=True)], "plus3")
    gate = node("Clip", [gate, constant("zero", np.float32(0)), constant("six", np.float32(6))], "relu6")
    gate = node("Mul", [gate, constant("sixth", np.float32(1 / 6))], "gate")
    return node("Mul", [x, gate], "swish")


def excited_depthwise(graph, random, x):
    """A Pad, a depthwise convolution of stride 2, squeeze and excitation with the constants of the hard-swish."""
    constant, node = graph.constant, graph.node
    pads = constant("pads", np.array([0, 0, 0, 0, 0, 0, 1, 1], dtype=np.int64), as_node=True)
    x = node("Pad", [x, pads, constant("filler", np.float32(0))], "padded", mode="constant")
    kernel = constant("w1", weights(random, 16, 1, 3, 3))
    x = node("Conv", [x, kernel], "c1", kernel_shape=[3, 3], strides=[2, 2], group=16)
    pooled = node("GlobalAveragePool", [x], "pooled")
    pooled = node("Conv", [pooled, constant("w2", weights(random, 16, 16, 1, 1))], "c2", kernel_shape=[1, 1])
    pooled = node("Add", [pooled, "three"], "plus3b")
    pooled = node("Clip", [pooled, "zero", "six"], "relu6b")
    pooled = node("Mul", [pooled, "sixth"], "excitation")
    return node("Mul", [x, pooled], "excited")


def make_adapter(request):
    spec = importlib.util.spec_from_file_location("adapter_under_test", request["adapter"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.create(request["variant"])


def refusal_of(adapter, request, precision, device):
    from common.cell import Cell

    return adapter.supports(Cell("m", request["variant"], precision, 8, device="cpu" if device == "cpu" else "gpu0"))


def refusals(request):
    adapter = make_adapter(request)
    return {f"{p} {device}": refusal_of(adapter, request, p, device) for p, device in request["cells"]}


def exercise(request):
    from common.cell import Cell
    from common.harness.adapter import Unsupported
    from common.model_files import ModelFiles
    from tests.images import untimed

    untimed.take_the_first_that_works()
    adapter = make_adapter(request)
    if "level" in request:
        adapter.tune(request["level"])
    device = request["device"]
    refusal = refusal_of(adapter, request, request["precision"], device)
    if refusal:
        return {"refusal": refusal}
    model = ModelFiles.read(Path(request["model"]))
    with np.load(model.path(model.reference)) as reference:
        inputs, outputs = reference["inputs"], reference["outputs"].astype(np.float64)
    facts = {"refusal": None, "cells": []}
    if "expect" in request:
        adapter.expect(Cell("m", request["variant"], request["precision"], 8, **request["expect"]))
    try:
        adapter.load(model, request["precision"], device, request["cache_dir"], request.get("threads", 2))
        for io in request["ios"]:
            for batch_size in request["batches"]:
                facts["cells"].append(
                    one_shape(adapter, model, io, inputs, outputs, batch_size, request.get("held", "_inference"))
                )
        facts.update(versions=adapter.versions(), settings=adapter.settings(), peak=adapter.device_peak_bytes())
    except Unsupported as error:
        facts["unsupported"] = str(error)
    adapter.close()
    return facts


def two_adapters(request):
    """Two adapters of one process, as the scenario multi-stream has them."""
    from common.cell import Cell
    from common.model_files import ModelFiles

    model = ModelFiles.read(Path(request["model"]))
    with np.load(model.path(model.reference)) as reference:
        inputs, outputs = reference["inputs"], reference["outputs"].astype(np.float64)
    adapters = [make_adapter(request)]
    adapters.append(type(adapters[0])(adapters[0]._ov))
    for adapter in adapters:
        adapter.expect(Cell("m", request["variant"], "fp32", 8, scenario="multi-stream", streams=2))
        adapter.load(model, "fp32", "cpu", request["cache_dir"], 2)
        adapter.prepare({model.inputs[0].name: inputs}, "host")
        adapter.run()
    return {
        "same_compiled_model": adapters[0]._inference._compiled is adapters[1]._inference._compiled,
        "rel_l2": max(rel_l2(adapter.output()[model.outputs[0].name], outputs) for adapter in adapters),
    }


def operators(request):
    """The operators of small inferences by the adapter's own profiler, after slow ones of the same compiled model."""
    from common.harness import tracing
    from common.model_files import ModelFiles

    adapter = make_adapter(request)
    adapter.tune(request["level"])
    recorder = adapter.operator_profiler()
    model = ModelFiles.read(Path(request["model"]))
    adapter.load(model, "fp32", "cpu", request["cache_dir"], 2)
    with np.load(model.path(model.reference)) as reference:
        inputs = reference["inputs"]
    adapter.prepare({model.inputs[0].name: inputs[:1]}, "host")
    if request["slow_first"]:
        held = adapter._inference
        held._input, small = np.concatenate([inputs] * 64), held._input
        for _ in range(3):
            adapter.run()
        held._input = small
    traced = tracing.trace(adapter.run, recorder, 5, 60.0)
    inferences = tracing.inference_of([one.start_ns for one in traced.recording.records], traced.walls)
    return {"inferences": sorted(set(inferences)), "message": traced.recording.message}


def one_shape(adapter, model, io, inputs, outputs, batch_size, held_name):
    """Everything that a harness does with one batch size. held_name: the attribute that holds what prepare() builds."""
    order = np.arange(batch_size) % len(inputs)
    given, made = model.inputs[0].name, model.outputs[0].name
    adapter.prepare({given: np.ascontiguousarray(inputs[order])}, io)
    adapter.run()
    first = adapter.output()[made]
    held = getattr(adapter, held_name)
    other = order[::-1]
    if batch_size == 1:
        other = np.array([3])
    adapter.prepare({given: np.ascontiguousarray(inputs[other])}, io)
    adapter.run()
    second = adapter.output()[made]
    device_ns = adapter.run_timed()
    for _ in range(5):
        adapter.enqueue()
    adapter.synchronize()
    return {
        "io": io,
        "batch_size": batch_size,
        "shape": list(first.shape),
        "dtype": str(first.dtype),
        "rel_l2": rel_l2(first, outputs[order]),
        "top1": float((first.argmax(1) == outputs[order].argmax(1)).mean()),
        "rel_l2_second": rel_l2(second, outputs[other]),
        "rel_l2_offline": rel_l2(adapter.output()[made], outputs[other]),
        "changed": rel_l2(second, first),
        "kept_its_build": getattr(adapter, held_name) is held,
        "device_ns": device_ns,
    }


def several(request):
    return [ACTIONS[one["action"]]({**request, **one}) for one in request["requests"]]


ACTIONS = {
    "make": make, "exercise": exercise, "refusals": refusals, "two_adapters": two_adapters, "operators": operators,
    "several": several,
}  # fmt: skip

if __name__ == "__main__":
    request = json.loads(Path(sys.argv[1]).read_text())
    sys.path.insert(0, request["repository"])
    Path(request["answer"]).write_text(json.dumps(ACTIONS[request["action"]](request)))
