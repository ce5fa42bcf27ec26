"""Reading a .keras file with whichever backend KERAS_BACKEND names: shared by the images of TensorFlow, JAX and PyTorch."""

from __future__ import annotations

import importlib
import json
import zipfile
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from common.float16 import refusal_of
from common.harness.adapter import Unsupported
from common.model_files import ModelFiles
from common.models import KERAS_HUB
from common.text import first_line

#: precision -> Keras' policy for it; others are left to the backend's own switches
POLICIES = {"fp16": "mixed_float16", "bf16": "mixed_bfloat16"}


def load_model(model: ModelFiles, precision: str, draw: bool = True) -> Any:
    """The Keras model; in half precision the same weights under a mixed policy, its last layers in float32.

    draw: whether layers draw random weights before the file's are read, as load_model() has it. On JAX each shape that is
    drawn is a program of its own to be compiled, which takes longer than all else; without, they begin as zeros.
    Raises Unsupported where this image's Keras cannot read Keras 3's format, and for fp16 where a weight does not fit
    (common/float16.py); FileNotFoundError without a .keras file.
    """
    keras = importlib.import_module("keras")
    if int(keras.__version__.split(".")[0]) < 3:
        raise Unsupported(f"Keras {keras.__version__} cannot read a .keras file of Keras 3")
    file = model.path(model.keras)
    if KERAS_HUB in model.needs:
        _import_keras_hub()
    loaded = keras.saving.load_model(file, compile=False) if draw else _without_drawing(keras, file)
    if precision not in POLICIES:
        return loaded
    last = set(loaded.output_names)

    def with_policy(layer: Any) -> Any:
        config = layer.get_config()
        # an operation such as `x + 3.0` is a node of the graph, but no layer: it takes the type of its input
        if isinstance(layer, keras.layers.Layer) and layer.name not in last:
            config["dtype"] = POLICIES[precision]
        return layer.__class__.from_config(config)

    mixed = keras.models.clone_model(loaded, clone_function=with_policy)
    weights = loaded.get_weights()
    mixed.set_weights(weights)
    if precision == "fp16":
        _refuse_far_weights(mixed, weights)
    return mixed


def _refuse_far_weights(model: Any, weights: Sequence[np.ndarray]) -> None:
    """Raises Unsupported for a weight that its layer casts to float16 and that does not fit.

    Others, as the moving variance of a batch normalisation, are computed with in float32.
    """
    numbers = {id(weight): number for number, weight in enumerate(model.weights)}
    for layer in model._flatten_layers():
        if layer.compute_dtype != "float16" or not layer.autocast:
            continue
        for weight in (*layer._trainable_variables, *layer._non_trainable_variables):
            if weight._autocast and id(weight) in numbers:
                refusal = refusal_of(weight.path, weights[numbers[id(weight)]], [type(layer).__name__])
                if refusal is not None:
                    raise Unsupported(refusal)


def _import_keras_hub() -> None:
    """Makes its layers known to Keras. Raises Unsupported where it is not installed, or this Keras is too old for it."""
    try:
        importlib.import_module(KERAS_HUB)
    except Exception as error:  # with an older Keras it fails at whatever name that lacks
        raise Unsupported(
            f"layers of this .keras file are of keras-hub, which cannot be imported: {first_line(error)}"
        ) from error


def _without_drawing(keras: Any, file: Path) -> Any:
    with zipfile.ZipFile(file) as parts:
        config = json.loads(parts.read("config.json"))
    built = keras.models.model_from_json(json.dumps(_with_zeros(config)))
    built.load_weights(file)
    return built


def _with_zeros(config: Any) -> Any:
    """The configuration of a network with every initializer replaced by zeros."""
    if isinstance(config, dict):
        zeros = {"module": "keras.initializers", "class_name": "Zeros", "config": {}, "registered_name": None}
        return {
            name: zeros if name.endswith("_initializer") and isinstance(value, dict) else _with_zeros(value)
            for name, value in config.items()
        }
    return [_with_zeros(one) for one in config] if isinstance(config, list) else config
