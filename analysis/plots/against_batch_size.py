"""A metric against batch size: one line per framework and precision, one figure per model, device, io and scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from analysis import style
from analysis.results.metrics import Metric
from analysis.results.sample_intervals import Intervals

Row = Mapping[str, Any]

#: Times and energies that differ by more than this factor are drawn on a logarithmic axis; others from zero.
SPAN = 4.0


def draw(rows: Sequence[Row], metric: Metric, heading: str, intervals: Intervals | None = None) -> Figure | None:
    """The figure, or None where no row has the metric. Intervals, where known, are drawn as bars.

    What spans decades, as times do, is drawn on a logarithmic axis, all else from zero. A batch size at which a
    framework failed has no point, and the legend says why. The line does not bridge it.
    """
    series: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        series.setdefault((row["variant"], style.kind(row)), []).append(row)
    known = {key: group for key, group in series.items() if any(row[metric.column] is not None for row in group)}
    if not known:
        return None
    kinds = {kind for _, kind in known}
    several_precisions = len(kinds) > 1 or any(" " in kind for kind in kinds)
    figure = Figure(figsize=(8.2, 4.6))
    axes = figure.subplots()
    sizes = sorted({row["batch_size"] for row in rows})
    order = sorted(known, key=lambda key: _last(known[key], metric), reverse=True)
    for variant, precision in order:
        _line(axes, known[variant, precision], metric, (variant, precision), several_precisions, intervals or {})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(sizes[0] / 1.25, sizes[-1] * 1.25)
    figures = [row[metric.column] for group in known.values() for row in group if row[metric.column] is not None]
    if metric.better < 0 and max(figures) > SPAN * min(figures) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.set_ylim(min(figures) * metric.scale / 1.6, max(figures) * metric.scale * 1.6)
    else:
        # an interval without a sensible end must not press all else into a line
        axes.set_ylim(0, min(axes.get_ylim()[1], max(figures) * metric.scale * 1.35))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel("batch size (images)")
    axes.set_ylabel(metric.label)
    axes.set_title(heading, wrap=True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5, handlelength=3.2)
    return figure


def _last(rows: Sequence[Row], metric: Metric) -> float:
    """Figure at the largest batch size that has one: the legend stands in the order of the lines' right ends."""
    return float(next(r[metric.column] for r in reversed(_by_size(rows)) if r[metric.column] is not None))


def _by_size(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: int(row["batch_size"]))


def _line(
    axes: Any, rows: Sequence[Row], metric: Metric, key: tuple[str, str], several_precisions: bool, intervals: Intervals
) -> None:
    rows = _by_size(rows)
    look = style.look(key[0])
    values = [float("nan") if row[metric.column] is None else row[metric.column] * metric.scale for row in rows]
    failed = {row["status"]: [] for row in rows if row["status"] != "ok"}  # type: dict[str, list[str]]
    for row in rows:
        if row["status"] != "ok":
            failed[row["status"]].append(str(row["batch_size"]))
    label = look.title + (f" {key[1]}" if several_precisions else "")
    label += "".join(f"\n   {status.replace('_', ' ')} at {', '.join(at)}" for status, at in failed.items())
    sizes = [row["batch_size"] for row in rows]
    axes.plot(sizes, values, color=look.color, marker=look.marker, linestyle=style.line(key[1]), label=label)
    for row, value in zip(rows, values, strict=True):
        interval = intervals.get((tuple(row["cell_keys"]), row["run"], metric.name))
        if interval is not None and value == value:
            ends = [interval.low * metric.scale, interval.high * metric.scale]
            axes.plot([row["batch_size"]] * 2, ends, color=look.color, marker="_", markersize=7, linewidth=1.2)
