"""The local runner, as far as it starts nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.host import models
from common.host.frameworks import environments
from common.host.frameworks.registry import Variant, load_images
from common.host.paths import IMAGES, DataFolder
from common.host.runners.local import LocalRunner
from tests.common.host.test_models import make


@pytest.mark.parametrize(
    ("typed", "extra"),
    [
        ("timm:resnet18", environments.TIMM),
        ("TIMM:resnet18", environments.TIMM),
        ("Timm: resnet18 ", environments.TIMM),
        ("net.py:build", None),
        ("of_timm.py:build", environments.TIMM),
        ("MobileNetV3L", None),
    ],
)
def test_the_environment_that_measures_a_model_of_timm_gets_timm(
    typed: str, extra: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = make(tmp_path / "data" / "models" / "any-aaaaaaaaaaaa")
    (tmp_path / "net.py").write_text("optimum = 1")
    (tmp_path / "of_timm.py").write_text("def build():\n    import timm")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "ensure_model", lambda *arguments: exported)
    monkeypatch.setattr(environments, "is_ready", lambda *arguments, **named: True)
    added = []
    monkeypatch.setattr(environments, "ensure_extra", lambda *arguments: added.append(arguments[:3]))
    images = {image.name: image for image in load_images(IMAGES)}
    variants: list[Variant] = [one for one in images["torch"].variants if one.name == "torch"]
    runner = LocalRunner(images, None)
    runner.prepare(variants, "cuda", lambda *step: None)
    runner.ensure_model(typed, DataFolder(tmp_path / "data"), models.ExportOptions(), lambda *step: None)
    assert added == ([("torch", "cuda", extra)] if extra else [])


def test_a_model_of_timm_without_a_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="names no model of timm"):
        LocalRunner({}, None).ensure_model("TIMM:", DataFolder(tmp_path), models.ExportOptions(), lambda *step: None)
