"""A metric over the points of a history: by date and version, with the verdict of each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from analysis import style
from analysis.comparisons.history import SERIES, History, Point
from analysis.plots.axes import PLAIN
from analysis.results.metrics import Metric
from analysis.results.sample_intervals import Intervals
from analysis.results.versions import version_key

MOST_SERIES = 12
VARIANT = SERIES.index("variant")


def draw(history: History, metric: Metric, heading: str, intervals: Intervals | None = None) -> Figure | None:
    """One line for each series, through its points in their order; None where nothing has the metric.

    A triangle says FASTER or SLOWER than the point before, a filled circle SAME, an empty one UNCLEAR or the first.
    """
    all_known = {
        key: points for key, points in history.series.items() if any(_value(p, metric) is not None for p in points)
    }
    if not all_known:
        return None
    known = dict(list(all_known.items())[:MOST_SERIES])
    places = _places([point for points in known.values() for point in points])
    figure = Figure(figsize=(8.2, 4.6))
    axes = figure.subplots()
    labels = _telling(list(known))
    tops: list[float] = []
    for number, (key, points) in enumerate(known.items()):
        values = [(places[_place(p)], v, p) for p in points if (v := _value(p, metric)) is not None]
        tops += [value for _, value, _ in values]
        color = (
            style.look(points[0].row["variant"]).color
            if len({k[VARIANT] for k in known}) == len(known)
            else f"C{number}"
        )
        axes.plot(
            [x for x, _, _ in values],
            [value for _, value, _ in values],
            color=color,
            linewidth=1.2,
            label=labels[key],
        )
        for x, value, point in values:
            _point(axes, x, value, point, metric, color, intervals or {})
    axes.set_xticks(range(len(places)), [f"{version}\n{date}" for date, _, version in places], fontsize=8)
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.set_ylim(0, 1.25 * max(tops))
    axes.yaxis.set_major_formatter(PLAIN)
    axes.set_ylabel(metric.label)
    more = len(all_known) - len(known)
    axes.set_title(f"{heading} ({more} more lines are not drawn)" if more else heading, wrap=True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5)
    return figure


def _value(point: Point, metric: Metric) -> float | None:
    value = point.row[metric.column] if point.row["status"] == "ok" else None
    return None if value is None else float(value) * metric.scale


def _place(point: Point) -> tuple[str, str, str]:
    return point.date, str(point.row["run"]), point.version


def _places(points: Sequence[Point]) -> Mapping[tuple[str, str, str], int]:
    """Place on the axis of each run and version, in the order of the points (see comparisons.history)."""
    made = {_place(point): str(point.row["created_utc"] or "") for point in points}
    ordered = sorted(made, key=lambda place: (made[place], place[1], version_key(place[2])))
    return {place: number for number, place in enumerate(ordered)}


def _telling(keys: Sequence[tuple[Any, ...]]) -> Mapping[tuple[Any, ...], str]:
    """A name for each series: what differs between them, and the batch size."""
    differing = [
        place for place, name in enumerate(SERIES) if name == "batch_size" or len({key[place] for key in keys}) > 1
    ]
    return {
        key: " ".join(_word(SERIES[place], key[place]) for place in differing if key[place] is not None) for key in keys
    }


def _word(name: str, value: Any) -> str:
    if name == "variant":
        return style.look(value).title
    return f"batch {value}" if name == "batch_size" else str(value)


def _point(axes: Any, x: int, value: float, point: Point, metric: Metric, color: str, intervals: Intervals) -> None:
    marker, edge = style.VERDICT_MARKERS.get(point.step.verdict, ("o", color)) if point.step else ("o", color)
    filled = point.step is not None and point.step.verdict in style.VERDICT_MARKERS
    axes.plot(
        [x], [value], marker=marker, color=edge, markerfacecolor=edge if filled else "white", markersize=7, linestyle=""
    )
    interval = intervals.get((tuple(point.row["cell_keys"]), point.row["run"], metric.name))
    if interval is not None:
        ends = [interval.low * metric.scale, interval.high * metric.scale]
        axes.plot([x, x], ends, color=color, marker="_", markersize=7, linewidth=1.2)
