"""The share of inferences that took at most so long, one panel per batch size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from analysis import style
from analysis.database.connection import Database
from analysis.plots.axes import Row, by_series, log_axis, namer, title

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
    figure = Figure(figsize=(max(3.1 * len(sizes), 5.6) + 1.2, 4.1))
    panels = figure.subplots(1, len(sizes), squeeze=False, sharey=True)[0]
    names = namer(list(by_series(measured)))
    handles = {}
    for axes, size in zip(panels, sizes, strict=True):
        for one, members in by_series([row for row in measured if row["batch_size"] == size]).items():
            taken = [database.samples(row["run"], key) for row in members for key in row["cell_keys"]]
            latency = np.sort(np.concatenate([end - due for _, end, due in taken])) / 1e6
            shares = np.linspace(0, 1, min(POINTS, len(latency)))
            at = latency[np.round(shares * (len(latency) - 1)).astype(int)]
            look = style.look(one[0])
            (handles[one],) = axes.step(
                at, shares, where="post", color=look.color, linestyle=style.line(one[1]), marker=look.marker,
                markevery=[round(0.5 * (len(at) - 1)), round(0.9 * (len(at) - 1))], markersize=4.5,
            )  # fmt: skip
        axes.set_xscale("log")
        log_axis(axes.xaxis)
        axes.tick_params(axis="x", labelsize=8, rotation=45)
        axes.set_title(f"batch {size}", fontsize=9.5)
        axes.set_xlabel("latency (ms)")
    panels[0].set_ylim(0, 1.02)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    panels[0].set_ylabel("inferences that took at most this")
    title(figure, heading, "marks at 50 and 90 %")
    order = sorted(handles)
    columns = min(4, len(order))
    figure.legend([handles[o] for o in order], [names[o] for o in order], loc="outside lower center", ncols=columns)
    return figure
