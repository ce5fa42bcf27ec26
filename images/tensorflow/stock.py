"""The SavedModel as TensorFlow's first tutorial calls it: what `tf` and `tfxla` run at the level `stock`."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

import numpy as np

from common.harness.adapter import Unsupported
from common.model_files import ModelFiles
from images.tensorflow.function_names import stable_function_names


class Signature:
    """`tf.saved_model.load(path).signatures["serving_default"]`; with jit inside `tf.function(..., jit_compile=True)`.

    It computes in the types that it was saved in: there is no half precision, which the Dockerfile's labels say (`without`), so
    that no cell asks for it. Raises Unsupported for a signature that does not take what the model's description says.
    """

    def __init__(self, tf: Any, jit: bool) -> None:
        self._tf, self._jit = tf, jit
        self._function: Any = None
        self._functions: Dict[Any, Any] = {}

    def load(self, model: ModelFiles, precision: str) -> None:
        assert precision != "fp16", "its rows would be float32's under another name"
        self._loaded = self._tf.saved_model.load(str(model.path(model.saved_model)))
        self._signature = signature = self._loaded.signatures["serving_default"]
        names = [tensor.name for tensor in model.inputs]
        taken = list(signature.structured_input_signature[1])
        names = taken if len(names) == len(taken) == 1 else names
        made = [tensor.name for tensor in model.outputs]
        given = list(signature.structured_outputs)
        self._made = given if len(made) == len(given) == 1 else made
        if sorted(names) != sorted(taken) or sorted(self._made) != sorted(given):
            raise Unsupported(f"the SavedModel takes {', '.join(taken)} and gives {', '.join(given)}")
        kinds = {name: spec.dtype for name, spec in signature.structured_input_signature[1].items()}

        def call(*inputs: Any) -> Any:
            fed = {
                name: one if one.dtype == kinds[name] else self._tf.cast(one, kinds[name])
                for name, one in zip(names, inputs)
            }
            return signature(**fed)

        self._call = call
        self._what = f"{model.hash} {precision} signature"
        self.recompile()

    def specialize(self, inputs: Sequence[Any]) -> None:
        """With jit, a function of its own for each shape and type, under a name that XLA finds again in its cache."""
        if not self._jit:
            return
        shapes = tuple((tuple(one.shape), one.dtype.name) for one in inputs)
        if shapes not in self._functions:
            specs = [self._tf.TensorSpec(one.shape, one.dtype) for one in inputs]
            with stable_function_names(f"{self._what} {shapes}"):
                function = self._tf.function(self._call, input_signature=specs, jit_compile=True)
                self._functions[shapes] = function.get_concrete_function()
        self._function = self._functions[shapes]

    def recompile(self) -> None:
        self._functions = {}
        self._function = self._call

    def infer(self, inputs: Sequence[Any]) -> List[Any]:
        result = self._function(*inputs)
        return [result[name] for name in self._made]

    def to_host(self, inputs: Sequence[Any]) -> List[np.ndarray]:
        return [tensor.numpy() for tensor in self.infer(inputs)]

    def traces(self) -> int:
        return 1

    def settings(self) -> Dict[str, str]:
        return {
            "graph": 'SavedModel, signatures["serving_default"]'
            + (", in one tf.function for each shape" if self._jit else ""),
            "xla": "jit_compile=True" if self._jit else "off",
            "fp16": "none",
        }
