"""Power of a run's meters over its whole length (since the last boot), with the phases of its cells in a strip below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis import style
from analysis.database.connection import Database
from common.schema import PHASE_NAMES

#: Readings of one meter that are drawn; more are averaged within equal stretches of time.
MOST_READINGS = 3000
MOST_NAMES = 40

COLOURS = {
    "import": "#30436b", "load": "#5f86b8", "compile": "#e0a458", "parity": "#b9b9b9", "first": "#f3e2c3",
    "idle_before": "#d0d0d0", "warmup": "#d3776a", "measure": "#2c7a4b", "device": "#8a63a8", "idle": "#e6e6e6",
    "convert": "#8fb0a9", "trace": "#4a4a4a",
}  # fmt: skip

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
    figure = Figure(figsize=(11.0, 4.6))
    upper, strip = figure.subplots(2, 1, sharex=True, height_ratios=(12, 1))
    meters = list(dict.fromkeys(row["meter"] for row in readings))
    looks = style.device_looks(meters)
    for meter in meters:
        own = [row for row in readings if row["meter"] == meter]
        t = [(row["t_ns"] - zero) / 1e9 for row in own]
        watts = [row["power_mw"] / 1e3 for row in own]
        look = looks[meter]
        upper.plot(t, watts, color=look.color, linestyle=look.line, linewidth=1.2, label=meter)
    windows = [phase for phase in phases if phase["phase"] == "measure"]
    for window in windows:
        begin, end = ((window[name] - zero) / 1e9 for name in ("start_ns", "end_ns"))
        upper.axvspan(begin, end, color=style.look(window["variant"]).color, alpha=0.22, linewidth=0)
    _name(upper, windows, zero)
    used = [name for name in PHASE_NAMES if any(phase["phase"] == name for phase in phases)]
    for name in used:
        spans = [
            ((p["start_ns"] - zero) / 1e9, (p["end_ns"] - p["start_ns"]) / 1e9) for p in phases if p["phase"] == name
        ]
        strip.broken_barh(spans, (0, 1), facecolors=COLOURS[name], linewidth=0)
    strip.set_yticks([])
    strip.set_ylim(0, 1)
    strip.grid(visible=False)
    strip.set_xlabel("time since the run began (s)")
    upper.set_ylim(bottom=0)
    upper.set_ylabel("power (W)")
    upper.set_title(f"run {run}: measured windows in the colour of their framework", fontsize=10.5)
    if len(meters) > 1:
        upper.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8.5)
    patches = [Patch(color=COLOURS[name], label=name) for name in used]
    if patches:
        figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=8.5, handlelength=1.4)
    return figure


def _name(axes: Any, windows: Sequence[dict[str, Any]], zero: int) -> None:
    """Names of the measured windows, upright at the foot, where there is room for them."""
    if len(windows) > MOST_NAMES:
        return
    for window in windows:
        middle = ((window["start_ns"] + window["end_ns"]) / 2 - zero) / 1e9
        text = f"{window['variant']} {style.kind(window)} b{window['batch_size']}"
        axes.text(
            middle, 0.02, text, rotation=90, ha="center", va="bottom", fontsize=7, transform=axes.get_xaxis_transform()
        )
