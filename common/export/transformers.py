"""BERT and ViT of keras-hub as Keras models of fixed axes, with seeded weights, and the values that they are fed.

Published weights lie on a hub that needs an account and a package of its own, so that these have seeded ones alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

import keras
import numpy as np

from common.errors import UserError
from common.export.inputs import REFERENCE_IMAGES, REFERENCE_SEED, pictures
from common.models import RegisteredModel

SEED = 20261128
CLASSES = 1000
NOTE = (
    "The weights are seeded random numbers, not trained ones: speed and energy are meaningful, what comes out of the "
    "network is not."
)
#: BERT's inputs, in the order in which they are named everywhere
BERT_INPUTS = ("token_ids", "padding_mask", "segment_ids")
BERT_OUTPUTS = ("sequence_output", "pooled_output")


@dataclass(frozen=True)
class Transformer:
    """One model twice with the same weights: in float32, what is exported, and in the precision of the reference."""

    model: Any
    reference: Any
    #: name -> (samples, ...)
    inputs: Dict[str, np.ndarray]
    #: in the order of the model's description
    outputs: Tuple[str, ...]


def make(entry: RegisteredModel, axes: Mapping[str, int], reference_dtype: str) -> Transformer:
    """The model at these sizes of its axes. Raises UserError where keras-hub cannot be imported."""
    build = _bert if entry.builder == "BertBackbone" else _vit
    model, reference = build(entry, axes, "float32"), build(entry, axes, reference_dtype)
    _draw(model)
    reference.set_weights(model.get_weights())
    if entry.size:
        images = pictures(REFERENCE_IMAGES, entry.size, entry.size, 3, REFERENCE_SEED)
        return Transformer(model, reference, {"input": images}, ("logits",))
    return Transformer(model, reference, _sentences(entry, axes["sequence"]), BERT_OUTPUTS)


def _hub() -> Any:
    try:
        import keras_hub
    except ImportError as error:
        raise UserError(
            f"keras-hub cannot be imported ({error}); images/tensorflow/requirements-keras-hub-nodeps.txt says what it takes"
        ) from error
    return keras_hub.models


def _bert(entry: RegisteredModel, axes: Mapping[str, int], dtype: str) -> Any:
    """Inputs BERT_INPUTS, (batch, sequence) int32; outputs (batch, sequence, width) and (batch, width)."""
    given = {name: keras.Input((axes["sequence"],), dtype="int32", name=name) for name in BERT_INPUTS}
    made = _hub().BertBackbone(**entry.config, dtype=dtype, name="bert")(given)
    # named, and in single precision also where the network computes in half
    return keras.Model(
        given, {name: keras.layers.Identity(dtype=dtype, name=name)(made[name]) for name in BERT_OUTPUTS}, name="BERT"
    )


def _vit(entry: RegisteredModel, axes: Mapping[str, int], dtype: str) -> Any:
    """Input (batch, size, size, 3) float32 in 0..255 RGB, output (batch, CLASSES), the logits of a head on the class token."""
    pixels = keras.Input((entry.size, entry.size, 3), dtype="float32", name="input")
    scaled = keras.layers.Rescaling(1 / 127.5, -1.0, dtype=dtype, name="pixels")(pixels)
    shape = (entry.size, entry.size, 3)
    tokens = _hub().ViTBackbone(image_shape=shape, **entry.config, dtype=dtype, name="vit")(scaled)
    return keras.Model(pixels, keras.layers.Dense(CLASSES, dtype=dtype, name="logits")(tokens[:, 0]), name="ViT")


def _draw(model: Any) -> None:
    """Kernels of variance 1/fan-in, so that every layer adds as much as it is given, gamma U(0.8, 1.2), all else N(0, 0.1).

    The initializers that such networks are trained from would leave them so near to the identity that no fault showed.
    """
    generator = np.random.default_rng(SEED)
    for variable in model.weights:
        shape, path = tuple(variable.shape), variable.path
        if path.endswith("gamma"):
            values = generator.uniform(0.8, 1.2, shape)
        elif path.endswith("kernel"):
            # of an EinsumDense (width, heads, size), but for the one that puts heads together
            inward = shape[:-1] if len(shape) != 3 or "attention_output" in path else shape[:1]
            values = generator.normal(0, 1 / np.sqrt(np.prod(inward)), shape)
        else:
            values = generator.normal(0, 0.1, shape)
        variable.assign(values.astype(np.float32))


def _sentences(entry: RegisteredModel, length: int) -> Dict[str, np.ndarray]:
    """Token numbers of the whole vocabulary, two segments a sample, and a mask that hides the end of all but the first."""
    generator = np.random.default_rng(REFERENCE_SEED)
    shape = (REFERENCE_IMAGES, length)
    tokens = generator.integers(0, entry.config["vocabulary_size"], shape)
    ends = generator.integers(max(1, length // 2), length + 1, REFERENCE_IMAGES)
    ends[0] = length
    second_segment_begins = generator.integers(1, ends + 1)
    places = np.arange(length)
    seen = places < ends[:, None]
    values = (np.where(seen, tokens, 0), seen, (places >= second_segment_begins[:, None]) & seen)
    return {name: one.astype(np.int32) for name, one in zip(BERT_INPUTS, values)}
