"""One colour per framework everywhere: the style's list and the labels of the images say the same."""

from __future__ import annotations

from analysis.style import full_title, look
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES


def test_labels_and_style_agree_and_no_two_frameworks_share_colour_and_marker() -> None:
    variants = [variant for image in load_images(IMAGES) for variant in image.variants]
    assert {variant.name: variant.color for variant in variants if variant.color} == {
        variant.name: look(variant.name).color for variant in variants if variant.color
    }
    colors = [look(variant.name).color for variant in variants]
    assert len(colors) == len(set(colors))


def test_a_framework_in_full_tells_versions_and_levels_apart() -> None:
    row = {"variant": "onnxrt", "precision": "fp32", "version": "1.30.0", "tuning": "stock"}
    assert full_title(row) == "ONNX Runtime stock 1.30.0"
    assert full_title({**row, "version": None, "tuning": "tuned"}) == "ONNX Runtime"
