"""A metric against batch size, of each framework and precision, one figure per model, device, io and scenario.

Of few batch sizes rates are bars in a panel for each, where a reader sees who is first and by how much at either end: on an axis that
reaches to batch 512 the figures of batch 1 are all nothing. Of more they are lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from analysis import style
from analysis.database.connection import Row
from analysis.plots import bars
from analysis.plots.axes import PLAIN, Series, batch_axis, by_series, log_axis, namer
from analysis.plots.bars import MOST_PANELS, Bar
from analysis.results.metrics import Metric
from analysis.results.sample_intervals import Intervals

#: Lines whose figures differ by more than this factor are drawn on a logarithmic axis; others from zero.
SPAN = 10.0


def draw(rows: Sequence[Row], metric: Metric, heading: str, intervals: Intervals | None = None) -> Figure | None:
    """The figure, or None where no row has the metric, with intervals where they are known.

    Of one batch size bars; of few bars in a panel for each, where more is better: where less is, the longest bars would be those
    that nobody looks for. Else lines, on a logarithmic axis where they span decades, as times do. A batch size at which a
    framework failed has no point and is not bridged, and the legend says why.
    """
    known = {
        one: group for one, group in by_series(rows).items() if any(row[metric.column] is not None for row in group)
    }
    if not known:
        return None
    names = namer(list(known))
    sizes = sorted({row["batch_size"] for row in rows})
    if len(sizes) == 1:
        single = [_bar(sizes[0], known[one], metric, one, names[one], intervals or {}) for one in known]
        return bars.one_panel(single, heading, sizes[0], metric.label)
    order = sorted(known, key=lambda key: _last(known[key], metric), reverse=True)
    if metric.better > 0 and len(sizes) <= MOST_PANELS:
        by_size = {
            size: [_bar(size, known[one], metric, one, names[one], intervals or {}) for one in order] for size in sizes
        }
        return bars.panels(by_size, heading, metric.label)
    figure = Figure(figsize=(8.2, max(4.6, 0.4 * len(order))))
    axes = figure.subplots()
    for one in order:
        _line(axes, known[one], metric, one, names[one], intervals or {})
    batch_axis(axes, sizes)
    figures = [row[metric.column] for group in known.values() for row in group if row[metric.column] is not None]
    if max(figures) > SPAN * min(figures) > 0:
        axes.set_yscale("log")
        log_axis(axes.yaxis, min(figures), max(figures), most=10)
        axes.set_ylim(min(figures) * metric.scale / 1.6, max(figures) * metric.scale * 1.6)
    else:
        # the highest mark is whole, and an interval without a sensible end does not press all else into a line
        axes.set_ylim(0, 1.06 * min(axes.dataLim.ymax, max(figures) * metric.scale * 1.3))
        axes.yaxis.set_major_formatter(PLAIN)
    axes.set_ylabel(metric.label)
    axes.set_title(heading, wrap=True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5)
    return figure


def _bar(size: int, rows: Sequence[Row], metric: Metric, one: Series, name: str, intervals: Intervals) -> Bar:
    """Of one batch size; without a figure where it failed, or was not measured."""
    here = [row for row in rows if row["batch_size"] == size]
    row = next((row for row in reversed(here) if row[metric.column] is not None), None)
    if row is None:
        failed = [row["status"].replace("_", " ") for row in here if row["status"] != "ok"]
        return Bar(one, name, None, note=failed[-1] if failed else "")
    found = intervals.get((tuple(row["cell_keys"]), row["run"], metric.name))
    ends = (found.low * metric.scale, found.high * metric.scale) if found else None
    return Bar(one, name, row[metric.column] * metric.scale, ends)


def _last(rows: Sequence[Row], metric: Metric) -> float:
    """Figure at the largest batch size that has one: the legend stands in the order of the lines' right ends."""
    return float(next(r[metric.column] for r in reversed(rows) if r[metric.column] is not None))


def _line(axes: Any, rows: Sequence[Row], metric: Metric, one: Series, name: str, intervals: Intervals) -> None:
    color = style.look(one[0]).color
    values = [float("nan") if row[metric.column] is None else row[metric.column] * metric.scale for row in rows]
    failed = {row["status"]: [] for row in rows if row["status"] != "ok"}  # type: dict[str, list[str]]
    for row in rows:
        if row["status"] != "ok":
            failed[row["status"]].append(str(row["batch_size"]))
    label = name + "".join(f"\n   {status.replace('_', ' ')} at {', '.join(at)}" for status, at in failed.items())
    sizes = [row["batch_size"] for row in rows]
    axes.plot(sizes, values, **style.curve(*one), label=label)
    for row, value in zip(rows, values, strict=True):
        interval = intervals.get((tuple(row["cell_keys"]), row["run"], metric.name))
        if interval is not None and value == value:
            ends = [interval.low * metric.scale, interval.high * metric.scale]
            axes.plot([row["batch_size"]] * 2, ends, color=color, marker="_", markersize=7, linewidth=1.2)
