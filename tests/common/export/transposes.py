"""Run with the TensorFlow environment: converts the pattern that breaks tf2onnx's optimizer, with and without the cure.

Prints a JSON object: Transpose nodes with it, the error without it, and after how many failures a conversion still succeeds.
"""

from __future__ import annotations

import contextlib
import json
import sys

import keras

from common.export import keras_onnx


def pattern():
    """A convolution without a bias, a scalar added to it, twice: what hard-sigmoid makes of a convolution."""
    pixels = keras.Input((8, 8, 3), name="input")
    hidden = pixels
    for filters in (4, 5):
        hidden = keras.layers.Conv2D(filters, 3, use_bias=False)(hidden)
        hidden = keras.layers.ReLU()(hidden + 3.0)
    pooled = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(pixels, keras.layers.Softmax()(pooled))


def most_failures() -> int:
    """How many conversions in a row may fail so that to_onnx() still gives a model."""
    for failures in range(10):
        left = failures

        def convert(model):
            nonlocal left
            left -= 1
            if left >= 0:
                raise keras_onnx.ExportFailed("left a Shape")
            return "a model"

        keras_onnx._convert = convert
        try:
            assert keras_onnx.to_onnx(None) == "a model"
        except keras_onnx.ExportFailed:
            return failures - 1
    return 10


def main() -> None:
    model = pattern()
    counts = keras_onnx.node_counts(keras_onnx.to_onnx(model))
    keras_onnx._scalar_additions_left_alone = contextlib.nullcontext
    try:
        keras_onnx.to_onnx(model)
        error = ""
    except keras_onnx.ExportFailed as failed:
        error = str(failed)
    json.dump({"counts": counts, "error": error, "most_failures": most_failures()}, sys.stdout)


if __name__ == "__main__":
    main()
