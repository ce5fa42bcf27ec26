"""Keras on JAX: fp32, tuned, batch size 32, io=host, on a GPU.

A recipe of framewatt, which it does not need to run; it is that of the cell
MobileNetV3L_jax_fp32_b0032_host_single-stream_script_gpu0_r0.
Measured by framewatt: 5,598.9 images/s, median latency 5.6341 ms, on NVIDIA H200, run 20261128-192641_gpu0 of
  2026-11-28.

Needs numpy and jax and keras.
Measured with jax 0.11.2, jax-cuda13-plugin 0.11.2, jaxlib 0.11.2, keras 3.15.0, numpy 2.5.2, nvidia-cudnn-cu13
  9.19.0.56.

    python MobileNetV3L_jax_fp32_b0032_host_single-stream_script_gpu0_r0.py [MODEL] [--seconds 10] [--inputs FILE.npz] [--save FILE.npz]
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import keras

#: a .keras file
MODEL = "data/models/MobileNetV3L-824fd5aedd14/model.keras"
#: name -> shape and type of what is fed, and of what comes out
INPUTS = {"input": ((32, 224, 224, 3), "float32")}
OUTPUTS = {"probabilities": ((32, 1000), "float32")}
ITEM = "image"
ITEMS_PER_INFERENCE = 32
WARM_UP_SECONDS = 2.0

# Time of one inference by each configuration that was tried, on the device on which this cell was measured:
#   compiled ahead of time: 6.455 ms
#   jax.jit, called: 5.873 ms


def read_model(path):
    model = keras.saving.load_model(path, compile=False)
    return model


def load(path, inputs):
    """(infer, outputs): jax.jit, called."""
    jax.config.update("jax_default_matmul_precision", "highest")
    device = jax.devices("cuda")[0]
    model = read_model(path)
    weights = [[one.value for one in part] for part in (model.trainable_variables, model.non_trainable_variables)]
    weights = jax.device_put(tuple(weights), device)
    arrays = tuple(np.ascontiguousarray(inputs[name]) for name in INPUTS)

    @jax.jit
    def predict(weights, fed):
        given = dict(zip(INPUTS, fed)) if len(fed) > 1 else fed[0]
        made = model.stateless_call(*weights, given, training=False)[0]
        made = made if isinstance(made, dict) else dict(zip(OUTPUTS, [made]))
        return tuple(made[name].astype("float32") for name in OUTPUTS)

    call = predict
    made = None

    def infer():
        nonlocal made
        with jax.default_device(device):
            made = [np.asarray(one) for one in call(weights, arrays)]

    infer()
    return infer, lambda: {name: np.asarray(one) for name, one in zip(OUTPUTS, made)}


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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default=MODEL, help=f"default: {MODEL}")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to measure, in s; default: 10")
    parser.add_argument("--inputs", help="an .npz file with one array for each input; default: random numbers")
    parser.add_argument("--save", help="write the outputs to this .npz file, under their names; default: do not")
    given = parser.parse_args()
    inputs = dict(np.load(given.inputs)) if given.inputs else made_up_inputs()
    infer, outputs = load(given.model, inputs)
    measure(infer, min(WARM_UP_SECONDS, given.seconds))
    durations = np.array(measure(infer, given.seconds))
    if given.save:
        np.savez(given.save, **outputs())
    rate = ITEMS_PER_INFERENCE * len(durations) / (durations.sum() / 1e9)
    median_ms = np.median(durations) / 1e6
    print(f"{rate:,.1f} {ITEM}s/s, median latency {median_ms:.4f} ms, {len(durations)} inferences")


if __name__ == "__main__":
    main()
