"""Reading a .keras file with whichever backend KERAS_BACKEND names: shared by the images of TensorFlow, JAX and PyTorch."""

from __future__ import annotations

import importlib
from typing import Any

from common.harness.adapter import Unsupported
from common.model_files import ModelFiles

#: precision -> Keras' policy for it; others are left to the backend's own switches
POLICIES = {"fp16": "mixed_float16", "bf16": "mixed_bfloat16"}


def load_model(model: ModelFiles, precision: str) -> Any:
    """The Keras model; in half precision the same weights under a mixed policy, its last layer in float32.

    Raises Unsupported where this image's Keras cannot read Keras 3's format, FileNotFoundError without a .keras file.
    """
    keras = importlib.import_module("keras")
    if int(keras.__version__.split(".")[0]) < 3:
        raise Unsupported(f"Keras {keras.__version__} cannot read a .keras file of Keras 3")
    loaded = keras.saving.load_model(model.path(model.keras), compile=False)
    if precision not in POLICIES:
        return loaded
    last = loaded.layers[-1].name

    def with_policy(layer: Any) -> Any:
        config = layer.get_config()
        # an operation such as `x + 3.0` is a node of the graph, but no layer: it takes the type of its input
        if isinstance(layer, keras.layers.Layer) and layer.name != last:
            config["dtype"] = POLICIES[precision]
        return layer.__class__.from_config(config)

    mixed = keras.models.clone_model(loaded, clone_function=with_policy)
    mixed.set_weights(loaded.get_weights())
    return mixed
