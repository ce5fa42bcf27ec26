"""Where the weights come from: ImageNet's by download, or seeded ones that still tell images apart."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Tuple

import h5py
import keras
import numpy as np
import tensorflow as tf

from common.errors import UserError
from common.export.inputs import pictures
from common.export.keras_model import build
from common.models import RegisteredModel

DOWNLOAD_TIMEOUT_S = 10.0
SEED = 20260102
CALIBRATION_IMAGES = 32
#: models of more parameters than LARGE are calibrated on fewer images: float64 takes minutes and gigabytes there
LARGE = 8_000_000
CALIBRATION_IMAGES_LARGE = 8
LOGIT_DEVIATION = 3.0
#: share of the logits' variance that all images may have in common, and what it is brought down to above that
SHARED_MAX = 0.7
SHARED_THEN = 0.4
#: significant bits kept of what calibration computes
CALIBRATION_BITS = 12

IMAGENET_NOTE = "The weights are the ImageNet weights that Keras publishes."
SEEDED_NOTE = (
    "The weights are seeded random numbers, calibrated so that outputs differ between images, not trained ones: "
    "speed and energy are meaningful, the classes that are recognised are not."
)


@dataclass(frozen=True)
class Weighted:
    """One model twice with the same weights, which are exact in float32."""

    #: in float32, what is exported
    model: Any
    #: in the precision of the reference outputs
    reference: Any
    #: imagenet or seeded
    origin: str
    note: str


def weighted(entry: RegisteredModel, wanted: str, reference_dtype: str) -> Weighted:
    """The model with the weights that are wanted.

    wanted: imagenet, seeded, or auto: imagenet where it can be had within the timeout, else seeded.
    reference_dtype: float64 or float32. Raises UserError where imagenet is wanted and cannot be had.
    """
    if wanted in ("auto", "imagenet"):
        try:
            model, reference = _imagenet(entry, reference_dtype)
            return Weighted(model, reference, "imagenet", IMAGENET_NOTE)
        except Exception as error:  # a failed download is a bare Exception in Keras, an OSError elsewhere
            if wanted == "imagenet":
                reason = " ".join(str(error).split()) or type(error).__name__
                raise UserError(
                    f"the ImageNet weights of {entry.name} cannot be had: {reason} "
                    "(offline, put the file that Keras asks for into $KERAS_HOME/models, or take seeded weights)"
                ) from error
    model, reference = _seeded(entry, reference_dtype)
    return Weighted(model, reference, "seeded", SEEDED_NOTE)


def _imagenet(entry: RegisteredModel, reference_dtype: str) -> Tuple[Any, Any]:
    with download_timeout():
        return build(entry, "float32", "imagenet"), build(entry, reference_dtype, "imagenet")


@contextmanager
def download_timeout() -> Iterator[None]:
    """Whatever Keras downloads within the block fails when nothing comes for DOWNLOAD_TIMEOUT_S; Keras sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def remove_damaged(folder: Path) -> None:
    """Removes weights in `folder` that are no whole HDF5 file and that nobody is downloading any more.

    Keras downloads under the final name and gives some models no checksum: what a killed export left there would be
    taken for the weights ever after.
    """
    for file in folder.glob("*.h5"):
        try:
            # a download that lives writes at least once within the timeout
            if time.time() - file.stat().st_mtime > 2 * DOWNLOAD_TIMEOUT_S and not _is_whole(file):
                file.unlink()
        except FileNotFoundError:  # noqa: PERF203 (another exporter was first)
            pass


def _is_whole(file: Path) -> bool:
    try:
        h5py.File(file, "r").close()
        return True
    except OSError:
        return False


def _seeded(entry: RegisteredModel, reference_dtype: str) -> Tuple[Any, Any]:
    """Seeded weights, calibrated in the reference's precision.

    In float64, what calibration computes is rounded to fewer bits than the noise of summation order can reach, so that
    the weights, and with them the model's hash, are the same on machines with other cores and vector units.
    """
    keras.utils.set_random_seed(SEED)
    reference = build(entry, reference_dtype)
    _draw(reference, np.random.default_rng(SEED))
    count = CALIBRATION_IMAGES_LARGE if reference.count_params() > LARGE else CALIBRATION_IMAGES
    images = pictures(count, entry.size, entry.size, 3, SEED)
    _calibrate_normalisation(reference, images)
    _calibrate_logits(reference, images)
    model = build(entry, "float32")
    model.set_weights(reference.get_weights())
    return model, reference


def _draw(model: Any, generator: np.random.Generator) -> None:
    """Kernels of He's variance, gamma U(0.8, 1.2), beta N(0, 0.2); biases and layers unknown here stay as built."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            if layer.gamma is not None:
                layer.gamma.assign(_exact(generator.uniform(0.8, 1.2, layer.gamma.shape)))
            if layer.beta is not None:
                layer.beta.assign(_exact(generator.normal(0, 0.2, layer.beta.shape)))
        elif isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)):
            shape = tuple(layer.kernel.shape)
            fan_in = np.prod(shape[:2] if isinstance(layer, keras.layers.DepthwiseConv2D) else shape[:-1])
            limit = np.sqrt(6.0 / fan_in)
            layer.kernel.assign(_exact(generator.uniform(-limit, limit, shape)))
        else:
            for variable in layer.weights:
                variable.assign(_exact(np.asarray(variable)))


def _exact(values: np.ndarray) -> np.ndarray:
    """Values that float32 holds exactly."""
    return values.astype(np.float32)


def _coarse(values: np.ndarray) -> np.ndarray:
    """Values rounded to CALIBRATION_BITS significant bits."""
    mantissa, exponent = np.frexp(np.asarray(values, np.float64))
    scale = 2.0**CALIBRATION_BITS
    return _exact(np.ldexp(np.rint(mantissa * scale) / scale, exponent))


def _normalisations(model: Any) -> Iterator[Any]:
    return (layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))


def _calibrate_normalisation(model: Any, images: np.ndarray) -> None:
    """Sets the moving statistics of every BatchNormalization to those of the images, in one pass."""
    usual = [(layer, layer.momentum) for layer in _normalisations(model)]
    for layer, _ in usual:
        layer.momentum = 0.0
    # as a graph, which frees activations as it goes: eager Keras keeps all of them to the end
    tf.function(lambda batch: model(batch, training=True))(tf.constant(images))
    for layer, momentum in usual:
        layer.momentum = momentum
        layer.moving_mean.assign(_coarse(np.asarray(layer.moving_mean)))
        layer.moving_variance.assign(_coarse(np.asarray(layer.moving_variance)))


def _calibrate_logits(model: Any, images: np.ndarray) -> None:
    """Scales the last kernel so that logits spread over the classes by LOGIT_DEVIATION, as a trained model's do.

    Deep networks of random weights answer nearly the same to every image. Where the part that all images share is more
    than SHARED of the logits' variance, the last bias takes out as much of it as brings it down to that.
    """
    head = [layer for layer in model.layers if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))][-1]
    last = model.layers[-1]
    softmax, last.activation = last.activation, keras.activations.linear
    try:
        logits = np.asarray(tf.function(lambda batch: model(batch, training=False))(tf.constant(images)))
    finally:
        last.activation = softmax
    logits = logits.astype(np.float64) - logits.mean(axis=1, keepdims=True)
    bias = np.zeros(logits.shape[1])
    shared = logits.mean(axis=0)
    own = logits.var(axis=1).mean() - shared.var()
    if shared.var() > SHARED_MAX * (shared.var() + own):
        bias = (np.sqrt(SHARED_THEN / (1 - SHARED_THEN) * own / shared.var()) - 1) * shared
    factor = float(_coarse(np.array(LOGIT_DEVIATION / (logits + bias).std(axis=1).mean())))
    head.kernel.assign(_coarse(np.asarray(head.kernel) * factor))
    if bias.any():
        head.bias.assign(_coarse(bias * factor))
