"""How plots look: one colour, marker and place per framework variant everywhere, readable in grey and colour-blind.

Colour and marker come from the labels of the variant's image (Okabe and Ito's palette and darker relatives, told apart
together), else from a spare palette by the variant's name, so that a new framework has the same colour today and tomorrow.
Two variants of one colour still differ by marker; precisions differ by line and by how much of the marker is filled.
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
from common.stats.comparison import Verdict


@dataclass(frozen=True)
class Look:
    color: str
    marker: str
    title: str


_SPARE = ("#4d4d4d", "#999999", "#8b0000", "#6a3d9a", "#1b9e77", "#a6761d", "#e7298a", "#1f4e79")
_MARKERS = ("h", "<", ">", "*", "H", "8")
_LINES = {
    "fp32": "-",
    "tf32": (0, (3.2, 1, 0.8, 1)),
    "fp16": (0, (3, 1.4)),
    "bf16": (0, (1, 1)),
    "int8": (0, (0.8, 0.8, 2.6, 0.8)),
    "int8-dynamic": (0, (2.6, 0.8, 0.8, 0.8, 0.8, 0.8)),
}
#: Matplotlib's fill style of a marker: every precision is told from the others where there is no line.
_FILLS = {"fp32": "full", "tf32": "left", "fp16": "none", "bf16": "bottom", "int8": "top", "int8-dynamic": "right"}
_HATCHES = {"fp32": "", "tf32": "..", "fp16": "///", "bf16": "\\\\\\", "int8": "---", "int8-dynamic": "+++"}
#: Columns that tell configurations of a framework at one precision apart, and their usual value, which is not said.
_USUAL = {"tuning": "tuned", "version": ""}
_LEVELS: dict[str, dict[str, Any]] = {
    "stock": {"linewidth": 0.9, "markersize": 4.0},
    "rewritten": {"linewidth": 2.4, "markeredgewidth": 2.2},
}
#: phase of a cell -> its colour; those of a cold start are lighter the later they come, so that they differ in grey too
PHASES = {
    "import": "#30436b", "convert": "#1f6b75", "load": "#5f86b8", "compile": "#e0a458", "first": "#f3e2c3", "parity": "#7f7f7f",
    "idle_before": "#dcdcdc", "warmup": "#d3776a", "measure": "#2c7a4b", "device": "#8a63a8", "idle": "#dcdcdc", "trace": "#4a4a4a",
}  # fmt: skip
#: verdict -> marker and colour in plots; UNCLEAR keeps those of its framework
VERDICT_MARKERS = {Verdict.FASTER: ("^", "#1a7f37"), Verdict.SLOWER: ("v", "#b3261e"), Verdict.SAME: ("o", "#666666")}
#: how a terminal shows verdicts
VERDICTS = {Verdict.FASTER: "green", Verdict.SLOWER: "red", Verdict.SAME: "", Verdict.UNCLEAR: "yellow"}


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


def tunings(variant: str) -> tuple[str, ...]:
    """The levels of tuning that a variant's image says it has; empty for one that no image here brings."""
    labels = _labelled().get(variant)
    return labels.tunings if labels else ()


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


def kind(row: Mapping[str, Any]) -> str:
    """Precision of a row, then what else is not usual about it: "fp16", "fp16 stock"."""
    further = [str(row[name]) for name, usual in _USUAL.items() if (row.get(name) or usual) != usual]
    return " ".join([str(row["precision"]), *further])


def full_title(row: Mapping[str, Any]) -> str:
    """Title of a row's framework with what is not usual about it, but for its precision: "ONNX Runtime 1.30.0", "PyTorch stock"."""
    return " ".join([look(row["variant"]).title, *kind(row).split(" ")[1:]])


def line(kind: str) -> Any:
    """Matplotlib's line style of a precision. Its period is short enough to be seen whole in a legend."""
    return _LINES.get(kind.split(" ")[0], (0, (3, 1, 1, 1, 1, 1)))


def fill(kind: str) -> str:
    """Matplotlib's fill style of a precision's markers."""
    return _FILLS.get(kind.split(" ")[0], "none")


def curve(variant: str, kind: str) -> dict[str, Any]:
    """Arguments of `Axes.plot` for one framework and kind: the same in every plot and legend."""
    one = look(variant)
    levels = [_LEVELS[word] for word in kind.split(" ")[1:] if word in _LEVELS]
    looks: dict[str, Any] = {"color": one.color, "marker": one.marker, "linestyle": line(kind), "fillstyle": fill(kind)}
    return {**looks, "markerfacecoloralt": "white", **(levels[0] if levels else {})}


def points(variant: str, kind: str) -> dict[str, Any]:
    """As `curve`, for marks that no line joins."""
    return {**curve(variant, kind), "linestyle": ""}


def bar(variant: str, kind: str) -> tuple[str, str]:
    """(colour, hatch) of a bar."""
    return look(variant).color, _HATCHES.get(kind.split(" ")[0], "xx")


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
    # room for two periods of every dash pattern beside the marker
    "legend.handlelength": 4.4,
    "hatch.linewidth": 0.8,
    "svg.fonttype": "none",
    # a dollar in a name is a dollar
    "text.parse_math": False,
    "svg.hashsalt": "framewatt",
}
