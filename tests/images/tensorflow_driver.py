"""Runs in an interpreter that has TensorFlow: `tensorflow_driver.py REQUEST.json`, facts as JSON to the file that it names.

Actions: `export` makes a miniature of a mobile network (depthwise convolutions, batch normalization, squeeze and
excitation, hard swish) in the forms that the adapter reads, with all_forms in every form that there is; `exercise` puts
one variant through the contract; `several` answers a list of requests; `copies` brings an input to another device.
"""

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (32, 32, 3)
CLASSES = 10


def rel_l2_of_logits(output, reference):
    """Relative L2 error of the logits, which are the log of the probabilities up to a constant for each image."""

    def logits(probabilities):
        logs = np.log(np.maximum(probabilities.astype(np.float64), 1e-30))
        return logs - logs.mean(-1, keepdims=True)

    return float(np.linalg.norm(logits(output) - logits(reference)) / np.linalg.norm(logits(reference)))


def network(dtype):
    """A miniature of a mobile network in Keras: images (SHAPE) to probabilities (CLASSES)."""
    import keras

    def hard_swish(x):
        return x * keras.layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)

    keras.backend.set_floatx(dtype)
    norm = keras.layers.BatchNormalization
    images = keras.Input(SHAPE, dtype=dtype)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    x = hard_swish(norm()(keras.layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)))
    y = keras.layers.ReLU()(norm()(keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)))
    squeezed = keras.layers.GlobalAveragePooling2D(keepdims=True)(y)
    gate = keras.layers.ReLU(6.0)(keras.layers.Conv2D(16, 1)(squeezed) + 3.0) * (1.0 / 6.0)
    y = norm()(keras.layers.Conv2D(16, 1, use_bias=False)(keras.layers.Multiply()([y, gate])))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([x, y]))
    x = keras.layers.Dense(CLASSES)(x)
    return keras.Model(images, keras.layers.Activation("softmax")(x))


def export(request):
    import keras
    import tensorflow as tf

    # on the CPU: without a limit TensorFlow takes all memory of a GPU, and others may be at work there
    tf.config.set_visible_devices([], "GPU")
    keras.utils.set_random_seed(7)
    rng = np.random.default_rng(7)

    single = network("float32")
    weights = [
        rng.normal(0, 0.5, w.shape) if w.ndim > 1 else rng.uniform(0.5, 1.5, w.shape) for w in single.get_weights()
    ]
    single.set_weights([w.astype(np.float32) for w in weights])
    double = network("float64")
    double.set_weights([w.astype(np.float64) for w in single.get_weights()])
    inputs = rng.uniform(0, 255, (12, *SHAPE)).astype(np.float32)
    outputs = double(inputs.astype(np.float64), training=False).numpy()

    keras.backend.set_floatx("float32")
    root = Path(request["root"])
    root.mkdir(parents=True)
    single.save(root / "model.keras")
    single.export(root / "saved_model", verbose=False)
    np.savez(root / "reference.npz", inputs=inputs, outputs=outputs)
    description = {
        "name": "Miniature", "hash": "0123456789ab", "onnx": None, "keras": "model.keras",
        "saved_model": "saved_model", "reference": "reference.npz", "input_shape": SHAPE, "layout": "NHWC",
        "onnx_input": None, "onnx_output": None, "output_kind": "probabilities", "classes": CLASSES,
        "weights": "seeded", "weights_note": "Seeded random numbers.",
    }  # fmt: skip
    if request.get("all_forms"):
        import onnx

        from common.export import keras_onnx

        onnx.save(keras_onnx.to_onnx(single), str(root / "model.onnx"))
        description.update(onnx="model.onnx", onnx_input=keras_onnx.INPUT, onnx_output=keras_onnx.OUTPUT)
    (root / "model.json").write_text(json.dumps(description))
    if request.get("all_forms"):
        from common.export import forms

        forms.add(root, forms.FORMS)
    return {"spread": float(outputs.max(-1).std())}


def write_in_place(adapter, values):
    """Other values in the memory that the adapter reads its input from, unknown to TensorFlow."""
    place = np.asarray(adapter._inputs[0]) if adapter._gpu else adapter._arrays[0]
    ctypes.memmove(place.__array_interface__["data"][0], values.ctypes.data, values.nbytes)


def copies(request):
    """What the adapter makes of an input in memory that goes to another device: here the second half of the CPU."""
    from images.tensorflow import adapter as module

    adapter: Any = module.create("tf")
    tf = sys.modules["tensorflow"]
    half = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [half, half])
    adapter._gpu, adapter._device, adapter._io = True, "/CPU:1", "host"
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    adapter._inputs = [adapter._place(values, "host")]
    (copied,) = adapter._on_device()
    facts = {"from": adapter._inputs[0].device, "to": copied.device, "same": bool((copied.numpy() == values).all())}
    facts["settings"] = adapter.settings()
    adapter._device = "/GPU:7"
    try:
        adapter._on_device()
    except adapter._failures as error:
        facts["failed"] = str(error)
    return facts


def exercise(request):
    from common.harness.adapter import Unsupported
    from common.model_files import ModelFiles
    from images.tensorflow import adapter as module
    from tests.images import untimed

    untimed.take_the_first_that_works()
    adapter: Any = module.create(request["variant"])
    adapter.tune(request.get("level", "tuned"))
    assert "tensorflow" in sys.modules
    facts = {"cells": [], "supports": supported(adapter, request["variant"], ("fp32", "tf32", "fp16", "int8"))}
    model = ModelFiles.read(Path(request["model"]))
    if request["device"] == "cpu":
        facts["fp16_load"] = loaded(module.create(request["variant"]), model, {**request, "precision": "fp16"})
    if request.get("tftrt"):
        facts["tftrt"] = tftrt_facts(module, model, request)
    try:
        load(adapter, model, request)
    except Unsupported as error:
        return {**facts, "load": str(error)}
    inputs, outputs = reference_of(model)
    for size in request["batches"]:
        for io in request["ios"]:
            facts["cells"].append(one_shape(adapter, model, inputs, outputs, size, io))
    facts["versions"] = adapter.versions()
    if request.get("half"):
        facts["half"] = in_half_precision(request["variant"], model, inputs[:8], outputs[:8])
    if request.get("exhaust"):
        facts["exhausted"] = error_of_exhausted_memory(adapter)
    adapter.close()
    if request.get("stock"):
        other: Any = module.create(request["variant"])
        other.tune("stock")
        load(other, model, request)
        facts["stock_rel_l2"] = rel_l2_of_all(other, model, inputs[:8], outputs[:8])
    if request.get("exported"):
        exported = ModelFiles.read(Path(request["exported"]))
        other = module.create(request["variant"])
        load(other, exported, request)
        other._calls = other._calls[:1]  # XLA takes half a minute for a network of this size, in each
        facts["exported_rel_l2"] = rel_l2_of_all(other, exported, *reference_of(exported))
    return facts


def load(adapter, model, request):
    adapter.load(model, request["precision"], request["device"], request["cache_dir"], request.get("threads"))


def loaded(adapter, model, request):
    """Why the adapter does not load the model, None where it does."""
    from common.harness.adapter import Unsupported

    try:
        load(adapter, model, request)
    except Unsupported as error:
        return str(error)
    return None


def supported(adapter, variant, precisions):
    from common.cell import Cell

    return {
        f"{p} {d}": adapter.supports(Cell(model="Miniature", variant=variant, precision=p, batch_size=8, device=d))
        for p in precisions
        for d in ("cpu", "gpu0")
    }


def tftrt_facts(module, model, request):
    adapter = module.create("tftrt")
    refusals = supported(adapter, request["variant"], ("fp32",))
    by_device = {name.rpartition(" ")[2]: refusal for name, refusal in refusals.items()}
    return {**by_device, "load": loaded(adapter, model, {**request, "precision": "fp32"})}


def reference_of(model):
    reference = np.load(model.path(model.reference))
    return np.ascontiguousarray(reference["inputs"], dtype=np.float32), reference["outputs"]


def rel_l2_of_all(adapter, model, inputs, outputs):
    """Of all images in one batch; closes the adapter."""
    adapter.prepare({model.inputs[0].name: inputs}, "host")
    error = rel_l2_of_logits(adapter.output()[model.outputs[0].name], outputs)
    adapter.close()
    return error


def one_shape(adapter, model, inputs, outputs, size, io):
    """Everything that a harness does with one batch size, with two batches, and one written in place."""
    given, made = model.inputs[0].name, model.outputs[0].name
    picked = np.arange(size) % len(inputs)
    batch = np.ascontiguousarray(inputs[picked])
    adapter.prepare({given: batch}, io)
    adapter.run()
    first = adapter.output()[made]
    before = adapter.traces()
    swapped = (batch[::-1] if size > 1 else inputs[3:4]).copy()  # written to below
    adapter.prepare({given: swapped}, io)
    for _ in range(5):
        adapter.run()
    second = adapter.output()[made]
    for _ in range(3):
        adapter.enqueue()
    adapter.synchronize()
    queued = adapter.output()[made]
    written = first
    if io == "host":
        write_in_place(adapter, np.ascontiguousarray(batch))
        adapter.run()
        written = adapter.output()[made]
    expected = outputs[picked][::-1] if size > 1 else outputs[3:4]
    return {
        "batch_size": size, "io": io, "shape": first.shape, "dtype": str(first.dtype),
        "rel_l2": rel_l2_of_logits(first, outputs[picked]),
        "swapped_rel_l2": rel_l2_of_logits(second, expected),
        "queued_rel_l2": rel_l2_of_logits(queued, expected),
        "written_rel_l2": rel_l2_of_logits(written, outputs[picked]),
        "traces": [before, adapter.traces()], "settings": adapter.settings(),
        "device_peak_bytes": adapter.device_peak_bytes(), "run_timed": adapter.run_timed(),
    }  # fmt: skip


def in_half_precision(variant, model, inputs, outputs):
    from images.tensorflow import frozen_graph, keras_calls

    tf = sys.modules["tensorflow"]
    images = tf.constant(inputs)
    if variant == "keras":
        result = keras_calls.load_model(model, "fp16")(images, training=False)
    else:
        frozen = frozen_graph.FrozenGraph(tf, False, None)
        frozen.load(model, "fp16")
        (result,) = frozen.infer([images])
    return {"dtype": result.dtype.name, "rel_l2": rel_l2_of_logits(result.numpy(), outputs)}


def error_of_exhausted_memory(adapter):
    from common.harness.adapter import DeviceOutOfMemory

    tf = sys.modules["tensorflow"]

    def infer(inputs):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nhint")

    adapter._network.infer = adapter._network.to_host = infer
    try:
        adapter.run()
    except DeviceOutOfMemory as error:
        return str(error)
    return None


def several(request):
    return [exercise({**request, **one}) for one in request["requests"]]


if __name__ == "__main__":
    request = json.loads(Path(sys.argv[1]).read_text())
    sys.path.insert(0, request["repository"])
    answer = {"export": export, "exercise": exercise, "several": several, "copies": copies}[request["action"]](request)
    Path(request["answer"]).write_text(json.dumps(answer))
