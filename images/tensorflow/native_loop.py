"""TensorFlow and Keras without framewatt, for `invoke verify`: `native_loop.py REQUEST.json`, see common/alternation.py.

tf, tfxla: the frozen graph that the adapter keeps in its cache folder, wrapped into a concrete function as TensorFlow's
migration guide does it. keras, kerasxla: the .keras file and the Keras call. On a GPU the input stays on the device:
TensorFlow has no public way to page-lock a buffer, and pageable copies would be another measurement.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

sys.path[0] = str(Path(__file__).resolve().parents[2])
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from common.interleaving import Refusal, plain_loop, serve  # noqa: E402


def concrete_function(path: str, jit: bool) -> Callable[[Any], Any]:
    """From the GraphDef's one Placeholder to its result, as a concrete function; with `jit` compiled by XLA."""
    graph_def = tf.compat.v1.GraphDef.FromString(Path(path).read_bytes())
    given = next(node.name for node in graph_def.node if node.op == "Placeholder")
    imported = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph_def, name=""), [])
    plain = imported.prune(f"{given}:0", "framewatt_output:0")
    # Called as it is, a pruned function misses TensorFlow's graph optimization: 12 % slower on a CPU.
    function = tf.function(
        lambda images: plain(images),
        input_signature=[tf.TensorSpec.from_tensor(plain.inputs[0])],
        jit_compile=jit or None,
    )
    return function.get_concrete_function()  # type: ignore[no-any-return]


def keras_call(path: str, jit: bool, to_host: bool) -> Callable[[Any], Any]:
    import keras

    model = keras.saving.load_model(path, compile=False)
    if not jit:
        return lambda images: model(images, training=False)
    model.compile(jit_compile=True)
    if to_host:
        return model.predict_on_batch  # type: ignore[no-any-return]
    # predict_on_batch ends with a copy to numpy; what it calls before that leaves the output where it is
    model.make_predict_function()
    return lambda images: model.predict_function([(images,)])


class Loop:
    """One variant with one batch."""

    def __init__(self, request: Dict[str, Any]) -> None:
        variant, self._on_gpu = request["variant"], request["device"] != "cpu"
        if variant not in ("tf", "tfxla", "keras", "kerasxla"):
            raise Refusal(f"no independent loop for {variant}")
        if request["precision"] not in ("fp32", "tf32"):
            raise Refusal(f"no independent loop for {request['precision']}: the adapter makes that graph itself")
        if self._on_gpu and request["io"] == "host":
            raise Refusal("TensorFlow has no public way to page-lock the input: --io device")
        if len(request["inputs"]) > 1 or len(request["outputs"]) > 1:
            raise Refusal("this loop feeds one tensor and reads one")
        self._configure(request)
        batch = np.load(request["input"])
        if variant in ("tf", "tfxla") and not request["model_file"]:
            raise Refusal("the adapter chose the SavedModel's signature for this shape, which this loop does not call")
        if variant in ("tf", "tfxla"):
            self._call = concrete_function(request["model_file"], variant == "tfxla")
        else:
            self._call = keras_call(request["keras"], variant == "kerasxla", request["io"] == "host")
        self._batch: Any = batch if request["io"] == "host" else tf.constant(batch)
        self._host = request["io"] == "host"
        for _ in range(3):
            result = self._infer()
        np.save(request["output"], np.asarray(result, dtype=np.float32))
        self.facts: Dict[str, Any] = {"loop": f"{variant}'s own call", "clock": "perf_counter"}

    def _configure(self, request: Dict[str, Any]) -> None:
        gpus = tf.config.list_physical_devices("GPU")
        if self._on_gpu:
            chosen = gpus[int(request["device"].partition(":")[2] or 0)]
            tf.config.set_visible_devices([chosen], "GPU")
            tf.config.experimental.set_memory_growth(chosen, True)
            tf.config.experimental.enable_tensor_float_32_execution(request["precision"] == "tf32")
            if request["settings"].get("xla_fused_convolutions", "on") != "on":
                # read when XLA compiles for the first time; the last of two flags of a name counts
                passes = "--xla_disable_hlo_passes=cudnn-fused-convolution-rewriter"
                os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {passes}"
            return
        tf.config.set_visible_devices([], "GPU")
        if request["threads"]:
            tf.config.threading.set_intra_op_parallelism_threads(request["threads"])
            tf.config.threading.set_inter_op_parallelism_threads(1)

    def _infer(self) -> Any:
        if self._host:
            result = self._call(tf.constant(self._batch))
            return result if isinstance(result, np.ndarray) else result.numpy()
        result = self._call(self._batch)
        if self._on_gpu:
            tf.test.experimental.sync_devices()
        return result

    def block(self, seconds: float) -> List[int]:
        return plain_loop(self._infer, seconds)


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    serve(lambda: Loop(asked))
