"""Throughput against energy and against latency: the cells that no other beats in both are joined."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import style
from analysis.database.connection import Row
from analysis.plots.axes import Series, by_series, log_axis, namer, title
from analysis.results import pareto
from analysis.results.latency import response_ms
from analysis.results.metrics import is_wrong, worded

Value = Callable[[Row], float | None]
#: (x, y, row, series)
Point = tuple[float, float, Row, Series]

#: Least distance in pixels between the batch sizes that are written beside points.
APART = 22
#: Least factor of an axis beyond its figures, at either end.
NARROWEST = 1.06


def draw(rows: Sequence[Row], heading: str) -> Figure | None:
    """None where no cell has throughput and one of the other two."""
    candidates: list[tuple[str, Value]] = [
        (worded("energy per image (mJ)"), _millijoules),
        (_latency_label(rows), _latency),
    ]
    panels = [
        (label, value)
        for label, value in candidates
        if any(row["images_per_s"] is not None and value(row) is not None for row in rows)
    ]
    if not panels:
        return None
    figure = Figure(figsize=(max(5.2 * len(panels), 6.6) + 0.4, 5.4))
    drawn = [r for r in rows if r["images_per_s"] is not None and any(value(r) is not None for _, value in panels)]
    series = by_series(drawn)
    names = namer(list(series))
    for axes, (label, value) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, series, value)
        axes.set_ylabel(label)
    handles = [Line2D([], [], **style.points(*one)) for one in series]
    figure.legend(
        handles, [names[one] for one in series], loc="outside lower center", ncols=min(4, len(series)), handlelength=1.5
    )
    title(figure, heading, "joined: no other is better in both; number: batch size")
    return figure


def _millijoules(row: Row) -> float | None:
    return None if row["joules_per_image"] is None else row["joules_per_image"] * 1e3


def _latency(row: Row) -> float | None:
    return response_ms(row)[0]


def _latency_label(rows: Sequence[Row]) -> str:
    bases = {basis for row in rows if (basis := response_ms(row)[1]) != "unknown"}
    return f"latency of a batch, {' or '.join(sorted(bases))} (ms)"


def _panel(axes: Axes, series: dict[Series, list[Row]], value: Value) -> None:
    placed = [(row["images_per_s"], value(row), row, one) for one, rows in series.items() for row in rows]
    points: list[Point] = [(x, y, row, one) for x, y, row, one in placed if y is not None and x > 0 and y > 0]
    # what is known to be wrong is drawn, neither on the front nor in the way of others
    on_front = pareto.front([(math.nan if is_wrong(row) else x, y) for x, y, row, _ in points], (1, -1))
    best = sorted((x, y, row["batch_size"]) for (x, y, row, _), on in zip(points, on_front, strict=True) if on)
    axes.plot([x for x, _, _ in best], [y for _, y, _ in best], color="#333333", linewidth=1.0, zorder=1)
    for (x, y, _, one), on in zip(points, on_front, strict=True):
        axes.plot(
            x,
            y,
            **{**style.points(*one), "markersize": 8 if on else 5},
            alpha=1.0 if on else 0.65,
            zorder=3 if on else 2,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, limits, found, most in (
        (axes.xaxis, axes.set_xlim, [x for x, *_ in points], 6),
        (axes.yaxis, axes.set_ylim, [y for _, y, *_ in points], 8),
    ):
        # equal figures stay equal to the eye, and the outermost marks and what is written beside them are whole
        room = max((max(found) / min(found)) ** 0.06, NARROWEST)
        limits(min(found) / room, max(found) * room)
        log_axis(axis, min(found) / room, max(found) * room, most)
    last: tuple[float, float] | None = None
    for x, y, size in best:
        here = axes.transData.transform((x, y))
        if last is None or abs(here[0] - last[0]) + abs(here[1] - last[1]) > APART:
            axes.annotate(str(size), (x, y), xytext=(6, -11), textcoords="offset points", fontsize=8)
            last = (here[0], here[1])
    axes.set_xlabel(worded("throughput (images/s)"))
