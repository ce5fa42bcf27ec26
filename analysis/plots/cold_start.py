"""What happens before the first result: import, convert, load, compile and first inference, stacked, per framework.

Cold and warm stand apart: cold is with everything still to be built, warm with a build that an earlier cell of the worker or
a cache had left. A cell tells of one of the two; the other comes from the cell that shared its build (the other `io`), or
from what the framework says that its build took.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import style
from analysis.database.connection import Database, Row
from analysis.plots.axes import PLAIN, Series, by_series, namer, title

#: column -> (name, colour, hatch)
PHASES = {
    "import_s": ("import", style.PHASES["import"], ""),
    "convert_s": ("convert", style.PHASES["convert"], "xx"),
    "load_s": ("model load", style.PHASES["load"], "//"),
    "compile_s": ("compile", style.PHASES["compile"], ""),
    "first_s": ("first inference", style.PHASES["first"], ".."),
}
#: A start this many times as long as the median one is drawn no longer than the longest of the others, and says so.
FAR = 5.0
#: A build is reused where compiling took less than this share of the longest that is known, and a second less.
REUSED = 0.5

_BUILDS = """
SELECT *, try_cast(regexp_extract(settings, 'built in ([0-9.]+) s', 1) AS DOUBLE) AS build_s
FROM results WHERE status = 'ok' AND compile_s IS NOT NULL AND run IN (SELECT unnest($1))
"""


@dataclass(frozen=True)
class Start:
    """Seconds by column of PHASES. reused: of the build that was not made again; None where everything was built."""

    seconds: Mapping[str, float]
    reused: float | None = None

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def draw(database: Database, rows: Sequence[Row], heading: str) -> Figure | None:
    """The smallest and the largest batch size that was measured; None where no cold start is known."""
    known = [row for row in rows if row["cold_start_s"] is not None]
    if not known:
        return None
    sizes = sorted({row["batch_size"] for row in known})
    sizes = sizes if len(sizes) == 1 else [sizes[0], sizes[-1]]
    builds = _builds(database, known)
    names = namer(list(by_series(known)))
    starts = {
        size: {one: _starts(members[0], builds) for one, members in by_series(_of(known, size)).items()}
        for size in sizes
    }
    totals = [cold.total for found in starts.values() for cold, _ in found.values()]
    most = _longest_drawn(totals)
    warm = any(warm for found in starts.values() for _, warm in found.values())
    longest = max(len(found) for found in starts.values())
    figure = Figure(figsize=(11.4 if warm else 6.6, 1.5 + (0.7 + 0.27 * longest) * len(sizes)))
    panels = figure.subplots(len(sizes), 2 if warm else 1, squeeze=False, sharex="col")
    for line, (size, found) in zip(panels, starts.items(), strict=True):
        _panel(line[0], f"cold, batch {size}", names, {one: cold for one, (cold, _) in found.items()}, most)
        if warm:
            _panel(line[1], f"warm, batch {size}: a build is reused", names, {o: w for o, (_, w) in found.items() if w})
        for axes in line:
            axes.set_ylim(longest - 0.5, -0.5)
    # room for what is written behind the longest bar
    panels[0][0].set_xlim(0, (1.6 if math.isfinite(most) else 1.2) * min(most, max(totals)))
    if warm:
        panels[0][1].set_xlim(0, 1.9 * max(w.total for found in starts.values() for _, w in found.values() if w))
    for axes in panels[-1]:
        axes.set_xlabel("time to the first result (s)")
    note = "cold: all is built; warm: with the build that an earlier cell or a cache had left" if warm else ""
    title(figure, heading, note)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(PHASES), handlelength=2)
    return figure


def _longest_drawn(totals: Sequence[float]) -> float:
    """Seconds at which bars are cut: engines that build for minutes would press all other starts into the axis."""
    middle = median(totals)
    near = [total for total in totals if total <= FAR * middle]
    return 1.15 * max(near) if len(near) < len(totals) else math.inf


def _of(rows: Sequence[Row], size: int) -> list[Row]:
    return [row for row in rows if row["batch_size"] == size]


#: cells that differ in `io` or in their worker alone share a build
_ONE_BUILD = (
    "run", "model", "model_hash", "device", "variant", "framework_version", "precision", "tuning", "input", "batch_size", "scenario",
    "streams",
)  # fmt: skip
#: what shares a build -> (shortest compile phase, longest compile phase or build)
Builds = Mapping[tuple[object, ...], tuple[float, float]]


def _key(row: Row) -> tuple[object, ...]:
    """`style.kind` would say the version in words that only tables have."""
    return tuple(row[name] for name in _ONE_BUILD)


def _builds(database: Database, rows: Sequence[Row]) -> Builds:
    found: dict[tuple[object, ...], tuple[float, float]] = {}
    for cell in database.query(_BUILDS, [sorted({row["run"] for row in rows})]):
        shortest, longest = found.get(_key(cell), (float("inf"), 0.0))
        compiled, built = float(cell["compile_s"]), float(cell["build_s"] or 0.0)
        found[_key(cell)] = min(shortest, compiled), max(longest, compiled, built)
    return found


def _starts(row: Row, builds: Builds) -> tuple[Start, Start | None]:
    """(cold, warm) of a cell; warm is None where no build of it was reused, and cold then what the cell itself tells."""
    seconds = {column: float(row[column] or 0.0) for column in PHASES}
    shortest, longest = builds.get(_key(row), (seconds["compile_s"], seconds["compile_s"]))
    if shortest < REUSED * longest and shortest < longest - 1:
        cold = Start({**seconds, "compile_s": max(longest, seconds["compile_s"])})
        return cold, Start({**seconds, "compile_s": min(shortest, seconds["compile_s"])}, reused=longest)
    return Start(seconds), None


def _panel(
    axes: Axes, heading: str, names: Mapping[Series, str], starts: Mapping[Series, Start], most: float = math.inf
) -> None:
    """most: seconds at which longer bars are cut."""
    order = sorted(starts, key=lambda one: starts[one].total)
    left = [0.0] * len(order)
    for column, (name, color, hatch) in PHASES.items():
        widths = [min(starts[one].seconds[column], most - at) for one, at in zip(order, left, strict=True)]
        axes.barh(
            [names[one] for one in order],
            widths,
            left=left,
            label=name,
            color=color,
            hatch=hatch,
            edgecolor="white",
            height=0.7,
        )
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for place, one in enumerate(order):
        reused = starts[one].reused
        text = f"{_seconds(starts[one].total)}{'' if reused is None else f', build of {_seconds(reused)} reused'}"
        if starts[one].total > most:
            text = f"\N{BLACK RIGHT-POINTING TRIANGLE} {text}, cut off here"
        axes.annotate(text, (left[place], place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7.5)
    axes.set_title(heading, fontsize=9.5)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(PLAIN)


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 100 else f"{value:.2g} s"
