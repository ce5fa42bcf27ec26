"""ONNX Runtime: fp16, stock, batch size 512, io=host, on a GPU.

A recipe of framewatt, which it does not need to run; it is that of the cell
MobileNetV3L_onnxrt_fp16-stock_b0512_host_single-stream_script_gpu0_r0.
Measured by framewatt by one worker of 3: 6,335.7 images/s, median latency 79.0995 ms, on NVIDIA H200, run
  20261129-170349_gpu0 of 2026-11-29.
Mean of 3 workers 6,185.0 images/s, 95 % interval 4,836.2 to 7,910.0.

Needs numpy and onnxruntime-gpu, and onnx, which changes the model.
Measured with cuda_runtime 13.0, cudnn 9.19.0, numpy 2.5.2, onnx 1.23.2, onnxruntime 1.31.1.

    python MobileNetV3L_onnxrt_fp16-stock_b0512_host_single-stream_script_gpu0_r0.py [MODEL] [--seconds 10] [--inputs FILE.npz] [--save FILE.npz] [--debug]
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


def load(path, inputs):
    """(infer, outputs): as ONNX Runtime's first tutorial has it, nothing set but what is named."""
    options = ort.SessionOptions()
    ort.preload_dlls()
    providers = [("CUDAExecutionProvider", {"use_tf32": "0"})]
    session = ort.InferenceSession(changed(path), options, providers=providers)
    check_provider(session)
    inputs = {name: values.astype(object) if values.dtype.kind in "US" else values for name, values in inputs.items()}
    names = list(OUTPUTS)
    made = session.run(names, inputs)

    def infer():
        nonlocal made
        made = session.run(names, inputs)

    return infer, lambda: dict(zip(names, made))


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
