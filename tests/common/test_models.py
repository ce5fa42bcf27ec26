"""The registry of models."""

from __future__ import annotations

import re

import pytest

from common import models
from common.errors import UserError


def test_names_stand_for_themselves_and_fit_cell_keys() -> None:
    for name, model in models.MODELS.items():
        assert model.name == name
        assert re.fullmatch(r"[A-Za-z0-9.-]+", name)
        takes_images = model.size > 0
        assert takes_images or model.axes, "a model without images says which axis it has"
        assert model.preprocessing in (("inside", "tf", "torch", "caffe") if takes_images else ("",))
        assert set(model.axes) == set(model.most)


def test_default_and_the_models_that_were_promised() -> None:
    assert models.find(models.DEFAULT_MODEL).builder == "MobileNetV3Large"
    assert {"MobileNetV3L", "MobileNetV3S", "MobileNetV2", "ResNet50", "EfficientNetB0"} <= set(models.MODELS)


def test_unknown_name() -> None:
    with pytest.raises(UserError, match=r"unknown model 'ResNet5'; there is .*Did you mean ResNet50\?"):
        models.find("ResNet5")
