"""ONNX Runtime: fp16, rewritten, batch size 512, io=host, on a GPU.

A recipe of framewatt, which it does not need to run; it is that of the cell
MobileNetV3L_onnxrt_fp16_b0512_host_single-stream_script_gpu0_r0.
Measured by framewatt: 21,257.3 images/s, median latency 24.0135 ms, on NVIDIA H100 80GB HBM3, run
  20261126-052018_gpu0 of 2026-11-26.

Needs numpy and onnxruntime-gpu, and onnx, which changes the model.
Measured with cuda_runtime 13.0, cudnn 9.14.0, numpy 2.5.2, onnx 1.23.1, onnxruntime 1.31.1.

    python MobileNetV3L_onnxrt_fp16_b0512_host_single-stream_script_gpu0_r0.py [MODEL] [--seconds 10] [--inputs FILE.npz] [--save FILE.npz] [--debug]
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import time
import zipfile
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple


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

NEEDS = "this program needs numpy and onnxruntime-gpu, and onnx, which changes the model"
try:
    import numpy as np


    import onnxruntime as ort
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
#   CUDA graph, NHWC, hard-swish fused, bias separate, exhaustive search: 35.580 ms
#   no graph, NHWC, hard-swish fused, bias separate, exhaustive search: 35.914 ms
#   CUDA graph, NHWC, hard-swish fused, bias fused, exhaustive search: 24.406 ms
#   CUDA graph, NHWC, hard-swish fused, bias fused, heuristic search: 23.953 ms
#   CUDA graph, NCHW, hard-swish fused, bias fused, heuristic search: Error in execution: Non-zero status code
#     returned while running Conv node. Name:'Conv__381' Status Message: Failed to initialize CUDNN Frontend:
#     /onnxruntime_sr
#   CUDA graph, NHWC, hard-swish as exported, bias fused, heuristic search: 29.435 ms


# The rewriting: x * (clip(x + 3, 0, 6) / 6) is spelt out in four operators, which ONNX Runtime does not join by itself.
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


def changed(path):
    """The model as it was measured, serialized."""
    import onnx

    model = onnx.load(path)
    fuse_hard_swish(model)
    from onnxruntime.transformers.float16 import convert_float_to_float16

    # float16 inside; inputs and outputs stay float32
    model = convert_float_to_float16(model, keep_io_types=True)
    return model.SerializeToString()


def check_provider(session):
    """ONNX Runtime goes on without a provider that it cannot load, on the CPU, and only prints a warning."""
    wanted, loaded = "CUDAExecutionProvider", session.get_providers()
    if wanted not in loaded:
        stop(f"ONNX Runtime could not load {wanted} and would run on {', '.join(loaded)}")


def session_options():
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def open_session(model, inputs, providers):
    """With the batch axis fixed: shapes that are computed from it become constants."""
    plain = ort.SessionOptions()
    plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    axes = {}
    for value in ort.InferenceSession(model, plain, providers=["CPUExecutionProvider"]).get_inputs():
        axes.update((axis, size) for axis, size in zip(value.shape, inputs[value.name].shape) if isinstance(axis, str))
    options = session_options()
    for axis, size in axes.items():
        options.add_free_dimension_override_by_name(axis, size)
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except Exception:
        if not axes:
            raise
        # a branch of the graph that is not taken may have no valid shape then
        return ort.InferenceSession(model, session_options(), providers=providers)


#: of the provider, as they were found to be the fastest for this shape
OPTIONS = {
    "device_id": "0",
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_algo_search": "HEURISTIC",
    "cudnn_conv_use_max_workspace": "1",
    "enable_cuda_graph": "1",
    "fuse_conv_bias": "1",
    "prefer_nhwc": "1",
    "use_tf32": "0",
}
HOST_TO_DEVICE, DEVICE_TO_HOST, NON_BLOCKING = 1, 2, 1


class Cuda:
    """The few calls of the CUDA runtime that ONNX Runtime has no Python interface for: pinned memory, and a stream of our own."""

    def __init__(self):
        ort.preload_dlls()
        loaded = [line.split()[-1] for line in open("/proc/self/maps") if "libcudart.so" in line]
        self.library = ctypes.CDLL(loaded[0] if loaded else "libcudart.so")
        stream = ctypes.c_void_p()
        self("cudaStreamCreateWithFlags", ctypes.byref(stream), NON_BLOCKING)
        self.stream = stream

    def __call__(self, name, *arguments):
        failure = getattr(self.library, name)(*arguments)
        if failure:
            raise RuntimeError(f"{name} failed with error {failure}")

    def pinned(self, shape, kind):
        """Page-locked memory as a numpy array: what the device can copy from and to while the processor goes on."""
        size, pointer = max(1, int(np.prod(shape)) * np.dtype(kind).itemsize), ctypes.c_void_p()
        self("cudaHostAlloc", ctypes.byref(pointer), ctypes.c_size_t(size), 0)
        memory = (ctypes.c_byte * size).from_address(pointer.value)
        return np.frombuffer(memory, kind, count=int(np.prod(shape))).reshape(shape)

    def device(self, array):
        pointer = ctypes.c_void_p()
        self("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(max(1, array.nbytes)))
        return pointer

    def copy(self, target, source, size, direction):
        self("cudaMemcpyAsync", target, source, ctypes.c_size_t(size), direction, self.stream)

    def wait(self):
        self("cudaStreamSynchronize", self.stream)


def load(path, inputs):
    """(infer, outputs): buffers that stay where they are, one stream, a CUDA graph."""
    cuda = Cuda()
    options = {**OPTIONS, "user_compute_stream": str(cuda.stream.value)}
    providers = [("CUDAExecutionProvider", options)]
    session = open_session(changed(path), inputs, providers)
    check_provider(session)
    given = {name: cuda.pinned(values.shape, values.dtype) for name, values in inputs.items()}
    taken = {name: cuda.pinned(shape, kind) for name, (shape, kind) in OUTPUTS.items()}
    on_device = {name: cuda.device(values) for name, values in {**given, **taken}.items()}
    binding = session.io_binding()
    for name, values in inputs.items():
        given[name][...] = values
        binding.bind_input(name, "cuda", 0, values.dtype.type, values.shape, on_device[name].value)
    for name, values in taken.items():
        binding.bind_output(name, "cuda", 0, values.dtype.type, values.shape, on_device[name].value)
    run_options = ort.RunOptions()
    run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")  # the stream is ours: we wait for it once
    run_options.add_run_config_entry("gpu_graph_id", "1")

    def copy_in():
        for name, values in given.items():
            cuda.copy(on_device[name], ctypes.c_void_p(values.ctypes.data), values.nbytes, HOST_TO_DEVICE)

    def copy_out():
        for name, values in taken.items():
            cuda.copy(ctypes.c_void_p(values.ctypes.data), on_device[name], values.nbytes, DEVICE_TO_HOST)

    def infer():
        copy_in()
        session.run_with_iobinding(binding, run_options)
        copy_out()
        cuda.wait()

    def outputs():
        copy_out()
        cuda.wait()
        return {name: values.copy() for name, values in taken.items()}

    copy_in()
    for _ in range(3):  # algorithms are searched in the first run, the graph is captured in the second
        session.run_with_iobinding(binding, run_options)
        cuda.wait()
    return infer, outputs


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
