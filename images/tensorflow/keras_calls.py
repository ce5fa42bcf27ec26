"""The two ways in which people call a Keras model: `keras` and `kerasxla`."""

from __future__ import annotations

from typing import Any, Dict

from common.model_files import ModelFiles
from images._shared.keras_file import load_model
from images.tensorflow.function_names import stable_function_names


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
