"""The share of inferences that took at most so long, one panel per batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from analysis import style
from analysis.database.connection import Database, Row
from analysis.plots.axes import Series, by_series, log_axis, namer, title

MOST_PANELS = 4
#: Points of one curve: enough for the eye; the curve passes through all of these quantiles exactly.
POINTS = 200
LEAST_SAMPLES = 11


def draw(database: Database, rows: Sequence[Row], heading: str) -> Figure | None:
    """Replicates of a cell are drawn together. None where no cell has samples enough for a median."""
    measured = [row for row in rows if row["status"] == "ok" and (row["samples"] or 0) >= LEAST_SAMPLES]
    if not measured:
        return None
    sizes = sorted({row["batch_size"] for row in measured})
    if len(sizes) > MOST_PANELS:
        sizes = [sizes[round(i * (len(sizes) - 1) / (MOST_PANELS - 1))] for i in range(MOST_PANELS)]
    columns = min(2, len(sizes))
    lines = math.ceil(len(sizes) / columns)
    names = namer(list(by_series(measured)))
    legend = min(4, len(names))
    figure = Figure(figsize=(5.4 * columns + 0.8, 3.3 * lines + 0.6 + 0.22 * math.ceil(len(names) / legend)))
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).flatten()
    handles: dict[Series, Line2D] = {}
    for axes, size in zip(panels, sizes, strict=False):
        handles |= _panel(axes, database, [row for row in measured if row["batch_size"] == size])
        axes.set_title(f"batch {size}", fontsize=9.5)
    for place, axes in enumerate(panels):
        axes.set_visible(place < len(sizes))
        if place + columns >= len(sizes):
            axes.set_xlabel("latency (ms)")
    panels[0].set_ylim(0, 1.02)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.supylabel("inferences that took at most this", fontsize=9.5)
    title(figure, heading, "marks at 50 and 90 %")
    order = sorted(handles)
    figure.legend([handles[o] for o in order], [names[o] for o in order], loc="outside lower center", ncols=legend)
    return figure


def _panel(axes: Axes, database: Database, rows: Sequence[Row]) -> dict[Series, Line2D]:
    """Draws one batch size; returns the line of each series."""
    handles: dict[Series, Line2D] = {}
    ends: list[float] = []
    for one, members in by_series(rows).items():
        latency = _latency(database, members)
        shares = np.linspace(0, 1, min(POINTS, len(latency)))
        at = latency[np.round(shares * (len(latency) - 1)).astype(int)]
        ends += [float(at[0]), float(at[-1])]
        (handles[one],) = axes.step(
            at, shares, where="post", **{**style.curve(*one), "markersize": 5},
            markevery=[round(0.5 * (len(at) - 1)), round(0.9 * (len(at) - 1))],
        )  # fmt: skip
    axes.set_xscale("log")
    log_axis(axes.xaxis, max(min(ends), 1e-6), max(ends))
    return handles


def _latency(database: Database, rows: Sequence[Row]) -> npt.NDArray[np.float64]:
    """Of every inference of the rows, in ms, rising."""
    taken = [database.samples(row["run"], key) for row in rows for key in row["cell_keys"]]
    return np.sort(np.concatenate([end - due for _, end, due in taken])) / 1e6
