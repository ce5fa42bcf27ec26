"""Which inputs of a graph are looked up in a table, and how long that table is: an index beyond it is an error in every framework."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

#: operators that hand an index on as it is
_PASSING = {
    *("Cast", "Clip", "Concat", "Expand", "Flatten", "Identity", "Max", "Min", "Reshape", "Slice", "Split", "Squeeze"),
    *("Tile", "Transpose", "Unsqueeze", "Where"),
}
#: operators that change the values of a table, not its axes
_SAME_AXES = {"Cast", "DequantizeLinear", "Identity"}
#: int32 and int64, of which depths and ranges are
_WHOLE = (6, 7)
#: longer constants are looked at for their axes alone
_LONGEST = 1 << 16
#: of ONNX Runtime's fused embedding: index -> table, both as positions among its inputs
_EMBEDDING = {0: 2, 1: 4}


class _Known(NamedTuple):
    """axes: of every constant; makers: name -> the node that makes it, of all graphs, those within nodes included.

    depths: constants of one whole number. ranges: of constants that hold 0, 1, 2, ..., how many.
    """

    axes: Dict[str, List[int]]
    makers: Dict[str, Any]
    depths: Dict[str, int]
    ranges: Dict[str, int]


def tables(proto: Any) -> Dict[str, int]:
    """Input -> length of the smallest table that its values are looked up in, through operators that only pass them on."""
    nodes = list(_nodes(proto.graph))
    known = _known(proto.graph, nodes)
    readers: Dict[str, List[Tuple[Any, int]]] = {}
    for node in nodes:
        for position, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, position))
    found: Dict[str, int] = {}
    for value in proto.graph.input:
        limits: List[int] = []
        waiting, seen = [value.name], {value.name}
        while waiting:
            for node, position in readers.get(waiting.pop(), []):
                limit = _limit(node, position, known)
                if limit is not None:
                    limits.append(limit)
                elif node.op_type in _PASSING or (node.op_type == "Gather" and position == 0):
                    fresh = [name for name in node.output if name not in seen]
                    seen.update(fresh)
                    waiting.extend(fresh)
        if limits:
            found[value.name] = min(limits)
    return found


def _limit(node: Any, position: int, known: _Known) -> Optional[int]:
    """Length of the table in which this node looks up its input number `position`; None where it is none or not known."""
    if node.op_type == "OneHot" and position == 0:
        return known.depths.get(node.input[1])
    if node.op_type == "Equal":  # a OneHot spelt out, as JAX does it
        return known.ranges.get(node.input[1 - position])
    if node.op_type in ("Gather", "GatherElements", "GatherBlockQuantized") and position == 1:
        axes = _axes(node.input[0], known)
        number = next((attribute.i for attribute in node.attribute if attribute.name in ("axis", "gather_axis")), 0)
        return int(axes[number]) if -len(axes) <= number < len(axes) else None
    if node.op_type == "EmbedLayerNormalization" and len(node.input) > _EMBEDDING.get(position, len(node.input)):
        axes = _axes(node.input[_EMBEDDING[position]], known)
        return int(axes[0]) if axes else None
    return None


def _axes(name: str, known: _Known) -> List[int]:
    """Of a constant, or of what is computed from one value by value; empty where it is neither."""
    while name not in known.axes:
        maker = known.makers.get(name)
        if maker is None or maker.op_type not in _SAME_AXES:
            return []
        name = maker.input[0]
    return known.axes[name]


def _known(graph: Any, nodes: List[Any]) -> _Known:
    constants = {tensor.name: tensor for one in _graphs(graph) for tensor in one.initializer}
    for node in nodes:
        if node.op_type == "Constant":
            constants.update((node.output[0], one.t) for one in node.attribute if one.HasField("t"))
    whole = {
        name: tensor for name, tensor in constants.items() if tensor.data_type in _WHOLE and _size(tensor) <= _LONGEST
    }
    numbers = {name: _numbers(tensor) for name, tensor in whole.items()}
    return _Known(
        {name: list(tensor.dims) for name, tensor in constants.items()},
        {name: node for node in nodes for name in node.output},
        {name: one[0] for name, one in numbers.items() if len(one) == 1},
        {name: len(one) for name, one in numbers.items() if len(one) > 1 and one == list(range(len(one)))},
    )


def _size(tensor: Any) -> int:
    return math.prod(tensor.dims)


def _numbers(tensor: Any) -> List[int]:
    from onnx import numpy_helper

    return [int(one) for one in numpy_helper.to_array(tensor).reshape(-1)]


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for nested in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(nested)


def _nodes(graph: Any) -> Iterator[Any]:
    for one in _graphs(graph):
        yield from one.node
