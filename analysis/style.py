"""How plots look: one colour, marker and place per framework variant everywhere, readable in grey and colour-blind.

Colour and marker come from the labels of the variant's image (Okabe and Ito's palette and darker relatives, told apart
together), else from a spare palette by the variant's name, so that a new framework has the same colour today and tomorrow.
Two variants of one colour still differ by marker; precisions differ by line.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from common.errors import UserError
from common.host.frameworks.registry import Variant, load_images
from common.host.paths import IMAGES


@dataclass(frozen=True)
class Look:
    color: str
    marker: str
    title: str


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


#: of other levels of tuning than `tuned`
_LEVELS = {"stock": (0, (1, 2)), "rewritten": (0, (7, 2))}


@lru_cache(maxsize=1)
def _labelled() -> dict[str, Variant]:
    """Variants by name, from the labels of all images; none where they cannot be read."""
    try:
        return {variant.name: variant for image in load_images(IMAGES) for variant in image.variants}
    except (OSError, UserError):
        return {}


def look(variant: str) -> Look:
    """Colour, marker and title of a variant, the same for the same name on every machine."""
    labels = _labelled().get(variant)
    number = zlib.crc32(variant.encode())
    color = (labels and labels.color) or _SPARE[number % len(_SPARE)]
    marker = (labels and labels.marker) or _MARKERS[number // 8 % len(_MARKERS)]
    return Look(color, marker, labels.title if labels else variant)


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
    """Matplotlib's line style of a precision; with a level of tuning behind it (see `kind`) another one."""
    word, _, level = precision.partition(" ")
    return _LEVELS.get(level) or _LINES.get(word, (0, (5, 1, 1, 1, 1, 1)))


def kind(row: Mapping[str, Any]) -> str:
    """Precision of a row, and its level of tuning where that is not the usual one: "fp16", "fp16 stock"."""
    level = row.get("tuning") or "tuned"
    return str(row["precision"]) if level == "tuned" else f"{row['precision']} {level}"


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
    # a dollar in a name is a dollar
    "text.parse_math": False,
    "svg.hashsalt": "framewatt",
}
