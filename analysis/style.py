"""How plots look: one colour, marker and place per framework variant everywhere, readable in grey and colour-blind.

Colours come from the list below (Okabe and Ito's palette and darker relatives, told apart together), for a variant that is not
in it from its image's label, else from a spare palette by the variant's name, so that a new framework has the same colour
today and tomorrow. Two variants of one colour still differ by marker; precisions differ by line.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.host.frameworks.registry import load_images

IMAGES = Path(__file__).parent.parent / "images"


@dataclass(frozen=True)
class Look:
    color: str
    marker: str
    title: str


_KNOWN = {
    "onnxrt": Look("#0072b2", "o", "ONNX Runtime"),
    "torch": Look("#d55e00", "s", "PyTorch"),
    "tf": Look("#e69f00", "^", "TensorFlow"),
    "tfxla": Look("#7f5a00", "v", "TensorFlow + XLA"),
    "keras": Look("#cc79a7", "D", "Keras"),
    "kerasxla": Look("#7d3560", "d", "Keras + XLA"),
    "tensorrt": Look("#009e73", "P", "TensorRT"),
    "tensorrt-rtx": Look("#004d38", "X", "TensorRT-RTX"),
    "tftrt": Look("#56b4e9", "p", "TF-TRT"),
}
_SPARE = ("#4d4d4d", "#999999", "#8b0000", "#6a3d9a", "#1b9e77", "#a6761d", "#e7298a", "#1f4e79")
_MARKERS = ("h", "<", ">", "*", "H", "8")
_LINES = {
    "fp32": "-",
    "tf32": "-.",
    "fp16": "--",
    "bf16": ":",
    "int8": (0, (1, 1, 4, 1)),
    "int8-dynamic": (0, (4, 1, 1, 1, 1, 1)),
}


@lru_cache(maxsize=1)
def _labelled() -> dict[str, tuple[str, str | None]]:
    """variant -> (title, colour) from the labels of all images; none where they cannot be read."""
    try:
        return {v.name: (v.title, v.color) for image in load_images(IMAGES) for v in image.variants}
    except (OSError, UserError):
        return {}


def look(variant: str) -> Look:
    """Colour, marker and title of a variant, the same for the same name on every machine."""
    if variant in _KNOWN:
        return _KNOWN[variant]
    title, color = _labelled().get(variant, (variant, None))
    number = zlib.crc32(variant.encode())
    return Look(color or _SPARE[number % len(_SPARE)], _MARKERS[number // 8 % len(_MARKERS)], title)


@dataclass(frozen=True)
class DeviceLook:
    color: str
    marker: str
    line: Any


_DEVICES = (
    DeviceLook("#111111", "o", "-"),
    DeviceLook("#c1440e", "s", "--"),
    DeviceLook("#5b8fd6", "^", "-."),
    DeviceLook("#8c8c8c", "D", ":"),
    DeviceLook("#2f7d4f", "v", (0, (5, 1, 1, 1))),
    DeviceLook("#9a5fb0", "P", (0, (1, 1))),
)


def device_looks(names: Sequence[str]) -> dict[str, DeviceLook]:
    """Colour, marker and line of each device or meter of one plot, in the order given; told apart by more than colour."""
    return {name: _DEVICES[place % len(_DEVICES)] for place, name in enumerate(names)}


def line(precision: str) -> Any:
    """Matplotlib's line style of a precision."""
    return _LINES.get(precision, (0, (5, 1, 1, 1, 1, 1)))


#: rcParams of every plot. Text stays text in SVG, and the same data give the same bytes.
RC: Any = {
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "figure.constrained_layout.use": True,
    "font.size": 9.5,
    "font.family": "sans-serif",
    "axes.grid": True,
    "axes.grid.which": "major",
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "framewatt",
}
