"""The floating-point types of a graph, changed throughout: float32 to float64 for a reference, float64 to float32 to be measured.

A row's precision is what the framework computes in. Of a file in float64 some frameworks would compute in float64 and others in
float32, under the same name, so that all of them get the file in float32; only the reference is computed of the file as it is.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Set

import numpy as np
from onnx import AttributeProto, TensorProto, numpy_helper
from onnx.inliner import inline_local_functions

from common.errors import UserError
from common.float16 import weights_of
from common.onnx_rewrites import nested_graphs

SINGLE, DOUBLE = int(TensorProto.FLOAT), int(TensorProto.DOUBLE)
_NUMPY = {SINGLE: np.float32, DOUBLE: np.float64}
#: attributes that name the type of what comes out
_NAMING = ("to", "dtype", "output_datatype", "output_dtype")
_RANGE = np.finfo(np.float32)
_LARGEST = float(_RANGE.max)
#: fields of a TensorProto that hold values
_VALUES = tuple(one.name for one in TensorProto.DESCRIPTOR.fields if one.name.endswith("_data"))
#: values, name of the constant that they are of -> values
Change = Callable[[np.ndarray, str], np.ndarray]


def retyped(proto: Any, source: int, target: int, change: Optional[Change] = None) -> Any:
    """A copy with all that is of type `source`, SINGLE or DOUBLE, in type `target`. change: of each constant's values, before."""
    result = type(proto)()
    result.CopyFrom(proto)

    def turn(tensor: Any, name: str) -> None:
        if tensor.data_type == source:
            values = numpy_helper.to_array(tensor)
            values = (change(values, name) if change is not None else values).astype(_NUMPY[target])
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    for graph in _all_graphs(result):
        for tensor in graph.initializer:
            turn(tensor, tensor.name)
        for sparse in graph.sparse_initializer:
            turn(sparse.values, sparse.values.name)
        for value in (*graph.input, *graph.output, *graph.value_info):
            for kind in _tensor_types(value.type):
                kind.elem_type = target if kind.elem_type == source else kind.elem_type
    for node in _all_nodes(result):
        _turn_node(node, source, target, turn)
    return result


def without_functions(proto: Any) -> Any:
    """The graph with the functions of its file written out where they are called, if it then has float64, else as it is.

    What a function computes in may be said at its call: in the function itself no type can be changed.
    """
    if not proto.functions:
        return proto
    bare = type(proto)()
    bare.CopyFrom(proto)
    for tensor in bare.graph.initializer:  # together they may be too large for a message
        for field in _VALUES:
            tensor.ClearField(field)
    try:
        result = inline_local_functions(bare)
    except Exception:  # a function that calls itself, or of another opset
        return proto
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    for tensor in result.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(weights[tensor.name])
    return result if has_doubles(result) else proto


def in_single(proto: Any) -> Optional[Any]:
    """A copy of a graph with float64 in float32; None for one that has none.

    As in float16 (common/float16.py), what masks are made of is brought into the range, and a number that would become 0 is the least
    one. Raises UserError, in words that follow the file's name, for another constant beyond the range.
    """
    if not has_doubles(proto):
        return None
    weights = _weights(proto)

    def within(values: np.ndarray, name: str) -> np.ndarray:
        finite = values[np.isfinite(values)]
        largest = float(np.abs(finite).max()) if finite.size else 0.0
        if largest > _LARGEST and name in weights:
            read = " and ".join(sorted(filter(None, weights[name])))
            what = f"weight {name}{f', which {read} reads,' if read else ''} reaches {largest:.3g}"
            raise UserError(f"{what}, beyond float32's {_LARGEST:.3g}")
        kept = np.where(np.isfinite(values), np.clip(values, -_LARGEST, _LARGEST), values)
        lost = values.size == 1 and (kept != 0) & (np.abs(kept) < _RANGE.tiny)
        return np.where(lost, np.copysign(_RANGE.tiny, kept), kept)

    return retyped(proto, DOUBLE, SINGLE, within)


def has_doubles(proto: Any) -> bool:
    """Whether anything in the graph is in float64: what comes in or out, a constant, what a node is told to make."""
    kinds: Set[int] = set()
    for graph in _all_graphs(proto):
        kinds.update(tensor.data_type for tensor in graph.initializer)
        kinds.update(sparse.values.data_type for sparse in graph.sparse_initializer)
        kinds.update(kind.elem_type for value in (*graph.input, *graph.output) for kind in _tensor_types(value.type))
    for node in _all_nodes(proto):
        for attribute in node.attribute:
            kinds.update({attribute.i} if attribute.name in _NAMING and attribute.type == AttributeProto.INT else ())
            kinds.update(tensor.data_type for tensor in _tensors(attribute))
    return DOUBLE in kinds


def narrowed(proto: Any, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """The user's own values for the inputs of a graph with float64, those of float64 in float32."""
    doubles = {value.name for value in proto.graph.input if value.type.tensor_type.elem_type == DOUBLE}
    with np.errstate(over="ignore"):  # what is infinite then is told of the outputs
        return {
            name: one.astype(np.float32) if name in doubles and one.dtype.kind == "f" else one
            for name, one in arrays.items()
        }


def _weights(proto: Any) -> Dict[str, Set[str]]:
    """Constants that are no masks -> what reads them; those of functions are taken for weights, since nobody looks who calls them."""
    found = weights_of(proto.graph)
    for function in proto.functions:
        for node in function.node:
            found.update({name: {f"{function.name}"} for name in node.output if node.op_type == "Constant"})
            for graph in (one for nested in nested_graphs(node) for one in _graphs(nested)):
                names = [tensor.name for tensor in graph.initializer]
                names += [name for inner in graph.node if inner.op_type == "Constant" for name in inner.output]
                found.update({name: {f"{function.name}"} for name in names})
    return found


def _turn_node(node: Any, source: int, target: int, turn: Callable[[Any, str], None]) -> None:
    for attribute in node.attribute:
        if attribute.name in _NAMING and attribute.type == AttributeProto.INT and attribute.i == source:
            attribute.i = target
        for tensor in _tensors(attribute):
            turn(tensor, node.output[0])


def _tensors(attribute: Any) -> Iterator[Any]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for sparse in (
        *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
        *attribute.sparse_tensors,
    ):
        yield sparse.values


def _tensor_types(kind: Any) -> Iterator[Any]:
    """Types of tensors in a type: its own, of a sequence's elements, of an optional."""
    field = kind.WhichOneof("value")
    if field in ("tensor_type", "sparse_tensor_type"):
        yield getattr(kind, field)
    elif field in ("sequence_type", "optional_type"):
        yield from _tensor_types(getattr(kind, field).elem_type)
    elif field == "map_type":
        yield from _tensor_types(kind.map_type.value_type)


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for nested in nested_graphs(node):
            yield from _graphs(nested)


def _all_graphs(proto: Any) -> Iterator[Any]:
    """The graph, and those nested in it and in functions."""
    yield from _graphs(proto.graph)
    for function in proto.functions:
        for node in function.node:
            for nested in nested_graphs(node):
                yield from _graphs(nested)


def _all_nodes(proto: Any) -> Iterator[Any]:
    for function in proto.functions:
        yield from function.node
    for graph in _all_graphs(proto):
        yield from graph.node
