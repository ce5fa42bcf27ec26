"""PyTorch: fp16, stock, batch size 512, io=host, on a GPU.

A recipe of framewatt, which it does not need to run; it is that of the cell
MobileNetV3L_torch_fp16-stock_b0512_host_single-stream_script_gpu1_r0.
Measured by framewatt by one worker of 3: 9,057.5 images/s, median latency 54.6074 ms, on NVIDIA H200, run
  20261129-212249_gpu1 of 2026-11-29.
Mean of 3 workers 8,761.5 images/s, 95 % interval 7,345.1 to 10,451.1.

Needs numpy and torch, and onnx and onnx2torch, which read the model: a torch.nn.Module of your own may stand in its place.
Measured with cuda_runtime 13.0, cudnn 91900, numpy 2.5.2, onnx 1.23.1, onnx2torch 1.5.15, torch 2.11.0+cu130,
  triton 3.6.0.

    python MobileNetV3L_torch_fp16-stock_b0512_host_single-stream_script_gpu1_r0.py [MODEL] [--seconds 10] [--inputs FILE.npz] [--save FILE.npz] [--debug]
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
    torch.backends.cudnn.benchmark = False


def in_precision(given):
    return [one.to(torch.float16) if one.is_floating_point() else one for one in given]


def load(path, inputs):
    """(infer, outputs): as PyTorch's first tutorial has it."""
    use_gpu()
    module, taking, giving = prepared(path, "cuda:0")
    host = [torch.from_numpy(values) for values in as_fed(inputs, taking)]
    made = None

    def infer():
        nonlocal made
        given = [one.to("cuda:0") for one in host]
        with torch.inference_mode():
            made = tensors(module(*in_precision(given)))
        made = [one.cpu() for one in made]

    for _ in range(2):  # libraries load their kernels
        infer()
    return infer, lambda: named(giving, on_host(made))


# ---- What is done to the model, as framewatt does it ----


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
