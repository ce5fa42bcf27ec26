"""One colour per framework everywhere: the style's list and the labels of the images say the same."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.colors import to_rgb

from analysis.plots import cold_start
from analysis.style import PHASES, full_title, look
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES


def test_labels_and_style_agree_and_no_two_frameworks_share_colour_and_marker() -> None:
    variants = [variant for image in load_images(IMAGES) for variant in image.variants]
    assert {variant.name: variant.color for variant in variants if variant.color} == {
        variant.name: look(variant.name).color for variant in variants if variant.color
    }
    colors = [look(variant.name).color for variant in variants]
    assert len(colors) == len(set(colors))


def _lab(color: str) -> np.ndarray:
    """CIE L*a*b* of a colour for the D65 white point, shape (3,)."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_two_colours_can_be_told_apart() -> None:
    """Two blues, 10 apart, once stood for the two fastest lines of one plot; a just noticeable difference is about 2.3."""
    variants = [variant.name for image in load_images(IMAGES) for variant in image.variants]
    near = {
        (one, other): round(distance, 1)
        for one, other in itertools.combinations(variants, 2)
        if (distance := float(np.linalg.norm(_lab(look(one).color) - _lab(look(other).color)))) < 25
    }
    assert not near


def test_a_framework_in_full_tells_versions_and_levels_apart() -> None:
    row = {"variant": "onnxrt", "precision": "fp32", "version": "1.30.0", "tuning": "stock"}
    assert full_title(row) == "ONNX Runtime stock 1.30.0"
    assert full_title({**row, "version": None, "tuning": "tuned"}) == "ONNX Runtime"


def test_phases_differ_in_colour_and_those_of_a_cold_start_in_grey_too() -> None:
    """Any two of them can be neighbours, as a phase may take no time. Convert and compile once had a lightness of 69 and 72."""
    colors = [_lab(color) for _, color, _ in cold_start.PHASES.values()]
    for one, other in itertools.pairwise(colors):
        assert other[0] - one[0] > 10, "lighter the later they come"
    assert min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(colors, 2)) > 25
    # in the strip of phases below a run's power any two can be neighbours; idling before and after a cell has one colour
    every = [_lab(color) for color in set(PHASES.values())]
    assert min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(every, 2)) > 15
