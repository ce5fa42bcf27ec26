"""Puts the convolutions of convolutions.py in the place of a module's own, with the padding before and the ReLU behind them."""

from __future__ import annotations

from collections import Counter
from typing import Any, List, Optional, Tuple

import torch
from torch.nn import functional

from images.torch.convolutions import NO_PADDING, Convolution, Padding


def wrap_convolutions(module: Any) -> int:
    """Wraps every Conv2d of a torch.fx.GraphModule that is called once; their number."""
    graph = module.graph
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    wrapped = 0
    for node in list(graph.nodes):
        # one that is called twice may have a ReLU behind it in one place only
        if node.op != "call_module" or calls[node.target] > 1:
            continue
        found = _convolution_in(module.get_submodule(node.target))
        if found is None:
            continue
        sequence, convolution, padding = found
        if sequence is None and padding == NO_PADDING:
            padding = _take_pad_before(module, node)
        relu = _only_reader_is_relu(module, node)
        layer = Convolution(convolution, relu is not None, padding)
        if sequence is None:
            _set(module, node.target, layer)
        else:
            sequence[-1] = layer
        if relu is not None:
            relu.replace_all_uses_with(node)
            graph.erase_node(relu)
        wrapped += 1
    module.delete_all_unused_submodules()
    module.recompile()
    return wrapped


def _convolution_in(module: Any) -> Optional[Tuple[Optional[torch.nn.Sequential], torch.nn.Conv2d, Padding]]:
    """The Conv2d that a module is or, as onnx2torch's padded convolutions do, ends with.

    The sequence that keeps it comes first; None where the Conv2d is all there is, but for zeros that it is padded with.
    """
    if _is_plain(module):
        return None, module, NO_PADDING
    if type(module) is not torch.nn.Sequential or not len(module) or not _is_plain(module[-1]):
        return None
    padding = _zeros_of(module[0]) if len(module) == 2 else None
    return (module, module[-1], NO_PADDING) if padding is None else (None, module[-1], padding)


def _is_plain(module: Any) -> bool:
    return type(module) is torch.nn.Conv2d and module.padding_mode == "zeros"


def _zeros_of(module: Any) -> Optional[Padding]:
    """What a module pads, where that is zeros around height and width."""
    if type(module) is torch.nn.ZeroPad2d:
        return _of_images(module.padding)
    if type(module).__name__ == "OnnxPadStatic" and module.mode == "constant" and not module.constant_value:
        return _of_images(module.pads)
    return None


def _take_pad_before(module: Any, node: Any) -> Padding:
    """Takes a padding with zeros that only this node reads out of the graph, and says what it was."""
    pad = node.args[0] if node.args else None
    if getattr(pad, "op", "") not in ("call_module", "call_function") or len(pad.users) > 1:
        return NO_PADDING
    padding = _zeros_of(module.get_submodule(pad.target)) if pad.op == "call_module" else _zeros_of_call(pad)
    if padding is None:
        return NO_PADDING
    node.replace_input_with(pad, pad.all_input_nodes[0])
    module.graph.erase_node(pad)
    return padding


def _zeros_of_call(pad: Any) -> Optional[Padding]:
    if pad.target is not functional.pad:
        return None
    given = {**dict(zip(("input", "pad", "mode", "value"), pad.args)), **pad.kwargs}
    return None if given.get("mode", "constant") != "constant" or given.get("value") else _of_images(given["pad"])


def _of_images(sizes: Any) -> Optional[Padding]:
    """The four numbers of height and width, where nothing else is padded, and nothing is cut."""
    if not isinstance(sizes, (list, tuple)):
        return None  # computed by the graph, as a single size may be
    numbers: List[int] = list(sizes)
    if any(type(number) is not int or number < 0 for number in numbers) or any(numbers[4:]):
        return None
    left, right, top, bottom = [*numbers, 0, 0, 0, 0][:4]
    return left, right, top, bottom


def _only_reader_is_relu(module: Any, node: Any) -> Optional[Any]:
    readers = list(node.users)
    if len(readers) != 1 or readers[0].op != "call_module":
        return None
    return readers[0] if type(module.get_submodule(readers[0].target)) is torch.nn.ReLU else None


def _set(module: Any, target: str, layer: Any) -> None:
    owner, _, name = target.rpartition(".")
    setattr(module.get_submodule(owner), name, layer)
