"""One panel per framework and precision: a metric against batch size on every GPU that ran it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis import style
from analysis.plots.axes import PLAIN, Row, batch_axis, by_series, namer, title
from analysis.results.metrics import Metric

MOST_PANELS = 16


def draw(rows: Sequence[Row], metric: Metric, heading: str) -> Figure | None:
    """None where fewer than two devices have the metric. Every panel begins at zero and has a scale of its own."""
    known = [row for row in rows if row[metric.column] is not None]
    devices = sorted({row["device_name"] or row["device"] for row in known})
    if len(devices) < 2:
        return None
    looks = style.device_looks(devices)
    series = by_series(known)
    names = namer(list(series))
    shown = list(series)[:MOST_PANELS]
    columns = min(4, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(2.9 * columns + 0.6, 2.4 * lines + 0.9))
    panels = figure.subplots(lines, columns, squeeze=False)
    for place, one in enumerate(shown):
        axes = panels[place // columns][place % columns]
        members = series[one]
        for device in devices:
            own = [row for row in members if (row["device_name"] or row["device"]) == device]
            if own:
                look = looks[device]
                axes.plot(
                    [row["batch_size"] for row in own], [row[metric.column] * metric.scale for row in own],
                    color=look.color, marker=look.marker, linestyle=look.line, label=device,
                )  # fmt: skip
        batch_axis(axes, sorted({row["batch_size"] for row in known}), label=place + columns >= len(shown))
        axes.tick_params(axis="x", labelsize=7.5)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PLAIN)
        axes.set_title(names[one], fontsize=9.5)
    for place in range(len(shown), lines * columns):
        panels[place // columns][place % columns].set_axis_off()
    figure.supylabel(metric.label, fontsize=9.5)
    title(figure, heading)
    entries = {text: line for axes in panels.flat for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend([entries[d] for d in devices], devices, loc="outside lower center", ncols=min(4, len(devices)))
    return figure
