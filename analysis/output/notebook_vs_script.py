"""Notebook against script for a terminal, for Markdown, and as rows for CSV and Excel."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis import style
from analysis.comparisons.notebook_vs_script import TITLE, FrontEnds, Pair, kind_of
from analysis.results.metrics import shown
from analysis.results.selection import DIMENSIONS
from common.host.whole_files import whole
from common.text import spreadsheet

HEADINGS = (
    "framework",
    "precision",
    "batch",
    "script, ms",
    "notebook, ms",
    "notebook / script",
    "verdict on the notebook",
)
COLUMNS = (
    *(name for name in DIMENSIONS if name != "frontend"), "script_median_ms", "notebook_median_ms", "ratio", "ratio_low",
    "ratio_high", "verdict", "p_value", "script_samples", "notebook_samples", "script_replicates", "notebook_replicates",
    "script_cell_keys", "notebook_cell_keys", "marks", "note",
)  # fmt: skip


def texts(pair: Pair) -> tuple[str, ...]:
    """What a row says, under HEADINGS."""
    row = pair.script
    times = ["–" if one is None else shown(one) for one in (pair.script_ms, pair.notebook_ms)]
    ratio = pair.comparison.ratio_text if pair.comparison else "–"
    return (style.look(row["variant"]).title, kind_of(pair), str(row["batch_size"]), *times, ratio, pair.verdict)


def values(pair: Pair) -> dict[str, Any]:
    """Every figure of a pair in full, by COLUMNS; None is unknown."""
    one = pair.comparison
    interval = one.interval if one else None
    return {
        **{name: pair.script[name] for name in COLUMNS if name in DIMENSIONS},
        "script_median_ms": pair.script_ms,
        "notebook_median_ms": pair.notebook_ms,
        "ratio": interval.estimate if interval else None,
        "ratio_low": interval.low if interval else None,
        "ratio_high": interval.high if interval else None,
        "verdict": one.verdict.value if one else None,
        "p_value": one.p_value if one and not math.isnan(one.p_value) else None,
        "script_samples": one.samples_a if one else None,
        "notebook_samples": one.samples_b if one else None,
        "script_replicates": one.replicates_a if one else None,
        "notebook_replicates": one.replicates_b if one else None,
        "script_cell_keys": " ".join(pair.script["cell_keys"]),
        "notebook_cell_keys": " ".join(pair.notebook["cell_keys"]),
        "marks": " ".join(pair.marks) or None,
        "note": pair.why or None,
    }


def show(found: FrontEnds, console: Console) -> None:
    console.print()
    console.print(Text(TITLE, style="bold underline"))
    for heading, pairs in found.groups().items():
        console.print()
        console.print(Text(heading, style="bold"))
        grid = Table(box=None, show_edge=False, pad_edge=False, header_style="bold")
        for name in HEADINGS:
            grid.add_column(name, justify="left" if name in ("framework", "precision", HEADINGS[-1]) else "right")
        for pair in pairs:
            *words, _ = texts(pair)
            look = style.VERDICTS[pair.comparison.verdict] if pair.comparison else "dim"
            grid.add_row(*map(Text, words), Text(found.marked(pair), style=look))
        console.print(grid)
    console.print()
    if found.counts:
        console.print(Text(found.counts))
    for line in found.footers:
        console.print(Text(line, style="dim"), soft_wrap=True)


def markdown(found: FrontEnds, escape: Any) -> list[str]:
    """Lines of a section. escape: makes text harmless in Markdown."""
    lines = [f"## {TITLE}", ""]
    for heading, pairs in found.groups().items():
        lines += [f"### {escape(heading)}", "", "| " + " | ".join(HEADINGS) + " |", "|---|---|" + "---:|" * 4 + "---|"]
        lines += ["| " + " | ".join(map(escape, (*texts(pair)[:-1], found.marked(pair)))) + " |" for pair in pairs]
        lines.append("")
    return [*lines, *(f"{escape(line)}  " for line in (found.counts, *found.footers) if line), ""]


def write_csv(path: Path, found: FrontEnds) -> None:
    """One row per pair; empty means unknown."""
    with whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: spreadsheet(value) for name, value in values(pair).items()} for pair in found.pairs)


def section(found: FrontEnds) -> Mapping[str, Any]:
    """For the report's template."""
    return {
        "title": TITLE,
        "headings": HEADINGS,
        "groups": [
            {
                "heading": heading,
                "rows": [
                    {"texts": (*texts(pair)[:-1], found.marked(pair)), "values": _sortable(pair)} for pair in pairs
                ],
            }
            for heading, pairs in found.groups().items()
        ],
        "counts": found.counts,
        "footers": found.footers,
    }


def _sortable(pair: Pair) -> tuple[Any, ...]:
    """What a column is sorted by: numbers where it shows numbers."""
    words, known = texts(pair), values(pair)
    numbers = (known["batch_size"], known["script_median_ms"], known["notebook_median_ms"], known["ratio"])
    return (*words[:2], *("" if number is None else number for number in numbers), words[-1])
