"""What plots have in common: names of series, batch sizes on a logarithmic axis, numbers as people write them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from analysis import style
from analysis.database.connection import Row
from analysis.results.metrics import is_wrong, worded

#: (variant, precision and what else is not usual: `style.kind`)
Series = tuple[str, str]

_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SMALL = ((1e-3, "m"), (1e-6, "\N{MICRO SIGN}"), (1e-9, "n"))
#: Figures that differ by more than this factor are drawn on a logarithmic axis.
SPAN = 20.0


def engineering(value: float) -> str:
    """For axes: 500  2 k  2.5 M  0.02  50 \N{MICRO SIGN}: never a power of ten."""
    size = abs(value)
    if size >= 1e3:
        step, prefix = next((step, prefix) for step, prefix in _LARGE if size >= step)
        return f"{value / step:,.6g} {prefix}"
    if 0 < size < 1e-3:
        step, prefix = next(((step, prefix) for step, prefix in _SMALL if size >= step * (1 - 1e-9)), _SMALL[-1])
        return f"{value / step:.3g} {prefix}"
    return f"{value:,.6g}"


PLAIN = FuncFormatter(lambda value, _: engineering(value))


def by_series(rows: Sequence[Row]) -> dict[Series, list[Row]]:
    """Rows by framework variant and kind, each by rising batch size, in the order of the names."""
    found: dict[Series, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["variant"], style.kind(row), row["batch_size"])):
        found.setdefault((row["variant"], style.kind(row)), []).append(row)
    return found


def namer(series: Sequence[Series]) -> Mapping[Series, str]:
    """Titles; with the precision where the plot has several, or where something else is not usual."""
    kinds = {kind for _, kind in series}
    with_kind = len(kinds) > 1 or any(" " in kind for kind in kinds)
    return {one: style.look(one[0]).title + (f" {one[1]}" if with_kind else "") for one in series}


def with_kind(heading: str, rows: Sequence[Row]) -> str:
    """The heading with the precision where all rows have the same and it has no further words: `namer` leaves that out."""
    kinds = {style.kind(row) for row in rows}
    return f"{heading}, {kinds.pop()}" if len(kinds) == 1 and not any(" " in kind for kind in kinds) else heading


def batch_axis(axes: Axes, sizes: Sequence[int], label: bool = True) -> None:
    axes.set_xscale("log", base=2)
    shown = sizes if len(sizes) <= 12 else sizes[:: len(sizes) // 8]
    axes.set_xticks(list(shown), [str(size) for size in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(sizes[0] / 1.25, sizes[-1] * 1.25)
    if label:
        # samples: what a rate counts may be smaller, as the tokens of a sequence
        axes.set_xlabel(f"batch size ({'images' if worded('images') == 'images' else 'samples'})")


def title(figure: Figure, heading: str, note: str = "") -> None:
    """Above all panels, at the left; the note in a line of its own."""
    text = f"{heading}\n{note}" if note else heading
    figure.suptitle(text, x=0.01, ha="left", fontsize=10.5, fontweight="bold", linespacing=1.4, wrap=True)


_WARNING = "#8a3b00"


def note_known_wrong(figure: Figure | None, rows: Sequence[Row], sign: str = "k") -> None:
    """Below the figure: whose curves are known to be wrong, and why, in one line for each reason. sign: of the mark in tables."""
    several = len({row["device_name"] or row["device"] for row in rows}) > 1
    found: dict[str, list[Row]] = {}
    for row in rows:
        if is_wrong(row):
            found.setdefault(str(row["known_wrong"]), []).append(row)
    if figure is not None and found:
        lines = []
        for why, members in found.items():
            names = ", ".join(dict.fromkeys(style.look(row["variant"]).title for row in members))
            devices = " and ".join(dict.fromkeys(str(row["device_name"] or row["device"]) for row in members))
            lines += [f"{sign}  {names}{f' on {devices}' if several else ''}:", why]
        text = "\n".join(lines)
        if figure.legends:  # below the panels already: a text of its own would lie over it
            (legend, *_) = figure.legends
            legend.set_title(text, prop=FontProperties(size=8))
            legend.get_title().set_color(_WARNING)
        else:
            figure.supxlabel(text, x=0.01, ha="left", fontsize=8, color=_WARNING)


#: of a logarithmic axis
_LEAST = 1e-12
#: Decades below which such an axis is labelled at equal steps.
NARROW = 0.7


def log_axis(axis: Any, low: float | None = None, high: float | None = None, most: int = 7) -> None:
    """A logarithmic axis for figures from low to high, with at most so many labels at 1, 2 and 5 of its decades, or at fewer.

    Without low and high: for what it shows now.
    """
    if low is None or high is None:
        low, high = sorted(axis.get_view_interval())
    low = max(low, _LEAST)  # nothing else is on such an axis
    decades = max(math.log10(max(high, low) / low), 0.1)
    if decades < NARROW:  # 1, 2 and 5 may all lie outside
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(PLAIN)
        return
    subs = next((subs for subs in ((1, 2, 5), (1, 3), (1,)) if decades * len(subs) <= most), (1,))
    axis.set_major_locator(LogLocator(subs=subs, numticks=most + 3))
    axis.set_major_formatter(PLAIN)
    axis.set_minor_formatter(NullFormatter())
