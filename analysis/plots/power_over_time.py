"""Power of a run's meters over its whole length (since the last boot), with the phases of its cells in a strip below."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis import style
from analysis.database.connection import Database, Row
from analysis.plots.axes import title
from common.schema import PHASE_NAMES

#: Readings of one meter that are drawn; more are averaged within equal stretches of time.
MOST_READINGS = 3000
MOST_NAMES = 40
#: A line is broken where two readings lie farther apart than this many of its usual steps, and than so many seconds.
HOLE, LEAST_HOLE_S = 8.0, 1.0
#: of the colour of a measured window
ALPHA = 0.22
#: Share of the height that long names may take from the line.
MOST_OF_PANEL = 0.5
#: Size of the windows' names in points, and the shares of the figure that the panel has about.
FONT, PANEL_WIDTH, PANEL_HEIGHT = 7.5, 0.75, 0.68

#: Phases that the legend says under the name of another: both sides of a window are idle.
LABELS = {"idle_before": "idle"}

_READINGS = """
WITH bounds AS (SELECT min(t_ns) AS low, max(t_ns) - min(t_ns) + 1 AS length FROM power WHERE run = $1 AND boot IS NULL)
SELECT concat_ws(' ', domain, device) AS meter, avg(t_ns) AS t_ns, avg(power_mw) AS power_mw
FROM power, bounds WHERE run = $1 AND boot IS NULL AND power_mw IS NOT NULL
GROUP BY meter, (t_ns - low)::HUGEINT * $2 // length ORDER BY meter, t_ns
"""

_PHASES = """
SELECT p.phase, p.start_ns, p.end_ns, c.*
FROM phase_row AS p JOIN cell_row AS c USING (run, cell_key)
WHERE p.run = $1 AND p.end_ns > p.start_ns
  AND p.cell_key NOT IN (SELECT cell_key FROM cell_boot WHERE run = $1) ORDER BY p.start_ns
"""


def draw(database: Database, run: str) -> Figure | None:
    """None where the run has no power readings."""
    readings = database.query(_READINGS, [run, MOST_READINGS])
    if not readings:
        return None
    phases = database.query(_PHASES, [run])
    zero = min([row["t_ns"] for row in readings] + [phase["start_ns"] for phase in phases])
    figure = Figure(figsize=(11.0, 5.0))
    upper, strip = figure.subplots(2, 1, sharex=True, height_ratios=(12, 1))
    highest, holes = _meters(upper, readings, zero)
    windows = [phase for phase in phases if phase["phase"] == "measure"]
    for window in windows:
        upper.axvspan(*_span(window, zero), color=style.look(window["variant"]).color, alpha=ALPHA, linewidth=0)
    last = max([row["t_ns"] for row in readings] + [phase["end_ns"] for phase in phases])
    upper.set_xlim(0, (last - zero) / 1e9)
    upper.set_ylim(0, highest * 1.05 / (1 - min(_name(upper, windows, zero, figure), MOST_OF_PANEL)))
    upper.set_ylabel("power (W)")
    _legend(upper, windows)
    used = _strip(strip, phases, zero)
    strip.set_xlabel("time since the run began (s)")
    if used:
        figure.legend(handles=used, loc="outside lower center", ncols=len(used), fontsize=8.5, handlelength=1.4)
    note = "coloured: measured windows" + ("; no line where no readings were kept" if holes else "")
    title(figure, ", ".join([*_subject(database, run), f"run {run}"]), note)
    return figure


def _subject(database: Database, run: str) -> list[str]:
    """Models and devices that were measured."""
    rows = database.query("SELECT DISTINCT model, device_name, device FROM results WHERE run = $1 ORDER BY ALL", [run])
    names = [str(row["model"]) for row in rows] + [str(row["device_name"] or row["device"]) for row in rows]
    return list(dict.fromkeys(names))


def _span(phase: Row, zero: int) -> tuple[float, float]:
    return (phase["start_ns"] - zero) / 1e9, (phase["end_ns"] - zero) / 1e9


def _meters(axes: Axes, readings: Sequence[Row], zero: int) -> tuple[float, bool]:
    """Draws each meter's line; returns the highest power in W, and whether any line is broken."""
    meters = list(dict.fromkeys(row["meter"] for row in readings))
    looks, holes = style.device_looks(meters), False
    for meter in meters:
        own = [row for row in readings if row["meter"] == meter]
        t = np.array([(row["t_ns"] - zero) / 1e9 for row in own])
        watts = np.array([row["power_mw"] / 1e3 for row in own])
        apart = np.flatnonzero(np.diff(t) > _longest_step(t)) + 1
        holes = holes or len(apart) > 0
        look = looks[meter]
        axes.plot(
            np.insert(t, apart, np.nan), np.insert(watts, apart, np.nan),
            color=look.color, linestyle=look.line, linewidth=1.2, label=meter,
        )  # fmt: skip
    return max(row["power_mw"] for row in readings) / 1e3, holes


def _longest_step(t: npt.NDArray[np.float64]) -> float:
    """Seconds between two readings beyond which nothing is known of what lies between them."""
    return max(LEAST_HOLE_S, HOLE * float(np.median(np.diff(t)))) if len(t) > 1 else LEAST_HOLE_S


def _strip(axes: Axes, phases: Sequence[Row], zero: int) -> list[Patch]:
    """Draws the phases; returns the entries of their legend."""
    used = [name for name in PHASE_NAMES if any(phase["phase"] == name for phase in phases)]
    for name in used:
        spans = [_span(phase, zero) for phase in phases if phase["phase"] == name]
        axes.broken_barh([(a, b - a) for a, b in spans], (0, 1), facecolors=style.PHASES[name], linewidth=0)
    axes.set_yticks([])
    axes.set_ylim(0, 1)
    axes.grid(visible=False)
    labels = dict.fromkeys(LABELS.get(name, name) for name in used)
    return [Patch(color=style.PHASES[name], label=name) for name in labels]


def _legend(axes: Axes, windows: Sequence[Row]) -> None:
    """Beside the panel: the frameworks of the windows, and the meters where there are several."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) == 1:  # the line needs no name, and tooltips read it all the same
        handles, labels = [], []
    variants = dict.fromkeys(window["variant"] for window in windows)
    patches = [Patch(color=style.look(one).color, alpha=2 * ALPHA, label=style.look(one).title) for one in variants]
    if handles or patches:
        axes.legend(
            [*handles, *patches], [*labels, *(str(patch.get_label()) for patch in patches)],
            loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8.5, handlelength=1.6,
        )  # fmt: skip


def _name(axes: Axes, windows: Sequence[Row], zero: int, figure: Figure) -> float:
    """Names the windows upright below the upper edge, where there is room; returns the share of the height that this takes."""
    if not windows or len(windows) > MOST_NAMES:
        return 0.0
    low, high = axes.get_xlim()
    width, height = (float(inches) * 72 for inches in figure.get_size_inches())
    texts = {sum(_span(one, zero)) / 2: f"{style.kind(one)}  b{one['batch_size']}" for one in windows}
    last = -math.inf
    for middle, text in sorted(texts.items()):
        if (middle - last) / (high - low) * PANEL_WIDTH * width < 1.2 * FONT:
            continue
        last = middle
        axes.text(
            middle, 0.99, text, rotation=90, ha="center", va="top", fontsize=FONT,
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip
    return (max(map(len, texts.values())) * 0.62 * FONT + 8) / (PANEL_HEIGHT * height)
