"""A metric against batch size: one line per framework and precision, one figure per model, device, io and scenario."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from analysis import style
from analysis.database.connection import Row
from analysis.plots import one_batch_size
from analysis.plots.axes import PLAIN, Series, batch_axis, by_series, log_axis, namer
from analysis.plots.one_batch_size import Bar
from analysis.results.metrics import Metric
from analysis.results.sample_intervals import Intervals

#: Times and energies that differ by more than this factor are drawn on a logarithmic axis; others from zero.
SPAN = 10.0


def draw(rows: Sequence[Row], metric: Metric, heading: str, intervals: Intervals | None = None) -> Figure | None:
    """The figure, or None where no row has the metric. Intervals, where known, are drawn as bars.

    What spans decades, as times do, is drawn on a logarithmic axis, all else from zero. A batch size at which a
    framework failed has no point, and the legend says why. The line does not bridge it. A single batch size is drawn as bars.
    """
    known = {
        one: group for one, group in by_series(rows).items() if any(row[metric.column] is not None for row in group)
    }
    if not known:
        return None
    names = namer(list(known))
    sizes = sorted({row["batch_size"] for row in rows})
    if len(sizes) == 1:
        bars = [_bar(known[one], metric, one, names[one], intervals or {}) for one in known]
        return one_batch_size.draw(bars, heading, sizes[0], metric.label)
    figure = Figure(figsize=(8.2, 4.6))
    axes = figure.subplots()
    order = sorted(known, key=lambda key: _last(known[key], metric), reverse=True)
    for one in order:
        _line(axes, known[one], metric, one, names[one], intervals or {})
    batch_axis(axes, sizes)
    figures = [row[metric.column] for group in known.values() for row in group if row[metric.column] is not None]
    if metric.better < 0 and max(figures) > SPAN * min(figures) > 0:
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


def _bar(rows: Sequence[Row], metric: Metric, one: Series, name: str, intervals: Intervals) -> Bar:
    row = next(row for row in reversed(rows) if row[metric.column] is not None)
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
