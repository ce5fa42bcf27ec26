"""What plots have in common: names of series, batch sizes on a logarithmic axis, numbers as people write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from analysis import style

Row = Mapping[str, Any]
#: (variant, precision with its level of tuning: `style.kind`)
Series = tuple[str, str]

PLAIN = FuncFormatter(lambda value, _: f"{value:,g}")


def by_series(rows: Sequence[Row]) -> dict[Series, list[Row]]:
    """Rows by framework variant and precision, each by rising batch size, in the order of the names."""
    found: dict[Series, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["variant"], style.kind(row), row["batch_size"])):
        found.setdefault((row["variant"], style.kind(row)), []).append(row)
    return found


def namer(series: Sequence[Series]) -> Mapping[Series, str]:
    """Titles; with the precision where the plot has several, or where it is of another level of tuning than usual."""
    kinds = {kind for _, kind in series}
    several = len(kinds) > 1 or any(" " in kind for kind in kinds)
    return {one: style.look(one[0]).title + (f" {one[1]}" if several else "") for one in series}


def batch_axis(axes: Axes, sizes: Sequence[int], label: bool = True) -> None:
    axes.set_xscale("log", base=2)
    shown = sizes if len(sizes) <= 12 else sizes[:: len(sizes) // 8]
    axes.set_xticks(list(shown), [str(size) for size in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(sizes[0] / 1.25, sizes[-1] * 1.25)
    if label:
        axes.set_xlabel("batch size (images)")


def title(figure: Figure, heading: str, note: str = "") -> None:
    """Above all panels, at the left; the note in a line of its own."""
    text = f"{heading}\n{note}" if note else heading
    figure.suptitle(text, x=0.01, ha="left", fontsize=10.5, fontweight="bold", linespacing=1.4)


def log_axis(axis: Any) -> None:
    """Plain numbers at 1, 2 and 5 of each decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(PLAIN)
    axis.set_minor_formatter(NullFormatter())
