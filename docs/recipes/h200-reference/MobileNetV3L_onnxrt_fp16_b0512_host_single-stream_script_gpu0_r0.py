"""ONNX Runtime: fp16, tuned, batch size 512, io=host, on a GPU.

A recipe of framewatt, which it does not need to run; it is that of the cell
MobileNetV3L_onnxrt_fp16_b0512_host_single-stream_script_gpu0_r0.
Measured by framewatt by one worker of 3: 19,772.8 images/s, median latency 25.8473 ms, on NVIDIA H200, run
  20261130-200954_gpu0 of 2026-11-30.
Mean of 3 workers 19,623.4 images/s, 95 % interval 19,019.3 to 20,246.8.

Needs numpy and onnxruntime-gpu, and onnx, which changes the model.
Measured with cuda_runtime 13.0, cudnn 9.19.0, numpy 2.5.2, onnx 1.23.1, onnxruntime 1.31.1.

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

# Time of one inference in a short trial, 2026-11-30T19:55:37Z, by an earlier worker than the one that measured this
#   cell; not the measurement, and perhaps under another load:
#   as in the tutorial: 71.787 ms
#   session and provider options: 25.930 ms

# Time of one inference in a short trial, 2026-11-30T19:54:54Z, by an earlier worker than the one that measured this
#   cell; not the measurement, and perhaps under another load:
#   CUDA graph, NHWC, hard-swish as exported, bias fused, exhaustive search: 20.241 ms
#   CUDA graph, NHWC, hard-swish as exported, bias separate, exhaustive search: 33.085 ms
#   no graph, NHWC, hard-swish as exported, bias separate, exhaustive search: 33.719 ms


def changed(path):
    """The model as it was measured, serialized."""
    import onnx

    model = onnx.load(path)
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
    "cudnn_conv_algo_search": "EXHAUSTIVE",
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
