"""A figure of each framework where a single batch size was measured: bars, since one column of points says little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from analysis import style
from analysis.plots.axes import PLAIN, Series, title
from analysis.results.metrics import shown

#: An interval that reaches farther than this factor beyond the longest bar is drawn to there.
FARTHEST = 1.6


@dataclass(frozen=True)
class Bar:
    """ends: of the 95 % interval, where it is known."""

    series: Series
    name: str
    value: float
    ends: tuple[float, float] | None = None


def draw(
    bars: Sequence[Bar],
    heading: str,
    batch_size: int,
    label: str,
    lines: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> Figure:
    """Bars from zero, the longest on top, with intervals. label: of the axis. lines: name -> value at which it is drawn."""
    order, drawn = sorted(bars, key=lambda bar: bar.value), lines or {}
    figure = Figure(figsize=(8.2, 1.5 + 0.36 * len(order) + (0.3 if drawn else 0)))
    axes = figure.subplots()
    highest = max([bar.value for bar in order] + list(drawn.values()))
    looks = [style.bar(*bar.series) for bar in order]
    axes.barh(
        [bar.name for bar in order], [bar.value for bar in order], height=0.72, edgecolor="white",
        color=[color for color, _ in looks], hatch=[hatch for _, hatch in looks],
    )  # fmt: skip
    for place, bar in enumerate(order):
        low, high = bar.ends or (bar.value, bar.value)
        high = min(high, FARTHEST * highest)
        if bar.ends:
            axes.plot([low, high], [place] * 2, color="#111111", marker="|", markersize=7, linewidth=1.2)
        axes.annotate(
            shown(bar.value),
            (max(bar.value, high), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    for (name, value), style_of_line in zip(drawn.items(), ("-", "--"), strict=False):
        axes.axvline(value, color="#444444", linewidth=1.4, linestyle=style_of_line, label=name)
    if drawn:
        figure.legend(loc="outside lower center", fontsize=8.5, ncols=len(drawn))
    reach = max([highest] + [min(bar.ends[1], FARTHEST * highest) for bar in order if bar.ends])
    axes.set_xlim(0, 1.12 * reach)
    axes.xaxis.set_major_formatter(PLAIN)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(label)
    title(figure, heading, "; ".join([f"batch {batch_size}", *notes]))
    return figure
