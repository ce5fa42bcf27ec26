"""A registered model as a Keras model that takes 0..255 RGB pixels, in float32 or float64."""

from __future__ import annotations

from typing import Any, Optional

import keras
import numpy as np

from common.models import RegisteredModel

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
_CAFFE_MEAN_RGB = (123.68, 116.779, 103.939)


def build(entry: RegisteredModel, dtype: str, weights: Optional[str] = None) -> Any:
    """A Keras model, input (batch, size, size, 3) float32 in 0..255 RGB, output (batch, 1000) softmax.

    dtype: float32 or float64, of weights and arithmetic. weights: "imagenet" or None.
    Preprocessing is one Rescaling layer at most, so that the file loads without custom objects. The BGR order that
    `caffe` weights expect is moved into the first convolution, whose input channels are reversed: exact, and free.
    Raises whatever Keras raises when the weights cannot be fetched.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        pixels = keras.Input((entry.size, entry.size, 3), dtype="float32", name="input")
        prepared = _preprocessing(entry.preprocessing)(pixels) if entry.preprocessing != "inside" else pixels
        application = getattr(keras.applications, entry.builder)(input_tensor=prepared, weights=weights, classes=1000)
        # the application lists its input; frameworks are to get one tensor
        model = keras.Model(pixels, application.output, name=entry.name)
    finally:
        keras.config.set_dtype_policy(before)
    if weights == "imagenet" and entry.preprocessing == "caffe":
        _reverse_input_channels(model)
    return model


def _preprocessing(kind: str) -> Any:
    if kind == "tf":
        return keras.layers.Rescaling(1 / 127.5, -1.0, name="pixels")
    if kind == "torch":
        return keras.layers.Rescaling(
            [1 / (255 * deviation) for deviation in _IMAGENET_DEVIATION],
            [-mean / deviation for mean, deviation in zip(_IMAGENET_MEAN, _IMAGENET_DEVIATION)],
            name="pixels",
        )
    if kind == "caffe":
        return keras.layers.Rescaling(1.0, [-mean for mean in _CAFFE_MEAN_RGB], name="pixels")
    raise ValueError(f"unknown preprocessing {kind!r}")


def _reverse_input_channels(model: Any) -> None:
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    first.kernel.assign(np.ascontiguousarray(np.asarray(first.kernel)[:, :, ::-1, :]))
