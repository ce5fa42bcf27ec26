"""An ONNX file as a torch module: onnx2torch, with what it lacks mended before and after."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from common import onnx_rewrites
from common.harness.adapter import Unsupported


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def load(path: Path) -> Tuple[Any, Dict[str, str]]:
    """The model as a torch.fx.GraphModule in evaluation mode on the CPU, float32, and what was rewritten.

    The graph is traced by torch.compile and captured by CUDA graphs, so nothing in it may read a tensor's values on the
    host: shapes and paddings that are constants become plain numbers. Raises Unsupported for a model that onnx2torch
    does not know how to convert.
    """
    onnx2torch = import_onnx2torch()
    import onnx

    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf raises its own kinds
        raise Unsupported(f"not a readable ONNX file: {first_line(error)}") from error
    lifted = onnx_rewrites.lift_constants(model)
    # in this order: a hard-swish begins with an addition that could be folded into the convolution before it
    fused = onnx_rewrites.fuse_hard_swish(model)
    folded = onnx_rewrites.fold_scale_and_shift(model)
    try:
        module = onnx2torch.convert(model)
    except Exception as error:
        raise Unsupported(f"onnx2torch cannot convert this model: {first_line(error)}") from error
    _use_plain_numbers(module)
    rewrites = ", ".join(
        [
            f"{lifted} constants lifted",
            f"{folded} scales and shifts folded into convolutions",
            f"{fused} hard-swish and hard-sigmoid fused",
        ]
    )
    return module.eval().requires_grad_(False), {"model": rewrites}


def import_onnx2torch() -> Any:
    """onnx2torch imports torchvision for two detection operators; without it those two raise Unsupported when used."""
    try:
        import torchvision  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:

        def missing(*_: Any, **__: Any) -> Any:
            raise Unsupported("NonMaxSuppression and RoiAlign need torchvision, which is not installed")

        vision, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
        ops.nms = ops.box_convert = ops.roi_align = missing  # type: ignore[attr-defined]
        vision.ops = ops  # type: ignore[attr-defined]
        sys.modules.update({"torchvision": vision, "torchvision.ops": ops})
        try:
            return _onnx2torch()
        finally:  # nobody else must take this for the real one
            del sys.modules["torchvision"], sys.modules["torchvision.ops"]
    return _onnx2torch()


def _onnx2torch() -> Any:
    try:
        import onnx2torch  # type: ignore[import-not-found]
    except ImportError as error:
        raise Unsupported(f"onnx2torch cannot be imported: {first_line(error)}") from error
    return onnx2torch


def _use_plain_numbers(module: Any) -> None:
    """Replaces modules that read a constant tensor at run time by functions of plain numbers; drops unused ones."""
    from torch.nn import functional

    graph = module.graph
    for node in list(graph.nodes):
        if node.op != "call_module":
            continue
        kind = type(module.get_submodule(node.target))
        target = module.get_submodule(node.target)
        with graph.inserting_before(node):
            if kind.__name__ == "OnnxReshape":
                replacement = _reshape(module, node)
            elif kind.__name__ == "OnnxPadDynamic":
                replacement = _pad(module, node, target.mode)
            elif kind.__name__ == "OnnxHardSigmoid" and abs(target.alpha * 6 - 1) < 1e-6 and target.beta == 0.5:
                replacement = graph.call_function(functional.hardsigmoid, (node.args[0],))
            else:
                replacement = None
        if replacement is not None:
            node.replace_all_uses_with(replacement)
            graph.erase_node(node)
    graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()


def _constant(module: Any, node: Any) -> Optional[List[float]]:
    """Numbers of a tensor that the graph reads from the initializers, None for anything computed."""
    if getattr(node, "op", "") != "get_attr":
        return None
    owner, _, name = node.target.rpartition(".")
    return list(getattr(module.get_submodule(owner), name).reshape(-1).tolist())


def _reshape(module: Any, node: Any) -> Any:
    import torch

    shape = _constant(module, node.args[1])
    if shape is None:
        return None
    given = node.args[0]
    # 0 means "as it was" in ONNX
    sizes = [
        module.graph.call_method("size", (given, axis)) if size == 0 else int(size) for axis, size in enumerate(shape)
    ]
    return module.graph.call_function(torch.reshape, (given, tuple(sizes)))


def _pad(module: Any, node: Any, mode: str) -> Any:
    """ONNX lists all begins, then all ends; torch lists (begin, end) from the last axis on."""
    from torch.nn import functional

    pads = _constant(module, node.args[1])
    extra = [*node.args[2:], *node.kwargs.values()]
    # a fourth input names axes, which onnx2torch's module does not know either
    value = _constant(module, extra[0]) if extra else [0.0]
    if pads is None or not value or mode != "constant" or len(extra) > 1:
        return None
    axes = len(pads) // 2
    flat = [int(pads[axis + end * axes]) for axis in reversed(range(axes)) for end in (0, 1)]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]  # leading axes that are not padded
    return module.graph.call_function(functional.pad, (node.args[0], tuple(flat), "constant", float(value[0])))


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
