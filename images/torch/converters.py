"""Converters of ONNX operators that onnx2torch 1.5.15 lacks, up to opset 23, registered by its own `add_converter`.

Most new versions of an operator only allow more types; those are the older converter under the newer number (SAME). Written
anew are those whose inputs or attributes changed, and some operators that it does not have at all. What a converter cannot
do it refuses by NotImplementedError, and the importer says of which node.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch.nn import functional

from images.torch import padding, quantized, recurrent

#: operator -> (registered version, later or earlier versions that differ in nothing but types)
SAME: Dict[str, Tuple[int, Tuple[int, ...]]] = {
    "Acos": (7, (22,)), "Asin": (7, (22,)), "Atan": (7, (22,)), "Cos": (7, (22,)), "Sin": (7, (22,)), "Tan": (7, (22,)),
    "BatchNormalization": (9, (7,)), "Cast": (13, (19, 21, 23)), "Constant": (13, (19, 21, 23)),
    "ConstantOfShape": (9, (20, 21, 23)), "Conv": (11, (22,)), "ConvTranspose": (11, (22,)), "Dropout": (13, (22,)),
    "Elu": (6, (22,)), "Equal": (13, (19,)), "EyeLike": (9, (22,)), "Flatten": (13, (21, 23)), "Gemm": (9, (7,)),
    "GlobalAveragePool": (1, (22,)), "GreaterOrEqual": (12, (16,)), "HardSigmoid": (6, (22,)), "HardSwish": (14, (22,)),
    "Identity": (16, (19, 21, 23)), "InstanceNormalization": (6, (22,)), "IsInf": (10, (20,)), "IsNaN": (13, (9, 20)),
    "LessOrEqual": (12, (16,)), "MaxPool": (12, (22,)), "NonZero": (13, (9,)), "Reshape": (14, (19, 21, 23)),
    "RoiAlign": (16, (22,)), "Round": (11, (22,)), "ScatterND": (16, (18,)), "Selu": (6, (22,)), "Shape": (15, (19, 21, 23)),
    "Slice": (9, (1,)), "Softplus": (1, (22,)), "Softsign": (1, (22,)), "Squeeze": (21, (23,)), "Transpose": (13, (21, 23)),
    "Unsqueeze": (13, (21, 23)),
}  # fmt: skip
#: the same, but for attributes that must have these values where they are there
SAME_BUT: Dict[str, Tuple[int, Tuple[int, ...], Dict[str, Any]]] = {
    "AveragePool": (11, (19, 22), {"dilations": 1}),
    "Resize": (13, (18, 19), {"antialias": 0, "axes": None, "keep_aspect_ratio_policy": "stretch"}),
}
#: attribute of a converter that replaces one of onnx2torch's own
_OURS = "framewatt"
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
_FUNCTIONS = {
    "Acosh": torch.acosh, "Asinh": torch.asinh, "Atanh": torch.atanh, "Cosh": torch.cosh, "Sinh": torch.sinh,
    "Mish": functional.mish, "BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor, "BitwiseNot": torch.bitwise_not,
}  # fmt: skip
_FUNCTION_VERSIONS = {
    **dict.fromkeys(("Acosh", "Asinh", "Atanh", "Cosh", "Sinh"), (9, 22)),
    "Mish": (18, 22),
    **{f"Bitwise{name}": (18,) for name in ("And", "Or", "Xor", "Not")},
}


class Call(torch.nn.Module):
    """A function of tensors as a module, which is what onnx2torch puts into its graph. named: its other arguments."""

    def __init__(self, function: Any, **named: Any) -> None:
        super().__init__()
        self._function, self._named = function, named

    def forward(self, *tensors: Any) -> Any:
        return self._function(*tensors, **self._named)


def register() -> None:
    """Adds what is missing to onnx2torch's registry; a second call, or a newer onnx2torch that has it, changes nothing."""
    # not get_converter(): it looks for the number under which onnx knows an operator, and some are registered under another
    from onnx2torch.node_converters.registry import _CONVERTER_REGISTRY as known  # type: ignore[import-not-found]

    for name, (base, others) in SAME.items():
        for version in others:
            _add(name, version, known[("", name, base)])
    for name, (base, others, allowed) in SAME_BUT.items():
        for version in others:
            _add(name, version, _guarded(known[("", name, base)], allowed))
    for name in _REDUCTIONS:
        for version in (18, 20) if name in ("Max", "Min") else (18,):
            _add(f"Reduce{name}", version, _reduce)
    for name, versions in _FUNCTION_VERSIONS.items():
        for version in versions:
            _add(name, version, _function)
    for name, versions, converter in (
        ("Pad", (18, 19, 21, 23), _pad),
        ("QuantizeLinear", (10, 13, 19, 21, 23), quantized.quantize),
        ("DequantizeLinear", (10, 13, 19, 21, 23), quantized.dequantize),
        ("Split", (18,), _split),
        ("Gelu", (20,), _gelu),
        ("Trilu", (14,), _trilu),
        ("Size", (1, 13, 19, 21, 23), _size),
        ("GlobalMaxPool", (1, 22), _global_max_pool),
        ("ScatterElements", (11, 13, 16, 18), _scatter_elements),
        ("OneHot", (9, 11), _one_hot),
        ("CastLike", (15, 19, 21, 23), _cast_like),
        ("GroupNormalization", (21,), _group_normalization),
        ("RMSNormalization", (23,), _rms_normalization),
        ("GridSample", (16, 20, 22), _grid_sample),
        ("Attention", (23,), _attention),
        ("LSTM", (7, 14, 22), recurrent.convert),
        ("GRU", (7, 14, 22), recurrent.convert),
        ("RNN", (7, 14, 22), recurrent.convert),
    ):
        for version in versions:
            _add(name, version, converter)
    for name, versions, around in (
        ("Slice", (1, 9), lambda original: _slice),
        ("Reshape", (14, 19, 21, 23), _reshape),
        ("Pad", (11, 13), _pad_by_mode),
        ("Clip", (11, 12, 13), _clip),
    ):
        for version in versions:
            original = known[("", name, version)]
            if not hasattr(original, _OURS):
                known[("", name, version)] = _marked(around(original))


def _add(name: str, version: int, converter: Any) -> None:
    from onnx2torch.node_converters.registry import add_converter

    try:
        add_converter(operation_type=name, version=version)(converter)
    except ValueError:
        return  # it is there already


def _marked(converter: Any) -> Any:
    setattr(converter, _OURS, True)
    return converter


def _guarded(converter: Any, allowed: Dict[str, Any]) -> Any:
    def convert(node: Any, graph: Any) -> Any:
        for name, value in allowed.items():
            given = node.attributes.get(name)
            given = given if isinstance(given, list) else [given]
            if any(one is not None and one != value for one in given):
                raise NotImplementedError(f"{name}={node.attributes[name]} has no counterpart here")
        return converter(node, graph)

    return convert


def _result(node: Any, module: torch.nn.Module, inputs: Optional[Sequence[str]] = None) -> Any:
    """inputs: names of those that the module takes; all of the node's by default."""
    from onnx2torch.utils.common import OnnxMapping, OperationConverterResult  # type: ignore[import-not-found]

    taken = tuple(node.input_values if inputs is None else inputs)
    return OperationConverterResult(module, OnnxMapping(inputs=taken, outputs=node.output_values))


def _numbers(node: Any, graph: Any, position: int) -> Optional[List[Any]]:
    """Values of a constant input, None where the node has no such input. Raises NotImplementedError for a computed one."""
    if len(node.input_values) <= position or not node.input_values[position]:
        return None
    tensor = graph.initializers.get(node.input_values[position])
    if tensor is None:
        raise NotImplementedError(f"its input {position} is computed by the graph")
    return list(tensor.to_torch().reshape(-1).tolist())


def _reduce(node: Any, graph: Any) -> Any:
    from onnx2torch.node_converters.reduce import OnnxReduceStaticAxes  # type: ignore[import-not-found]

    axes = _numbers(node, graph, 1)
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return _result(node, torch.nn.Identity(), node.input_values[:1])
    module = OnnxReduceStaticAxes(node.operation_type, axes or None, node.attributes.get("keepdims", 1))
    return _result(node, module, node.input_values[:1])


def _function(node: Any, graph: Any) -> Any:
    return _result(node, Call(_FUNCTIONS[node.operation_type]))


def _pad(node: Any, graph: Any) -> Any:
    from onnx2torch.node_converters.pad import OnnxPadStatic  # type: ignore[import-not-found]

    mode = node.attributes.get("mode", "constant")
    pads, value, axes = (_numbers(node, graph, position) for position in (1, 2, 3))
    if pads is None:
        raise NotImplementedError("no sizes are given")
    if axes is not None:
        shape = graph.value_info.get(node.input_values[0])
        if shape is None or not shape.type.tensor_type.HasField("shape"):
            raise NotImplementedError("the rank of what it pads is unknown")
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
        return _result(node, Call(padding.at_the_edges, pads=flat, mode=kind), node.input_values[:1])
    module = OnnxPadStatic.create_from_onnx_params(pads, mode, value[0] if value else 0.0)
    return _result(node, module, node.input_values[:1])


def _pad_by_mode(original: Any) -> Any:
    """onnx2torch's own pads by a constant; in the other modes it takes some ranks alone."""

    def convert(node: Any, graph: Any) -> Any:
        return original(node, graph) if node.attributes.get("mode", "constant") == "constant" else _pad(node, graph)

    return convert


def _cut(tensor: torch.Tensor, cuts: Sequence[Tuple[int, int, int]]) -> torch.Tensor:
    index = [slice(None)] * tensor.dim()
    for axis, start, end in cuts:
        index[axis] = slice(start, end)
    return tensor[tuple(index)]


def _slice(node: Any, graph: Any) -> Any:
    """Of the versions that have their numbers as attributes."""
    starts, ends = node.attributes["starts"], node.attributes["ends"]
    axes = node.attributes.get("axes") or range(len(starts))
    return _result(node, Call(_cut, cuts=list(zip(axes, starts, ends))))


def _reshaped(tensor: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(shape.tolist())


def _reshape(original: Any) -> Any:
    """With allowzero, which PyTorch's exporter always sets, a size of 0 is one of 0; onnx2torch knows only that of old."""

    def convert(node: Any, graph: Any) -> Any:
        if not node.attributes.get("allowzero", 0):
            return original(node, graph)
        try:
            shape = _numbers(node, graph, 1)
        except NotImplementedError:  # computed by the graph
            return _result(node, Call(_reshaped))
        return _result(node, Call(torch.reshape, shape=tuple(shape or ())), node.input_values[:1])

    return convert


def _within(tensor: torch.Tensor, *bounds: torch.Tensor, lower: bool) -> torch.Tensor:
    least = bounds[0] if lower else None
    most = bounds[1 if lower else 0] if len(bounds) > lower else None
    return torch.clamp(tensor, min=least, max=most).to(tensor.dtype)


def _clip(original: Any) -> Any:
    """onnx2torch has bounds of constant floats, which make floats of whole numbers; ours are of the tensor's own type."""

    def convert(node: Any, graph: Any) -> Any:
        names = [name for name in node.input_values[1:] if name]
        kind = graph.value_info.get(node.input_values[0])
        whole = kind is not None and kind.type.tensor_type.elem_type not in (0, 1, 10, 11)
        if names and (whole or any(name not in graph.initializers for name in names)):
            lower = bool(node.input_values[1])
            return _result(node, Call(_within, lower=lower), [node.input_values[0], *names])
        return original(node, graph)

    return convert


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


def _count(tensor: torch.Tensor) -> torch.Tensor:
    return torch.tensor(tensor.numel(), device=tensor.device)


def _size(node: Any, graph: Any) -> Any:
    return _result(node, Call(_count))


def _largest(tensor: torch.Tensor) -> torch.Tensor:
    return torch.amax(tensor, dim=tuple(range(2, tensor.dim())), keepdim=True)


def _global_max_pool(node: Any, graph: Any) -> Any:
    return _result(node, Call(_largest))


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
        raise NotImplementedError("its depth is missing")
    module = Call(_hot, depth=int(depth[0]), axis=node.attributes.get("axis", -1))
    return _result(node, module, (node.input_values[0], node.input_values[2]))


def _like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return tensor.to(other.dtype)


def _cast_like(node: Any, graph: Any) -> Any:
    return _result(node, Call(_like))


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
        raise NotImplementedError(f"only the plain form is known here{', not ' + odd[0] if odd else ''}")
    causal = bool(node.attributes.get("is_causal", 0))
    taken = [name for name in node.input_values[:4] if name]
    if causal and len(taken) > 3:
        raise NotImplementedError("a mask and is_causal together")
    return _result(node, Call(_attend, scale=node.attributes.get("scale"), causal=causal), taken)
