"""The ways in which people call a Keras model: `keras` and `kerasxla`, at each level of tuning."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from common.model_files import ModelFiles
from images._shared.keras_file import load_model
from images.tensorflow.function_names import stable_function_names


class Names:
    """What a Keras model is called with, and what comes out, by name where there are several."""

    def __init__(self, model: ModelFiles) -> None:
        self._inputs = [tensor.name for tensor in model.inputs]
        self._outputs = [tensor.name for tensor in model.outputs]

    def given(self, inputs: Sequence[Any]) -> Any:
        return inputs[0] if len(inputs) == 1 else dict(zip(self._inputs, inputs))

    def made(self, result: Any) -> List[Any]:
        if isinstance(result, dict):
            return [result[name] for name in self._outputs]
        return list(result) if isinstance(result, (list, tuple)) else [result]


class KerasCall:
    """`keras`: `model(inputs, training=False)`, eager, layer by layer."""

    def __init__(self, tf: Any) -> None:
        self._tf = tf
        self._model: Any = None

    def load(self, model: ModelFiles, precision: str) -> None:
        self._model = load_model(model, precision)
        self._names = Names(model)
        self._kinds = [tensor.dtype for tensor in model.inputs]

    def specialize(self, inputs: Sequence[Any]) -> None:
        """Nothing: an eager model has no shape."""

    def recompile(self) -> None:
        """Nothing: an eager model is not compiled."""

    def infer(self, inputs: Sequence[Any]) -> List[Any]:
        return self._names.made(self._model(self._names.given(cast(self._tf, inputs, self._kinds)), training=False))

    def to_host(self, inputs: Sequence[Any]) -> List[Any]:
        return [tensor.numpy() for tensor in self.infer(inputs)]

    def traces(self) -> int:
        return 0

    def settings(self) -> Dict[str, str]:
        return {
            "graph": "eager, model(inputs, training=False)",
            "xla": "off",
            "fp16": "policy mixed_float16, last layer in float32",
        }


class KerasFunction:
    """The model inside one `tf.function` for each shape, a graph in place of layer by layer; with jit compiled by XLA."""

    def __init__(self, tf: Any, jit: bool) -> None:
        self._tf, self._jit = tf, jit
        self._function: Any = None
        self._specs: List[Any] = []

    def load(self, model: ModelFiles, precision: str) -> None:
        self._model = load_model(model, precision)
        self._names = Names(model)
        self._kinds = [tensor.dtype for tensor in model.inputs]
        self._what = f"{model.hash} {precision} keras function"

    def specialize(self, inputs: Sequence[Any]) -> None:
        specs = [self._tf.TensorSpec(one.shape, one.dtype) for one in inputs]
        if specs == self._specs:
            return

        def call(*given: Any) -> Any:
            return self._names.made(self._model(self._names.given(cast(self._tf, given, self._kinds)), training=False))

        with stable_function_names(f"{self._what} {[tuple(one.shape) for one in inputs]}"):
            function = self._tf.function(call, input_signature=specs, jit_compile=self._jit or None)
            self._function = function.get_concrete_function()
        self._specs = specs

    def recompile(self) -> None:
        self._specs = []

    def infer(self, inputs: Sequence[Any]) -> List[Any]:
        result: List[Any] = list(self._function(*inputs))
        return result

    def to_host(self, inputs: Sequence[Any]) -> List[Any]:
        return [tensor.numpy() for tensor in self._function(*inputs)]

    def traces(self) -> int:
        return 1

    def settings(self) -> Dict[str, str]:
        return {
            "graph": "tf.function of model(inputs, training=False), one for each shape",
            "xla": "jit_compile=True" if self._jit else "off",
            "fp16": "policy mixed_float16, last layer in float32",
        }


def cast(tf: Any, inputs: Sequence[Any], kinds: Sequence[str]) -> List[Any]:
    """Images that are fed as bytes in the type that the model takes."""
    return [
        tf.cast(one, kind) if kind != "str" and one.dtype == tf.uint8 and one.dtype != kind else one
        for one, kind in zip(inputs, kinds)
    ]


class KerasXla:
    """`kerasxla`: `model.compile(jit_compile=True)`, then `model.predict_on_batch(inputs)`.

    predict_on_batch always returns a numpy array; with the output left on the device it is the compiled
    `predict_function` that predict_on_batch calls.
    """

    def __init__(self, tf: Any) -> None:
        self._tf = tf
        self._model: Any = None
        self._what = ""
        self._functions: Dict[Any, Any] = {}
        self._shape: Any = None

    def load(self, model: ModelFiles, precision: str) -> None:
        self._model = load_model(model, precision)
        self._model.compile(jit_compile=True)
        self._what = f"{model.hash} {precision} keras"
        self._names = Names(model)

    def specialize(self, inputs: Sequence[Any]) -> None:
        """A function of its own for each shape.

        Keras would make the second shape's trace a general one, and its name, so XLA's cache key, would depend on the
        order of the batch sizes.
        """
        shape: Any = tuple(inputs[0].shape) if len(inputs) == 1 else tuple(tuple(one.shape) for one in inputs)
        if any(one.dtype == self._tf.uint8 for one in inputs):
            shape = (shape, "uint8")
        if shape not in self._functions:
            with stable_function_names(f"{self._what} {shape}"):
                self._model.make_predict_function(force=True)
                self._functions[shape] = self._model.predict_function
                self._functions[shape]([(self._names.given(inputs),)])
        self._model.predict_function = self._functions[shape]
        self._shape = shape

    def recompile(self) -> None:
        self._functions.clear()

    def infer(self, inputs: Sequence[Any]) -> List[Any]:
        return self._names.made(self._model.predict_function([(self._names.given(inputs),)]))

    def to_host(self, inputs: Sequence[Any]) -> List[Any]:
        return self._names.made(self._model.predict_on_batch(self._names.given(inputs)))

    def traces(self) -> int:
        return int(self._functions[self._shape].experimental_get_tracing_count())

    def settings(self) -> Dict[str, str]:
        return {
            "graph": "model.compile(jit_compile=True), predict_on_batch (io=device: its predict_function)",
            "xla": "jit_compile=True",
            "fp16": "policy mixed_float16, last layer in float32",
        }
