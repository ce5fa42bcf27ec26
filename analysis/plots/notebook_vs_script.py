"""Notebook against script: the ratio of their durations against batch size, with intervals and the margin of SAME."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis import style
from analysis.comparisons.notebook_vs_script import Pair
from analysis.plots.axes import PLAIN, Series, batch_axis, namer
from common.stats.comparison import MARGIN


def draw(pairs: Sequence[Pair], heading: str) -> Figure | None:
    """None where no pair has a ratio. Series stand a little apart from each other, so that their intervals can be told apart."""
    series: dict[Series, list[Pair]] = {}
    for pair in pairs:
        if pair.comparison is not None and pair.comparison.interval is not None:
            series.setdefault((pair.script["variant"], style.kind(pair.script)), []).append(pair)
    if not series:
        return None
    names = namer(list(series))
    figure = Figure(figsize=(8.2, 4.6))
    axes = figure.subplots()
    axes.axhspan(1 / (1 + MARGIN), 1 + MARGIN, color="#dddddd", zorder=0, label=f"SAME: within {MARGIN:.0%}")
    axes.axhline(1, color="#777777", linewidth=1)
    ends = [1 - 2 * MARGIN, 1 + 2 * MARGIN]
    for place, (one, members) in enumerate(series.items()):
        look = style.look(one[0])
        shift = 2 ** (0.09 * (place - (len(series) - 1) / 2))
        found = [(pair.script["batch_size"] * shift, pair.comparison.interval) for pair in members if pair.comparison]
        known = [(size, interval) for size, interval in found if interval is not None]
        axes.plot(
            [size for size, _ in known], [interval.estimate for _, interval in known],
            **style.points(*one), label=names[one],
        )  # fmt: skip
        for size, interval in known:
            axes.plot(
                [size] * 2, [interval.low, interval.high], color=look.color, marker="_", markersize=7, linewidth=1.2
            )
            # an interval without a sensible end must not press all others into a line
            ends += [max(interval.low, interval.estimate / 2), min(interval.high, interval.estimate * 2)]
    batch_axis(axes, sorted({pair.script["batch_size"] for members in series.values() for pair in members}))
    room = 0.05 * (max(ends) - min(ends))
    axes.set_ylim(min(ends) - room, max(ends) + room)
    axes.yaxis.set_major_formatter(PLAIN)
    axes.set_ylabel("duration in a notebook / as a script")
    axes.set_title(heading, wrap=True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5)
    return figure
