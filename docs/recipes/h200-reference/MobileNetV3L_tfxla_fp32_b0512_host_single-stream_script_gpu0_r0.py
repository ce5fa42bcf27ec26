"""TensorFlow with XLA: fp32, tuned, batch size 512, io=host, on a GPU.

A recipe of framewatt, which it does not need to run; it is that of the cell
MobileNetV3L_tfxla_fp32_b0512_host_single-stream_script_gpu0_r0.
Measured by framewatt by one worker of 3: 16,589.1 images/s, median latency 30.7623 ms, on NVIDIA H200, run
  20261129-214722_gpu0 of 2026-11-29.
Mean of 3 workers 16,564.4 images/s, 95 % interval 16,484.9 to 16,644.3.
Worth of tuning there: tuned is 1.042 times stock, 95 % interval 1.035 to 1.049.

Needs numpy and tensorflow.
Measured with cuda 12.5.1, cudnn 9, numpy 2.5.2, tensorflow 2.21.0.

    python MobileNetV3L_tfxla_fp32_b0512_host_single-stream_script_gpu0_r0.py [MODEL] [--seconds 10] [--inputs FILE.npz] [--save FILE.npz] [--debug]
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import signal
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, List, Sequence


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

NEEDS = "this program needs numpy and tensorflow"
try:
    import numpy as np

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Convolution, bias and activation stay apart: not without TensorFloat-32.
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_disable_hlo_passes=cudnn-fused-convolution-rewriter"

    import tensorflow as tf
except ImportError as error:
    if __name__ != "__main__":
        raise
    stop(f"{error}; {NEEDS}")

#: the folder of a SavedModel
MODEL_IS = "the folder of a SavedModel"
MODEL = "data/models/MobileNetV3L-824fd5aedd14/saved_model"
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

# Time of one inference in a short trial, 2026-11-29T21:48:21Z, by the worker that measured this cell; not the
#   measurement, and perhaps under another load:
#   frozen and folded: 30.804 ms
#   SavedModel's signature: 31.881 ms


def use_device():
    gpu = tf.config.list_physical_devices("GPU")[0]
    tf.config.set_visible_devices([gpu], "GPU")
    tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    # Host tensors come from page-locked memory. TensorFlow 2 has no public function that sets this.
    from tensorflow.python.eager import context

    options = tf.compat.v1.GPUOptions(force_gpu_compatible=True)
    context.context()._config = tf.compat.v1.ConfigProto(gpu_options=options)


class Unsupported(Exception):
    """This SavedModel is not as its description has it; the text says why."""


OUTPUT = "framewatt_output"


#: Grappler's passes that fold constants; kernels and layouts are left to the run time, which knows the device
_PASSES = ("function", "constfold", "arithmetic", "dependency")


def _placeholders(graph_def: Any, names: Sequence[str]) -> List[str]:
    """The Placeholders in the order of the model's inputs; the single one of a model with one input has any name."""
    found = [str(node.name) for node in graph_def.node if node.op == "Placeholder"]
    if len(found) == len(names) == 1:
        return found
    if sorted(found) != sorted(names):
        raise Unsupported(f"the SavedModel takes {', '.join(found)}, the model's description says {', '.join(names)}")
    return list(names)


def _outputs(count: int) -> List[str]:
    """Names of the nodes that hold the results."""
    return [OUTPUT if number == 0 else f"{OUTPUT}_{number}" for number in range(count)]


def _freeze(tf: Any, saved_model: Path, names: Sequence[str]) -> Any:
    """GraphDef with a Placeholder for each input and a node of _outputs() for each result, in the order of `names`."""
    constants = importlib.import_module("tensorflow.python.framework.convert_to_constants")
    with tf.device("/CPU:0"):
        loaded = tf.saved_model.load(str(saved_model))
        signature = loaded.signatures["serving_default"]
        frozen = constants.convert_variables_to_constants_v2(signature)
    results = dict(zip(sorted(signature.structured_outputs), frozen.outputs))
    if len(results) != len(names):
        raise Unsupported(f"the SavedModel gives {len(results)} results, the model's description says {len(names)}")
    if len(names) == 1:
        results = dict(zip(names, results.values()))
    if set(results) != set(names):
        raise Unsupported(f"the SavedModel gives {', '.join(results)}, the model's description says {', '.join(names)}")
    graph_def = frozen.graph.as_graph_def()
    for node in graph_def.node:
        node.device = ""
    for target, name in zip(_outputs(len(names)), names):
        node = graph_def.node.add(name=target, op="Identity", input=[results[name].name])
        node.attr["T"].type = results[name].dtype.as_datatype_enum
    return graph_def


def _fold(tf: Any, graph_def: Any, outputs: Sequence[str]) -> Any:
    """The graph after Grappler's folding, results unchanged up to rounding."""
    grappler = importlib.import_module("tensorflow.python.grappler.tf_optimizer")
    config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
    rewrite = config.graph_options.rewrite_options
    rewrite.optimizers[:] = list(_PASSES)
    rewrite.min_graph_nodes = -1
    rewrite.meta_optimizer_iterations = 2
    meta_graph = tf.compat.v1.MetaGraphDef(graph_def=graph_def)
    given = [node.name for node in graph_def.node if node.op == "Placeholder"]
    meta_graph.collection_def["train_op"].node_list.value.extend([*outputs, *given])
    return grappler.OptimizeGraph(config, meta_graph)


def call_of(path, given):
    """The function that takes a list of tensors and returns a list of them, in the order of INPUTS and OUTPUTS."""
    # Variables become constants and batch normalization is multiplied into the convolutions' weights, by TensorFlow's own tools.
    names, outputs = list(INPUTS), list(OUTPUTS)
    graph_def = _fold(tf, _freeze(tf, path, outputs), _outputs(len(outputs)))
    placeholders = _placeholders(graph_def, names)
    body = tf.compat.v1.GraphDef(versions=graph_def.versions)
    body.node.extend(node for node in graph_def.node if node.op != "Placeholder")

    def inference(*fed):
        made = [f"{name}:0" for name in _outputs(len(outputs))]
        return tf.graph_util.import_graph_def(body, input_map=dict(zip(placeholders, fed)), return_elements=made, name="")

    axes = [0]
    shapes = [[None if n == axis else size for n, size in enumerate(one.shape)] for one, axis in zip(given, axes)]
    specs = [tf.TensorSpec(shape, one.dtype) for shape, one in zip(shapes, given)]
    function = tf.function(inference, input_signature=specs, jit_compile=True).get_concrete_function()
    return lambda fed: list(function(*fed))


def load(path, inputs):
    """(infer, outputs)."""
    use_device()
    arrays = [np.ascontiguousarray(inputs[name]) for name in INPUTS]
    with tf.device("/CPU:0"):
        # what an op allocates comes from the page-locked pool; tf.constant takes numpy's kind of memory
        held = [tf.raw_ops.DeepCopy(x=tf.constant(values)) for values in arrays]
    call = call_of(path, [tf.TensorSpec(one.shape, one.dtype) for one in arrays])
    made = None

    def infer():
        nonlocal made
        # tf.identity would copy in the first run alone: TensorFlow keeps what an op copied beside the tensor
        fed = [one._copy_nograd(device_name="GPU:0") for one in held]
        made = [one if isinstance(one, np.ndarray) else one.numpy() for one in call(fed)]

    def outputs():
        values = [one if isinstance(one, np.ndarray) else one.numpy() for one in made]
        values = [one.astype(np.float32) if one.dtype.kind == "f" else one for one in values]
        return dict(zip(OUTPUTS, values))

    for _ in range(2):  # XLA compiles
        infer()
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
