"""The models that framewatt can export by name: Keras applications with their ImageNet head (1000 classes), and transformers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Mapping

from common.errors import UserError, unknown

#: a model's package, and the module that its layers are of
KERAS_HUB = "keras_hub"


@dataclass(frozen=True)
class RegisteredModel:
    """One model of the registry.

    builder: name of the function in keras.applications, or of the class in keras_hub.models.
    size: height and width of the input in pixels; 0 for a model that takes no images.
    preprocessing: what the published weights expect of 0..255 RGB pixels, exported as part of the model:
        `inside` (the application does it itself), `tf` (to -1..1), `torch` (to 0..1, less the mean, over the
        standard deviation of ImageNet), `caffe` (BGR, less the mean).
    """

    name: str
    builder: str
    size: int
    preprocessing: str
    title: str
    package: str = "keras.applications"
    #: what keras_hub's class is called with
    config: Mapping[str, int] = field(default_factory=dict)
    #: axes that --shape may set: name -> size without it, and the largest that the model has
    axes: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_transformer(self) -> bool:
        """Those of keras_hub are; Keras' applications are convolutional."""
        return self.package == KERAS_HUB

    def sized(self, axis_sizes: Mapping[str, int]) -> Dict[str, int]:
        """The sizes of its axes, those of --shape where it names them. Raises UserError for an axis or a size that it has not."""
        for name, size in axis_sizes.items():
            if name not in self.axes:
                if not self.axes:
                    raise UserError(f"{self.name} has no axis for --shape: its shapes are known")
                raise unknown("axis in --shape:", name, self.axes)
            if not 1 < size <= self.most[name]:
                raise UserError(f"--shape {name}={size}: {self.name} takes 2 to {self.most[name]}")
        return {**self.axes, **axis_sizes}


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
    RegisteredModel(
        "BERT-base", "BertBackbone", 0, "", "109 M parameters; sequences of 128 tokens, or --shape sequence=N",
        KERAS_HUB,
        {
            "vocabulary_size": 30522, "num_layers": 12, "num_heads": 12, "hidden_dim": 768, "intermediate_dim": 3072,
            "max_sequence_length": 512,
        },
        {"sequence": 128}, {"sequence": 512},
    ),
    RegisteredModel(
        "BERT-Tiny", "BertBackbone", 0, "", "4.4 M parameters; as BERT-base, with 2 layers of 128",
        KERAS_HUB,
        {
            "vocabulary_size": 30522, "num_layers": 2, "num_heads": 2, "hidden_dim": 128, "intermediate_dim": 512,
            "max_sequence_length": 512,
        },
        {"sequence": 128}, {"sequence": 512},
    ),
    RegisteredModel(
        "ViT-B16", "ViTBackbone", 224, "tf", "86 M parameters; a vision transformer of patches of 16 x 16 pixels",
        KERAS_HUB,
        {"patch_size": 16, "num_layers": 12, "num_heads": 12, "hidden_dim": 768, "mlp_dim": 3072},
    ),
    RegisteredModel(
        "ViT-Ti16", "ViTBackbone", 224, "tf", "5.7 M parameters; as ViT-B16, with a quarter of its width",
        KERAS_HUB,
        {"patch_size": 16, "num_layers": 12, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 768},
    ),
)  # fmt: skip

#: name -> model, in the order in which they are listed to people
MODELS: Dict[str, RegisteredModel] = {model.name: model for model in _ALL}


def find(name: str) -> RegisteredModel:
    """The registered model of that name. Raises UserError that lists what exists."""
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return MODELS[name]
