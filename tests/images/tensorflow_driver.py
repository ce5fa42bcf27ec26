"""Runs in an interpreter that has TensorFlow: `tensorflow_driver.py REQUEST.json`, facts as JSON to the file that it names.

Actions: `export` makes a miniature of a mobile network (depthwise convolutions, batch normalization, squeeze and
excitation, hard swish) in the forms that the adapter reads, with all_forms in every form that there is; `exercise` puts
one variant through the contract; `several` answers a list of requests; `copies` brings an input to another device.
"""

import ctypes
import json
import sys
from pathlib import Path

import numpy as np

SHAPE = (32, 32, 3)
CLASSES = 10


def rel_l2_of_logits(output, reference):
    """Relative L2 error of the logits, which are the log of the probabilities up to a constant for each image."""

    def logits(probabilities):
        logs = np.log(np.maximum(probabilities.astype(np.float64), 1e-30))
        return logs - logs.mean(-1, keepdims=True)

    return float(np.linalg.norm(logits(output) - logits(reference)) / np.linalg.norm(logits(reference)))


def export(request):
    import keras
    import tensorflow as tf

    # on the CPU: without a limit TensorFlow takes all memory of a GPU, and others may be at work there
    tf.config.set_visible_devices([], "GPU")
    keras.utils.set_random_seed(7)
    rng = np.random.default_rng(7)

    def hard_swish(x):
        return x * keras.layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)

    def network(dtype):
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

    adapter = module.create("tf")
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
    from common.cell import Cell
    from common.harness.adapter import DeviceOutOfMemory, Unsupported
    from common.model_files import ModelFiles
    from images.tensorflow import adapter as module
    from images.tensorflow import frozen_graph, keras_calls
    from tests.images import untimed

    variant, device, precision = request["variant"], request["device"], request["precision"]
    facts = {"cells": []}
    untimed.take_the_first_way()
    adapter = module.create(variant)
    adapter.tune(request.get("level", "tuned"))
    assert "tensorflow" in sys.modules

    def cell(precision, device):
        return Cell(model="Miniature", variant=variant, precision=precision, batch_size=8, device=device)

    facts["supports"] = {
        f"{p} {d}": adapter.supports(cell(p, d)) for p in ("fp32", "tf32", "fp16", "int8") for d in ("cpu", "gpu0")
    }
    model = ModelFiles.read(Path(request["model"]))
    given, made = model.inputs[0].name, model.outputs[0].name
    if device == "cpu":
        try:
            module.create(variant).load(model, "fp16", "cpu", request["cache_dir"], None)
            facts["fp16_load"] = "went through"
        except Unsupported as error:
            facts["fp16_load"] = str(error)
    if request.get("tftrt"):
        trt = module.create("tftrt")
        facts["tftrt"] = {d: trt.supports(cell("fp32", d)) for d in ("cpu", "gpu0")}
        try:
            trt.load(model, "fp32", device, request["cache_dir"], request.get("threads"))
        except Unsupported as error:
            facts["tftrt"]["load"] = str(error)
    try:
        adapter.load(model, precision, device, request["cache_dir"], request.get("threads"))
    except Unsupported as error:
        return {**facts, "load": str(error)}

    reference = np.load(model.path(model.reference))
    inputs, outputs = reference["inputs"].astype(np.float32), reference["outputs"]
    for size in request["batches"]:
        for io in request["ios"]:
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
            if io == "host":
                write_in_place(adapter, np.ascontiguousarray(batch))
                adapter.run()
                written = adapter.output()[made]
            else:
                written = first
            expected = outputs[picked][::-1] if size > 1 else outputs[3:4]
            facts["cells"].append(
                {
                    "batch_size": size, "io": io, "shape": first.shape, "dtype": str(first.dtype),
                    "rel_l2": rel_l2_of_logits(first, outputs[picked]),
                    "swapped_rel_l2": rel_l2_of_logits(second, expected),
                    "queued_rel_l2": rel_l2_of_logits(queued, expected),
                    "written_rel_l2": rel_l2_of_logits(written, outputs[picked]),
                    "traces": [before, adapter.traces()], "settings": adapter.settings(),
                    "device_peak_bytes": adapter.device_peak_bytes(), "run_timed": adapter.run_timed(),
                }
            )  # fmt: skip
    facts["versions"] = adapter.versions()

    if request.get("half"):
        tf = sys.modules["tensorflow"]
        images = tf.constant(inputs[:8])
        if variant == "keras":
            result = keras_calls.load_model(model, "fp16")(images, training=False)
        else:
            network = frozen_graph.FrozenGraph(tf, False, None)
            network.load(model, "fp16")
            (result,) = network.infer([images])
        facts["half"] = {"dtype": result.dtype.name, "rel_l2": rel_l2_of_logits(result.numpy(), outputs[:8])}

    if request.get("exhaust"):
        tf = sys.modules["tensorflow"]

        def infer(inputs):
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nhint")

        adapter._network.infer = adapter._network.to_host = infer
        try:
            adapter.run()
        except DeviceOutOfMemory as error:
            facts["exhausted"] = str(error)
    adapter.close()
    if request.get("stock"):
        other = module.create(variant)
        other.tune("stock")
        other.load(model, precision, device, request["cache_dir"], request.get("threads"))
        other.prepare({given: inputs[:8]}, "host")
        facts["stock_rel_l2"] = rel_l2_of_logits(other.output()[made], outputs[:8])
        other.close()
    if request.get("exported"):
        exported = ModelFiles.read(Path(request["exported"]))
        reference = np.load(exported.path(exported.reference))
        other = module.create(variant)
        other.load(exported, precision, device, request["cache_dir"], request.get("threads"))
        other._calls = other._calls[:1]  # XLA takes half a minute for a network of this size, in each
        other.prepare({exported.inputs[0].name: np.ascontiguousarray(reference["inputs"], dtype=np.float32)}, "host")
        facts["exported_rel_l2"] = rel_l2_of_logits(other.output()[exported.outputs[0].name], reference["outputs"])
        other.close()
    return facts


def several(request):
    return [exercise({**request, **one}) for one in request["requests"]]


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    sys.path.insert(0, asked["repository"])
    answer = {"export": export, "exercise": exercise, "several": several, "copies": copies}[asked["action"]](asked)
    Path(asked["answer"]).write_text(json.dumps(answer))
