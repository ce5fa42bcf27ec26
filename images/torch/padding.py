"""Padding as PyTorch has it: sizes that ONNX leaves to be computed, and modes that torch knows for some ranks alone."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Dict, List, Optional, Sequence

_PADDED = ("Conv", "MaxPool", "AveragePool")


def spell_out_padding(model: Any) -> int:
    """Writes the pads of Conv and pools that say auto_pad=SAME_UPPER or SAME_LOWER as numbers, where the sizes are known.

    Changes the model in place; returns how many nodes were changed.
    """
    import onnx

    graph = model.graph
    if not any(_is_padded(node) for node in graph.node):
        return 0
    with suppress(Exception):  # above two GiB: only what has a stride of one is known then
        graph.value_info.extend(onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info)
    sizes = {
        value.name: [
            axis.dim_value if axis.HasField("dim_value") else None for axis in value.type.tensor_type.shape.dim
        ]
        for value in (*graph.value_info, *graph.input)
    }
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    changed = sum(_give_pads(node, sizes.get(node.input[0], []), weights) for node in graph.node if _is_padded(node))
    del graph.value_info[:]
    return changed


def _is_padded(node: Any) -> bool:
    return node.op_type in _PADDED and any(attribute.s.startswith(b"SAME") for attribute in node.attribute)


def _give_pads(node: Any, sizes: Sequence[Optional[int]], weights: Dict[str, List[int]]) -> int:
    from onnx import helper

    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    mode = given.get("auto_pad", b"NOTSET").decode()
    kernel = given.get("kernel_shape") or (weights.get(node.input[1], [])[2:] if node.op_type == "Conv" else [])
    if mode not in ("SAME_UPPER", "SAME_LOWER") or not kernel:
        return 0
    begins, ends = [], []
    for axis, taps in enumerate(kernel):
        stride = given.get("strides", [1] * len(kernel))[axis]
        reach = (taps - 1) * given.get("dilations", [1] * len(kernel))[axis] + 1
        size = sizes[axis + 2] if len(sizes) == len(kernel) + 2 else None
        if stride > 1 and size is None:
            return 0
        # with a stride of one every place is an output
        total = max(reach - 1 if size is None else (-(-size // stride) - 1) * stride + reach - size, 0)
        less, more = total // 2, total - total // 2
        begins.append(less if mode == "SAME_UPPER" else more)
        ends.append(more if mode == "SAME_UPPER" else less)
    _set_pads(node, begins + ends)
    return 1


def _set_pads(node: Any, pads: Sequence[int]) -> None:
    from onnx import helper

    for name in ("auto_pad", "pads"):
        for attribute in [one for one in node.attribute if one.name == name]:
            node.attribute.remove(attribute)
    node.attribute.append(helper.make_attribute("pads", list(pads)))


def pad_at_the_edges(tensor: Any, pads: Sequence[int], mode: str) -> Any:
    """torch.nn.functional.pad in the modes reflect and replicate for a tensor of any rank.

    pads: (begin, end) from the last axis on. torch wants one or two axes before those that are padded.
    """
    from torch.nn import functional

    before = tensor.dim() - len(pads) // 2
    if before == 0:
        return functional.pad(tensor.unsqueeze(0), list(pads), mode=mode).squeeze(0)
    if before > 2:
        made = functional.pad(tensor.flatten(0, before - 2), list(pads), mode=mode)
        return made.unflatten(0, tensor.shape[: before - 1])
    return functional.pad(tensor, list(pads), mode=mode)
