"""An ONNX file as a torch module: onnx2torch, with what it lacks mended before and after."""

from __future__ import annotations

import sys
import types
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from common import onnx_known_values, onnx_rewrites
from common.harness.adapter import Unsupported
from images.torch import padding


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


#: attribute of an imported operator's module: which operator it is, in words
OPERATOR = "framewatt_operator"


class Imported(NamedTuple):
    """A module with the names of what it takes and of what it returns, in order."""

    module: Any
    settings: Dict[str, str]
    inputs: List[str]
    outputs: List[str]


def load(path: Path) -> Imported:
    """The model as a torch.fx.GraphModule in evaluation mode on the CPU, and what was rewritten.

    The graph is traced by torch.compile and captured by CUDA graphs, so nothing in it may read a tensor's values on the
    host: shapes and paddings that are constants become plain numbers. Raises Unsupported, naming operator and version,
    for a model that onnx2torch does not know how to convert.
    """
    onnx2torch = import_onnx2torch()
    import onnx

    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf raises its own kinds
        raise Unsupported(f"not a readable ONNX file: {first_line(error)}") from error
    if model.functions:  # PyTorch's exporter leaves its own, and tools their fused operators
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    _use_short_domain(model)
    _name_lone_parts(model)
    lifted = onnx_rewrites.lift_constants(model)
    onnx_known_values.settle(model)
    _refuse_unknown_operators(model)
    computed = onnx_rewrites.fold_constants(model)
    # in this order: a hard-swish begins with an addition that could be folded into the convolution before it
    fused = onnx_rewrites.fuse_hard_swish(model)
    folded = onnx_rewrites.fold_scale_and_shift(model)
    normalised = onnx_rewrites.fold_batch_normalisation(model)
    onnx_rewrites.give_outputs_nodes_of_their_own(model)
    # some converters must know the rank of what comes in, which onnx2torch's own inference of shapes does not always find
    with suppress(Exception):
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    padding.spell_out(model)
    _cast_to_one_type(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    outputs = [value.name for value in model.graph.output]
    try:
        with _operators_named():
            module = onnx2torch.convert(model)
    except Unsupported:
        raise
    except Exception as error:
        raise Unsupported(f"onnx2torch cannot convert this model: {first_line(error)}") from error
    _use_plain_numbers(module)
    rewrites = ", ".join(
        [
            f"{lifted} constants lifted",
            f"{computed} computed in advance",
            f"{folded} scales and shifts and {normalised} batch normalisations folded into convolutions",
            f"{fused} hard-swish and hard-sigmoid fused",
        ]
    )
    return Imported(module.eval().requires_grad_(False), {"model": rewrites}, inputs, outputs)


def _use_short_domain(model: Any) -> None:
    """Both "" and "ai.onnx" are ONNX's own operators; onnx2torch knows the former alone."""
    for node in model.graph.node:
        node.domain = "" if node.domain == "ai.onnx" else node.domain
    own = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    version = max((entry.version for entry in own), default=1)
    for entry in own:
        model.opset_import.remove(entry)
    model.opset_import.add(domain="", version=version)


def _cast_to_one_type(model: Any) -> None:
    """The whole module computes in one floating-point type, whatever types the file mixes; the adapter sets it, from float32."""
    from onnx import TensorProto

    others = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in others:
                attribute.i = TensorProto.FLOAT


def _name_lone_parts(model: Any) -> None:
    """A Split into one part is an Identity; torch would give a tuple of one."""
    for node in model.graph.node:
        if node.op_type == "Split" and node.domain == "" and len(node.output) == 1:
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]


def _refuse_unknown_operators(model: Any) -> None:
    """Raises Unsupported that names every operator, with its version, for which there is no converter."""
    import onnx
    from onnx2torch.node_converters.registry import get_converter  # type: ignore[import-not-found]

    versions = {entry.domain: entry.version for entry in model.opset_import}
    unknown = {}
    for node in model.graph.node:
        opset = versions.get(node.domain, 1)
        try:
            get_converter(operation_type=node.op_type, version=opset, domain=node.domain)
        except NotImplementedError:
            try:
                opset = onnx.defs.get_schema(
                    node.op_type, domain=node.domain, max_inclusive_version=opset
                ).since_version
            except (RuntimeError, onnx.defs.SchemaError):
                pass  # an operator that the package onnx does not know either: the number of its set
            unknown[f"{node.domain}.{node.op_type}-{opset}".lstrip(".")] = None
    if unknown:
        raise Unsupported(f"onnx2torch has no converter for {', '.join(unknown)}")


@contextmanager
def _operators_named() -> Iterator[None]:
    """Within the block a converter that fails raises Unsupported with its operator, version and node."""
    from onnx2torch import converter as module  # type: ignore[import-not-found]

    original = module.get_converter

    def get_converter(operation_type: str, version: int, domain: str = "") -> Any:
        convert = original(operation_type=operation_type, version=version, domain=domain)

        def named(node: Any, graph: Any) -> Any:
            try:
                made = convert(node, graph)
                setattr(made.torch_module, OPERATOR, f"{operation_type} of opset {version}")
                return made
            except Exception as error:
                where = f" (node '{node.name}')" if node.name else ""
                what = f"{operation_type} of opset {version}{where}"
                raise Unsupported(f"onnx2torch cannot convert {what}: {first_line(error)}") from error

        return named

    module.get_converter = get_converter
    try:
        yield
    finally:
        module.get_converter = original


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
    from images.torch import converters  # needs torch and onnx2torch, which this module must do without

    converters.register()
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
            elif kind.__name__ == "OnnxSplit13":
                replacement = _split(module, node, target.axis)
            elif kind.__name__ == "OnnxSlice":
                replacement = _slice(module, node)
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


def _split(module: Any, node: Any, axis: int) -> Any:
    import torch

    sizes = _constant(module, node.args[1]) if len(node.args) > 1 else None
    if sizes is None:
        return None
    return module.graph.call_function(torch.split, (node.args[0], [int(size) for size in sizes]), {"dim": axis})


def _slice(module: Any, node: Any) -> Any:
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
