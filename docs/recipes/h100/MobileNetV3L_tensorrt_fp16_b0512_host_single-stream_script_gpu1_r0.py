"""TensorRT: fp16, tuned, batch size 512, io=host, on a GPU.

A recipe of framewatt, which it does not need to run; it is that of the cell
MobileNetV3L_tensorrt_fp16_b0512_host_single-stream_script_gpu1_r0.
Measured by framewatt: 36,183.8 images/s, median latency 14.1150 ms, on NVIDIA H100 80GB HBM3, run
  20261126-020512_gpu1 of 2026-11-26.

Needs numpy and tensorrt and pycuda.
Measured with cuda_driver_api 13.0, numpy 1.26.4, pycuda 2026.1, tensorrt 8.6.0.

    python MobileNetV3L_tensorrt_fp16_b0512_host_single-stream_script_gpu1_r0.py [MODEL] [--seconds 10] [--inputs FILE.npz] [--save FILE.npz] [--debug]
"""

from __future__ import annotations

import argparse
import atexit
import ctypes
import os
import signal
import sys
import time
import zipfile
from pathlib import Path


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

NEEDS = "this program needs numpy and tensorrt and pycuda"
try:
    import numpy as np


    sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL)  # version 8.6's libraries find each other only in the global table

    import pycuda.driver as cuda
    import tensorrt as trt
except ImportError as error:
    if __name__ != "__main__":
        raise
    stop(f"{error}; {NEEDS}")

#: an .onnx file, of which an engine is built in minutes, and kept beside it; or an .engine file
MODEL_IS = "an .onnx file, of which an engine is built in minutes, and kept beside it; or an .engine file"
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


#: which axis of an input is the batch
BATCH_AXES = {"input": 0}
#: the smallest, tuned-for and largest batch size of the engine
PROFILE = (1, 512, 512)
#: scratch memory that a kernel may use
WORKSPACE_BYTES = 16384 << 20
TACTIC_SOURCES = ["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"]


def build(path, logger):
    """The serialized engine."""
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse_from_file(path)
    if not parsed:
        raise RuntimeError(parser.get_error(0).desc())
    for tensor in [network.get_output(number) for number in range(network.num_outputs)]:
        if tensor.name not in OUTPUTS:
            network.unmark_output(tensor)
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.TF32)
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.set_tactic_sources(sum(1 << int(getattr(trt.TacticSource, name)) for name in TACTIC_SOURCES))
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        axis = BATCH_AXES[tensor.name]
        shapes = [[size if n == axis else one for n, one in enumerate(tensor.shape)] for size in PROFILE]
        profile.set_shape(tensor.name, *shapes)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("TensorRT built no engine; what it printed says why")
    return bytes(plan)


def engine_of(path, logger):
    if path.endswith(".engine"):
        return Path(path).read_bytes()
    kept = Path(f"{path}.{Path(__file__).stem}.trt{trt.__version__}.engine")
    if not kept.exists():
        print(f"building {kept}; this takes minutes", file=sys.stderr)
        kept.write_bytes(build(path, logger))
    return kept.read_bytes()


def check(result):
    if result:
        raise RuntimeError(f"a call of the driver failed with result {result}")


def give_back(gpu):
    """At the end of the program: PyCUDA aborts it where a context is still current."""
    gpu.pop()
    gpu.detach()


def load(path, inputs):
    """(infer, outputs): a CUDA graph of the whole inference."""
    cuda.init()
    gpu = cuda.Device(0).retain_primary_context()
    gpu.push()
    atexit.register(give_back, gpu)
    logger = trt.Logger(trt.Logger.ERROR)
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(engine_of(path, logger))
    context = engine.create_execution_context()
    stream = cuda.Stream(1)  # which does not wait for the default one
    given, taken, on_device = {}, {}, {}
    for name, values in inputs.items():
        context.set_input_shape(name, list(values.shape))
        kind = trt.nptype(engine.get_tensor_dtype(name))
        given[name] = cuda.pagelocked_empty(values.shape, kind)
        given[name][...] = values
    for name in OUTPUTS:
        kind = trt.nptype(engine.get_tensor_dtype(name))
        taken[name] = cuda.pagelocked_empty(tuple(context.get_tensor_shape(name)), kind)
    for name, values in {**given, **taken}.items():
        on_device[name] = cuda.mem_alloc(max(1, values.nbytes))
        context.set_tensor_address(name, int(on_device[name]))

    def copy_in():
        for name, values in given.items():
            cuda.memcpy_htod_async(on_device[name], values, stream)

    def copy_out():
        for name, values in taken.items():
            cuda.memcpy_dtoh_async(values, on_device[name], stream)

    def submit():
        copy_in()
        if not context.execute_async_v3(stream.handle):
            raise RuntimeError("execute_async_v3 failed")
        copy_out()

    copy_in()
    submit()  # loads kernels, which must not happen within a capture
    stream.synchronize()
    # all that the device reads or writes by its address, which infer() keeps alive: Python frees what nobody names
    held = runtime, engine, context, given, taken, on_device
    driver = ctypes.CDLL("libcuda.so.1")
    handle, recorded, executable = ctypes.c_void_p(stream.handle), ctypes.c_void_p(), ctypes.c_void_p()
    check(driver.cuStreamBeginCapture_v2(handle, 1))
    submit()
    check(driver.cuStreamEndCapture(handle, ctypes.byref(recorded)))
    check(driver.cuGraphInstantiateWithFlags(ctypes.byref(executable), recorded, ctypes.c_ulonglong(0)))

    def infer(held=held):
        check(driver.cuGraphLaunch(executable, handle))
        stream.synchronize()

    def outputs(held=held):
        copy_out()
        stream.synchronize()
        return {name: values.astype(np.float32) if values.dtype.kind == "f" else values.copy() for name, values in taken.items()}

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
