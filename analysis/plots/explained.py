"""Where the time of an inference goes: a bar per framework, and one inference of each on one time axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis import style
from analysis.database.connection import Database
from analysis.plots.axes import PLAIN, title
from analysis.results.explain_sentences import ms
from analysis.results.explained import LAUNCH_GAP, WAIT_GAP, Explained

#: class -> (colour, hatch): work in strong colours, copies hatched, gaps pale; told apart in grey too
LOOKS: Mapping[str, tuple[str, str]] = {
    "convolution": ("#0072b2", ""),
    "depthwise": ("#56b4e9", ""),
    "matrix product": ("#1b3a6b", ""),
    "attention": ("#7d3560", ""),
    "elementwise": ("#d55e00", ""),
    "normalization": ("#e69f00", ""),
    "reduction and pooling": ("#009e73", ""),
    "layout change": ("#cc3311", "///"),
    "other": ("#777777", ""),
    "unclassified": ("#000000", ""),
    "copy H2D": ("#f0e442", "\\\\\\"),
    "copy D2H": ("#b8ad2d", "\\\\\\"),
    "copy D2D": ("#8a8230", "\\\\\\"),
    LAUNCH_GAP: ("#ededed", ""),
    WAIT_GAP: ("#cfcfcf", "..."),
}
_UNKNOWN = ("#aa88aa", "xx")


def look(class_name: str) -> tuple[str, str]:
    """Colour and hatch of a class."""
    return LOOKS.get(class_name, _UNKNOWN)


#: Records that one timeline draws; beyond them the shortest are left out, which the title says.
MOST_RECORDS = 4000


def _names(cells: Sequence[Explained]) -> list[str]:
    titles = [style.full_title(cell.facts) for cell in cells]
    versions = [
        f"{name} {cell.facts['framework_version'] or ''}".strip() for name, cell in zip(titles, cells, strict=True)
    ]
    several = len(set(titles)) < len(titles)
    names = versions if several else titles
    return [f"{name} ({number})" if names.count(name) > 1 else name for number, name in enumerate(names, 1)]


def bars(cells: Sequence[Explained], heading: str) -> Figure:
    """One bar per framework, fastest first, as long as a recorded inference; a line where it ends without recording."""
    figure = Figure(figsize=(9.6, 1.9 + 0.42 * len(cells)))
    axes = figure.subplots()
    used = [name for name in LOOKS if any(name in cell.classes for cell in cells)]
    used += sorted({name for cell in cells for name in cell.classes} - set(LOOKS))
    names = _names(cells)
    left = [0.0] * len(cells)
    for name in used:
        color, hatch = look(name)
        widths = [cell.classes.get(name, 0.0) / 1e6 for cell in cells]
        axes.barh(
            names, widths, left=left, label=name, color=color, hatch=hatch, edgecolor="white", linewidth=0.4, height=0.7
        )
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for place, cell in enumerate(cells):
        untraced = cell.facts["mean_untraced_ns"]
        if untraced:
            axes.plot([untraced / 1e6] * 2, [place - 0.42, place + 0.42], color="black", linewidth=1.4)
        end = max(left[place], (untraced or 0) / 1e6)
        axes.annotate(
            f"{ms(cell.wall_ns)}, busy {100 * cell.facts['busy_share']:.0f} %", (end, place),
            xytext=(5, 0), textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip
    axes.set_ylim(len(cells) - 0.5, -0.5)
    axes.set_xlim(0, max([*left, *((cell.facts["mean_untraced_ns"] or 0) / 1e6 for cell in cells)]) * 1.25)
    axes.set_xlabel("time of one inference while recorded (ms, mean); black line: mean without recording")
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(PLAIN)
    title(figure, "Where the time of an inference goes", heading)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(used)), fontsize=8)
    return figure


def timeline(database: Database, cells: Sequence[Explained], heading: str) -> Figure | None:
    """The recorded inference of median length of each cell, all from their begin on one axis."""
    drawn = [(cell, records) for cell in cells if (records := _median_inference(database, cell))]
    if not drawn:
        return None
    figure = Figure(figsize=(9.6, 1.9 + 0.55 * len(drawn)))
    axes = figure.subplots()
    used: dict[str, None] = {}
    left_out = 0
    for place, (_, records) in enumerate(drawn):
        longest = sorted(records, key=lambda row: row["from_ns"] - row["to_ns"])
        left_out += len(longest[MOST_RECORDS:])
        by_class: dict[str, list[Any]] = {}
        for row in longest[:MOST_RECORDS]:
            a, b = ((row[name] - row["wall_start_ns"]) / 1e6 for name in ("from_ns", "to_ns"))
            corners = [(a, place - 0.32), (b, place - 0.32), (b, place + 0.32), (a, place + 0.32)]
            by_class.setdefault(row["class"], []).append(corners)
        for name, boxes in by_class.items():
            axes.add_collection(PolyCollection(boxes, facecolors=look(name)[0], linewidths=0))
            used[name] = None
        wall = (records[0]["wall_end_ns"] - records[0]["wall_start_ns"]) / 1e6
        axes.plot([0, wall], [place + 0.4] * 2, color="#444444", linewidth=1.0)
        axes.annotate(ms(wall * 1e6), (wall, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(drawn)), _names([cell for cell, _ in drawn]))
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    longest_wall = max((records[0]["wall_end_ns"] - records[0]["wall_start_ns"]) / 1e6 for _, records in drawn)
    axes.set_xlim(0, longest_wall * 1.1)
    axes.set_xlabel("time since the inference began (ms)")
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(PLAIN)
    note = f"; the {left_out:,} shortest records are not drawn" if left_out else ""
    title(figure, "One inference, record by record", heading + note)
    patches = [Patch(facecolor=look(name)[0], label=name) for name in LOOKS if name in used]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(5, len(patches) or 1), fontsize=8)
    return figure


def _median_inference(database: Database, cell: Explained) -> list[dict[str, Any]]:
    return database.query(
        "WITH wall AS (FROM traced_wall WHERE run = $1 AND cell_key = $2), "
        "chosen AS (SELECT inference, start_ns, end_ns FROM wall ORDER BY end_ns - start_ns, inference "
        "LIMIT 1 OFFSET (SELECT (count(*) - 1) // 2 FROM wall)) "
        "SELECT r.class, r.from_ns, r.to_ns, r.wall_start_ns, chosen.end_ns AS wall_end_ns FROM device_records AS r "
        "JOIN chosen USING (inference) WHERE r.run = $1 AND r.cell_key = $2 ORDER BY r.from_ns",
        [cell.run, cell.cell_key],
    )
