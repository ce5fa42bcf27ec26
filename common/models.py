"""The models that framewatt can export by name: Keras applications with their ImageNet head (1000 classes)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict

from common.errors import unknown


@dataclass(frozen=True)
class RegisteredModel:
    """One model of the registry.

    builder: name of the function in keras.applications.
    size: height and width of the input in pixels.
    preprocessing: what the published weights expect of 0..255 RGB pixels, exported as part of the model:
        `inside` (the application does it itself), `tf` (to -1..1), `torch` (to 0..1, less the mean, over the
        standard deviation of ImageNet), `caffe` (BGR, less the mean).
    """

    name: str
    builder: str
    size: int
    preprocessing: str
    title: str


DEFAULT_MODEL = "MobileNetV3L"

_ALL = (
    RegisteredModel("MobileNetV3L", "MobileNetV3Large", 224, "inside", "5.5 M parameters; the published study's model"),
    RegisteredModel("MobileNetV3S", "MobileNetV3Small", 224, "inside", "2.6 M parameters"),
    RegisteredModel("MobileNetV2", "MobileNetV2", 224, "tf", "3.5 M parameters"),
    RegisteredModel("EfficientNetB0", "EfficientNetB0", 224, "inside", "5.3 M parameters"),
    RegisteredModel("EfficientNetV2B0", "EfficientNetV2B0", 224, "inside", "7.2 M parameters"),
    RegisteredModel("DenseNet121", "DenseNet121", 224, "torch", "8.1 M parameters"),
    RegisteredModel("InceptionV3", "InceptionV3", 299, "tf", "24 M parameters"),
    RegisteredModel("ResNet50", "ResNet50", 224, "caffe", "26 M parameters"),
    RegisteredModel("ResNet101", "ResNet101", 224, "caffe", "45 M parameters"),
)

#: name -> model, in the order in which they are listed to people
MODELS: Dict[str, RegisteredModel] = {model.name: model for model in _ALL}


def find(name: str) -> RegisteredModel:
    """The registered model of that name. Raises UserError that lists what exists."""
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return MODELS[name]
