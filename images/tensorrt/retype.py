"""The ONNX graph in another floating-point type, for TensorRT versions whose networks are strongly typed.

Those versions have no precision flags: every tensor has the type that the ONNX file gives it. So weights and
constants become float16 or bfloat16, and a Cast stands behind each float input and before each float output: from
outside, the model still takes and gives float32. An output that is an input or a constant itself stays as it is. Masks
beyond the type's range become its largest number, and a weight beyond float16's is refused (common/float16.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence, Set

import numpy as np

from common.float16 import LARGEST_FLOAT16, LEAST_FLOAT16, refusal_of, weights_of
from common.harness.adapter import Unsupported
from common.onnx_rewrites import fold_constants, fresh_name, names_in, rename_reads, set_handed_on_aside, take_bytes

#: of bfloat16, as a float32
_LARGEST_BFLOAT16 = float(np.array(0x7F7F0000, np.uint32).view(np.float32))
#: inputs that the ONNX specification keeps float32 whatever the data's type is: op -> positions
_FLOAT32_INPUTS = {"Resize": (1, 2), "Upsample": (1,), "NonMaxSuppression": (0, 1, 3, 4)}
_CONSTANTS = {"Constant", "ConstantOfShape"}
_UNSUPPORTED_OPS = {"QuantizeLinear", "DequantizeLinear", "If", "Loop", "Scan"}


def retype(path: Path, precision: str, cast: Sequence[str] = ()) -> bytes:
    """The serialized model of `path` (float32), with bytes for the inputs `cast`, as precision `fp16` or `bf16`.

    Raises Unsupported for graphs with control flow or quantization, for weights outside float16's range, and where
    the onnx package is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise Unsupported(f"{precision} in a strongly typed network needs the onnx package: {error}") from error
    target = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[precision]
    model = onnx.load(str(path))
    take_bytes(model, cast)
    graph = model.graph
    found = sorted({node.op_type for node in graph.node} & _UNSUPPORTED_OPS)
    if found:
        raise Unsupported(f"{precision} for this TensorRT needs a typed ONNX file: cannot retype {', '.join(found)}")

    put_back, names = set_handed_on_aside(model)
    if precision == "fp16":
        fold_constants(model, LARGEST_FLOAT16)
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    keep = _float32_names(graph.node)
    computed = (
        keep - set(initializers) - {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    )
    if computed:
        raise Unsupported(f"{precision}: {sorted(computed)[0]} must stay float32 but is computed in the graph")

    weights = weights_of(graph)
    for name, tensor in initializers.items():
        if name not in keep:
            _convert(tensor, names.get(name, name), target, weights.get(name))
    for node in graph.node:
        if not keep.intersection(node.output):
            readers = weights.get(node.output[0]) if node.op_type in _CONSTANTS else set()
            _convert_attributes(node, target, readers)
    del graph.value_info[:]
    taken = names_in(graph)
    _cast_inputs(graph, initializers, target, taken)
    _cast_outputs(graph, target, taken)
    put_back(model)
    data: bytes = model.SerializeToString()
    return data


def _float32_names(nodes: Any) -> Set[str]:
    names = set()
    for node in nodes:
        for position in _FLOAT32_INPUTS.get(node.op_type, ()):
            if position < len(node.input) and node.input[position]:
                names.add(node.input[position])
    return names


def _convert(tensor: Any, name: str, target: int, readers: Optional[Set[str]]) -> None:
    """Changes a float32 TensorProto in place; other types stay as they are. Raises Unsupported for a weight out of range.

    readers: operators that read it as a weight; None: it is no weight.
    """
    import onnx

    if tensor.data_type != onnx.TensorProto.FLOAT:
        return
    values = onnx.numpy_helper.to_array(tensor)
    if target == onnx.TensorProto.FLOAT16:
        refusal = None if readers is None else refusal_of(name, values, readers)
        if refusal is not None:
            raise Unsupported(refusal)
        values = _within(values, LARGEST_FLOAT16)
        # an epsilon, which as 0 would make divisions by 0
        if values.size == 1 and 0 < abs(float(values.reshape(-1)[0])) < LEAST_FLOAT16:
            values = np.copysign(np.float32(LEAST_FLOAT16), values)
        raw = values.astype(np.float16).tobytes()
    else:
        raw = bfloat16_bits(_within(values, _LARGEST_BFLOAT16)).tobytes()
    tensor.CopyFrom(onnx.helper.make_tensor(tensor.name, target, list(values.shape), raw, raw=True))


def _within(values: np.ndarray, largest: float) -> np.ndarray:
    """Finite numbers brought into the range; infinities stay."""
    limited: np.ndarray = np.where(np.isfinite(values), np.clip(values, -largest, largest), values).astype(np.float32)
    return limited


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """float32 as the bits of bfloat16 (uint16, same shape), rounded to nearest, ties to even; NaN stays NaN."""
    values = np.asarray(values, dtype=np.float32)
    bits = values.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def _convert_attributes(node: Any, target: int, readers: Optional[Set[str]]) -> None:
    """Tensors in attributes, float scalars of Constant nodes, and the types that a node is told to produce."""
    import onnx

    if node.op_type == "ConstantOfShape" and not node.attribute:  # zeros, float32 unless it says another type
        node.attribute.append(
            onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(np.zeros(1, np.float32)))
        )
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            _convert(attribute.t, node.output[0], target, readers)
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            scalar = attribute.name == "value_float"
            values = np.float32(attribute.f) if scalar else np.array(attribute.floats, dtype=np.float32)
            tensor = onnx.numpy_helper.from_array(np.asarray(values))
            _convert(tensor, node.output[0], target, readers)
            attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))
        elif attribute.name in ("to", "dtype") and attribute.i == onnx.TensorProto.FLOAT:
            attribute.i = target


def _cast_inputs(graph: Any, initializers: Mapping[str, Any], target: int, taken: Set[str]) -> None:
    """taken: names of tensors, to which new ones are added."""
    import onnx

    casts: List[Any] = []
    for value in graph.input:
        if value.name in initializers:  # older files list their constants among the inputs
            value.type.tensor_type.elem_type = initializers[value.name].data_type
        elif value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            typed = fresh_name(f"{value.name}__typed", taken)
            rename_reads(graph, {value.name: typed})
            casts.append(onnx.helper.make_node("Cast", [value.name], [typed], to=target))
    nodes = casts + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)


def _cast_outputs(graph: Any, target: int, taken: Set[str]) -> None:
    """For outputs that nodes make. taken: names of tensors, to which new ones are added."""
    import onnx

    floats = [value.name for value in graph.output if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    renamed = {name: fresh_name(f"{name}__typed", taken) for name in dict.fromkeys(floats)}
    rename_reads(graph, renamed)
    for node in graph.node:
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for name, typed in renamed.items():
        graph.node.append(onnx.helper.make_node("Cast", [typed], [name], to=onnx.TensorProto.FLOAT))
