"""What a reader sees on pointing at a plot: invisible marks over the points and bars of a finished figure, each with its value.

They go into the SVG of the report, in the coordinates of that SVG; the plots themselves know nothing of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from analysis.results.metrics import shown
from common.text import visible

#: Points in one inch of an SVG that matplotlib writes.
_POINTS = 72.0
#: A line of more points than this (a latency distribution, power over time) answers at so many of them, evenly spread.
MOST_OF_A_LINE = 48
_RADIUS = 6.5


@dataclass(frozen=True)
class Target:
    """text: lines of the tooltip. Bounds in the SVG's own units, from the left and from the top."""

    text: str
    left: float
    top: float
    width: float
    height: float

    @property
    def element(self) -> str:
        title = f"<title>{escape(visible(self.text))}</title>"
        if self.width == self.height == 0:
            return f'<circle class="at" cx="{self.left:.1f}" cy="{self.top:.1f}" r="{_RADIUS}">{title}</circle>'
        return (
            f'<rect class="at" x="{self.left:.1f}" y="{self.top:.1f}" width="{max(self.width, 2):.1f}" '
            f'height="{max(self.height, 2):.1f}">{title}</rect>'
        )


def with_targets(svg: str, figure: Figure, prefix: str) -> str:
    """The <svg> element of a figure that has been drawn, with a target on each of its points and bars.

    prefix: goes before every id, so that several plots can stand in one page.
    """
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    elements = "".join(target.element for target in targets(figure))
    head, closing, _ = svg.rpartition("</svg>")
    return f'{head}<g class="targets">{elements}</g>{closing}\n'


def targets(figure: Figure) -> list[Target]:
    """Every point and bar that carries data. What has no name in the legend is decoration and has none."""
    return [target for axes in figure.axes if axes.get_visible() for target in _of_axes(figure, axes)]


def _of_axes(figure: Figure, axes: Axes) -> Iterator[Target]:
    axes.get_xlim(), axes.get_ylim()  # settles limits that are still to be fitted to the data
    for line in axes.lines:
        label = _name(line.get_label())
        if label is None or line.get_transform() != axes.transData:
            continue
        data = np.asarray(line.get_xydata(), dtype=np.float64)
        data = data[np.isfinite(data).all(axis=1)]
        if len(data) > MOST_OF_A_LINE:
            data = data[np.linspace(0, len(data) - 1, MOST_OF_A_LINE).astype(np.int64)]
        yield from _points(figure, axes, label, data)
    for collection in axes.collections:
        label = _name(collection.get_label())
        if label is not None and isinstance(collection, PathCollection):
            data = np.ma.getdata(collection.get_offsets()).astype(np.float64)
            yield from _points(figure, axes, label, data[np.isfinite(data).all(axis=1)])
    for container in axes.containers:
        if isinstance(container, BarContainer):
            yield from _bars(figure, axes, container)


def _points(figure: Figure, axes: Axes, label: str, data: np.ndarray) -> Iterator[Target]:
    if not len(data):
        return
    left, top = _place(figure, axes.transData.transform(data))
    for (x, y), across, down in zip(data, left, top, strict=True):
        if _inside(axes, x, y):
            yield Target(_text(axes, label, x, y), float(across), float(down), 0.0, 0.0)


def _bars(figure: Figure, axes: Axes, container: BarContainer) -> Iterator[Target]:
    label = _name(container.get_label()) or ""
    horizontal = container.orientation == "horizontal"
    for patch in container.patches:
        box = patch.get_bbox()
        if not np.isfinite(box.extents).all() or box.width == 0 or box.height == 0:
            continue
        corners = axes.transData.transform(box.get_points())
        left, top = _place(figure, corners)
        middle = (box.ymin + box.ymax) / 2 if horizontal else (box.xmin + box.xmax) / 2
        length = box.width if horizontal else box.height
        along, across = (axes.xaxis, axes.yaxis) if horizontal else (axes.yaxis, axes.xaxis)
        # a bar with a name of its own may stand in a panel without names at its axis, which are those of the first panel
        where = _value(across, middle) if across.get_ticklabels() or not label else ""
        lines = [label or where, "" if label.startswith(where) else where, _value(along, length)]
        text = "\n".join(line for line in lines if line)
        yield Target(
            text, float(left.min()), float(top.min()), float(abs(left[1] - left[0])), float(abs(top[1] - top[0]))
        )


def _place(figure: Figure, display: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Display coordinates (n, 2) in pixels from below as (left, top) in the SVG's units."""
    height = figure.get_figheight() * _POINTS
    scaled = display * (_POINTS / figure.dpi)
    return scaled[:, 0], height - scaled[:, 1]


def _inside(axes: Axes, x: float, y: float) -> bool:
    low, high = sorted(axes.get_xlim())
    bottom, top = sorted(axes.get_ylim())
    return low <= x <= high and bottom <= y <= top


def _name(label: object) -> str | None:
    """The first line of a label of the legend; None for what has no place there."""
    text = str(label or "").split("\n")[0].strip()
    return None if not text or text.startswith("_") else text


def _text(axes: Axes, label: str, x: float, y: float) -> str:
    return f"{label}\n{_value(axes.xaxis, x)}\n{_value(axes.yaxis, y)}"


def _value(axis: Axis, value: float) -> str:
    """`throughput: 823.4 images/s` for an axis "throughput (images/s)"; the name of the place on an axis of names."""
    names = {
        round(float(place), 6): text.get_text()
        for place, text in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)
    }
    known = names.get(round(float(value), 6), "")
    if known and not re.fullmatch(r"[\d.,\s\-\u2212+e%xnmkMGT\u00b5]*", known):
        return " ".join(known.split())
    title, _, unit = axis.get_label_text().partition(" (")
    number = f"{value:g}" if float(value).is_integer() and abs(value) < 1e6 else shown(float(value))
    # the size of a batch has none, whatever the axis says that it is of
    unit = f" {unit.removesuffix(')')}" if unit and title != "batch size" else ""
    return f"{title}: {number}{unit}" if title else number
