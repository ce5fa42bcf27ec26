"""One panel per framework and precision: a metric against batch size on every GPU that ran it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import style
from analysis.database.connection import Row
from analysis.plots.axes import PLAIN, SPAN, batch_axis, by_series, log_axis, namer, title
from analysis.results.metrics import Metric

MOST_PANELS = 16


def draw(rows: Sequence[Row], metric: Metric, heading: str) -> Figure | None:
    """None where no framework and precision has the metric on two devices.

    All panels are of one size and one scale: from zero, or logarithmic where their highest figures differ too much for that.
    """
    known = [row for row in rows if row[metric.column] is not None]
    series = {one: members for one, members in by_series(known).items() if len(_devices(members)) > 1}
    if not series:
        return None
    devices = sorted({device for members in series.values() for device in _devices(members)})
    looks = style.device_looks(devices)
    names = namer(list(series))
    shown = list(series)[:MOST_PANELS]
    columns = min(4, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(2.9 * columns + 0.6, 2.4 * lines + 0.9))
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for place, one in enumerate(shown):
        axes = panels[place // columns][place % columns]
        for device in devices:
            own = [row for row in series[one] if (row["device_name"] or row["device"]) == device]
            if own:
                look = looks[device]
                axes.plot(
                    [row["batch_size"] for row in own], [row[metric.column] * metric.scale for row in own],
                    color=look.color, marker=look.marker, linestyle=look.line, label=device,
                )  # fmt: skip
        batch_axis(axes, sorted({row["batch_size"] for row in known}), label=place + columns >= len(shown))
        axes.tick_params(axis="x", labelsize=7.5, labelbottom=place + columns >= len(shown))
        axes.set_title(names[one], fontsize=9.5)
    _scale(panels[0][0], [[row[metric.column] * metric.scale for row in series[one]] for one in shown])
    for place in range(len(shown), lines * columns):
        panels[place // columns][place % columns].set_axis_off()
    figure.supylabel(metric.label, fontsize=9.5)
    title(figure, heading)
    entries = {text: line for axes in panels.flat for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend([entries[d] for d in devices], devices, loc="outside lower center", ncols=min(4, len(devices)))
    return figure


def _devices(rows: Sequence[Row]) -> set[str]:
    return {str(row["device_name"] or row["device"]) for row in rows}


def _scale(axes: Axes, panels: Sequence[Sequence[float]]) -> None:
    """Sets the scale of one panel, and so of all, as they share it. panels: the figures of each."""
    highest = [max(figures) for figures in panels]
    lowest = min(min(figures) for figures in panels)
    if lowest > 0 and max(highest) > SPAN * min(highest):
        axes.set_yscale("log")
        log_axis(axes.yaxis, lowest, max(highest))
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PLAIN)
