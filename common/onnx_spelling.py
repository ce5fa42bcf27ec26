"""One spelling of what ONNX lets exporters write in several ways, for an importer that knows only one of them."""

from __future__ import annotations

from typing import Any, Mapping, Set

import numpy as np

from common.onnx_rewrites import fresh_name, names_in, nested_graphs


def spell_plainly(model: Any) -> int:
    """Changes the model in place; how many functions and nodes. It needs the package `onnx`, which it imports when called.

    Functions of the file are written out where they are called; `ai.onnx` is the empty domain; a Split into one part is an Identity;
    a Reshape without a size of 0 has no allowzero, which PyTorch's exporter always sets. Importers compute with one floating-point
    type: behind a Cast to half precision, which rounds, stands one to float32, and one to double precision is one to float32;
    weights in bfloat16, which numpy does not have, are float32.
    """
    from onnx import inliner

    changed = len(model.functions)
    if model.functions:
        model.CopyFrom(inliner.inline_local_functions(model))
    changed += _use_short_domain(model)
    return changed + _spell(model.graph, {}, names_in(model.graph))


def _spell(graph: Any, around: Mapping[str, Any], taken: Set[str]) -> int:
    """Of a graph and those within it. around: constants that it may read beside its own. taken: names of tensors."""
    from onnx import TensorProto, numpy_helper

    changed = 0
    constants = {**around, **{tensor.name: tensor for tensor in graph.initializer}}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
            changed += 1
    for node in list(graph.node):
        changed += sum(_spell(nested, constants, taken) for nested in nested_graphs(node))
        if node.domain:
            continue
        if node.op_type == "Split" and len(node.output) == 1:
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
            changed += 1
        for attribute in list(node.attribute):
            if node.op_type == "Cast" and attribute.name == "to":
                changed += _cast_to_single(graph, node, attribute, taken)
            if node.op_type == "Reshape" and attribute.name == "allowzero" and attribute.i:
                shape = constants.get(
                    node.input[1]
                )  # a computed one has no 0 in it but where there is nothing to compute
                if shape is None or 0 not in numpy_helper.to_array(shape):
                    node.attribute.remove(attribute)
                    changed += 1
    return changed


def _cast_to_single(graph: Any, cast: Any, to: Any, taken: Set[str]) -> int:
    """Lets a Cast to another floating-point type than float32 end in float32; whether that changed anything."""
    from onnx import TensorProto, helper

    if to.i == TensorProto.DOUBLE:
        to.i = TensorProto.FLOAT
        return 1
    if to.i not in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return 0
    made = cast.output[0]
    cast.output[0] = fresh_name(f"{made}/rounded", taken)
    place = next(number for number, node in enumerate(graph.node) if list(node.output) == list(cast.output))
    graph.node.insert(place + 1, helper.make_node("Cast", [cast.output[0]], [made], to=TensorProto.FLOAT))
    return 1


def _use_short_domain(model: Any) -> int:
    own = [entry for entry in model.opset_import if entry.domain == "ai.onnx"]
    if not own:
        return 0
    for node in model.graph.node:
        node.domain = "" if node.domain == "ai.onnx" else node.domain
    version = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    for entry in [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]:
        model.opset_import.remove(entry)
    model.opset_import.add(domain="", version=version)
    return len(own)
