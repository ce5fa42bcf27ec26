"""Bars from zero, one of each framework, with intervals: of a single batch size, or in a panel for each of a few.

A single column of points says little; and of few batch sizes each has figures of its own size, which no common axis shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis import style
from analysis.plots.axes import PLAIN, Series, title
from analysis.results.metrics import shown

#: An interval that reaches farther than this factor beyond the longest bar is drawn to there.
FARTHEST = 1.6
#: Panels beside each other: more have no room for figures beside their bars.
MOST_PANELS = 4
#: in inches, of a figure and of a character of a name or number
_WIDTH, _CHARACTER = 8.2, 0.068


@dataclass(frozen=True)
class Bar:
    """value: None where there is no figure, and `note` says why. ends: of the 95 % interval, where it is known."""

    series: Series
    name: str
    value: float | None
    ends: tuple[float, float] | None = None
    note: str = ""


def one_panel(
    bars: Sequence[Bar],
    heading: str,
    batch_size: int,
    label: str,
    lines: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> Figure:
    """The longest bar on top. label: of the axis. lines: name -> value at which it is drawn."""
    order, drawn = sorted(bars, key=lambda bar: bar.value or 0.0), lines or {}
    figure = Figure(figsize=(8.2, 1.5 + 0.36 * len(order) + (0.3 if drawn else 0)))
    axes = figure.subplots()
    reach = _draw(axes, order, list(drawn.values()))
    axes.set_yticks(range(len(order)), [bar.name for bar in order])
    for (name, value), style_of_line in zip(drawn.items(), ("-", "--"), strict=False):
        axes.axvline(value, color="#444444", linewidth=1.4, linestyle=style_of_line, label=name)
    if drawn:
        figure.legend(loc="outside lower center", fontsize=8.5, ncols=len(drawn))
    axes.set_xlim(0, 1.12 * reach)
    axes.set_xlabel(label)
    title(figure, heading, "; ".join([f"batch {batch_size}", *notes]))
    return figure


def panels(by_size: Mapping[int, Sequence[Bar]], heading: str, label: str) -> Figure:
    """A panel for each batch size, each with an axis of its own. by_size: the same series in each, that of the top line first."""
    names = [bar.name for bar in next(iter(by_size.values()))][::-1]
    figure = Figure(figsize=(_WIDTH, 1.1 + 0.27 * max(len(names), 2)))
    longest = max(len(shown(bar.value)) for bars in by_size.values() for bar in bars if bar.value is not None)
    width = (_WIDTH - _CHARACTER * max(map(len, names)) - 0.2) / len(by_size) - 0.15
    room = width / (width - _CHARACTER * (longest + 2))
    grid = figure.subplots(1, len(by_size), sharey=True, squeeze=False)
    for axes, (size, bars) in zip(grid[0], by_size.items(), strict=True):
        reach = _draw(axes, bars[::-1], [], f", batch {size}")
        axes.set_xlim(0, room * reach)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.tick_params(axis="x", labelsize=8)
        axes.set_title(f"batch {size}", fontsize=9.5)
        axes.set_xlabel(label).set_visible(False)  # in the heading; for who points at a bar
    grid[0][0].set_yticks(range(len(names)), names)
    title(figure, heading, f"{label}, for each batch size an axis of its own")
    return figure


def _draw(axes: Axes, order: Sequence[Bar], others: Sequence[float], label: str = "") -> float:
    """Bars from below, each with its figure; how far they and their intervals reach. others: what else is to be seen.

    label: behind a bar's name for who points at it; without one that stands at the axis.
    """
    highest = max([*(bar.value for bar in order if bar.value is not None), *others], default=0.0) or 1.0
    reach = highest
    for place, bar in enumerate(order):
        if bar.value is None:
            if bar.note:
                _beside(axes, bar.note, 0, place, "#666666")
            continue
        color, hatch = style.bar(*bar.series)
        axes.barh(
            place, bar.value, height=0.72, edgecolor="white", color=color, hatch=hatch,
            label=f"{bar.name}{label}" if label else "",
        )  # fmt: skip
        low, high = bar.ends or (bar.value, bar.value)
        high = min(high, FARTHEST * highest)
        reach = max(reach, high)
        if bar.ends:
            axes.plot([low, high], [place] * 2, color="#111111", marker="|", markersize=7, linewidth=1.2)
        _beside(axes, shown(bar.value), max(bar.value, high), place)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.xaxis.set_major_formatter(PLAIN)
    axes.grid(axis="y", visible=False)
    return reach


def _beside(axes: Axes, text: str, x: float, place: int, color: str = "black") -> None:
    axes.annotate(
        text, (x, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8, color=color
    )  # fmt: skip
