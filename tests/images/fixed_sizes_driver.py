"""Run by PyTorch's interpreter: `fixed_sizes_driver.py FOLDER`; models that compute sizes, through the adapter, as facts in JSON."""

import gc
import json
import sys
import weakref
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import onnx
import torch
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


def determined():
    """The input itself for a batch of one, else an operator that PyTorch has no converter for."""
    one = helper.make_graph([helper.make_node("Neg", ["x"], ["a"])], "one", [], [value("a", None)])
    more = helper.make_graph([helper.make_node("Det", ["x"], ["b"])], "more", [], [value("b", None)])
    graph = branched()
    graph.name = "determined"
    node = helper.make_node("If", ["flag"], ["y"], then_branch=one, else_branch=more)
    graph.node[-1].CopyFrom(node)
    return graph


def plain():
    return helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "plain", [value("x", ["batch", 3, 4])], [value("y", ["batch", 3, 4])]
    )


def loaded(folder, graph, variant="torch"):
    """(adapter that has the model, the model, its file)."""
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    onnx.save(proto, str(folder / f"{graph.name}.onnx"))
    model = ModelFiles(
        root=folder, name=graph.name, hash=graph.name, onnx=f"{graph.name}.onnx", keras=None, saved_model=None,
        reference="none", input_shape=(3, 4), layout="", onnx_input="x", onnx_output="y", output_kind="raw", classes=0,
        weights="user", weights_note="", inputs=(Tensor("x", "float32", (1, 3, 4)),), outputs=(Tensor("y", "float32", (1, 12)),),
    )  # fmt: skip
    one = torch_adapter.create(variant)
    one.load(model, "fp32", "cpu", str(folder / "cache"), 1)
    return one, proto


def asked(folder, graph, sizes):
    one, proto = loaded(folder, graph)
    facts = []
    try:
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
                "sizes": settings.get("sizes"),
                "key": one._key,
            })  # fmt: skip
    except Unsupported as error:
        facts.append({"unsupported": str(error)})
    one.close()
    return facts


def in_turn(folder):
    """What becomes of each cell where one between them cannot be run."""
    one, _ = loaded(folder, determined())
    facts = []
    for size, io in ((1, "host"), (3, "host"), (1, "device"), (1, "host")):
        x = np.ones((size, 3, 4), np.float32)
        try:
            one.prepare({"x": x}, io)
            one.run()
            facts.append(float(np.abs(one.output()["y"] + x).max()))
        except Unsupported:
            facts.append("unsupported")
    one.close()
    return facts


def fitted(folder, failing, error):
    """What fit() says of a run that fails, of the module with these sizes (0) or as it is (1); and how it treats the device."""
    sizes = fixed_sizes.Sizes(folder / "flattened.onnx", False)
    on_device, most, runs = set(), [0], []

    def place(module):
        on_device.add(id(module))
        most[0] = max(most[0], len(on_device))
        weakref.finalize(module, on_device.discard, id(module))
        object.__setattr__(module, "to", lambda where: on_device.discard(id(module)))
        return module

    def run(module):
        runs.append(len(runs))
        if runs[-1] == failing:
            raise RuntimeError(error)  # a new one: its traceback holds what ran
        return [module(torch.ones(2, 3, 4)).numpy()]

    gc.disable()  # nothing goes by chance
    try:
        imported = sizes.fit({"x": np.ones((2, 3, 4), np.float32)}, place, run, "fp32")
        placed = [id(imported.module)] == list(on_device)
        settings = imported.settings
        return {"most": most[0], "placed": placed, "sizes": settings.get("sizes"), "fixed": "sizes_fixed" in settings}
    except Exception as raised:
        return str(raised)
    finally:
        gc.enable()


def wrong(load):
    """An importer whose modules with fixed sizes compute something else."""

    def loaded(path, sizes=None, fold=True):
        imported = load(path, sizes, fold)
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
    facts["in_turn"] = in_turn(folder)
    facts["fitted"] = {
        f"{error} {failing}": fitted(folder, failing, error)
        for error in ("CUDA out of memory", "CUDA error: device-side assert triggered", "shapes differ")
        for failing in (0, 1, None)
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
