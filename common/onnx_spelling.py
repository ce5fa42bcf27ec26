"""One spelling of what ONNX lets exporters write in several ways, for an importer that knows only one of them."""

from __future__ import annotations

from typing import Any


def spell_plainly(model: Any) -> int:
    """Changes the model in place; how many functions and nodes. It needs the package `onnx`, which it imports when called.

    Functions of the file are written out where they are called; `ai.onnx` is the empty domain; a Split into one part is an Identity;
    a Reshape without a size of 0 has no allowzero, which PyTorch's exporter always sets; a Cast to half or double precision is one
    to float32, as importers compute with one floating-point type.
    """
    from onnx import TensorProto, inliner, numpy_helper

    changed = len(model.functions)
    if model.functions:
        model.CopyFrom(inliner.inline_local_functions(model))
    changed += _use_short_domain(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    others = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
    for node in model.graph.node:
        if node.domain:
            continue
        if node.op_type == "Split" and len(node.output) == 1:
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
            changed += 1
        for attribute in list(node.attribute):
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in others:
                attribute.i = TensorProto.FLOAT
                changed += 1
            if node.op_type == "Reshape" and attribute.name == "allowzero" and attribute.i:
                shape = constants.get(
                    node.input[1]
                )  # a computed one has no 0 in it but where there is nothing to compute
                if shape is None or 0 not in numpy_helper.to_array(shape):
                    node.attribute.remove(attribute)
                    changed += 1
    return changed


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
