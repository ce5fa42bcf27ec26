"""What both kinds of export do to an ONNX graph: lift constants, name the batch axis, count nodes."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, Sequence

import onnx

BATCH = "batch"


def lift_constants(model: Any) -> int:
    """Turns the Constant nodes of the main graph into initializers, which is where converters look for weights.

    Returns how many there were. Constants that are no dense tensor (strings, sparse ones) stay.
    """
    graph = model.graph
    lifted = []
    for node in graph.node:
        tensor = _constant(node)
        if tensor is not None:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
            lifted.append(node)
    for node in lifted:
        graph.node.remove(node)
    return len(lifted)


def _constant(node: Any) -> Any:
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(attribute.t)
        return tensor
    make = onnx.helper.make_tensor
    if attribute.name == "value_float":
        return make("", onnx.TensorProto.FLOAT, [], [attribute.f])
    if attribute.name == "value_floats":
        return make("", onnx.TensorProto.FLOAT, [len(attribute.floats)], list(attribute.floats))
    if attribute.name == "value_int":
        return make("", onnx.TensorProto.INT64, [], [attribute.i])
    if attribute.name == "value_ints":
        return make("", onnx.TensorProto.INT64, [len(attribute.ints)], list(attribute.ints))
    return None


def real_inputs(model: Any) -> List[Any]:
    """The inputs that a caller feeds: older files list their weights among the inputs too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def name_batch_axis(value: Any) -> None:
    """Gives the first axis of an input or output the one name that people know."""
    axis = value.type.tensor_type.shape.dim[0]
    axis.Clear()
    axis.dim_param = BATCH


def rename_outputs(model: Any, names: Sequence[str]) -> None:
    """Renames the outputs of the graph, in the nodes that make them and in those that read them."""
    known = {output.name: name for output, name in zip(model.graph.output, names)}
    for output in model.graph.output:
        output.name = known[output.name]
    for node in model.graph.node:
        for places in (node.input, node.output):
            for index, other in enumerate(places):
                places[index] = known.get(other, other)


def node_counts(model: Any) -> Dict[str, int]:
    """Operator -> how many, most frequent first."""
    return dict(Counter(node.op_type for node in model.graph.node).most_common())


def opset(model: Any) -> int:
    """Version of the default operator set."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
