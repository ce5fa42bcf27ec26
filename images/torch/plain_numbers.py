"""Modules of onnx2torch that read a constant tensor at run time, replaced by functions of plain numbers.

The graph is traced by torch.compile and captured by CUDA graphs, so nothing in it may read a tensor's values on the host.
Recipes take from this file what they need.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, List, Optional

import torch
from torch.nn import functional

from images.torch.unsupported_node import UnsupportedNode


def use_plain_numbers(module: Any) -> List[str]:
    """Changes a torch.fx.GraphModule in place and drops what is unused; names of the classes of modules that were replaced."""
    graph = module.graph
    replaced = set()
    for node in list(graph.nodes):
        if node.op != "call_module":
            continue
        called = module.get_submodule(node.target)
        kind = type(called).__name__
        if kind not in REPLACEMENTS:
            continue
        with graph.inserting_before(node):
            replacement = REPLACEMENTS[kind](module, node, called)
        if replacement is not None:
            node.replace_all_uses_with(replacement)
            graph.erase_node(node)
            replaced.add(kind)
    graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return sorted(replaced)


def _constant(module: Any, node: Any) -> Optional[List[float]]:
    """Numbers of a tensor that the graph reads from the initializers, None for anything computed."""
    if getattr(node, "op", "") != "get_attr":
        return None
    owner, _, name = node.target.rpartition(".")
    return list(getattr(module.get_submodule(owner), name).reshape(-1).tolist())


def _plain_reshape(module: Any, node: Any, called: Any) -> Any:
    shape = _constant(module, node.args[1])
    if shape is None:
        return None
    given = node.args[0]
    # 0 means "as it was" in ONNX
    sizes = [
        module.graph.call_method("size", (given, axis)) if size == 0 else int(size) for axis, size in enumerate(shape)
    ]
    return module.graph.call_function(torch.reshape, (given, tuple(sizes)))


def _plain_split(module: Any, node: Any, called: Any) -> Any:
    sizes = _constant(module, node.args[1]) if len(node.args) > 1 else None
    if sizes is None:
        return None
    return module.graph.call_function(torch.split, (node.args[0], [int(size) for size in sizes]), {"dim": called.axis})


def _plain_slice(module: Any, node: Any, called: Any) -> Any:
    """One torch.narrow-like cut an axis; steps backwards, which are a flip, stay with onnx2torch."""
    given = [*node.args[1:], *node.kwargs.values()]
    numbers = [_constant(module, one) for one in given]
    if node.kwargs or len(numbers) < 2 or any(one is None for one in numbers):
        return None
    starts, ends = ([int(number) for number in one or []] for one in numbers[:2])
    axes = [int(number) for number in numbers[2] or []] if len(numbers) > 2 else list(range(len(starts)))
    steps = [int(number) for number in numbers[3] or []] if len(numbers) > 3 else [1] * len(starts)
    if any(step < 1 for step in steps):
        return None
    cut = node.args[0]
    for start, end, axis, step in zip(starts, ends, axes, steps):
        cut = module.graph.call_function(_cut, (cut, axis, start, end, step))
    return cut


def _cut(tensor: Any, axis: int, start: int, end: int, step: int) -> Any:
    index = [slice(None)] * tensor.dim()
    index[axis] = slice(start, end, step)
    return tensor[tuple(index)]


def _plain_expand(module: Any, node: Any, called: Any) -> Any:
    sizes = _constant(module, node.args[1]) if len(node.args) > 1 else None
    if sizes is None:
        return None
    return module.graph.call_function(_expanded, (node.args[0], [int(size) for size in sizes]))


def _expanded(tensor: Any, sizes: List[int]) -> Any:
    """As ONNX has it: a size of 1 leaves the axis as it is."""
    return tensor.expand(torch.broadcast_shapes(tensor.shape, sizes))


def _plain_tile(module: Any, node: Any, called: Any) -> Any:
    repeats = _constant(module, node.args[1]) if len(node.args) > 1 else None
    if repeats is None:
        return None
    return module.graph.call_method("repeat", (node.args[0], *(int(count) for count in repeats)))


def _plain_squeeze(module: Any, node: Any, called: Any) -> Any:
    axes = _constant(module, node.args[1]) if len(node.args) > 1 else None
    if not axes:
        return None  # without axes onnx2torch reads none
    return module.graph.call_function(torch.squeeze, (node.args[0], tuple(int(axis) for axis in axes)))


def _plain_resize(module: Any, node: Any, called: Any) -> Any:
    """onnx2torch reads the factors, which are no whole numbers, in a way that torch.compile does not follow."""
    resize = getattr(called, "_resize", called)  # that of version 10 is around the other
    given = inspect.signature(called.forward).bind(*node.args, **node.kwargs).arguments
    numbers = {
        name: _constant(module, given[name]) for name in ("roi", "scales", "sizes") if given.get(name) is not None
    }
    if any(one is None for one in numbers.values()) or (numbers.get("roi") and not resize.ignore_roi):
        return None
    scales, sizes = numbers.get("scales") or None, numbers.get("sizes") or None
    rank = len(scales or sizes or [])
    mode = _INTERPOLATIONS.get((resize.onnx_mode, rank))
    if mode is None or (scales is None) == (sizes is None) or (scales is not None and scales[:2] != [1, 1]):
        return None
    named = {
        "sizes": None if sizes is None else [int(size) for size in sizes],
        "scales": None if scales is None else scales[2:],
        "whatever_channels": bool(resize.ignore_bs_ch_size),
        "mode": mode,
        "align_corners": resize.align_corners,
    }
    return module.graph.call_function(_resized, (node.args[0],), named)


#: ONNX's mode, and how many axes the tensor has -> torch's
_INTERPOLATIONS = {
    **{("nearest", rank): "nearest" for rank in (3, 4, 5)},
    **{("linear", rank): mode for rank, mode in ((3, "linear"), (4, "bilinear"), (5, "trilinear"))},
    ("cubic", 4): "bicubic",
}


def _resized(
    tensor: Any,
    sizes: Optional[List[int]],
    scales: Optional[List[float]],
    whatever_channels: bool,
    mode: str,
    align_corners: Optional[bool],
) -> Any:
    if sizes is not None and not whatever_channels and list(tensor.shape[:2]) != sizes[:2]:
        raise UnsupportedNode("a Resize of the batch or of channels")
    size = None if sizes is None else sizes[2:]
    return functional.interpolate(tensor, size=size, scale_factor=scales, mode=mode, align_corners=align_corners)


def _plain_pad(module: Any, node: Any, called: Any) -> Any:
    """ONNX lists all begins, then all ends; torch lists (begin, end) from the last axis on."""
    pads = _constant(module, node.args[1])
    extra = [*node.args[2:], *node.kwargs.values()]
    # a fourth input names axes, which onnx2torch's module does not know either
    value = _constant(module, extra[0]) if extra else [0.0]
    if pads is None or not value or called.mode != "constant" or len(extra) > 1:
        return None
    axes = len(pads) // 2
    flat = [int(pads[axis + end * axes]) for axis in reversed(range(axes)) for end in (0, 1)]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]  # leading axes that are not padded
    return module.graph.call_function(functional.pad, (node.args[0], tuple(flat), "constant", float(value[0])))


def _plain_hard_sigmoid(module: Any, node: Any, called: Any) -> Any:
    if abs(called.alpha * 6 - 1) > 1e-6 or called.beta != 0.5:
        return None  # not that of PyTorch
    return module.graph.call_function(functional.hardsigmoid, (node.args[0],))


#: class of onnx2torch -> function of the graph's module, the node and the module that it calls; None: it stays
REPLACEMENTS: Dict[str, Callable[[Any, Any, Any], Any]] = {
    "OnnxExpand": _plain_expand,
    "OnnxHardSigmoid": _plain_hard_sigmoid,
    "OnnxPadDynamic": _plain_pad,
    "OnnxReshape": _plain_reshape,
    "OnnxResize": _plain_resize,
    "OnnxResizeV10": _plain_resize,
    "OnnxSlice": _plain_slice,
    "OnnxSplit13": _plain_split,
    "OnnxSqueezeDynamicAxes": _plain_squeeze,
    "OnnxTile": _plain_tile,
}


def make_first_transpose_contiguous(module: Any) -> bool:
    """Copies the input into NCHW order right after the model's own transpose; without it activations stay channels-last.

    Returns False where the model does not begin with such a transpose, and leaves it alone.
    """
    graph = module.graph
    for node in graph.nodes:
        if node.op == "call_module" and type(module.get_submodule(node.target)).__name__ == "OnnxTranspose":
            readers = list(node.users)
            with graph.inserting_after(node):
                copied = graph.call_method("contiguous", (node,))
            for reader in readers:
                reader.replace_input_with(node, copied)
            module.recompile()
            return True
    return False
