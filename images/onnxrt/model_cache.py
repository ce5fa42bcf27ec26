"""The ONNX file that a session reads: the exported one, its hard-swish spelt in one word or not, in float32 or float16.

Made once per model, precision and onnxruntime version, and kept in the cache folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, Sequence, Tuple

from common import onnx_rewrites
from common.float16 import LARGEST_FLOAT16, refusal_of, weights_of
from common.harness.adapter import Unsupported
from common.text import first_line
from common.whole_writes import write_whole


def rewritten(
    source: Path, cache: Path, key: str, half: bool, fuse: bool = True, cast: Sequence[str] = ()
) -> Tuple[Path, str]:
    """Path of the file to load, and what was done to it in words.

    half: weights and activations in float16 by ONNX Runtime's own converter; input and output stay float32, so that
    every precision reads the same bytes from the application; weights must fit (common/float16.py). fuse: hard-swish and
    hard-sigmoid as one operator each. cast: inputs that take bytes (uint8), which the graph casts first.
    Without the package onnx (or for a file beyond protobuf's 2 GB) float32 models are taken as they are. Raises
    Unsupported where float16 cannot be made.
    """
    if not half and not fuse and not cast:
        return source, "as exported"
    # no names of earlier versions' files: those in float16 limited weights, or what constants are computed of, made infinities of
    # whole numbers, or left constants among the inputs; those for bytes had names in branches wrong; those with fused hard-swish gave
    # nodes names twice, lost axes, or passed over constants that nodes hold
    kind = "fp16-computed" if half else "fp32"
    target = cache / f"{key}-{kind}{'-hard-swish' if fuse else '-unfused'}{'-bytes' if cast else ''}.onnx"
    note = target.with_suffix(".txt")
    if target.exists() and note.exists():
        return target, note.read_text()
    try:
        import onnx
    except ImportError as error:
        if half or cast:
            what = "float16" if half else "an input of bytes"
            raise Unsupported(f"{what} needs the package onnx to convert the model: {error}") from error
        return source, "as exported: the package onnx is missing"
    try:
        model = onnx.load(str(source))
        fused = onnx_rewrites.fuse_hard_swish(model) if fuse else 0
        handed_on = unlisted = computed = 0
        if half:
            unlisted = onnx_rewrites.unlist_constants(model)
            model, handed_on, computed = _halved(model)
        elif not fused and not cast:
            return source, "as exported"
        onnx_rewrites.take_bytes(model, cast)
        data = model.SerializeToString()
    except Unsupported:
        raise
    except Exception as error:  # the converter and protobuf raise whatever they meet in a user's model
        if half or cast:
            what = "to float16" if half else "to take bytes"
            raise Unsupported(f"the model cannot be converted {what}: {first_line(error)}") from error
        return source, f"as exported: {first_line(error)}"
    parts = [f"{fused} hard-swish and hard-sigmoid fused"] if fused else ["as exported"]
    parts += ["float16 inside, float32 input and output"] if half else []
    handed = "1 output handed on as it is" if handed_on == 1 else f"{handed_on} outputs handed on as they are"
    parts += [handed] if handed_on else []
    parts += ["constants taken off the list of inputs"] if unlisted else []
    parts += [f"computed in advance: {computed} of constants beyond float16"] if computed else []
    parts += ["bytes cast to float32 first"] if cast else []
    text = ", ".join(parts)
    for path, content in ((target, data), (note, text.encode())):
        write_whole(path, content)
    return target, text


def _halved(model: Any) -> Tuple[Any, int, int]:
    """The model in float16 inside; how many of its outputs are an input or a constant and stay as they are; how many nodes it lost.

    Those compute constants of others beyond float16's range, before these are limited.

    The converter limits whatever is out of range. Raises Unsupported for a weight that it would limit.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    put_back, names = onnx_rewrites.set_handed_on_aside(model)
    computed = onnx_rewrites.fold_constants(model, LARGEST_FLOAT16)
    weights = weights_of(model.graph)
    refusals: Dict[str, str] = {}
    for name, tensor in _constants(model.graph):
        if name in weights and tensor.data_type == onnx.TensorProto.FLOAT:
            refusal = refusal_of(names.get(name, name), onnx.numpy_helper.to_array(tensor), weights[name])
            if refusal is not None:
                refusals[name] = refusal
    half = convert_float_to_float16(model, keep_io_types=True)
    # what operators read that have no float16 stays as it is
    kept = {name for name, tensor in _constants(half.graph) if tensor.data_type == onnx.TensorProto.FLOAT}
    for name, refusal in refusals.items():
        if name not in kept:
            raise Unsupported(refusal)
    return half, put_back(half), computed


def _constants(graph: Any) -> Iterator[Tuple[str, Any]]:
    """Name and TensorProto of each, in nested graphs too."""
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        if node.op_type in ("Constant", "ConstantOfShape"):
            yield from ((node.output[0], one.t) for one in node.attribute if one.HasField("t"))
        for nested in onnx_rewrites.nested_graphs(node):
            yield from _constants(nested)
