"""What happens before the first result: import, convert, load, compile and first inference, stacked, per framework."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.plots.axes import PLAIN, Row, by_series, namer, title

#: column -> (name, colour, hatch): from dark to light, so that it also reads in grey
PHASES = {
    "import_s": ("import", "#30436b", ""),
    "convert_s": ("convert", "#8d6b94", "xx"),
    "load_s": ("model load", "#5f86b8", "//"),
    "compile_s": ("compile", "#e0a458", ""),
    "first_s": ("first inference", "#f3e2c3", ".."),
}


def draw(rows: Sequence[Row], heading: str) -> Figure | None:
    """The smallest and the largest batch size that was measured; None where no cold start is known."""
    known = [row for row in rows if row["cold_start_s"] is not None]
    if not known:
        return None
    sizes = sorted({row["batch_size"] for row in known})
    sizes = sizes if len(sizes) == 1 else [sizes[0], sizes[-1]]
    groups = [by_series([row for row in known if row["batch_size"] == size]) for size in sizes]
    names = namer(list(by_series(known)))
    longest = max(len(group) for group in groups)
    figure = Figure(figsize=(5.4 * len(sizes) + 1, 1.7 + 0.36 * longest))
    panels = figure.subplots(1, len(sizes), squeeze=False, sharex=True)[0]
    for axes, size, group in zip(panels, sizes, groups, strict=True):
        order = sorted(group, key=lambda one: group[one][0]["cold_start_s"])
        left = [0.0] * len(order)
        for column, (name, color, hatch) in PHASES.items():
            widths = [float(group[one][0][column] or 0.0) for one in order]
            axes.barh(
                [names[one] for one in order], widths, left=left, label=name, color=color, hatch=hatch,
                edgecolor="white", height=0.7,
            )  # fmt: skip
            left = [a + b for a, b in zip(left, widths, strict=True)]
        for place, total in enumerate(left):
            axes.annotate(
                f"{total:.2g} s", (total, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
            )
        axes.set_title(f"batch {size}", fontsize=9.5)
        axes.set_xlabel("time to the first result (s)")
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_formatter(PLAIN)
        axes.set_ylim(longest - 0.5, -0.5)
    panels[0].set_xlim(0, max(float(row["cold_start_s"]) for row in known if row["batch_size"] in sizes) * 1.15)
    title(figure, heading)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(PHASES))
    return figure
