"""Power against throughput over the batch sizes, with a straight line per framework and how well it fits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import style
from analysis.database.connection import Row
from analysis.plots.axes import PLAIN, by_series, namer
from analysis.results.metrics import worded

#: Fewer points than this have no line and no R2.
LEAST_POINTS = 5


def fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float] | None:
    """(slope, intercept, R2) of the least squares line; None for too few points or where either does not vary."""
    if len(x) < LEAST_POINTS or min(x) == max(x) or min(y) == max(y):
        return None
    slope, intercept = np.polyfit(x, y, 1)
    residuals = np.asarray(y) - (slope * np.asarray(x) + intercept)
    return float(slope), float(intercept), float(1 - residuals.var() / np.asarray(y).var())


def draw(rows: Sequence[Row], heading: str) -> Figure | None:
    """None where no row has both figures."""
    known = [row for row in rows if row["images_per_s"] is not None and row["power_gross_w"] is not None]
    if not known:
        return None
    figure = Figure(figsize=(8.2, 4.6))
    axes = figure.subplots()
    series = by_series(known)
    entries: list[tuple[Line2D, str]] = []
    names = namer(list(series))
    for one in sorted(series, key=lambda one: -max(row["power_gross_w"] for row in series[one])):
        x = [row["images_per_s"] for row in series[one]]
        y = [row["power_gross_w"] for row in series[one]]
        line = fit(x, y)
        label = f"{names[one]}  n {len(x)}" if line is None else f"{names[one]}  R² {line[2]:.2f}, n {len(x)}"
        if line is not None:
            ends = np.array([min(x), max(x)])
            axes.plot(
                ends,
                line[0] * ends + line[1],
                color=style.look(one[0]).color,
                linestyle=style.line(one[1]),
                linewidth=1.2,
            )
        axes.plot(x, y, **style.points(*one), label=label)
        entries.append((Line2D([], [], **{**style.curve(*one), **({} if line else {"linestyle": ""})}), label))
    # the outermost marks are whole
    axes.set_xlim(0, 1.06 * max(row["images_per_s"] for row in known) or 1)
    axes.set_ylim(0, 1.06 * max(row["power_gross_w"] for row in known) or 1)
    axes.xaxis.set_major_formatter(PLAIN)
    axes.yaxis.set_major_formatter(PLAIN)
    axes.set_xlabel(worded("throughput (images/s)"))
    axes.set_ylabel("power, gross (W)")
    axes.set_title(heading, wrap=True)
    title = f"a point per batch size; lines from n = {LEAST_POINTS} on"
    handles, labels = zip(*entries, strict=True)
    axes.legend(
        handles, labels, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5, title=title, title_fontsize=8
    )
    return figure
