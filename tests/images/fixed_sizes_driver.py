"""Run by PyTorch's interpreter: `fixed_sizes_driver.py FOLDER`; models that compute sizes, through the adapter, as facts in JSON."""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from common.harness.adapter import Unsupported
from common.model_files import ModelFiles, Tensor
from images.torch import adapter as torch_adapter
from images.torch import fixed_sizes
from tests.images import untimed


def value(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def whole(name, *values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def flattened():
    """Rows of 12 by a Reshape to (batch, 12) and by an Expand, both of sizes that Shape, Gather and Concat compute."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["batch"]),
        helper.make_node("Concat", ["batch", "twelve"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["rows"]),
        helper.make_node("Expand", ["row", "wanted"], ["added"]),
        helper.make_node("Add", ["rows", "added"], ["y"]),
    ]
    row = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(1, 12), "row")
    constants = [whole("first", 0), whole("twelve", 12), row]
    return helper.make_graph(nodes, "flattened", [value("x", ["batch", 3, 4])], [value("y", ["batch", 12])], constants)


def branched():
    """The negative for a batch of one, else the double: onnx2torch has no If."""
    one = helper.make_graph([helper.make_node("Neg", ["x"], ["a"])], "one", [], [value("a", None)])
    more = helper.make_graph([helper.make_node("Add", ["x", "x"], ["b"])], "more", [], [value("b", None)])
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["batch"]),
        helper.make_node("Equal", ["batch", "one"], ["is_one"]),
        helper.make_node("Squeeze", ["is_one"], ["flag"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=one, else_branch=more),
    ]
    inputs = [value("x", ["batch", 3, 4])]
    return helper.make_graph(
        nodes, "branched", inputs, [value("y", ["batch", 3, 4])], [whole("first", 0), whole("one", 1)]
    )


def plain():
    return helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "plain", [value("x", ["batch", 3, 4])], [value("y", ["batch", 3, 4])]
    )


def asked(folder, graph, sizes, variant="torch"):
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    onnx.save(proto, str(folder / f"{graph.name}.onnx"))
    model = ModelFiles(
        root=folder, name=graph.name, hash=graph.name, onnx=f"{graph.name}.onnx", keras=None, saved_model=None,
        reference="none", input_shape=(3, 4), layout="", onnx_input="x", onnx_output="y", output_kind="raw", classes=0,
        weights="user", weights_note="", inputs=(Tensor("x", "float32", (1, 3, 4)),), outputs=(Tensor("y", "float32", (1, 12)),),
    )  # fmt: skip
    one = torch_adapter.create(variant)
    facts = []
    try:
        one.load(model, "fp32", "cpu", str(folder / "cache"), 1)
        for size in sizes:
            x = np.random.default_rng(size).standard_normal((size, 3, 4)).astype(np.float32)
            one.prepare({"x": x}, "host")
            one.run()
            (wanted,) = ReferenceEvaluator(proto).run(None, {"x": x})
            settings = one.settings()
            facts.append({
                "error": float(np.abs(one.output()["y"] - wanted).max()),
                "fixed": json.loads(settings.get("sizes_fixed", "null")),
                "plain": settings["plain_numbers"],
            })  # fmt: skip
    except Unsupported as error:
        facts.append({"unsupported": str(error)})
    one.close()
    return facts


def wrong(load):
    """An importer whose modules with fixed sizes compute something else."""

    def loaded(path, sizes=None):
        imported = load(path, sizes)
        if sizes is not None:
            imported.module.register_forward_hook(lambda module, given, made: made + 1)
        return imported

    return loaded


def main(folder):
    untimed.build_only(0)
    facts = {graph.name: asked(folder, graph, (1, 3, 3, 2)) for graph in (flattened(), branched(), plain())}
    right = fixed_sizes.onnx_import.load
    fixed_sizes.onnx_import.load = wrong(right)
    facts["wrong"] = asked(folder, flattened(), (3,))
    fixed_sizes.onnx_import.load = right
    print(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
