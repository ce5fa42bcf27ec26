"""PyTorch: fp16, rewritten, batch size 512, io=host, on a GPU.

A recipe of framewatt, which it does not need to run; it is that of the cell
MobileNetV3L_torch_fp16-rewritten_b0512_host_single-stream_script_gpu0_r0.
Measured by framewatt by one worker of 3: 31,944.3 images/s, median latency 15.9670 ms, on NVIDIA H200, run
  20261129-165809_gpu0 of 2026-11-29.
Mean of 3 workers 31,748.7 images/s, 95 % interval 31,258.7 to 32,246.4.

Needs numpy and torch, and onnx and onnx2torch, which read the model: a torch.nn.Module of your own may stand in its place.
Measured with cuda_runtime 13.0, cudnn 91900, numpy 2.5.2, onnx 1.23.2, onnx2torch 1.5.15, torch 2.11.0+cu130,
  triton 3.6.0.

    python MobileNetV3L_torch_fp16-rewritten_b0512_host_single-stream_script_gpu0_r0.py [MODEL] [--seconds 10] [--inputs FILE.npz] [--save FILE.npz] [--debug]
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import signal
import sys
import time
import zipfile
from collections import Counter
from contextlib import suppress
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple
from unittest.mock import MagicMock


def stop(reason):
    """Ends the program with one line on standard error and exit code 2."""
    print("error:", " ".join(str(reason).split()), file=sys.stderr)
    sys.exit(2)


def interrupted(*_):
    """Ctrl-C, also while a framework is being imported."""
    print("interrupted", file=sys.stderr, flush=True)
    os._exit(130)


if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, interrupted)

NEEDS = "this program needs numpy and torch, and onnx and onnx2torch, which read the model: a torch.nn.Module of your own may stand in its place"
try:
    import numpy as np
    import onnx
    import torch
    from torch.nn import functional
except ImportError as error:
    if __name__ != "__main__":
        raise
    stop(f"{error}; {NEEDS}")

#: an .onnx file
MODEL_IS = "an .onnx file"
MODEL = "data/models/MobileNetV3L-824fd5aedd14/model.onnx"
#: name -> shape and type of what is fed, and of what comes out
INPUTS = {"input": ((512, 224, 224, 3), "float32")}
OUTPUTS = {"probabilities": ((512, 1000), "float32")}
#: of each input: the axis of the samples, and the lowest and highest of the values that are made up without a reference
BATCH_AXES = {"input": 0}
RANGES = {"input": (0, 255)}
#: what framewatt fed, beside the model
REFERENCE = "reference.npz"
ITEM = "image"
ITEMS_PER_INFERENCE = 512
WARM_UP_SECONDS = 2.0

# Time of one inference in a short trial, at an unknown time, perhaps by an earlier worker; not the measurement, and
#   perhaps under another load:
#   channels-last, CUDA graph, own convolutions: 15.930 ms
#   channels-last, CUDA graph: 21.872 ms
#   plain call: 55.617 ms


# How each convolution is computed, in order: 17 convolution, 35 matrix product, 8 fused convolution, 4 shifted convolution.
# These algorithms are framewatt's and not PyTorch's; they stand at the end.
CONVOLUTIONS_IN_ORDER = "ccmfsmfcmfsmmmfcmmmfccmmmsmmcmmcmmcmmcfmmmcfmmmscmmmcfmmmccmmmcc"


def import_onnx2torch():
    """onnx2torch imports torchvision for two operators of detection; for all others anything of that name will do."""
    missing = [] if importlib.util.find_spec("torchvision") else ["torchvision", "torchvision.ops"]
    sys.modules.update({name: MagicMock() for name in missing})
    import onnx2torch

    for name in missing:
        del sys.modules[name]
    return onnx2torch


def read_model(path):
    """The ONNX file as a torch.nn.Module, and the names of its inputs and outputs in its order."""
    onnx2torch = import_onnx2torch()
    model = onnx.load(path)
    fuse_hard_swish(model)
    fold_scale_and_shift(model)
    with suppress(Exception):  # some converters must know the rank of what comes in
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    module = onnx2torch.convert(model)
    use_plain_numbers(module)
    taking, giving = list(INPUTS), list(OUTPUTS)
    return module.eval().requires_grad_(False), taking, giving


def tensors(made):
    """What the module returned, as a list."""
    if isinstance(made, torch.Tensor):
        return [made]
    values = made.values() if hasattr(made, "values") else made
    return [tensor for value in values for tensor in tensors(value)]


def prepared(path, device):
    """The module as this cell ran it, and the names of its inputs and outputs in its order."""
    module, given, made = read_model(path)
    module = module.to(device=device, dtype=torch.float16)
    module = module.to(memory_format=torch.channels_last)
    wrap_convolutions(module)
    set_algorithms(module, CONVOLUTIONS_IN_ORDER)
    return module, given, made


def as_fed(inputs, names):
    """Arrays in the order of the module's inputs, numbers in float32."""
    arrays = [np.array(inputs[name]) for name in names]
    return [values.astype(np.float32) if values.dtype.kind == "f" else values for values in arrays]


def on_host(made):
    made = [one.detach() for one in made]
    return [(one.float() if one.is_floating_point() else one).cpu().numpy() for one in made]


def named(names, values):
    made = dict(zip(names, values))
    return {name: made[name] for name in OUTPUTS}


def use_gpu():
    torch.cuda.set_device(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def in_precision(given):
    return [one.to(torch.float16) if one.is_floating_point() else one for one in given]


def load(path, inputs):
    """(infer, outputs): a CUDA graph, and pinned memory for the copies."""
    use_gpu()
    module, taking, giving = prepared(path, "cuda:0")
    stream = torch.cuda.Stream()
    host = [torch.from_numpy(values).pin_memory() for values in as_fed(inputs, taking)]
    with torch.cuda.stream(stream):
        given = [one.to("cuda:0") for one in host]
        with torch.inference_mode():
            for _ in range(3):  # cuDNN searches its algorithms
                made = tensors(module(*in_precision(given)))
        kinds = [torch.float32 if one.is_floating_point() else one.dtype for one in made]
        results = [torch.empty(one.shape, dtype=kind, device="cuda:0") for one, kind in zip(made, kinds)]
        taken = [torch.empty(one.shape, dtype=kind, pin_memory=True) for one, kind in zip(made, kinds)]
        stream.synchronize()

        def compute():
            for target, tensor in zip(results, tensors(module(*in_precision(given)))):
                target.copy_(tensor)

        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph, stream=stream):
            compute()

        def launch(held=compute):  # the weights and tensors whose addresses the graph has
            graph.replay()

    def copy_out():
        for target, tensor in zip(taken, results):
            target.copy_(tensor, non_blocking=True)

    def infer():
        with torch.cuda.stream(stream):
            for target, tensor in zip(given, host):
                target.copy_(tensor, non_blocking=True)
            launch()
            copy_out()
        stream.synchronize()

    def outputs():
        with torch.cuda.stream(stream):
            copy_out()
        stream.synchronize()
        return named(giving, on_host(taken))

    infer()
    return infer, outputs


# ---- What is done to the model, and its convolutions, as framewatt does it ----


class _Graph:
    """Who makes and who reads each tensor of the top-level graph, and the values of constants.

    A node with nested graphs reads whatever they name: what they make themselves, too, which does no harm.
    """

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self._to_array = numpy_helper.to_array
        self._from_array = numpy_helper.from_array
        self.proto = model.graph
        self.initializers: Dict[str, Any] = {tensor.name: tensor for tensor in self.proto.initializer}
        self.makers: Dict[str, Any] = {name: node for node in self.proto.node for name in node.output}
        self.readers: Dict[str, List[Any]] = {}
        for node in self.proto.node:
            for name in (*node.input, *(name for nested in nested_graphs(node) for name in names_in(nested))):
                self.readers.setdefault(name, []).append(node)
        self.taken = names_in(self.proto)
        self.outputs: Set[str] = {value.name for value in self.proto.output}
        # an initializer that is also an input may be overridden by the caller: it is no constant
        self._overridable: Set[str] = {value.name for value in self.proto.input}

    def constant(self, name: str) -> Optional[np.ndarray]:
        """Value of an initializer or of a Constant node, None for anything else."""
        tensor = self.initializers.get(name)
        if tensor is None:
            maker = self.makers.get(name)
            return _value_of(maker, self._to_array) if _is(maker, "Constant") else None
        return None if name in self._overridable else self._to_array(tensor)

    def only_reader(self, name: str) -> Any:
        """The single node that reads a tensor that is no output of the graph, else None."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def split(self, node: Any) -> Optional[Tuple[str, np.ndarray]]:
        """(variable input, constant value) of a commutative node with one of each, else None."""
        if len(node.input) != 2:
            return None
        values = [self.constant(name) for name in node.input]
        for variable, value, other in ((node.input[0], values[1], values[0]), (node.input[1], values[0], values[1])):
            if value is not None and other is None:
                return variable, value
        return None

    def add_initializer(self, base: str, value: np.ndarray) -> str:
        """Under that name, or one like it that nothing of the model has; which."""
        name = fresh_name(base, self.taken)
        self.put_initializer(name, value)
        return name

    def put_initializer(self, name: str, value: np.ndarray) -> None:
        tensor = self._from_array(
            np.asarray(value, order="C"), name
        )  # ascontiguousarray() would give a lone number an axis
        self.proto.initializer.append(tensor)
        self.initializers[name] = self.proto.initializer[-1]

    def remove(self, nodes: List[Any]) -> None:
        """Takes nodes out, and constants that nobody reads any more."""
        gone = {id(node) for node in nodes}
        kept = [node for node in self.proto.node if id(node) not in gone]
        # a nested graph may read an outer constant by name: with subgraphs present all of them stay
        nested = any(list(nested_graphs(node)) for node in kept)
        if not nested:
            names = {name for node in kept for name in node.input} | self.outputs
            kept = [node for node in kept if not _is(node, "Constant") or node.output[0] in names]
        kept_copies = [type(node).FromString(node.SerializeToString()) for node in kept]
        del self.proto.node[:]
        self.proto.node.extend(kept_copies)
        if nested:
            return
        # one that is an input, too, is the value of what the caller leaves out
        read = {name for node in self.proto.node for name in node.input} | self.outputs | self._overridable
        tensors = [tensor for tensor in self.proto.initializer if tensor.name not in read]
        for tensor in tensors:
            self.proto.initializer.remove(tensor)


def _value_of(constant: Any, to_array: Callable[[Any], np.ndarray]) -> Optional[np.ndarray]:
    """What a Constant node holds; None for strings and sparse tensors: no framework here computes with them."""
    attribute = constant.attribute[0]
    if attribute.name == "value":
        return to_array(attribute.t)
    if attribute.name in ("value_float", "value_floats"):
        return np.array(attribute.f if attribute.name == "value_float" else attribute.floats, dtype=np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.array(attribute.i if attribute.name == "value_int" else attribute.ints, dtype=np.int64)
    return None


def fold_scale_and_shift(model: Any) -> int:
    """Folds `Conv -> Mul(per channel)` and `Conv -> Add(per channel)`, a batch normalisation spelt out, into the Conv.

    Method: conv(x, W) * s + b == conv(x, W * s) + b, s and b of shape (1, C, 1, ...), (C, 1, ...) or one value.
    """
    folded: List[Any] = []
    graph = _Graph(model)
    for conv in graph.proto.node:
        if not _is(conv, "Conv"):
            continue
        weight = graph.constant(conv.input[1])
        bias = graph.constant(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else None
        if weight is None or (len(conv.input) > 2 and conv.input[2] and bias is None):
            continue
        channels, rank = weight.shape[0], weight.ndim
        changed = False
        while True:
            follower = graph.only_reader(conv.output[0])
            if not _is(follower, "Mul", "Add"):
                break
            parts = graph.split(follower)
            vector = None if parts is None else _per_channel(parts[1], channels, rank)
            if vector is None:
                break
            if follower.op_type == "Mul":
                weight = weight * vector.reshape((channels,) + (1,) * (rank - 1))
                bias = None if bias is None else bias * vector
            else:
                bias = vector if bias is None else bias + vector
            conv.output[0] = follower.output[0]
            folded.append(follower)
            changed = True
        if changed:
            conv.input[1] = graph.add_initializer(conv.input[1] + "_folded", weight)
            if bias is not None:
                name = graph.add_initializer(conv.output[0] + "_bias", bias)
                del conv.input[2:]
                conv.input.append(name)
    if folded:
        graph.remove(folded)
    return len(folded)


def _per_channel(value: np.ndarray, channels: int, rank: int) -> Optional[np.ndarray]:
    """The (channels,) vector that a broadcast constant is, None where it is none. rank: axes of the convolution's output."""
    if value.size == 1 and value.ndim <= rank:
        return np.full(channels, value.reshape(-1)[0], dtype=value.dtype)
    aligned = (1,) * (rank - value.ndim) + value.shape
    if len(aligned) == rank and aligned == (1, channels) + (1,) * (rank - 2):
        return value.reshape(channels)
    return None


def fuse_hard_swish(model: Any) -> int:
    """Writes `x * (clip(x + 3, 0, 6) / 6)` as HardSwish(x) and `clip(x + 3, 0, 6) / 6` alone as HardSigmoid(x).

    One kernel and one pass over memory instead of four and two. HardSwish exists from opset 14 on; older models stay.
    Method: the definitions of HardSwish-14 and HardSigmoid-6 in ONNX's operator list.
    """
    from onnx import helper

    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < 14:
        return 0
    graph = _Graph(model)
    removed: List[Any] = []
    ranks: Dict[str, int] = {}
    fused = 0
    for clip in list(graph.proto.node):
        found = _hard_sigmoid_of(graph, clip)
        if found is None:
            continue
        x, add, scale, constants = found
        if any(one.ndim for one in constants):
            ranks = ranks or _ranks(model)
            if max(one.ndim for one in constants) > ranks.get(x, 0):  # what they are added to would get their rank
                continue
        gate = graph.only_reader(scale.output[0])
        name = clip.name or clip.output[0]
        if _is(gate, "Mul") and sorted(gate.input) == sorted([x, scale.output[0]]):
            name = fresh_name(f"{name}_HardSwish", graph.taken)
            replacement = helper.make_node("HardSwish", [x], [gate.output[0]], name=name)
            last = gate
            removed += [add, clip, scale]
        else:
            name = fresh_name(f"{name}_HardSigmoid", graph.taken)
            replacement = helper.make_node("HardSigmoid", [x], [scale.output[0]], name=name, alpha=1.0 / 6.0, beta=0.5)
            last = scale
            removed += [add, clip]
        last.CopyFrom(replacement)  # in the last node's place, so that the order of nodes stays topological
        fused += 1
    if fused:
        graph.remove(removed)
    return fused


def _hard_sigmoid_of(graph: _Graph, clip: Any) -> Optional[Tuple[str, Any, Any, List[np.ndarray]]]:
    """(x, the Add, the node that scales, the constants) where this node is the middle of clip(x + 3, 0, 6) / 6, else None."""
    if not _is(clip, "Clip") or len(clip.input) != 3:
        return None
    add: Any = graph.makers.get(clip.input[0])
    scale = graph.only_reader(clip.output[0])
    if not _is(add, "Add") or not _is(scale, "Mul", "Div") or graph.only_reader(add.output[0]) is not clip:
        return None
    shifted, scaled = graph.split(add), graph.split(scale)
    if shifted is None or scaled is None or (scale.op_type == "Div" and scale.input[0] != clip.output[0]):
        return None
    constants = [shifted[1], scaled[1], graph.constant(clip.input[1]), graph.constant(clip.input[2])]
    whole = [one for one in constants if one is not None and one.size == 1 and one.dtype.kind == "f"]
    if len(whole) < len(constants):
        return None
    shift, factor, low, high = (float(one.reshape(-1)[0]) for one in whole)
    factor = 1.0 / factor if scale.op_type == "Div" and factor else factor
    if (shift, low, high) != (3.0, 0.0, 6.0) or abs(factor - 1.0 / 6.0) > 1e-7:
        return None
    return shifted[0], add, scale, whole


def _ranks(model: Any) -> Dict[str, int]:
    """How many axes each tensor of the top-level graph has, of those of which that can be said."""
    from onnx import shape_inference

    try:
        graph = shape_inference.infer_shapes(model).graph
    except Exception:  # beyond protobuf's 2 GB, or an operator that it does not know
        graph = model.graph
    kinds = {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)}
    return {name: len(kind.shape.dim) for name, kind in kinds.items() if kind.HasField("shape")}


def _is(node: Any, *operators: str) -> bool:
    """Whether there is such a node, and it is one of these operators of ONNX's own."""
    return node is not None and node.op_type in operators and node.domain in ("", "ai.onnx")


def nested_graphs(node: Any) -> Iterator[Any]:
    """The branches of an If, the body of a Loop or Scan; their own are not among them."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def names_in(graph: Any) -> Set[str]:
    """All names of tensors and nodes, of nested graphs too."""
    found = {one.name for one in (*graph.input, *graph.output, *graph.initializer, *graph.value_info, *graph.node)}
    found.update(one.values.name for one in graph.sparse_initializer)
    for node in graph.node:
        found.update(node.input, node.output)
        for nested in nested_graphs(node):
            found |= names_in(nested)
    return found


def fresh_name(name: str, taken: Set[str]) -> str:
    """The name, or that with underscores behind it where it is taken; it is taken then."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


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
    "OnnxHardSigmoid": _plain_hard_sigmoid,
    "OnnxPadDynamic": _plain_pad,
    "OnnxReshape": _plain_reshape,
}


#: zeros around the images as torch.nn.functional.pad lists them: left, right, top, bottom
Padding = Tuple[int, int, int, int]


NO_PADDING: Padding = (0, 0, 0, 0)


class Convolution(torch.nn.Module):
    """A Conv2d, the ReLU behind it and the zeros that the model puts around its input, if there are such.

    Input and output are (N, C, H, W), in any layout.
    """

    def __init__(self, convolution: torch.nn.Conv2d, relu: bool, padding: Padding = NO_PADDING) -> None:
        super().__init__()
        self.convolution, self.relu, self.padding = convolution, relu, padding
        self.algorithm = "convolution"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return ALGORITHMS[self.algorithm](images, self)


def _as_it_is(images: torch.Tensor, layer: Convolution) -> torch.Tensor:
    if layer.padding != NO_PADDING:
        images = functional.pad(images, layer.padding)
    result = layer.convolution(images)
    return functional.relu(result) if layer.relu else result


def _fused(images: torch.Tensor, layer: Convolution) -> torch.Tensor:
    if layer.padding != NO_PADDING:
        images = functional.pad(images, layer.padding)
    inner = layer.convolution
    numbers = (inner.stride, inner.padding, inner.dilation, inner.groups)
    return torch.cudnn_convolution_relu(images, inner.weight, inner.bias, *numbers)


def _product(images: torch.Tensor, layer: Convolution) -> torch.Tensor:
    weight, bias = layer.convolution.weight, layer.convolution.bias
    count, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(-1, channels)  # a view where the layout is channels-last
    factor = weight.view(weight.shape[0], channels).t()
    if bias is None:
        sums = rows @ factor
        sums = functional.relu(sums) if layer.relu else sums
    elif layer.relu and hasattr(torch, "_addmm_activation"):
        sums = torch._addmm_activation(bias, rows, factor)
    else:
        sums = torch.addmm(bias, rows, factor)
        sums = functional.relu(sums) if layer.relu else sums
    return sums.view(count, height, width, -1).permute(0, 3, 1, 2)


def _shifted(images: torch.Tensor, layer: Convolution) -> torch.Tensor:
    """Output j of a row padded with `wide` zeros at each end begins at j * stride - wide; wanted are those from -before on."""
    inner, (left, right, top, bottom) = layer.convolution, layer.padding
    wide, cuts = [], [slice(None), slice(None)]
    for axis, (before, after) in enumerate(((top, bottom), (left, right))):
        stride, kernel = inner.stride[axis], inner.dilation[axis] * (inner.kernel_size[axis] - 1) + 1
        before, after = before + int(inner.padding[axis]), after + int(inner.padding[axis])
        skipped = max(0, -(-(after - before) // stride))
        outputs = (images.shape[2 + axis] + before + after - kernel) // stride + 1
        wide.append(before + skipped * stride)
        cuts.append(slice(skipped, skipped + outputs))
    result = functional.conv2d(
        images, inner.weight, inner.bias, inner.stride, tuple(wide), inner.dilation, inner.groups
    )
    channels_last = result.is_contiguous(memory_format=torch.channels_last)
    # dense as any other result: what reads it next may be a matrix product, which would have to copy it anyway
    result = result[tuple(cuts)].contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    return functional.relu(result) if layer.relu else result


#: name -> function of images and the layer; the first letters tell them apart
ALGORITHMS: Dict[str, Callable[[torch.Tensor, Convolution], torch.Tensor]] = {
    "convolution": _as_it_is,
    "matrix product": _product,
    "fused convolution": _fused,
    "shifted convolution": _shifted,
}


def layers_of(module: Any) -> List[Convolution]:
    return [layer for layer in module.modules() if isinstance(layer, Convolution)]


def set_algorithms(module: Any, chosen: str) -> None:
    """Algorithms by their first letters, in the order of the layers. Raises ValueError for others, or another number of them."""
    layers = layers_of(module)
    by_letter = {algorithm[0]: algorithm for algorithm in ALGORITHMS}
    if len(chosen) != len(layers) or set(chosen) - set(by_letter):
        raise ValueError(f"'{chosen}' does not name an algorithm for each of {len(layers)} convolutions")
    for layer, letter in zip(layers, chosen):
        layer.algorithm = by_letter[letter]


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


def reference_inputs(path):
    """What framewatt fed, of the reference beside the model, round and round; None where there is none that fits."""
    inputs = {}
    try:
        with np.load(os.path.join(os.path.dirname(os.path.abspath(path)), REFERENCE)) as archive:
            for number, (name, (shape, kind)) in enumerate(INPUTS.items()):
                axis = BATCH_AXES[name]
                if "inputs" in archive.files:  # a model with one input and one output
                    values, axis = archive["inputs"], 0
                elif axis is None:
                    values = archive[f"input_{number}"]
                else:
                    units = sum(one.startswith(f"input_{number}_") for one in archive.files)
                    values = np.concatenate([archive[f"input_{number}_{unit}"] for unit in range(units)], axis)
                if axis is not None:
                    values = np.take(values, np.arange(shape[axis]) % max(1, values.shape[axis]), axis)
                values = np.rint(values) if values.dtype.kind == "f" and np.dtype(kind).kind == "u" else values
                inputs[name] = values.astype(kind, order="C")
    except Exception:  # whatever lies there
        return None
    return inputs if all(inputs[name].shape == tuple(shape) for name, (shape, _) in INPUTS.items()) else None


def made_up_inputs():
    """Seeded numbers within RANGES: an index beyond its table, or a length of 0, would be other work, or none."""
    random = np.random.default_rng(0)
    inputs = {}
    for name, (shape, kind) in INPUTS.items():
        if kind == "str":
            inputs[name] = np.full(shape, "text")
        elif np.dtype(kind).kind == "f":
            inputs[name] = np.asarray(random.uniform(*RANGES[name], shape)).astype(kind)
        else:
            inputs[name] = np.asarray(random.integers(*RANGES[name], shape, endpoint=True)).astype(kind)
    return inputs


def measure(infer, seconds):
    """Durations in ns of inferences, one after the other, for about so long."""
    durations = []
    until = time.perf_counter() + seconds
    while not durations or time.perf_counter() < until:
        start = time.perf_counter_ns()
        infer()
        durations.append(time.perf_counter_ns() - start)
    return durations


def read_inputs(path):
    """The arrays of an .npz file that are named in INPUTS; one that is missing, or of another shape or type, ends the program."""
    try:
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files if name in INPUTS}
            names = ", ".join(archive.files)
    except Exception as error:  # whatever the file holds
        stop(f"{path} cannot be read as an .npz file: {error}")
    for name, (shape, kind) in INPUTS.items():
        if name not in arrays:
            stop(f"{path} has no array {name!r}, only: {names}")
        came, wanted = arrays[name], np.dtype(kind)
        if came.shape != tuple(shape) or (came.dtype != wanted and (came.dtype.kind != "U" or wanted.kind != "U")):
            stop(f"array {name!r} of {path} is {came.dtype} of shape {came.shape}; this program takes {kind} of shape {tuple(shape)}")
    return arrays


def check_target(path):
    """Before anything is measured: ends the program where the outputs could not be written to this file."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        stop(f"the outputs cannot be written to {path}: there is no folder {folder}")
    if os.path.isdir(path):
        stop(f"the outputs cannot be written to {path}: it is a folder")
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        stop(f"the outputs cannot be written to {path}: Permission denied")


def save(path, arrays):
    """Writes an .npz file; numpy's own function takes no array that is called "file"."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            values, kind = np.asarray(values), OUTPUTS.get(name, ((), ""))[1]
            values = values.astype(kind) if kind and values.dtype.kind == "f" else values  # a framework may compute in another
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values.astype(str) if values.dtype.kind == "O" else values)


def seconds_of(text):
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        stop(f"--seconds is a number above 0, not {text}")
    return seconds


def gpu_count():
    """GPUs that the CUDA driver shows to this process."""
    count = ctypes.c_int()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    return 0 if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) else count.value


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default=MODEL, help=f"default: {MODEL}")
    parser.add_argument("--seconds", type=seconds_of, default=10.0, help="how long to measure, in s; default: 10")
    parser.add_argument(
        "--inputs",
        help=f"an .npz file with an array for each input, of the shapes and types in INPUTS; default: {REFERENCE} beside the model, "
        "else made up within RANGES",
    )
    parser.add_argument("--save", help="write the outputs to this .npz file, under their names; default: do not")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a model that cannot be loaded; default: one line")
    given = parser.parse_args()
    for option, value in (("MODEL", given.model), ("--inputs", given.inputs), ("--save", given.save)):
        if value == "":
            stop(f"{option} is empty: give a path, or leave it out")
    if not os.path.exists(given.model):
        stop(f"there is no {given.model}: give the path of the model as the first argument")
    if given.save:
        check_target(given.save)
    inputs = read_inputs(given.inputs) if given.inputs else reference_inputs(given.model) or made_up_inputs()
    try:
        infer, outputs = load(given.model, inputs)
        infer()
        outputs()
    except ImportError as error:
        stop(f"{error}; {NEEDS}")
    except Exception as error:
        if given.debug:
            raise
        if not gpu_count():
            stop("the CUDA driver shows no GPU to this process, and this program runs on one")
        fed = ", ".join(f"{name} {kind} {tuple(shape)}" for name, (shape, kind) in INPUTS.items())
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        stop(f"{given.model} cannot be loaded and run ({why}); this program takes {MODEL_IS}, with {fed}; --debug shows where it failed")
    measure(infer, min(WARM_UP_SECONDS, given.seconds))
    durations = np.array(measure(infer, given.seconds))
    rate = ITEMS_PER_INFERENCE * len(durations) / (durations.sum() / 1e9)
    median_ms = np.median(durations) / 1e6
    print(f"{rate:,.1f} {ITEM}s/s, median latency {median_ms:.4f} ms, {len(durations)} inferences", flush=True)
    if given.save:
        try:
            save(given.save, outputs())
        except OSError as error:
            stop(f"the outputs cannot be written to {given.save}: {error.strerror}")


if __name__ == "__main__":
    main()
