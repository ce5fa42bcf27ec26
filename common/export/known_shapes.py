"""Shapes that a graph computes while it runs, although they are known but for the batch: written into it as constants.

tf2onnx leaves them where a transformer's axes meet (einsum, tensordot), where positions are spread over the batch and where a
class token is repeated for it. A framework would compute them in every inference, on the CPU; torch.compile and CUDA graphs
do not take such a graph at all. Which they are is found by running the graph at two batch sizes.
"""

from __future__ import annotations

from typing import Any, Container, Dict, List, Mapping, Sequence, Set, Tuple

import numpy as np
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from common.export import stepwise

#: batch sizes at which the shapes are read
SIZES = (2, 3)
#: operators that spread a tensor over the batch of another one by themselves
_SPREADING = ("Add", "Sub", "Mul", "Div")


def settle(proto: Any, inputs: Mapping[str, np.ndarray]) -> None:
    """Writes into the graph every shape that differs with the batch in one axis at most; nodes that nobody reads then go.

    inputs: name -> samples, at least three.
    """
    _settle_reshapes(proto, inputs)
    _drop_expansions(proto)
    _replace_repeats(proto)
    remove_unread(proto, inputs)


def _settle_reshapes(proto: Any, inputs: Mapping[str, np.ndarray]) -> None:
    constants = {tensor.name for tensor in proto.graph.initializer}
    reshapes = [node for node in proto.graph.node if node.op_type == "Reshape" and node.input[1] not in constants]
    names = [node.output[0] for node in reshapes]
    if not names:
        return
    evaluator = ReferenceEvaluator(proto)
    shapes = [_shapes_of(evaluator, names, {name: values[:size] for name, values in inputs.items()}) for size in SIZES]
    for node, small, large in zip(reshapes, *shapes):
        differ = [axis for axis, (few, more) in enumerate(zip(small, large)) if few != more]
        if len(differ) <= 1 and len(small) == len(large):
            shape = np.array([-1 if axis in differ else size for axis, size in enumerate(small)], np.int64)
            node.input[1] = _constant(proto, f"{node.output[0]}__shape", shape)


def _shapes_of(evaluator: Any, names: Sequence[str], inputs: Mapping[str, np.ndarray]) -> List[Tuple[int, ...]]:
    shapes: Dict[str, Tuple[int, ...]] = {}

    def keep(name: str, values: Any) -> None:
        shapes[name] = np.shape(values)

    stepwise.run(evaluator, inputs, keep)
    return [shapes[name] for name in names]


def _drop_expansions(proto: Any) -> None:
    """Of a constant that is only added to, or multiplied with, what has the batch already. The caller's check is at a batch of two."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    outputs = {value.name for value in proto.graph.output}
    expands = {
        node.output[0]: node
        for node in proto.graph.node
        if node.op_type == "Expand" and node.input[0] in constants and node.output[0] not in outputs
    }
    for name, expand in expands.items():
        readers = [node for node in proto.graph.node if name in node.input]
        if all(node.op_type in _SPREADING and not set(node.input) <= set(expands) for node in readers):
            for node in readers:
                node.input[list(node.input).index(name)] = expand.input[0]


def _replace_repeats(proto: Any) -> None:
    """A constant of batch one, repeated for the batch and joined to what has it: added to that one's first row times zero."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for tile in list(proto.graph.node):
        if tile.op_type != "Tile" or tile.input[0] not in constants:
            continue
        name = tile.output[0]
        joins = [node for node in proto.graph.node if name in node.input]
        if len(joins) != 1 or joins[0].op_type != "Concat":
            continue
        axis = joins[0].attribute[0].i
        other = next((one for one in joins[0].input if one != name), None)
        if axis == 0 or other is None or constants[tile.input[0]].dims[axis] != 1:
            continue
        bounds = [
            _constant(proto, f"{name}__{word}", np.array([value], np.int64))
            for word, value in (("from", 0), ("to", 1), ("axis", axis))
        ]
        zero = _constant(proto, f"{name}__zero", np.zeros((), numpy_helper.to_array(constants[tile.input[0]]).dtype))
        nodes = [
            helper.make_node("Slice", [other, *bounds], [f"{name}__row"]),
            helper.make_node("Mul", [f"{name}__row", zero], [f"{name}__none"]),
            helper.make_node("Add", [f"{name}__none", tile.input[0]], [name]),
        ]
        before = list(proto.graph.node)
        at = before.index(joins[0])  # behind whatever makes `other`
        before[at:at] = nodes
        before.remove(tile)
        del proto.graph.node[:]
        proto.graph.node.extend(before)


def _constant(proto: Any, name: str, values: np.ndarray) -> str:
    proto.graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def remove_unread(proto: Any, inputs: Container[str]) -> None:
    """Removes nodes and constants that no output depends on, and what is listed as an input and is none of `inputs`."""
    read: Set[str] = {value.name for value in proto.graph.output}
    kept = []
    for node in reversed(proto.graph.node):
        if any(name in read for name in node.output):
            kept.append(node)
            read.update(node.input)
    if len(kept) < len(proto.graph.node):
        del proto.graph.node[:]
        proto.graph.node.extend(reversed(kept))
    # tf2onnx lists some constants among the inputs too
    for part, kept_names in ((proto.graph.initializer, ()), (proto.graph.input, inputs)):
        for one in [one for one in part if one.name not in read and one.name not in kept_names]:
            part.remove(one)
