"""Converters of ONNX operators that onnx2torch 1.5.15 lacks, up to opset 23, registered by its own `add_converter`.

Most new versions of an operator only allow more types; those are the older converter under the newer number (_like). Written
anew are those whose inputs or attributes changed, and some operators that it does not have at all. What a converter cannot
do it refuses by UnsupportedNode, and the importer says of which node. Recipes take from this file what they need.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

import torch
from torch.nn import functional

from images.torch.padding import pad_at_the_edges
from images.torch.quantized import dequantize, quantize
from images.torch.recurrent import recurrent_layer
from images.torch.unsupported_node import UnsupportedNode

#: of ONNX's TensorProto.DataType
_BFLOAT16 = 16


class Call(torch.nn.Module):
    """A function of tensors as a module, which is what onnx2torch puts into its graph. named: its other arguments."""

    def __init__(self, function: Any, **named: Any) -> None:
        super().__init__()
        self._function, self._named = function, named

    def forward(self, *tensors: Any) -> Any:
        return self._function(*tensors, **self._named)


def register_converters() -> Set[Tuple[str, int]]:
    """Adds what is missing to onnx2torch's registry; (operator, version) of what was.

    A second call, or a newer onnx2torch that has them, changes nothing.
    """
    from onnx2torch.node_converters.registry import (  # type: ignore[import-not-found]
        _CONVERTER_REGISTRY,
        add_converter,
    )

    added = set()
    for operator, (versions, converter) in CONVERTERS.items():
        for version in versions:
            try:
                add_converter(operation_type=operator, version=version)(converter)
            except ValueError:
                continue  # it is there already
            added.add((operator, version))
    for operator, (versions, converter) in REPLACED.items():
        known = {version: key for key in _CONVERTER_REGISTRY for version in versions if key == ("", operator, version)}
        for key in known.values() if operator not in ORIGINALS else ():
            ORIGINALS[operator], _CONVERTER_REGISTRY[key] = _CONVERTER_REGISTRY[key], converter
    return added


def _like(registered: int, **allowed: Any) -> Any:
    """The converter of another version, for one that differs in nothing but types.

    allowed: attributes that must have these values where they are there.
    """

    def convert(node: Any, graph: Any) -> Any:
        # not get_converter(): it looks for the number under which onnx knows an operator, and some are registered under another
        from onnx2torch.node_converters.registry import _CONVERTER_REGISTRY as known

        for name, value in allowed.items():
            given = node.attributes.get(name)
            given = given if isinstance(given, list) else [given]
            if any(one is not None and one != value for one in given):
                raise UnsupportedNode(f"{name}={node.attributes[name]} has no counterpart here")
        return known[("", node.operation_type, registered)](node, graph)

    return convert


def _result(node: Any, module: torch.nn.Module, inputs: Optional[Sequence[str]] = None) -> Any:
    """inputs: names of those that the module takes; all of the node's by default."""
    from onnx2torch.utils.common import OnnxMapping, OperationConverterResult  # type: ignore[import-not-found]

    taken = tuple(node.input_values if inputs is None else inputs)
    return OperationConverterResult(module, OnnxMapping(inputs=taken, outputs=node.output_values))


def _numbers(node: Any, graph: Any, position: int) -> Optional[List[Any]]:
    """Values of a constant input, None where the node has no such input. Raises UnsupportedNode for a computed one."""
    if len(node.input_values) <= position or not node.input_values[position]:
        return None
    tensor = graph.initializers.get(node.input_values[position])
    if tensor is None:
        raise UnsupportedNode(f"its input {position} is computed by the graph")
    return list(tensor.to_torch().reshape(-1).tolist())


def _reduce(node: Any, graph: Any) -> Any:
    from onnx2torch.node_converters.reduce import OnnxReduceStaticAxes  # type: ignore[import-not-found]

    axes = _numbers(node, graph, 1)
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return _result(node, torch.nn.Identity(), node.input_values[:1])
    module = OnnxReduceStaticAxes(node.operation_type, axes or None, node.attributes.get("keepdims", 1))
    return _result(node, module, node.input_values[:1])


def _calls(function: Any) -> Any:
    """The converter of an operator that is one function of its inputs."""
    return lambda node, graph: _result(node, Call(function))


def _pad(node: Any, graph: Any) -> Any:
    from onnx2torch.node_converters.pad import OnnxPadStatic  # type: ignore[import-not-found]

    mode = node.attributes.get("mode", "constant")
    pads, value, axes = (_numbers(node, graph, position) for position in (1, 2, 3))
    if pads is None:
        raise UnsupportedNode("no sizes are given")
    if axes is not None:
        shape = graph.value_info.get(node.input_values[0])
        if shape is None or not shape.type.tensor_type.HasField("shape"):
            raise UnsupportedNode("the rank of what it pads is unknown")
        rank, count = len(shape.type.tensor_type.shape.dim), len(axes)
        whole = [0] * (2 * rank)
        for position, axis in enumerate(axes):
            whole[axis % rank], whole[axis % rank + rank] = pads[position], pads[position + count]
        pads = whole
    begins, ends = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    flat = [int(size) for pair in reversed(list(zip(begins, ends))) for size in pair]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    if mode == "wrap":
        return _result(node, Call(functional.pad, pad=flat, mode="circular"), node.input_values[:1])
    if mode in ("reflect", "edge"):
        kind = "replicate" if mode == "edge" else mode
        return _result(node, Call(pad_at_the_edges, pads=flat, mode=kind), node.input_values[:1])
    module = OnnxPadStatic.create_from_onnx_params(pads, mode, value[0] if value else 0.0)
    return _result(node, module, node.input_values[:1])


def _pad_by_mode(node: Any, graph: Any) -> Any:
    """onnx2torch's own pads by a constant, and by what the graph computes; in the other modes it takes some ranks alone."""
    constant = node.attributes.get("mode", "constant") == "constant"
    computed = any(name and name not in graph.initializers for name in node.input_values[1:])
    return ORIGINALS["Pad"](node, graph) if constant or computed else _pad(node, graph)


def _cut_axes(tensor: torch.Tensor, cuts: Sequence[Tuple[int, int, int]]) -> torch.Tensor:
    index = [slice(None)] * tensor.dim()
    for axis, start, end in cuts:
        index[axis] = slice(start, end)
    return tensor[tuple(index)]


def _slice(node: Any, graph: Any) -> Any:
    """Of the versions that have their numbers as attributes."""
    starts, ends = node.attributes["starts"], node.attributes["ends"]
    axes = node.attributes.get("axes") or range(len(starts))
    return _result(node, Call(_cut_axes, cuts=list(zip(axes, starts, ends))))


def _within(tensor: torch.Tensor, *bounds: torch.Tensor, lower: bool) -> torch.Tensor:
    least = bounds[0] if lower else None
    most = bounds[1 if lower else 0] if len(bounds) > lower else None
    return torch.clamp(tensor, min=least, max=most).to(tensor.dtype)


def _clip(node: Any, graph: Any) -> Any:
    """onnx2torch has bounds of constant floats, which make floats of whole numbers; ours are of the tensor's own type."""
    names = [name for name in node.input_values[1:] if name]
    kind = graph.value_info.get(node.input_values[0])
    whole = kind is not None and kind.type.tensor_type.elem_type not in (0, 1, 10, 11)
    if names and (whole or any(name not in graph.initializers for name in names)):
        lower = bool(node.input_values[1])
        return _result(node, Call(_within, lower=lower), [node.input_values[0], *names])
    return ORIGINALS["Clip"](node, graph)


def _parts(tensor: torch.Tensor, count: int, axis: int) -> Any:
    return torch.split(tensor, -(-tensor.shape[axis] // count), dim=axis)


def _split(node: Any, graph: Any) -> Any:
    axis = node.attributes.get("axis", 0)
    sizes = _numbers(node, graph, 1)
    if sizes is not None:
        return _result(node, Call(torch.split, split_size_or_sections=sizes, dim=axis), node.input_values[:1])
    count = node.attributes.get("num_outputs", len(node.output_values))
    return _result(node, Call(_parts, count=count, axis=axis), node.input_values[:1])


def _gelu(node: Any, graph: Any) -> Any:
    return _result(node, torch.nn.GELU(approximate=node.attributes.get("approximate", "none")))


def _trilu(node: Any, graph: Any) -> Any:
    diagonal = _numbers(node, graph, 1)
    function = torch.triu if node.attributes.get("upper", 1) else torch.tril
    return _result(node, Call(function, diagonal=diagonal[0] if diagonal else 0), node.input_values[:1])


def _places(tensor: torch.Tensor) -> torch.Tensor:
    """As ONNX has it: a row for each axis; torch has a column, and none for a lone number."""
    return torch.nonzero(torch.atleast_1d(tensor)).t()


def _in_bfloat16(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.bfloat16)


def _cast(otherwise: Any) -> Any:
    """The converter of Casts to bfloat16, a type that onnx2torch's own does not know. otherwise: that of all others."""
    return lambda node, graph: (
        _result(node, Call(_in_bfloat16)) if node.attributes["to"] == _BFLOAT16 else otherwise(node, graph)
    )


def _flattened(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    axis = axis if axis >= 0 else axis + tensor.dim()
    rows, columns = 1, 1
    for place, size in enumerate(tensor.shape):
        rows, columns = (rows * size, columns) if place < axis else (rows, columns * size)
    return tensor.reshape(rows, columns)


def _flatten(node: Any, graph: Any) -> Any:
    """onnx2torch's own needs an axis before the one named, and one from there on."""
    axis = node.attributes.get("axis", 1)
    known = graph.value_info.get(node.input_values[0])
    rank = (
        len(known.type.tensor_type.shape.dim) if known is not None and known.type.tensor_type.HasField("shape") else 2
    )
    if axis == 1 and rank > 1:
        return _result(node, torch.nn.Flatten())
    return _result(node, Call(_flattened, axis=axis))


def _count(tensor: torch.Tensor) -> torch.Tensor:
    return torch.tensor(tensor.numel(), device=tensor.device)


def _largest(tensor: torch.Tensor) -> torch.Tensor:
    return torch.amax(tensor, dim=tuple(range(2, tensor.dim())), keepdim=True)


def _scatter(data: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor, axis: int, reduction: str) -> Any:
    indices = torch.where(indices < 0, indices + data.shape[axis], indices).long()
    if reduction == "none":
        return torch.scatter(data, axis, indices, updates)
    kind = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[reduction]
    return torch.scatter_reduce(data, axis, indices, updates, kind)


def _scatter_elements(node: Any, graph: Any) -> Any:
    axis, reduction = node.attributes.get("axis", 0), node.attributes.get("reduction", "none")
    return _result(node, Call(_scatter, axis=axis, reduction=reduction))


def _hot(indices: torch.Tensor, values: torch.Tensor, depth: int, axis: int) -> torch.Tensor:
    axis = axis if axis >= 0 else indices.dim() + 1 + axis
    indices = torch.where(indices < 0, indices + depth, indices).long().unsqueeze(axis)
    shape = [1] * indices.dim()
    shape[axis] = depth
    return torch.where(indices == torch.arange(depth, device=indices.device).view(shape), values[1], values[0])


def _one_hot(node: Any, graph: Any) -> Any:
    depth = _numbers(node, graph, 1)
    if not depth:
        raise UnsupportedNode("its depth is missing")
    module = Call(_hot, depth=int(depth[0]), axis=node.attributes.get("axis", -1))
    return _result(node, module, (node.input_values[0], node.input_values[2]))


def _as_type_of(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return tensor.to(other.dtype)


def _in_groups(tensor: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, groups: int, epsilon: float) -> Any:
    return functional.group_norm(tensor, groups, scale, bias, epsilon)


def _group_normalization(node: Any, graph: Any) -> Any:
    epsilon = node.attributes.get("epsilon", 1e-5)
    return _result(node, Call(_in_groups, groups=node.attributes["num_groups"], epsilon=epsilon))


def _root_mean_square(tensor: torch.Tensor, scale: torch.Tensor, axis: int, epsilon: float) -> torch.Tensor:
    axes = tuple(range(axis % tensor.dim(), tensor.dim()))
    return tensor * torch.rsqrt(tensor.square().mean(dim=axes, keepdim=True) + epsilon) * scale


def _rms_normalization(node: Any, graph: Any) -> Any:
    axis, epsilon = node.attributes.get("axis", -1), node.attributes.get("epsilon", 1e-5)
    return _result(node, Call(_root_mean_square, axis=axis, epsilon=epsilon))


def _grid_sample(node: Any, graph: Any) -> Any:
    names = {
        "linear": "bilinear",
        "bilinear": "bilinear",
        "cubic": "bicubic",
        "bicubic": "bicubic",
        "nearest": "nearest",
    }
    module = Call(
        functional.grid_sample,
        mode=names[node.attributes.get("mode", "linear")],
        padding_mode=node.attributes.get("padding_mode", "zeros"),
        align_corners=bool(node.attributes.get("align_corners", 0)),
    )
    return _result(node, module)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *masks: torch.Tensor,
    scale: Optional[float],
    causal: bool,
) -> torch.Tensor:
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=masks[0] if masks else None, is_causal=causal, scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip


def _attention(node: Any, graph: Any) -> Any:
    """Query, key and value of four axes (batch, heads, sequence, size), with a mask or without; no cache of past keys."""
    odd = [
        name
        for name in ("q_num_heads", "kv_num_heads", "softcap", "qk_matmul_output_mode")
        if node.attributes.get(name)
    ]
    if odd or len(node.output_values) > 1 or any(node.input_values[4:]):
        raise UnsupportedNode(f"only the plain form is known here{', not ' + odd[0] if odd else ''}")
    causal = bool(node.attributes.get("is_causal", 0))
    taken = [name for name in node.input_values[:4] if name]
    if causal and len(taken) > 3:
        raise UnsupportedNode("a mask and is_causal together")
    return _result(node, Call(_attend, scale=node.attributes.get("scale"), causal=causal), taken)


#: operator -> versions that onnx2torch lacks, and their converter
CONVERTERS: Dict[str, Tuple[Tuple[int, ...], Any]] = {
    "Acos": ((22,), _like(7)),
    "Acosh": ((9, 22), _calls(torch.acosh)),
    "Asin": ((22,), _like(7)),
    "Asinh": ((9, 22), _calls(torch.asinh)),
    "Atan": ((22,), _like(7)),
    "Atanh": ((9, 22), _calls(torch.atanh)),
    "Attention": ((23,), _attention),
    "AveragePool": ((19, 22), _like(11, dilations=1)),
    "BatchNormalization": ((7,), _like(9)),
    "BitwiseAnd": ((18,), _calls(torch.bitwise_and)),
    "BitwiseNot": ((18,), _calls(torch.bitwise_not)),
    "BitwiseOr": ((18,), _calls(torch.bitwise_or)),
    "BitwiseXor": ((18,), _calls(torch.bitwise_xor)),
    "Cast": ((19, 21, 23), _cast(_like(13))),
    "CastLike": ((15, 19, 21, 23), _calls(_as_type_of)),
    "Constant": ((19, 21, 23), _like(13)),
    "ConstantOfShape": ((20, 21, 23), _like(9)),
    "Conv": ((22,), _like(11)),
    "ConvTranspose": ((22,), _like(11)),
    "Cos": ((22,), _like(7)),
    "Cosh": ((9, 22), _calls(torch.cosh)),
    "DequantizeLinear": ((10, 13, 19, 21, 23), dequantize),
    "Dropout": ((22,), _like(13)),
    "Elu": ((22,), _like(6)),
    "Equal": ((19,), _like(13)),
    "EyeLike": ((22,), _like(9)),
    "Flatten": ((1, 21, 23), _flatten),
    "GRU": ((7, 14, 22), recurrent_layer),
    "Gelu": ((20,), _gelu),
    "Gemm": ((7,), _like(9)),
    "GlobalAveragePool": ((22,), _like(1)),
    "GlobalMaxPool": ((1, 22), _calls(_largest)),
    "GreaterOrEqual": ((16,), _like(12)),
    "GridSample": ((16, 20, 22), _grid_sample),
    "GroupNormalization": ((21,), _group_normalization),
    "HardSigmoid": ((22,), _like(6)),
    "HardSwish": ((22,), _like(14)),
    "Identity": ((19, 21, 23), _like(16)),
    "InstanceNormalization": ((22,), _like(6)),
    "IsInf": ((20,), _like(10)),
    "IsNaN": ((9, 20), _like(13)),
    "LSTM": ((7, 14, 22), recurrent_layer),
    "LessOrEqual": ((16,), _like(12)),
    "MaxPool": ((22,), _like(12)),
    "Mish": ((18, 22), _calls(functional.mish)),
    "NonZero": ((9,), _calls(_places)),
    "OneHot": ((9, 11), _one_hot),
    "Pad": ((18, 19, 21, 23), _pad),
    "QuantizeLinear": ((10, 13, 19, 21, 23), quantize),
    "RMSNormalization": ((23,), _rms_normalization),
    "RNN": ((7, 14, 22), recurrent_layer),
    "ReduceL1": ((18,), _reduce),
    "ReduceL2": ((18,), _reduce),
    "ReduceLogSum": ((18,), _reduce),
    "ReduceLogSumExp": ((18,), _reduce),
    "ReduceMax": ((18, 20), _reduce),
    "ReduceMean": ((18,), _reduce),
    "ReduceMin": ((18, 20), _reduce),
    "ReduceProd": ((18,), _reduce),
    "ReduceSumSquare": ((18,), _reduce),
    "Reshape": ((19, 21, 23), _like(14)),
    "Resize": ((18, 19), _like(13, antialias=0, axes=None, keep_aspect_ratio_policy="stretch")),
    "RoiAlign": ((22,), _like(16)),
    "Round": ((22,), _like(11)),
    "ScatterElements": ((11, 13, 16, 18), _scatter_elements),
    "ScatterND": ((18,), _like(16)),
    "Selu": ((22,), _like(6)),
    "Shape": ((19, 21, 23), _like(15)),
    "Sin": ((22,), _like(7)),
    "Sinh": ((9, 22), _calls(torch.sinh)),
    "Size": ((1, 13, 19, 21, 23), _calls(_count)),
    "Slice": ((1,), _slice),
    "Softplus": ((22,), _like(1)),
    "Softsign": ((22,), _like(1)),
    "Split": ((18,), _split),
    "Squeeze": ((23,), _like(21)),
    "Tan": ((22,), _like(7)),
    "Transpose": ((21, 23), _like(13)),
    "Trilu": ((14,), _trilu),
    "Unsqueeze": ((21, 23), _like(13)),
}
#: likewise where onnx2torch has a converter that does less; all the versions named have the same one
REPLACED: Dict[str, Tuple[Tuple[int, ...], Any]] = {
    "Cast": ((9, 13), _cast(lambda node, graph: ORIGINALS["Cast"](node, graph))),
    "Clip": ((11, 12, 13), _clip),
    "Flatten": ((9, 11, 13), _flatten),
    "NonZero": ((13,), _calls(_places)),
    "Pad": ((11, 13), _pad_by_mode),
}
#: operator -> the converter of onnx2torch that was replaced
ORIGINALS: Dict[str, Any] = {}
