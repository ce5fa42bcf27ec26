"""Throughput of every framework over that of a baseline at the same batch size, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from matplotlib.figure import Figure

from analysis import style
from analysis.plots.axes import PLAIN, Row, Series, batch_axis, by_series, log_axis, namer
from analysis.results.sample_intervals import Intervals


def draw(rows: Sequence[Row], heading: str, intervals: Intervals, baseline: str | None = None) -> Figure | None:
    """baseline: a variant; default: the one that is slowest at its typical batch size, so that figures are above 1.

    The interval of a ratio is that of two independent figures whose errors are multiplied: their relative half widths add
    as squares. None where the baseline or anything to compare with it is missing.
    """
    series = by_series([row for row in rows if row["images_per_s"]])
    base = _baseline(series, baseline)
    if base is None or len(series) < 2:
        return None
    under = {row["batch_size"]: row for row in series[base]}
    names = namer(list(series))
    figure = Figure(figsize=(8.2, 4.6))
    axes = figure.subplots()
    drawn: list[int] = []
    ratios_drawn: list[float] = []
    last = {
        one: members[-1]["images_per_s"] / under[members[-1]["batch_size"]]["images_per_s"]
        for one, all_members in series.items()
        if (members := [row for row in all_members if row["batch_size"] in under])
    }
    for one in sorted(last, key=lambda one: -last[one]):
        if one == base:
            continue
        members = [row for row in series[one] if row["batch_size"] in under]
        look = style.look(one[0])
        ratios = [row["images_per_s"] / under[row["batch_size"]]["images_per_s"] for row in members]
        sizes = [row["batch_size"] for row in members]
        drawn += sizes
        ratios_drawn += ratios
        axes.plot(sizes, ratios, color=look.color, marker=look.marker, linestyle=style.line(one[1]), label=names[one])
        for row, value in zip(members, ratios, strict=True):
            error = _error(row, under[row["batch_size"]], intervals)
            if error is not None:
                ends = [value / math.exp(error), value * math.exp(error)]
                axes.plot([row["batch_size"]] * 2, ends, color=look.color, marker="_", markersize=7, linewidth=1.2)
    if not drawn:
        return None
    look = style.look(base[0])
    axes.axhline(1, color=look.color, linewidth=2, label=f"{names[base]} (baseline)")
    batch_axis(axes, sorted(set(drawn)))
    axes.set_yscale("log")
    log_axis(axes.yaxis)
    axes.set_ylim(min(1.0, *ratios_drawn) / 2, max(1.0, *ratios_drawn) * 2)
    axes.yaxis.set_major_formatter(PLAIN)
    axes.set_ylabel(f"throughput over that of {names[base]}")
    axes.set_title(heading)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5, handlelength=3.2)
    return figure


def _baseline(series: dict[Series, list[Row]], name: str | None) -> Series | None:
    """Of those with the most batch sizes the slowest: by the median over these of its share of the fastest."""
    fitting = [one for one in series if name is None or one[0] == name]
    most = max((len(series[one]) for one in fitting), default=0)
    fitting = [one for one in fitting if len(series[one]) == most]
    best: dict[int, float] = {}
    for rows in series.values():
        for row in rows:
            best[row["batch_size"]] = max(best.get(row["batch_size"], 0.0), row["images_per_s"])
    return min(
        fitting,
        key=lambda one: (median(row["images_per_s"] / best[row["batch_size"]] for row in series[one]), one),
        default=None,
    )


def _error(row: Row, under: Row, intervals: Intervals) -> float | None:
    """Relative half width of the ratio's interval; None where one of the two has no interval."""
    squares = 0.0
    for one in (row, under):
        found = intervals.get((tuple(one["cell_keys"]), one["run"], "throughput"))
        if found is None or found.low <= 0:
            return None
        squares += (math.log(found.high / found.low) / 2) ** 2
    return math.sqrt(squares)
