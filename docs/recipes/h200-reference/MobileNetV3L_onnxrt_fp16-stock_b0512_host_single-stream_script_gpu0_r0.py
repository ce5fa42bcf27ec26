"""ONNX Runtime: fp16, stock, batch size 512, io=host, on a GPU.

A recipe of framewatt, which it does not need to run; it is that of the cell
MobileNetV3L_onnxrt_fp16-stock_b0512_host_single-stream_script_gpu0_r0.
Measured by framewatt by one worker of 3: 6,335.7 images/s, median latency 79.0995 ms, on NVIDIA H200, run
  20261129-170349_gpu0 of 2026-11-29.
Mean of 3 workers 6,185.0 images/s, 95 % interval 4,836.2 to 7,910.0.

Needs numpy and onnxruntime-gpu, and onnx, which changes the model.
Measured with cuda_runtime 13.0, cudnn 9.19.0, numpy 2.5.2, onnx 1.23.2, onnxruntime 1.31.1.

    python MobileNetV3L_onnxrt_fp16-stock_b0512_host_single-stream_script_gpu0_r0.py [MODEL] [--seconds 10] [--inputs FILE.npz] [--save FILE.npz]
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import time
import zipfile


def stop(reason):
    """Ends the program with one line on standard error and exit code 2."""
    print("error:", " ".join(str(reason).split()), file=sys.stderr)
    sys.exit(2)


NEEDS = "this program needs numpy and onnxruntime-gpu, and onnx, which changes the model"
try:
    import numpy as np


    import onnxruntime as ort
except ImportError as error:
    if __name__ != "__main__":
        raise
    stop(f"{error}; {NEEDS}")

#: an .onnx file
MODEL = "data/models/MobileNetV3L-824fd5aedd14/model.onnx"
#: name -> shape and type of what is fed, and of what comes out
INPUTS = {"input": ((512, 224, 224, 3), "float32")}
OUTPUTS = {"probabilities": ((512, 1000), "float32")}
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


def made_up_inputs():
    """Random numbers in the place of real ones: the values do not matter for the time."""
    random = np.random.default_rng(0)
    inputs = {}
    for name, (shape, kind) in INPUTS.items():
        if np.dtype(kind).kind == "f":
            inputs[name] = random.random(shape).astype(kind)
        elif kind == "uint8":
            inputs[name] = random.integers(0, 256, shape, dtype=kind)
        else:
            inputs[name] = np.zeros(shape, kind)
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
    except (AttributeError, EOFError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
        stop(f"{path} cannot be read as an .npz file: {error}")
    for name, (shape, kind) in INPUTS.items():
        if name not in arrays:
            stop(f"{path} has no array {name!r}, only: {names}")
        came, wanted = arrays[name], np.dtype(kind)
        if came.shape != tuple(shape) or (came.dtype != wanted and (came.dtype.kind != "U" or wanted.kind != "U")):
            stop(f"array {name!r} of {path} is {came.dtype} of shape {came.shape}; this program takes {kind} of shape {tuple(shape)}")
    return arrays


def save(path, arrays):
    """Writes an .npz file; numpy's own function takes no array that is called "file"."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            values = np.asarray(values)
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
        help="an .npz file with an array for each input, of the shapes and types in INPUTS; default: random numbers",
    )
    parser.add_argument("--save", help="write the outputs to this .npz file, under their names; default: do not")
    given = parser.parse_args()
    if not os.path.exists(given.model):
        stop(f"there is no {given.model}: give the path of the model as the first argument")
    inputs = read_inputs(given.inputs) if given.inputs else made_up_inputs()
    try:
        infer, outputs = load(given.model, inputs)
    except ImportError as error:
        stop(f"{error}; {NEEDS}")
    except Exception:
        if not gpu_count():
            stop("the CUDA driver shows no GPU to this process, and this program runs on one")
        raise
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
