"""The two ways in which people call a Keras model: `keras` and `kerasxla`."""

from __future__ import annotations

import importlib
from typing import Any, Dict

from common.harness.adapter import Unsupported
from common.model_files import ModelFiles
from images.tensorflow.function_names import stable_function_names


def load_model(model: ModelFiles, precision: str) -> Any:
    """The Keras model; for fp16 the same weights under the policy mixed_float16, its last layer in float32.

    Raises Unsupported where this image's Keras cannot read Keras 3's format.
    """
    keras = importlib.import_module("keras")
    if int(keras.__version__.split(".")[0]) < 3:
        raise Unsupported(f"Keras {keras.__version__} cannot read a .keras file of Keras 3")
    loaded = keras.saving.load_model(model.path(model.keras), compile=False)
    if precision != "fp16":
        return loaded
    last = loaded.layers[-1].name

    def with_policy(layer: Any) -> Any:
        config = layer.get_config()
        # an operation such as `x + 3.0` is a node of the graph, but no layer: it takes the type of its input
        if isinstance(layer, keras.layers.Layer) and layer.name != last:
            config["dtype"] = "mixed_float16"
        return layer.__class__.from_config(config)

    mixed = keras.models.clone_model(loaded, clone_function=with_policy)
    mixed.set_weights(loaded.get_weights())
    return mixed


class KerasCall:
    """`keras`: `model(images, training=False)`, eager, layer by layer."""

    def __init__(self, tf: Any) -> None:
        self._model: Any = None

    def load(self, model: ModelFiles, precision: str) -> None:
        self._model = load_model(model, precision)

    def specialize(self, images: Any) -> None:
        """Nothing: an eager model has no shape."""

    def recompile(self) -> None:
        """Nothing: an eager model is not compiled."""

    def infer(self, images: Any) -> Any:
        return self._model(images, training=False)

    def to_host(self, images: Any) -> Any:
        return self._model(images, training=False).numpy()

    def traces(self) -> int:
        return 0

    def settings(self) -> Dict[str, str]:
        return {
            "graph": "eager, model(images, training=False)",
            "xla": "off",
            "fp16": "policy mixed_float16, last layer in float32",
        }


class KerasXla:
    """`kerasxla`: `model.compile(jit_compile=True)`, then `model.predict_on_batch(images)`.

    predict_on_batch always returns a numpy array; with the output left on the device it is the compiled
    `predict_function` that predict_on_batch calls.
    """

    def __init__(self, tf: Any) -> None:
        self._model: Any = None
        self._what = ""
        self._functions: Dict[Any, Any] = {}
        self._shape: Any = None

    def load(self, model: ModelFiles, precision: str) -> None:
        self._model = load_model(model, precision)
        self._model.compile(jit_compile=True)
        self._what = f"{model.hash} {precision} keras"

    def specialize(self, images: Any) -> None:
        """A function of its own for each shape.

        Keras would make the second shape's trace a general one, and its name, so XLA's cache key, would depend on the
        order of the batch sizes.
        """
        shape = tuple(images.shape)
        if shape not in self._functions:
            with stable_function_names(f"{self._what} {shape}"):
                self._model.make_predict_function(force=True)
                self._functions[shape] = self._model.predict_function
                self._functions[shape]([(images,)])
        self._model.predict_function = self._functions[shape]
        self._shape = shape

    def recompile(self) -> None:
        self._functions.clear()

    def infer(self, images: Any) -> Any:
        return self._model.predict_function([(images,)])

    def to_host(self, images: Any) -> Any:
        return self._model.predict_on_batch(images)

    def traces(self) -> int:
        return int(self._functions[self._shape].experimental_get_tracing_count())

    def settings(self) -> Dict[str, str]:
        return {
            "graph": "model.compile(jit_compile=True), predict_on_batch (io=device: its predict_function)",
            "xla": "jit_compile=True",
            "fp16": "policy mixed_float16, last layer in float32",
        }
