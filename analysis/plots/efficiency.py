"""Images per joule and per joule-second: each framework at the batch size at which it does best."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis import style
from analysis.database.connection import Row
from analysis.plots.axes import PLAIN, by_series, namer, title
from analysis.results.metrics import METRICS, shown

PANELS = ("images_per_joule", "images_per_joule_second")


def draw(rows: Sequence[Row], heading: str) -> Figure | None:
    """Bars from zero, the best on top; None where nobody's energy is known."""
    series = by_series([row for row in rows if all(row[METRICS[name].column] is not None for name in PANELS)])
    if not series:
        return None
    names = namer(list(series))
    figure = Figure(figsize=(11.5, 1.8 + 0.34 * len(series)))
    for axes, name in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        metric = METRICS[name]
        best = {one: max(members, key=lambda row: row[metric.column]) for one, members in series.items()}
        order = sorted(best, key=lambda one: best[one][metric.column])
        values = [best[one][metric.column] * metric.scale for one in order]
        looks = [style.bar(*one) for one in order]
        bars = axes.barh(
            [names[one] for one in order], values, color=[color for color, _ in looks], hatch=[hatch for _, hatch in looks],
            edgecolor="white", height=0.72,
        )  # fmt: skip
        texts = [f"{shown(v)}  b{best[one]['batch_size']}" for v, one in zip(values, order, strict=True)]
        axes.bar_label(bars, texts, padding=3, fontsize=7.5)
        axes.set_xlim(0, max(values) * 1.3)
        axes.xaxis.set_major_formatter(PLAIN)
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(metric.label)
    title(figure, heading, "each at its best batch size (b)")
    return figure
